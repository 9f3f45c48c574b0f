"""From a host's view to the rows of the bridge and of its VXLAN device.

One function for each of their tables. They only select and join columns: nothing here does I/O, and
nothing loops over endpoints.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from ovs_lwt.backends.bridge.pairs import FurtherMacs
from ovs_lwt.backends.netlink import tunnel
from ovs_lwt.backends.netlink.program import Rows
from ovs_lwt.backends.scope import Scope
from ovs_lwt.columns import U32, U64, UNSAID, YES, Flags, Indices
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
    further: the MACs that endpoints have by their allowed pairs
    """

    view: View
    vlan: U32
    answerer: U32
    announcer: U32
    further: FurtherMacs

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
    """Who is let in: by the tunnel known VTEPs, and anywhere no VLAN tags; by a port that cannot be
    `locked`, its MACs.
    """
    yield from tunnel.filters(tables.view)
    dev = tables.view.ports.port[scope.ports]
    yield Rows("qdisc.clsact", len(dev), {"dev": dev})
    every = np.concatenate([tunnel.DEVICE, dev])
    yield Rows("filter.tagged", len(every), {"handle": _ONE, "dev": every})
    endpoint, spoofing = tables.view.ports.endpoint, tables.view.topology.endpoints.spoofing
    by_tc: Flags = tables.further.sharing(endpoint) & ~spoofing[endpoint]
    port, mac, handle = _senders(tables)
    some: Flags = by_tc[port]
    columns: dict[str, Column] = {"handle": handle[some], "dev": tables.view.ports.port[port[some]]}
    yield Rows("filter.sender", int(some.sum()), columns | {"mac": mac[some]})
    alone: dict[str, Column] = {"handle": _ONE, "dev": tables.view.ports.port[by_tc]}
    yield Rows("filter.other_senders", int(by_tc.sum()), alone)


def _senders(tables: Tables) -> tuple[Indices, U64, U32]:
    """(port, MAC, number) of every MAC that a guest here has: the port as an index into the view's,
    the number counting from 1 at each port, where its own is the first.
    """
    ports, further = tables.view.ports.endpoint, tables.further
    which, port = further.at(ports)
    order = np.argsort(np.concatenate([np.arange(len(ports)), port]), kind="stable")
    every = np.concatenate([np.arange(len(ports)), port])[order]
    mac = np.concatenate([tables.view.topology.endpoints.mac[ports], further.mac[which]])[order]
    starts = np.searchsorted(every, every)
    return every, mac, (np.arange(len(every)) - starts + 1).astype(np.uint32)


def _vlans(tables: Tables, scope: Scope) -> Iterator[Rows]:
    vni: dict[str, Column] = {"vni": scope.vni[scope.tenants], "dev": tunnel.DEVICE}
    vlan: dict[str, Column] = {"vlan": tables.vlan[scope.tenants], "dev": tunnel.DEVICE}
    yield Rows("vni.member", len(scope.tenants), vni)
    yield Rows("vlan.tunnel", len(scope.tenants), vlan)
    yield Rows("vlan.vni", len(scope.tenants), vlan | vni)


def _remote(tables: Tables, scope: Scope) -> Iterator[Rows]:
    endpoints, further = tables.view.topology.endpoints, tables.further
    # A MAC that several have is at no place of its own: it is flooded.
    alone: Flags = ~further.shared & (endpoints.vtep[further.endpoint] != tables.view.host)
    endpoint = np.concatenate([scope.remote, further.endpoint[alone].astype(np.intp)])
    mac = np.concatenate([endpoints.mac[scope.remote], further.mac[alone]])
    tenant = endpoints.tenant[endpoint]
    where: dict[str, Column] = {"mac": mac, "dev": tunnel.DEVICE}
    vtep = endpoints.vtep[endpoint].astype(np.intp)
    yield tunnel.towards(
        tables.view, "fdb.remote_endpoint", where | {"vni": scope.vni[tenant]}, vtep
    )
    yield Rows("fdb.bridge_endpoint", len(mac), where | {"vlan": tables.vlan[tenant]})


