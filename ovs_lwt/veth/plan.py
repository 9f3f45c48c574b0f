"""How an endpoint's guest should be attached: values and arithmetic, no kernel."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final, Literal

from ovs_lwt.mistakes import Refused
from ovs_lwt.names import endpoint_id
from ovs_lwt.topology import Topology

# What VXLAN adds inside the underlay's MTU (RFC 7348): the guest's own Ethernet header, the VXLAN
# and UDP headers, and the outer IP header. The outer Ethernet header is not part of an MTU.
_INNER_ETHERNET: Final = 14
_VXLAN: Final = 8
_UDP: Final = 8
_OUTER_IP: Final = {4: 20, 6: 40}

_LEAST_MTU: Final = 68  # RFC 791
_LEAST_MTU_IPV6: Final = 1280  # RFC 8200; below it, Linux takes IPv6 off the interface

Marking = Literal["auto", "tc", "flow"]


@dataclass(frozen=True, slots=True)
class AttachPlan:
    """One endpoint's guest as it should be.

    `netns` is a namespace's name (as ``ip netns`` lists it) or path, `mac` has colons,
    `addresses` have prefix lengths, `mtu` is the guest's (see `tunnel_mtu`). `marking` "tc" sets
    the mark in the kernel, on the host's side of the veth, "flow" leaves it to the pipeline;
    "auto" takes what the bridge's datapath can use.
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

    @property
    def identity(self) -> str:
        """``TENANT/NAME``."""
        return endpoint_id(self.tenant, self.endpoint)


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
) -> AttachPlan:
    """Return how endpoint `identity` (``TENANT/NAME``) is attached to `namespace`.

    Raises `Refused` if there is no such endpoint, or if its underlay's MTU leaves too little.
    """
    index = topology.endpoint_index(identity)
    endpoints = topology.endpoints
    addresses4, addresses6 = topology.addresses4, topology.addresses6
    addresses = [
        f"{IPv4Address(int(addresses4.ip[row]))}/{addresses4.prefix[row]}"
        for row in (addresses4.endpoint == index).nonzero()[0]
    ] + [
        f"{IPv6Address(addresses6.ip[row].tobytes())}/{addresses6.prefix[row]}"
        for row in (addresses6.endpoint == index).nonzero()[0]
    ]
    family = int(topology.vteps.family[int(endpoints.vtep[index])])
    mtu = tunnel_mtu(topology.underlay.mtu, family)
    least = _LEAST_MTU_IPV6 if any(":" in address for address in addresses) else _LEAST_MTU
    if mtu < least:
        raise Refused(
            f"{identity} would get an MTU of {mtu}, its addresses need {least}:"
            f" raise underlay.mtu to {least + topology.underlay.mtu - mtu}"
        )
    tenant, _, name = identity.partition("/")
    return AttachPlan(
        tenant=tenant,
        endpoint=name,
        netns=namespace,
        mac=int(endpoints.mac[index]).to_bytes(6, "big").hex(":"),
        addresses=tuple(addresses),
        mtu=mtu,
        mark=int(topology.tenants.mark[int(endpoints.tenant[index])]),
        interface=interface,
        marking=marking,
    )
