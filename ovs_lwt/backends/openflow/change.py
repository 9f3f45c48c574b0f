"""From one view to the next: only what may differ is compiled, before and after, and compared.

Equal to comparing everything with everything, byte for byte. An endpoint's flows follow from its
own columns, its tenant's row and its port; a tenant's own flows and group from its row, its ports
and its flood list; the rest from the hosts and the tenants that are here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from ovs_lwt.backends.openflow import floods, program
from ovs_lwt.backends.openflow.program import Program
from ovs_lwt.backends.openflow.transaction import Transaction
from ovs_lwt.backends.scope import Scope
from ovs_lwt.changes import Differing, compare
from ovs_lwt.columns import U64, Flags, Indices
from ovs_lwt.slices import Seen
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
        for vni in scope.vni[scope.relisted | _owners(scope)].tolist()
    )


_NONE = np.empty(0, np.intp)


@dataclass(slots=True, eq=False)
class _Side:
    """What of one view is compiled: flood lists (with their owners), and indices of tenants, of
    endpoints, and of tenants whose list has another group, in any order.
    """

    view: View
    lists: Mapping[bytes, int]
    tenants: list[Indices]
    endpoints: list[Indices]
    relisted: Indices

    def scopes(self) -> Iterator[Scope]:
        """The same, slice by slice."""
        tenants, endpoints = (
            _ascending(np.concatenate(some)) for some in (self.tenants, self.endpoints)
        )
        return Scope.narrowed(self.view, tenants, endpoints, self.relisted)

    def add_tenants(self, tenants: Indices) -> None:
        """Add these tenants, with all their endpoints."""
        self.tenants.append(tenants)
        for tenant in tenants.tolist():
            span = self.view.topology.tenant_span(tenant)
            self.endpoints.append(np.arange(span.start, span.stop))

    def known(self, vnis: U64) -> Indices:
        """The tenants of these VNIs, ascending; those that the overlay does not have left out."""
        if not len(vnis):
            return _NONE
        return np.flatnonzero(np.isin(self.view.topology.tenants.vni, vnis))

    def add_guest(self, vni: int, mac: int) -> None:
        """Add a guest's endpoint and its tenant, if the overlay has them."""
        topology = self.view.topology
        tenant = int(np.searchsorted(topology.tenants.vni, vni))
        if tenant < len(topology.tenants) and topology.tenants.vni[tenant] == vni:
            self.tenants.append(np.array([tenant]))
            span = topology.tenant_span(tenant)
            macs = topology.taken(np.arange(span.start, span.stop)).mac
            self.endpoints.append(span.start + np.flatnonzero(macs == mac))


def _ascending(indices: Indices) -> Indices:
    """Each index once. (`np.unique` hashes, which takes a second for a million.)"""
    found = np.sort(indices).astype(np.intp)
    return found[np.diff(found, prepend=-1) > 0]


def _rewritten(old: View, new: View) -> bool:
    """Whether something differs that every flow may bear (the host's own address family, the
    tunnel's port), or all is new.
    """
    families = (view.topology.vteps.family[view.host] for view in (old, new))
    return (
        not old.here.any()
        or old.tunnel != new.tunnel
        or old.nd_by_flow != new.nd_by_flow
        or old.userspace != new.userspace
        or len(set(families)) > 1
    )


def _parts(old: View, new: View) -> list[Program]:
    shared = not _same_shared(old, new)
    parts = []
    for side in _sides(old, new):
        scopes, lists = list(side.scopes()), side.lists
        groups = [buckets for scope in scopes for buckets in floods.local_floods(scope)]
        groups += floods.remote_floods(side.view, lists)
        parts.append(
            Program(
                (
                    *([program.shared(side.view)] if shared else []),
                    program.lists(side.view, lists),
                    program.of(*scopes),
                ),
                program.groups(groups),
            )
        )
    return parts


def _differing_lists(old: View, new: View) -> tuple[dict[bytes, int], dict[bytes, int]]:
    """The flood lists of either, with their owners, that the other does not have just so."""
    one, other = old.flood_lists.owners, new.flood_lists.owners
    if not _same_numbers(old, new) or old.requests != new.requests:
        return dict(one), dict(other)
    return (
        {vteps: owner for vteps, owner in one.items() if other.get(vteps) != owner},
        {vteps: owner for vteps, owner in other.items() if one.get(vteps) != owner},
    )


def _same_numbers(old: View, new: View) -> bool:
    """Whether an index of a VTEP or a tenant means the same in both."""
    one, other = old.topology, new.topology
    return one.vteps is other.vteps and one.tenants is other.tenants


def _same_shared(old: View, new: View) -> bool:
    """Whether the flows that are no tenant's are surely the same."""
    return (
        _same_numbers(old, new)
        and old.requests == new.requests
        and np.array_equal(old.here, new.here)
        and np.array_equal(old.peers, new.peers)
    )


