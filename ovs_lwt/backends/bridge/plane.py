"""The bridge plane of one host: devices, their places in the bridge, entries, and how to read them.

br-lwt       VLAN-aware bridge; a tenant is a VLAN of it
vx-lwt       VXLAN device for all VNIs (`external`), in the bridge; a VLAN there is a VNI
PORT         a guest's: in its tenant's VLAN, and held to its MAC (`locked`)
br-lwt.VLAN  holds the neighbours that the bridge answers for; it is down, and passes nothing
an-lwt       port of the bridge by which announcements come in once more, for the tunnel
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from socket import AF_INET, AF_INET6
from typing import Final, Literal

import numpy as np

from ovs_lwt.backends.bridge.pairs import FurtherMacs
from ovs_lwt.backends.bridge.rows import Tables, rows
from ovs_lwt.backends.bridge.vlans import VlanStore
from ovs_lwt.backends.netlink import carried, dumps
from ovs_lwt.backends.netlink.catalogue.guest_port import ANNOUNCER
from ovs_lwt.backends.netlink.program import Rows
from ovs_lwt.backends.netlink.setup import TUNNEL, Link, Member, Setup
from ovs_lwt.backends.netlink.templates import Devices
from ovs_lwt.backends.netlink.transport import Kernel
from ovs_lwt.backends.netlink.vlandump import vlans
from ovs_lwt.backends.netlink.vteps import macs
from ovs_lwt.backends.netlink.wire import Listed
from ovs_lwt.veth.plan import BRIDGE, tunnel_mtu
from ovs_lwt.view import View

_BOTH: Final = (TUNNEL, BRIDGE)


class BridgePlane:
    """Implements `Forwarding`. vlans: where the tenants' VLANs are kept."""

    plane: Literal["bridge", "route"] = "bridge"

    def __init__(self, vlans: VlanStore) -> None:
        self._vlans = vlans

    def check(self, view: View) -> None:
        """Raise Refused if the tenants here are more than a bridge has VLANs, or have their own."""
        carried.check(view, "bridge")
        self._vlans.of(view)

    def setup(self, view: View, ports: Sequence[str]) -> Setup:
        """What the view stands on. Keeps the VLANs that it gives."""
        self._vlans.keep(view)
        answerers = [_answerer(vlan) for vlan in self._answering(view)]
        # Where no neighbours are answered, no announcement is kept from anybody.
        announcers = [_announcer(view)] if answerers else []
        extra = (*announcers, *answerers)
        further = FurtherMacs.of(view)
        return Setup(
            devices=(TUNNEL, *ports, BRIDGE, *(link.name for link in extra)),
            links=(_bridge(view), _tunnel(view), *extra),
            members=(
                _tunnel_member(view, further),
                *(_announcer_member(link.name) for link in announcers),
                *_guests(view, ports, further),
            ),
        )

    def aside(self, port: str) -> Member | None:
        """In the bridge all the same, and in no VLAN: out of it, the host would hear the guest."""
        return Member(port, BRIDGE, {"learning": False, "locked": True, "flood": False})

    def rows(self, view: View, setup: Setup) -> Sequence[Rows]:
        """All entries."""
        vlan = self._vlans.of(view)
        answering = self._answering(view)
        answerer = np.zeros(len(view.topology.tenants), np.uint32)
        devices = setup.numbers([_answerer(each).name for each in answering])
        answerer[view.here & view.topology.tenants.answer_neighbours] = devices
        announcer = setup.numbers([ANNOUNCER] if answering else [])
        return list(rows(Tables(view, vlan, answerer, announcer, FurtherMacs.of(view))))

    def read(self, kernel: Kernel, devices: Devices) -> list[Listed]:
        """What the kernel holds where ours belong."""
        tunnel, bridge = (int(devices.index[devices.names.index(name)]) for name in _BOTH)
        guests = devices.index[1 : devices.names.index(BRIDGE)]
        # Whether the host itself is in a tenant's VLAN is its owner's to say.
        ports = devices.index[devices.index != bridge]
        parts = (
            dumps.vnis(kernel, tunnel),
            vlans(kernel, ports),
            dumps.fdb(kernel, tunnel, bridge),
            dumps.neighbours(kernel, AF_INET),
            dumps.neighbours(kernel, AF_INET6),
            *(dumps.filters(kernel, device) for device in (tunnel, *guests.tolist())),
        )
        return list(chain.from_iterable(parts))

    def _answering(self, view: View) -> list[int]:
        """The VLANs of the tenants here whose neighbours are answered, in the tenants' order."""
        answering = view.here & view.topology.tenants.answer_neighbours
        return [int(vlan) for vlan in self._vlans.of(view)[answering]]


