"""How an endpoint's guest should be attached: values and arithmetic, no kernel."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_interface
from typing import Final

import numpy as np

from ovs_lwt.mistakes import Refused
from ovs_lwt.model import Plane
from ovs_lwt.names import endpoint_id, port_name, unfit_port
from ovs_lwt.port_keys import keys_of
from ovs_lwt.residents import port_names
from ovs_lwt.topology import Topology
from ovs_lwt.veth.marking.values import Marking

# What VXLAN adds inside the underlay's MTU (RFC 7348): the guest's own Ethernet header, the VXLAN
# and UDP headers, and the outer IP header. The outer Ethernet header is not part of an MTU.
_INNER_ETHERNET: Final = 14
_VXLAN: Final = 8
_UDP: Final = 8
_OUTER_IP: Final = {4: 20, 6: 40}
VLAN_TAG: Final = 4  # what a VLAN tag adds (IEEE 802.1Q, 9.3)
_LABEL: Final = 4  # what MPLS adds (RFC 3032), and that is all: there is no inner Ethernet header

LEAST_MTU_IPV4: Final = 68  # RFC 791
LEAST_MTU_IPV6: Final = 1280  # RFC 8200; below it, Linux takes IPv6 off the interface

BRIDGE: Final = "br-lwt"
"""The bridge of plane bridge."""

GATEWAY4: Final = "169.254.0.1"
GATEWAY6: Final = "fe80::1"
GATEWAY_MAC: Final = "02:4c:57:00:00:01"
"""The gateways of every guest on plane route, and the MAC of the host's end of its veth. They are
the same on all hosts, so a guest that moves keeps them."""


@dataclass(frozen=True, slots=True)
class AttachPlan:
    """One endpoint's guest as it should be.

    `netns` is a namespace's name (as ``ip netns`` lists it) or path, `mac` has colons,
    `addresses` have prefix lengths, `mtu` is the guest's (see `tunnel_mtu`), `plane` its host's.
    `marking` "tc" and "nft" set the mark in the kernel, on the host's side of the veth, "flow"
    leaves it to the pipeline; "auto" takes the first of them that works there. `port` is what the
    host's end is called when it is made, None standing for `names.port_name`; where it is `chosen`,
    an endpoint that is attached under another name is refused. `uuid` is the one that the overlay
    lists for its port, `by_mac` whether a port may be known by its MAC.
    """

    tenant: str
    endpoint: str
    netns: str
    mac: str
    addresses: tuple[str, ...]
    mtu: int
    mark: int
    interface: str = "eth0"
    marking: Marking = "auto"
    plane: Plane = "ovs"
    port: str | None = None
    chosen: bool = False
    uuid: str | None = None
    by_mac: bool = False

    @property
    def identity(self) -> str:
        """``TENANT/NAME``."""
        return endpoint_id(self.tenant, self.endpoint)

    @property
    def port_name(self) -> str:
        """What a new host's end is called."""
        return self.port or port_name(self.tenant, self.endpoint)


def tunnel_mtu(underlay_mtu: int, family: int) -> int:
    """Return the largest MTU of a guest whose frames cross the underlay in one piece.

    `family` is that of the VTEP addresses: 4 takes 50 bytes (inner Ethernet 14 + VXLAN 8 +
    UDP 8 + IPv4 20), 6 takes 70 (IPv6 40).
    """
    return underlay_mtu - (_INNER_ETHERNET + _VXLAN + _UDP + _OUTER_IP[family])


