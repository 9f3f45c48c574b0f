"""From a host's view to the rows of the bridge and of its VXLAN device.

One function for each of their tables. They only select and join columns: nothing here does I/O, and
nothing loops over endpoints.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ovs_lwt.backends.netlink import tunnel
from ovs_lwt.backends.netlink.program import Rows
from ovs_lwt.backends.scope import Scope
from ovs_lwt.columns import U32, Flags
from ovs_lwt.stencil import Column
from ovs_lwt.view import View


@dataclass(frozen=True, eq=False)
class Tables:
    """What the tables of one host are made from.

    vlan: uint32[T], the VLAN of every tenant here, 0 of the others
    answerer: uint32[T], the number of the device whose neighbours the bridge answers from for a
    tenant; of tenants that it does not answer for, anything
    """

    view: View
    vlan: U32
    answerer: U32

    @property
    def scope(self) -> Scope:
        """All tenants here."""
        return Scope.everything(self.view)


def rows(tables: Tables) -> Iterator[Rows]:
    """All entries, what they lean on first."""
    scope = tables.scope
    yield from _vlans(tables, scope)
    yield from _remote(tables, scope)
    yield from _local(tables, scope)
    yield from _floods(tables, scope)
    yield from _neighbours(tables, scope)
    yield from tunnel.filters(tables.view)


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
