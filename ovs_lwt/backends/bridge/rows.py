"""From a host's view to the rows of the bridge and of its VXLAN device.

One function for each of their tables. They only select and join columns: nothing here does I/O, and
nothing loops over endpoints.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from ovs_lwt.backends.netlink import tunnel
from ovs_lwt.backends.netlink.program import Rows
from ovs_lwt.backends.scope import Scope
from ovs_lwt.columns import U32, Flags
from ovs_lwt.stencil import Column
from ovs_lwt.view import View

_ONE: Final = np.ones(1, np.uint32)


@dataclass(frozen=True, eq=False)
class Tables:
    """What the tables of one host are made from.

    vlan: uint32[T], the VLAN of every tenant here, 0 of the others
    answerer: uint32[T], the number of the device whose neighbours the bridge answers from for a
    tenant; of tenants that it does not answer for, anything
    announcer: uint32[1], the number of the device by which announcements come in once more; empty
    if there is none
    """

    view: View
    vlan: U32
    answerer: U32
    announcer: U32

    @property
    def scope(self) -> Scope:
        """All tenants here."""
        return Scope.everything(self.view)


def rows(tables: Tables) -> Iterator[Rows]:
    """All entries, what they lean on first."""
    scope = tables.scope
    yield from _guards(tables, scope)
    yield from _vlans(tables, scope)
    yield from _remote(tables, scope)
    yield from _local(tables, scope)
    yield from _floods(tables, scope)
    yield from _neighbours(tables, scope)
    yield from _announcements(tables, scope)


def _guards(tables: Tables, scope: Scope) -> Iterator[Rows]:
    """Who is let in: by the tunnel known VTEPs, and anywhere no VLAN tags."""
    yield from tunnel.filters(tables.view)
    dev = tables.view.ports.port[scope.ports]
    yield Rows("qdisc.clsact", len(dev), {"dev": dev})
    every = np.concatenate([tunnel.DEVICE, dev])
    yield Rows("filter.tagged", len(every), {"handle": _ONE, "dev": every})


def _vlans(tables: Tables, scope: Scope) -> Iterator[Rows]:
    vni: dict[str, Column] = {"vni": scope.vni[scope.tenants], "dev": tunnel.DEVICE}
    vlan: dict[str, Column] = {"vlan": tables.vlan[scope.tenants], "dev": tunnel.DEVICE}
    yield Rows("vni.member", len(scope.tenants), vni)
    yield Rows("vlan.tunnel", len(scope.tenants), vlan)
    yield Rows("vlan.vni", len(scope.tenants), vlan | vni)


def _remote(tables: Tables, scope: Scope) -> Iterator[Rows]:
    endpoints = tables.view.topology.endpoints
    tenant, mac = endpoints.tenant[scope.remote], endpoints.mac[scope.remote]
    where: dict[str, Column] = {"mac": mac, "dev": tunnel.DEVICE}
    vtep = endpoints.vtep[scope.remote].astype(np.intp)
    yield tunnel.towards(
        tables.view, "fdb.remote_endpoint", where | {"vni": scope.vni[tenant]}, vtep
    )
    yield Rows("fdb.bridge_endpoint", len(mac), where | {"vlan": tables.vlan[tenant]})


def _local(tables: Tables, scope: Scope) -> Iterator[Rows]:
    endpoints, ports = tables.view.topology.endpoints, tables.view.ports
    endpoint, dev = ports.endpoint[scope.ports], ports.port[scope.ports]
    vlan: dict[str, Column] = {"vlan": tables.vlan[endpoints.tenant[endpoint]], "dev": dev}
    yield Rows("vlan.guest", len(dev), vlan)
    yield Rows("fdb.local_endpoint", len(dev), vlan | {"mac": endpoints.mac[endpoint]})


def _floods(tables: Tables, scope: Scope) -> Iterator[Rows]:
    tenant, vtep = tables.view.spans
    yield tunnel.towards(
        tables.view, "fdb.flood", {"vni": scope.vni[tenant], "dev": tunnel.DEVICE}, vtep
    )


def _announcements(tables: Tables, scope: Scope) -> Iterator[Rows]:
    """Of tenants that are answered for: an announcement of a guest's is for the other hosts too."""
    topology, ports = tables.view.topology, tables.view.ports
    endpoint, dev = ports.endpoint[scope.ports], ports.port[scope.ports]
    tenant, mac = topology.endpoints.tenant[endpoint], topology.endpoints.mac[endpoint]
    answered: Flags = topology.tenants.answer_neighbours[tenant]
    held: Flags = ~topology.endpoints.spoofing[endpoint]
    if len(tables.announcer):
        vlan: dict[str, Column] = {"vlan": tables.vlan[scope.tenants[_answered(tables, scope)]]}
        yield Rows("vlan.announcer", len(vlan["vlan"]), vlan | {"dev": tables.announcer})
    for name, chosen in (
        ("filter.announcement", answered & ~held),
        ("filter.announcement_held", answered & held),
    ):
        columns: dict[str, Column] = {
            "handle": _ONE,
            "dev": dev[chosen],
            "vlan": tables.vlan[tenant[chosen]],
            "announcer": tables.announcer,
            "mac_high": mac[chosen] >> np.uint64(16),
            "mac_low": mac[chosen] & np.uint64(0xFFFF),
        }
        yield Rows(name, int(chosen.sum()), columns)
    yield Rows("filter.announced", int(answered.sum()), {"handle": _ONE, "dev": dev[answered]})


def _answered(tables: Tables, scope: Scope) -> Flags:
    """Which of the tenants here are answered for."""
    return tables.view.topology.tenants.answer_neighbours[scope.tenants]


def _neighbours(tables: Tables, scope: Scope) -> Iterator[Rows]:
    """Of guests here too: the bridge leaves it to them to answer, and asks no other host."""
    topology = tables.view.topology
    for name, word, (owner, address) in (
        ("neighbour.permanent", "ip", scope.owned4),
        ("neighbour.permanent6", "ip6", scope.owned6),
    ):
        tenant = topology.endpoints.tenant[owner]
        known: Flags = topology.tenants.answer_neighbours[tenant]
        columns: dict[str, Column] = {
            word: address[known],
            "mac": topology.endpoints.mac[owner[known]],
            "dev": tables.answerer[tenant[known]],
        }
        yield Rows(name, int(known.sum()), columns)