def plan_attach(
    topology: Topology,
    identity: str,
    namespace: str,
    *,
    interface: str = "eth0",
    marking: Marking = "auto",
    port: str | None = None,
    host: str | None = None,
    taken: Container[str] = (),
) -> AttachPlan:
    """Return how endpoint `identity` (``TENANT/NAME``) is attached to `namespace`.

    On plane route no other address is on the guest's link: it gets its own as /32 and /128.

    port: what its port is to be called; None: what `port_names` calls it
    host: the host that is attached to; None where nobody can say which that is
    taken: names that no guest's port may have: those of the host's own bridge and tunnel port

    Raises `Refused` if there is no such endpoint, if it lives on another host, if no port can be
    called so or another endpoint's is, or if its underlay's MTU leaves too little.
    """
    index = topology.endpoint_index(identity)
    endpoints = topology.endpoints
    vtep, owner = int(endpoints.vtep[index]), int(endpoints.tenant[index])
    if host is not None:
        refuse_elsewhere(topology, identity, host)
    names = port_names(topology, vtep, taken)
    if port is not None:
        _refuse_port(port, identity, names, taken)
    plane = topology.vteps.plane[vtep]
    addresses4, addresses6 = topology.addresses4, topology.addresses6
    addresses = [
        f"{IPv4Address(int(addresses4.ip[row]))}/{addresses4.prefix[row]}"
        for row in (addresses4.endpoint == index).nonzero()[0]
    ] + [
        f"{IPv6Address(addresses6.ip[row].tobytes())}/{addresses6.prefix[row]}"
        for row in (addresses6.endpoint == index).nonzero()[0]
    ]
    if plane == "route":
        addresses = [str(ip_interface(address).ip) for address in addresses]
        addresses = [f"{address}/{128 if ':' in address else 32}" for address in addresses]
    if topology.tenants.label[owner]:
        mtu = topology.underlay.mtu - _LABEL
    else:
        mtu = tunnel_mtu(topology.underlay.mtu, int(topology.vteps.family[vtep]))
    if topology.tenants.carry_tagged[owner]:
        # An interface of the guest for a VLAN takes over this MTU, and its frames have a tag more.
        mtu -= VLAN_TAG
    least = LEAST_MTU_IPV6 if any(":" in address for address in addresses) else LEAST_MTU_IPV4
    if mtu < least:
        raise Refused(
            f"{identity} would get an MTU of {mtu}, its addresses need {least}:"
            f" raise underlay.mtu to {least + topology.underlay.mtu - mtu}"
        )
    tenant, _, name = identity.partition("/")
    given = port or names[identity]
    uuid, by_mac = keys_of(topology, index)
    return AttachPlan(
        tenant=tenant,
        endpoint=name,
        netns=namespace,
        mac=int(endpoints.mac[index]).to_bytes(6, "big").hex(":"),
        addresses=tuple(addresses),
        mtu=mtu,
        mark=int(topology.tenants.mark[owner]),
        interface=interface,
        marking=marking,
        plane=plane,
        port=None if given == port_name(tenant, name) else given,
        chosen=port is not None,
        uuid=uuid,
        by_mac=by_mac,
    )


def refuse_elsewhere(topology: Topology, identity: str, host: str) -> None:
    """Refuse an endpoint that lives on another host than the one called `host`."""
    index = topology.endpoint_index(identity)
    vtep = int(topology.taken(np.array([index])).vtep[0])
    if topology.vtep_index(host) != vtep:
        raise Refused(
            f"{identity} lives on {topology.vteps.name[vtep]}, says the overlay, and this is"
            f" {host}: attach it there, or say with --host which host this is"
        )


def _refuse_port(port: str, identity: str, names: Mapping[str, str], taken: Container[str]) -> None:
    """Refuse a port that the user wants called so, if it cannot be or is another's name.

    names: TENANT/NAME -> the port's name, of all endpoints of the host
    """
    reason = unfit_port(port)
    if reason is None and port in taken:
        reason = "is the name of the bridge or of its tunnel port"
    if reason is None:
        others = (other for other, name in names.items() if name == port and other != identity)
        if (other := next(others, None)) is not None:
            reason = f"is what the port of {other} is called"
    if reason is not None:
        raise Refused(f"'{port}' {reason}: choose another name with --port")