def _local(tables: Tables, scope: Scope) -> Iterator[Rows]:
    endpoints, ports, further = tables.view.topology.endpoints, tables.view.ports, tables.further
    endpoint, dev = ports.endpoint[scope.ports], ports.port[scope.ports]
    vlan = tables.vlan[endpoints.tenant[endpoint]]
    yield Rows("vlan.guest", len(dev), {"vlan": vlan, "dev": dev})
    which, port = further.at(ports.endpoint)
    alone: Flags = ~further.shared[which]
    which, port = which[alone], port[alone]
    columns: dict[str, Column] = {
        "vlan": np.concatenate([vlan, tables.vlan[endpoints.tenant[further.endpoint[which]]]]),
        "dev": np.concatenate([dev, ports.port[port]]),
        "mac": np.concatenate([endpoints.mac[endpoint], further.mac[which]]),
    }
    yield Rows("fdb.local_endpoint", len(dev) + len(port), columns)


def _floods(tables: Tables, scope: Scope) -> Iterator[Rows]:
    tenant, vtep = tables.view.spans
    yield tunnel.towards(
        tables.view, "fdb.flood", {"vni": scope.vni[tenant], "dev": tunnel.DEVICE}, vtep
    )


def _announcements(tables: Tables, scope: Scope) -> Iterator[Rows]:
    """Of tenants that are answered for: an announcement of a guest's is for the other hosts too."""
    topology, ports = tables.view.topology, tables.view.ports
    tenant = topology.endpoints.tenant[ports.endpoint]
    answered: Flags = topology.tenants.answer_neighbours[tenant]
    free: Flags = topology.endpoints.spoofing[ports.endpoint]
    if len(tables.announcer):
        vlan: dict[str, Column] = {"vlan": tables.vlan[scope.tenants[_answered(tables, scope)]]}
        yield Rows("vlan.announcer", len(vlan["vlan"]), vlan | {"dev": tables.announcer})

    def copied(port: Indices, handle: U32) -> dict[str, Column]:
        return {
            "handle": handle,
            "dev": ports.port[port],
            "vlan": tables.vlan[tenant[port]],
            "announcer": tables.announcer,
        }

    chosen = np.flatnonzero(answered & free)
    yield Rows("filter.announcement", len(chosen), copied(chosen, _ONE))
    port, mac, handle = _senders(tables)
    held: Flags = (answered & ~free)[port]
    macs: dict[str, Column] = {
        "mac_high": mac[held] >> np.uint64(16),
        "mac_low": mac[held] & np.uint64(0xFFFF),
    }
    yield Rows("filter.announcement_held", int(held.sum()), copied(port[held], handle[held]) | macs)
    heard: dict[str, Column] = {"handle": _ONE, "dev": ports.port[answered]}
    yield Rows("filter.announced", int(answered.sum()), heard)


def _answered(tables: Tables, scope: Scope) -> Flags:
    """Which of the tenants here are answered for."""
    return tables.view.topology.tenants.answer_neighbours[scope.tenants]


def _neighbours(tables: Tables, scope: Scope) -> Iterator[Rows]:
    """Of guests here too: the bridge leaves it to them to answer, and asks no other host.

    Who may be a router without our knowing answers for its IPv6 addresses itself.
    """
    topology = tables.view.topology
    endpoints = topology.endpoints
    router: Flags = endpoints.router == YES
    no_router: Flags = ~router & ~((endpoints.router == UNSAID) & endpoints.spoofing)
    everyone = np.ones(len(endpoints), np.bool_)
    for name, word, (owner, address), chosen in (
        ("neighbour.permanent", "ip", scope.owned4, everyone),
        ("neighbour.permanent6", "ip6", scope.owned6, no_router),
        ("neighbour.router6", "ip6", scope.owned6, router),
    ):
        tenant = endpoints.tenant[owner]
        known: Flags = topology.tenants.answer_neighbours[tenant] & chosen[owner]
        columns: dict[str, Column] = {
            word: address[known],
            "mac": endpoints.mac[owner[known]],
            "dev": tables.answerer[tenant[known]],
        }
        yield Rows(name, int(known.sum()), columns)
