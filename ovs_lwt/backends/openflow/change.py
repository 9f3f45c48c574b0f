"""From one view to the next: only what may differ is compiled, before and after, and compared.

Equal to comparing everything with everything, byte for byte. An endpoint's flows follow from its
own columns, its tenant's row and its port; a tenant's own flows and group from its row, its ports
and its flood list; the rest from the hosts and the tenants that are here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ovs_lwt.backends.openflow import program, rows
from ovs_lwt.backends.openflow.program import Program
from ovs_lwt.backends.openflow.transaction import Transaction
from ovs_lwt.backends.scope import Scope
from ovs_lwt.changes import compare
from ovs_lwt.topology import U64, Flags
from ovs_lwt.view import View


def transaction(old: View, new: View) -> Transaction:
    """What leads from the flows and groups of `old` to those of `new`."""
    before, after = (
        [program.full(view) for view in (old, new)] if _rewritten(old, new) else _parts(old, new)
    )
    return Transaction(before.blocks, before.groups, after)


def affected(old: View, new: View) -> frozenset[int]:
    """The VNIs of the tenants whose flows or groups may differ."""
    return frozenset(
        vni
        for side in _sides(old, new)
        for scope in side.scopes()
        for vni in scope.vni[scope.wanted | _owners(scope)].tolist()
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Side:
    """What of one view is compiled: tenants (bool[T]), endpoints (bool[E])."""

    view: View
    tenants: Flags
    endpoints: Flags

    def scopes(self) -> Iterator[Scope]:
        """The same, slice by slice."""
        return Scope.narrowed(self.view, self.tenants, self.endpoints)


def _rewritten(old: View, new: View) -> bool:
    """Whether something differs that every flow may bear: the host's own address family, the
    tunnel's port.
    """
    families = (view.topology.vteps.family[view.host] for view in (old, new))
    return old.tunnel != new.tunnel or old.nd_by_flow != new.nd_by_flow or len(set(families)) > 1


def _parts(old: View, new: View) -> list[Program]:
    lists = [_lists(view) for view in (old, new)]
    if old.topology.vteps is new.topology.vteps:
        kept = lists[0].items() & lists[1].items()
        lists = [{vni: some[vni] for vni in some.keys() - dict(kept)} for some in lists]
    shared = not _same_shared(old, new)
    parts = []
    for side, vnis in zip(_sides(old, new), lists, strict=True):
        scopes = list(side.scopes())
        vni = side.view.topology.tenants.vni
        owners = np.searchsorted(vni, np.fromiter(vnis, np.uint32)).tolist()
        groups = [buckets for scope in scopes for buckets in rows.local_floods(scope)]
        groups += rows.remote_floods(side.view, owners)
        parts.append(
            Program(
                (*([program.shared(side.view)] if shared else []), *map(program.of, scopes)),
                program.groups(groups),
            )
        )
    return parts


def _lists(view: View) -> dict[int, bytes]:
    """The flood lists of a view: VNI of the owner -> VTEP indices."""
    vni = view.topology.tenants.vni
    return {
        int(vni[owner]): members.tobytes() for owner, members in view.flood_lists.members.items()
    }


def _same_shared(old: View, new: View) -> bool:
    """Whether the flows that are no tenant's are surely the same."""
    return (
        old.topology.vteps is new.topology.vteps
        and old.topology.tenants is new.topology.tenants
        and np.array_equal(old.here, new.here)
        and np.array_equal(old.peers, new.peers)
    )


def _sides(old: View, new: View) -> tuple[_Side, _Side]:
    """What may differ of either view."""
    sides = tuple(
        _Side(view, side.tenants.copy(), side.endpoints.copy())
        for view, side in zip((old, new), compare(old.topology, new.topology), strict=True)
    )
    moved = _differing(_here(old), _here(new))
    for side in sides:
        whole = side.tenants | np.isin(side.view.topology.tenants.vni, moved)
        _add_endpoints(side, whole)
        side.tenants[whole] = True
    relisted = _differing(_listed(old), _listed(new)) >> np.uint64(32)
    for side in sides:
        side.tenants[np.isin(side.view.topology.tenants.vni, relisted)] = True
    for vni, mac in _differing_ports(old, new):
        for side in sides:
            _add_guest(side, vni, mac)
    return sides[0], sides[1]


def _add_endpoints(side: _Side, tenants: Flags) -> None:
    """Add all endpoints of these tenants."""
    topology = side.view.topology
    for number in np.unique(
        np.searchsorted(topology.tenant_edges, np.flatnonzero(tenants), "right") - 1
    ).tolist():
        low, high = topology.tenant_edges[number : number + 2]
        first, last = topology.endpoint_edges[number : number + 2]
        side.endpoints[first:last] |= tenants[low:high][topology.slices[number].endpoints.tenant]


def _here(view: View) -> U64:
    """The VNIs of the tenants here."""
    return view.topology.tenants.vni[view.here].astype(np.uint64)


def _listed(view: View) -> U64:
    """VNI and group of its VTEPs, of every tenant here."""
    return (_here(view) << np.uint64(32)) | rows.remote_flood_of(view)[view.here]


def _differing(old: U64, new: U64) -> U64:
    """The facts that stand on one side only."""
    if np.array_equal(old, new):
        return old[:0]
    return np.setxor1d(old, new, assume_unique=True)


def _differing_ports(old: View, new: View) -> set[tuple[int, int]]:
    """(VNI, MAC) of the guests whose port has come, gone, or another number or marking."""
    facts = [
        np.column_stack(
            [
                view.topology.tenants.vni[view.guests.tenant].astype(np.uint64),
                view.guests.mac,
                view.ports.port.astype(np.uint64),
                view.ports.marked.astype(np.uint64),
            ]
        )
        for view in (old, new)
    ]
    if np.array_equal(facts[0], facts[1]):
        return set()
    before, after = (set(map(tuple, some.tolist())) for some in facts)
    return {(vni, mac) for vni, mac, *_ in before ^ after}


def _add_guest(side: _Side, vni: int, mac: int) -> None:
    """Add a guest's endpoint and its tenant, if the overlay has them."""
    topology = side.view.topology
    tenant = int(np.searchsorted(topology.tenants.vni, vni))
    if tenant == len(topology.tenants) or topology.tenants.vni[tenant] != vni:
        return
    side.tenants[tenant] = True
    span = topology.tenant_span(tenant)
    found = topology.taken(np.arange(span.start, span.stop)).mac == mac
    side.endpoints[span.start : span.stop] |= found


def _owners(scope: Scope) -> Flags:
    """bool[T]: the tenants of the endpoints wanted."""
    owners = np.zeros(scope.part.tenants, np.bool_)
    owners[scope.endpoints.tenant[scope.endpoints_wanted]] = True
    return owners