def _bridge(view: View) -> Link:
    # Without a MAC of its own it takes the lowest of its ports'; whenever that changes, the kernel
    # forgets all neighbours on its VLANs' devices.
    mac = int(macs(view.topology.vteps)[view.host])
    return Link(
        BRIDGE,
        "bridge",
        {"br_vlan_filtering": 1, "br_vlan_default_pvid": 0, "br_mcast_snooping": 0},
        "vlan_filtering 1 vlan_default_pvid 0 mcast_snooping 0",
        mac=mac.to_bytes(6, "big").hex(":"),
    )


def _answerer(vlan: int) -> Link:
    # Up, it would hear its tenant whenever somebody listens to all that the bridge has (tcpdump).
    return Link(f"{BRIDGE}.{vlan}", "vlan", {"vlan_id": vlan}, f"id {vlan}", over=BRIDGE, up=False)


def _announcer(view: View) -> Link:
    topology = view.topology
    mtu = tunnel_mtu(topology.underlay.mtu, int(topology.vteps.family[view.host]))
    return Link(ANNOUNCER, "dummy", {}, "", mtu=mtu)


def _announcer_member(name: str) -> Member:
    # What comes in by a port with `neigh_suppress` is kept from nobody. Nothing goes out by it.
    out = dict.fromkeys(("flood", "mcast_flood", "bcast_flood"), False)
    return Member(name, BRIDGE, {"learning": False, "neigh_suppress": True, **out})


def _tunnel(view: View) -> Link:
    topology = view.topology
    port, vteps = topology.underlay.udp_port, topology.vteps
    address, family = vteps.address(view.host), int(vteps.family[view.host])
    local: dict[str, object] = {"vxlan_local": address}
    checksum = ""
    if family == 6:
        # A sender may leave it out (RFC 7348, RFC 6935).
        local = {"vxlan_local6": address, "vxlan_udp_zero_csum6_rx": 1}
        checksum = " udp6zerocsumrx"
    return Link(
        TUNNEL,
        "vxlan",
        local
        | {
            "vxlan_port": port,
            "vxlan_learning": 0,
            "vxlan_collect_metadata": 1,
            "vxlan_vnifilter": 1,
        },
        f"dstport {port} local {address} nolearning external vnifilter{checksum}",
        mtu=tunnel_mtu(topology.underlay.mtu, family),
    )


def _tunnel_member(view: View, further: FurtherMacs) -> Member:
    topology = view.topology
    shared = further.shared_by(len(topology.tenants), topology.endpoints.tenant)
    flags = {
        "vlan_tunnel": True,
        "neigh_suppress": True,
        "learning": False,
        # Unknown unicast of a tenant that drops it is kept from its guests at their ports.
        "flood": bool((topology.tenants.flood_unknown | shared)[view.here].any()),
    }
    return Member(TUNNEL, BRIDGE, flags)


def _guests(view: View, ports: Sequence[str], further: FurtherMacs) -> Iterator[Member]:
    endpoints, tenants = view.topology.endpoints, view.topology.tenants
    endpoint = view.ports.endpoint
    tenant, sharing = endpoints.tenant[endpoint], further.sharing(endpoint)
    held = ~endpoints.spoofing[endpoint]
    columns = (
        # A MAC that several have reaches them as one that nobody knows.
        tenants.flood_unknown[tenant] | sharing,
        # Of a tenant whose neighbours are not answered, nothing is kept from the tunnel.
        ~tenants.answer_neighbours[tenant],
        held & ~sharing,
        held & sharing,
    )
    rows = zip(ports, *(column.tolist() for column in columns), strict=True)
    for port, flood, suppress, locked, by_tc in rows:
        flags = {"learning": False, "flood": flood, "neigh_suppress": suppress}
        if by_tc:
            yield Member(port, BRIDGE, flags, {"locked": False})
        else:
            yield Member(port, BRIDGE, flags | {"locked": locked})
