"""From a host's view to the rows of allowed pairs that are no single endpoint's: how a MAC that
several endpoints may have is reached, and which addresses are left to them.

A pair may stand at several endpoints of a tenant, so these rows belong to the tenant: they are made
anew whenever a pair of it changes. Tenants without pairs have none.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ovs_lwt.backends.openflow import security
from ovs_lwt.backends.openflow.relations import Rows, tunnel_of
from ovs_lwt.backends.scope import Scope
from ovs_lwt.columns import U64, Flags, Indices
from ovs_lwt.stencil import Column

LIST = 1 << 16
"""In register 6: the packet is for a list of endpoints. The lower bits say at which place it is."""


def tenant_rows(scope: Scope) -> Iterator[Rows]:
    """The rows of the tenants in the scope."""
    part = scope.part
    tenant = part.endpoints.tenant
    if len(part.pairs4) or len(part.pairs6):
        for pairs, own, slot in (
            (part.pairs4, (part.addresses4.endpoint, part.addresses4.ip), "ip"),
            (part.pairs6, part.owned6, "ip6"),
        ):
            wanted = scope.wanted[tenant[pairs.endpoint]]
            owner, ip = pairs.endpoint[wanted], pairs.ip[wanted]
            yield from _left(scope, tenant[owner], ip, slot)
            yield from _guarded(scope, (tenant[owner], ip), (tenant[own[0]], own[1]), slot)
        yield from _reached(scope)


def _left(scope: Scope, tenant: NDArray[Any], ip: NDArray[Any], slot: str) -> Iterator[Rows]:
    """Addresses that their holders answer for; whoever else probes for one is not heard."""
    first = _first(tenant, ip)
    tenant, ip = tenant[first], ip[first]
    answered = scope.tenant_columns.answer_neighbours[tenant]
    columns: dict[str, Column] = {"vni": scope.vni[tenant[answered]], slot: ip[answered]}
    entry = "shared_probe" if slot == "ip" else "shared_detection"
    yield Rows(f"respond.{entry}", int(answered.sum()), columns)


def _guarded(
    scope: Scope,
    pairs: tuple[NDArray[Any], NDArray[Any]],
    own: tuple[NDArray[Any], NDArray[Any]],
    slot: str,
) -> Iterator[Rows]:
    """What guests without addresses may not say; what is an endpoint's own has rows already."""
    tenant, ip = (np.concatenate(both) for both in zip(own, pairs, strict=True))
    first = _first(tenant, ip)
    first = first[first >= len(own[0])]
    yield from security.others(scope, tenant[first], {slot: ip[first]})


def _reached(scope: Scope) -> Iterator[Rows]:
    """How the MACs of pairs are reached that are not their endpoint's own."""
    part, endpoints = scope.part, scope.endpoints
    owner = np.concatenate([part.pairs4.endpoint, part.pairs6.endpoint]).astype(np.intp)
    mac = np.concatenate([part.pairs4.mac, part.pairs6.mac])
    chosen = scope.wanted[endpoints.tenant[owner]] & (mac != endpoints.mac[owner])
    owner, mac = owner[chosen], mac[chosen]
    tenant, vtep = endpoints.tenant[owner].astype(np.intp), endpoints.vtep[owner].astype(np.intp)
    # One copy for each guest here that has a port, and one for each other host.
    port_of = np.full(len(part), -1, np.intp)
    port_of[scope.endpoint_of(scope.every_port)] = scope.every_port
    here, port = vtep == scope.view.host, port_of[owner]
    target = np.where(here, port, -1 - vtep)
    there = ~here | (port >= 0)
    tenant, mac, target = tenant[there], mac[there], target[there]
    order = np.lexsort((-target, mac, tenant))
    tenant, mac, target = tenant[order], mac[order], target[order]
    again = np.append(False, _same(tenant, mac) & (np.diff(target) == 0))[: len(target)]
    tenant, mac, target = tenant[~again], mac[~again], target[~again]
    begins = np.append(True, ~_same(tenant, mac))[: len(target)]
    number = np.cumsum(begins) - 1
    count = np.bincount(number, minlength=0)[number]
    place = np.arange(len(target)) - np.flatnonzero(begins)[number]
    alone = count == 1
    yield from _outputs(scope, tenant[alone], mac[alone], target[alone])
    several = ~alone
    heads = several & begins
    columns: dict[str, Column] = {"vni": scope.vni[tenant[heads]], "mac": mac[heads]}
    yield Rows("forward.shared_mac", int(heads.sum()), columns)
    yield from _outputs(scope, tenant[several], mac[several], target[several], place[several] + 1)


def _outputs(
    scope: Scope, tenant: Indices, mac: U64, target: Indices, place: Indices | None = None
) -> Iterator[Rows]:
    """A row for each copy. target: a port of the view, or -1 less a VTEP; place: in the list"""
    columns: dict[str, Column] = {"vni": scope.vni[tenant], "mac": mac}
    here, there = "local_endpoint", "remote_endpoint"
    if place is not None:
        here, there = "shared_here", "shared_there"
        columns |= {"holder": LIST + place, "left": LIST + 2 * place, "right": LIST + 2 * place + 1}
    local = target >= 0
    ports = {
        "mark": scope.tenant_columns.mark[tenant[local]],
        "port": scope.view.ports.port[target[local]],
    }
    yield Rows(f"forward.{here}", int(local.sum()), _picked(columns, local) | ports)
    vteps, vtep = scope.view.topology.vteps, -1 - target[~local]
    away: dict[str, Column] = {"vtep": vteps.ipv4[vtep]}
    if vteps.family[scope.view.host] == 6:
        there, away = f"{there}6", {"vtep6": vteps.ipv6[vtep]}
    columns = _picked(columns, ~local) | away | tunnel_of(scope.view)
    yield Rows(f"forward.{there}", len(vtep), columns)


def _picked(columns: dict[str, Column], rows: Flags) -> dict[str, Column]:
    return {name: column[rows] for name, column in columns.items()}


def _same(tenant: Indices, mac: U64) -> Flags:
    same: Flags = (np.diff(tenant) == 0) & (np.diff(mac.astype(np.int64)) == 0)
    return same


def _first(tenant: NDArray[Any], ip: NDArray[Any]) -> Indices:
    """The first row of each (tenant, address)."""
    flat = ip if ip.ndim == 1 else np.ascontiguousarray(ip).view("S16").ravel()
    _, code = np.unique(flat, return_inverse=True)
    key = tenant.astype(np.int64) * (len(ip) + 1) + code.reshape(-1)
    first: Indices = np.unique(key, return_index=True)[1]
    return first