def _sides(old: View, new: View) -> tuple[_Side, _Side]:
    """What may differ of either view."""
    found = compare(old.topology, new.topology)
    lists = _differing_lists(old, new)
    one, other = (
        _Side(view, some, [_NONE], [differing.endpoints], _NONE)
        for view, some, differing in zip((old, new), lists, found, strict=True)
    )
    for mine, differing in zip((one, other), found, strict=True):
        mine.add_tenants(differing.tenants)
    # What depends on which guests are here concerns all endpoints of the tenant.
    for side in (one, other):
        # Several endpoints may have the same pair: its rows are the tenant's.
        vnis = np.concatenate(
            [_vnis_with_pairs(view, each) for view, each in zip((old, new), found, strict=True)]
        )
        side.tenants.append(side.known(vnis))
    if old.requests != new.requests:
        # What carries tags has a row of its own for the request port.
        for side in (one, other):
            carrying = side.view.here & side.view.topology.tenants.carry_tagged
            side.tenants.append(np.flatnonzero(carrying))
    come_or_gone = np.union1d(_differing(_here(old), _here(new)), _reguarded(old, new))
    relisted = _relisted(one, other)
    replugged = _differing_ports(old, new)
    for side in (one, other):
        side.add_tenants(side.known(come_or_gone))
        side.relisted = side.known(relisted)
        for vni, mac in replugged:
            side.add_guest(vni, mac)
    return one, other


def _here(view: View) -> U64:
    """The VNIs of the tenants here."""
    return view.topology.tenants.vni[view.here].astype(np.uint64)


def _vnis_with_pairs(view: View, differing: Differing) -> U64:
    """The VNIs of tenants with allowed pairs of which an endpoint differs."""
    tenants = differing.topology.with_pairs(differing.endpoints)
    return view.topology.tenants.vni[tenants].astype(np.uint64)


def _reguarded(old: View, new: View) -> U64:
    """The VNIs of tenants that have got, or lost, their guests without addresses here, or those
    that may send from any.
    """
    found = [np.empty(0, np.uint64)]
    for one, other in ((old.with_bare, new.with_bare), (old.with_trusted, new.with_trusted)):
        before, after = (
            view.topology.tenants.vni[some].astype(np.uint64)
            for view, some in ((old, one), (new, other))
        )
        found.append(_differing(before, after))
    return np.unique(np.concatenate(found))


def _relisted(old: _Side, new: _Side) -> U64:
    """The VNIs of tenants here whose flood list has another group."""
    shared: set[Seen] = set()
    if _same_numbers(old.view, new.view) and not old.lists.keys() & new.lists.keys():
        # Where both see the same of a slice, its tenants have the same groups.
        shared = {seen for _, seen in old.view.flood_lists.parts}
        shared &= {seen for _, seen in new.view.flood_lists.parts}
    one, other = (_listed(side.view, without=shared) for side in (old, new))
    return _differing(one, other) >> np.uint64(32)


def _listed(view: View, without: set[Seen]) -> U64:
    """VNI and owner of the flood list of every tenant here, but in these slices."""
    vni, owners = view.topology.tenants.vni, view.flood_lists.owners
    found = [np.empty(0, np.uint64)]
    for first, seen in view.flood_lists.parts:
        if seen not in without:
            tenants = vni[first + np.flatnonzero(seen.here)].astype(np.uint64)
            of_lists = vni[[owners[vteps] for vteps in seen.lists]]
            found.append((tenants << np.uint64(32)) | of_lists[seen.chosen])
    return np.concatenate(found)


def _differing(old: U64, new: U64) -> U64:
    """The facts that stand on one side only."""
    if np.array_equal(old, new):
        return old[:0]
    return np.setxor1d(old, new, assume_unique=True)


def _differing_ports(old: View, new: View) -> set[tuple[int, int]]:
    """(VNI, MAC) of the guests whose port has come, gone, or another number, marking or link
    state.
    """
    if not len(old.ports) and not len(new.ports):
        return set()
    facts = [
        np.column_stack(
            [
                view.topology.tenants.vni[view.guests.tenant].astype(np.uint64),
                view.guests.mac,
                view.ports.port.astype(np.uint64),
                view.ports.marked.astype(np.uint64),
                view.ports.up.astype(np.uint64),
            ]
        )
        for view in (old, new)
    ]
    if np.array_equal(facts[0], facts[1]):
        return set()
    before, after = (set(map(tuple, some.tolist())) for some in facts)
    return {(vni, mac) for vni, mac, *_ in before ^ after}


def _owners(scope: Scope) -> Flags:
    """bool[T]: the tenants of the endpoints wanted."""
    owners = np.zeros(scope.part.tenants, np.bool_)
    owners[scope.endpoints.tenant[scope.endpoints_wanted]] = True
    return owners
