"""What differs between two overlays, compared by VNI, MAC, address and name.

An index means something within one `Topology` only; so renumbering is no change. Slices that both
share are not looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ovs_lwt.columns import U32, U64, EndpointColumns, Flags, Indices
from ovs_lwt.slices import Slice, joined
from ovs_lwt.topology import OF_NO_TENANT, TenantColumns, Topology, VtepColumns


@dataclass(frozen=True, slots=True, eq=False)
class Differing:
    """What of one topology is not so in another, or may not be.

    tenants: indices of those whose own row is not the same; endpoints: of those that are not; both
    ascending
    """

    topology: Topology
    tenants: Indices
    endpoints: Indices

    def tenants_concerned(self) -> Indices:
        """The tenants that differ themselves, or in one of their endpoints, ascending."""
        owners = self.topology.tenants_of(self.endpoints)
        return np.union1d(self.tenants, owners) if len(self.tenants) else owners


@lru_cache(maxsize=1)  # every host of an agent asks the same question
def compare(old: Topology, new: Topology) -> tuple[Differing, Differing]:
    """Return what of `old` is not so in `new`, and what of `new` is not so in `old`.

    A tenant differs if its row does; an endpoint if one of its own columns, addresses or allowed
    pairs does, or a column of its VTEP. The underlay, and the columns of VTEPs that concern no
    tenant (`OF_NO_TENANT`), are not compared.
    """
    tenants = _unlike_tenants(old.tenants, new.tenants)
    found: tuple[list[Indices], list[Indices]] = [np.empty(0, np.intp)], [np.empty(0, np.intp)]
    hosts = None if _same_vteps(old.vteps, new.vteps) else _common_hosts(old.vteps, new.vteps)
    for run_old, run_new in _runs(old, new, shared=hosts is None):
        one, other = _run(old, run_old), _run(new, run_new)
        unlike = _made_from(one.part, other.part) if hosts is None else None
        first_old = old.endpoint_edges[run_old.start]
        first_new = new.endpoint_edges[run_new.start]
        rows_old, rows_new = unlike or _unlike(one, other, hosts)
        found[0].append(rows_old + first_old)
        found[1].append(rows_new + first_new)
    return (
        Differing(old, tenants[0], np.concatenate(found[0])),
        Differing(new, tenants[1], np.concatenate(found[1])),
    )


def changed_tenants(old: Topology, new: Topology) -> frozenset[int]:
    """Return the VNIs of all tenants that are not the same in `old` and `new`, in their own row or
    in an endpoint: see `compare`.
    """
    return frozenset(
        vni
        for side in compare(old, new)
        for vni in side.topology.tenants.vni[side.tenants_concerned()].tolist()
    )


def hosts_touched(old: Topology, new: Topology) -> frozenset[str] | None:
    """Return the names of the VTEPs whose view may differ; None: any of them."""
    if old.underlay != new.underlay or not _same_vteps(old.vteps, new.vteps):
        return None
    if not np.array_equal(old.vteps.replicator, new.vteps.replicator):
        return None
    touched = np.zeros(len(new.vteps), np.bool_)
    for side in compare(old, new):
        concerned, edges = side.tenants_concerned(), side.topology.tenant_edges
        at = np.searchsorted(concerned, edges)
        for number in np.flatnonzero(np.diff(at)).tolist():
            part = side.topology.slices[number]
            some = np.zeros(part.tenants, np.bool_)
            some[concerned[at[number] : at[number + 1]] - edges[number]] = True
            tenant, vtep = part.spans
            touched[vtep[some[tenant]]] = True
    return frozenset(new.vteps.name[index] for index in np.flatnonzero(touched).tolist())


def same(old: Topology, new: Topology) -> bool:
    """Say whether two topologies are one overlay: underlay, hosts, tenants, endpoints."""
    return (
        old.underlay == new.underlay
        and _vtep_rows(old.vteps) == _vtep_rows(new.vteps)
        and all(
            np.array_equal(getattr(old.vteps, name), getattr(new.vteps, name))
            for name in _names(VtepColumns, concern_tenants=False)
        )
        and not changed_tenants(old, new)
    )


# Tenants and hosts


def _unlike_tenants(old: TenantColumns, new: TenantColumns) -> tuple[Indices, Indices]:
    """The tenants of either whose row the other does not have."""
    if old is new:
        return np.empty(0, np.intp), np.empty(0, np.intp)
    _, at_old, at_new = np.intersect1d(old.vni, new.vni, True, return_indices=True)
    rows_old, rows_new = _tenant_rows(old), _tenant_rows(new)
    pairs = zip(at_old.tolist(), at_new.tolist(), strict=True)
    equal = np.array([rows_old[a] == rows_new[b] for a, b in pairs], np.bool_)
    return (
        np.setdiff1d(np.arange(len(old)), at_old[equal], assume_unique=True),
        np.setdiff1d(np.arange(len(new)), at_new[equal], assume_unique=True),
    )


def _tenant_rows(tenants: TenantColumns) -> list[tuple[Any, ...]]:
    return _rows(tenants, _names(TenantColumns))


def _same_vteps(old: VtepColumns, new: VtepColumns) -> bool:
    return old is new or _vtep_rows(old) == _vtep_rows(new)


def _vtep_rows(vteps: VtepColumns) -> list[tuple[Any, ...]]:
    return _rows(vteps, _names(VtepColumns))


def _names(kind: type[TenantColumns | VtepColumns], *, concern_tenants: bool = True) -> list[str]:
    """The columns that concern tenants, or those that do not."""
    return [
        column.name
        for column in fields(kind)
        if (column.metadata != OF_NO_TENANT) == concern_tenants
    ]


def _rows(columns: TenantColumns | VtepColumns, names: list[str]) -> list[tuple[Any, ...]]:
    """These columns row by row, of values that can be compared and looked up."""
    values = []
    for name in names:
        column = getattr(columns, name)
        if isinstance(column, np.ndarray):
            wide = column.ndim == 2
            column = [row.tobytes() for row in column] if wide else column.tolist()
        values.append(column)
    return list(zip(*values, strict=True))


def _common_hosts(old: VtepColumns, new: VtepColumns) -> tuple[U32, U32]:
    """Numbers for the VTEPs of both: equal rows have equal numbers."""
    known: dict[tuple[Any, ...], int] = {}
    one, other = (
        np.array([known.setdefault(row, len(known)) for row in _vtep_rows(vteps)], np.uint32)
        for vteps in (old, new)
    )
    return one, other


# Endpoints


@dataclass(frozen=True, slots=True, eq=False)
class _Run:
    """Slices in a row, as one, and the VNIs of its tenants."""

    part: Slice
    vni: U32


def _run(topology: Topology, run: range) -> _Run:
    edges = topology.tenant_edges
    vni = topology.tenants.vni[edges[run.start] : edges[run.stop]]
    return _Run(joined(topology.slices[run.start : run.stop]), vni)


def _runs(old: Topology, new: Topology, *, shared: bool) -> Iterator[tuple[range, range]]:
    """Slices to lay side by side. shared: a slice that both have needs no look."""
    tenants_same = old.tenants is new.tenants
    counts = len(old.slices), len(new.slices)
    if shared and tenants_same and np.array_equal(old.tenant_edges, new.tenant_edges):
        pairs = enumerate(zip(old.slices, new.slices, strict=True))
        for number in [number for number, (one, other) in pairs if one is not other]:
            yield range(number, number + 1), range(number, number + 1)
        return

    def alike(a: int, b: int) -> bool:
        return tenants_same or np.array_equal(_vnis(old, a), _vnis(new, b))

    def settled(a: int, b: int) -> bool:
        return shared and old.slices[a] is new.slices[b] and alike(a, b)

    if counts[0] == counts[1] and all(map(alike, range(counts[0]), range(counts[1]))):
        for number in range(counts[0]):
            if not settled(number, number):
                yield range(number, number + 1), range(number, number + 1)
        return
    low, high = 0, 0
    while low < min(counts) and settled(low, low):
        low += 1
    while high < min(counts) - low and settled(counts[0] - high - 1, counts[1] - high - 1):
        high += 1
    yield range(low, counts[0] - high), range(low, counts[1] - high)


def _vnis(topology: Topology, number: int) -> U32:
    low, high = topology.tenant_edges[number : number + 2]
    return topology.tenants.vni[low:high]


def _made_from(one: Slice, other: Slice) -> tuple[Indices, Indices] | None:
    """The endpoints that the later of two slices was made with and without, if it says so."""
    for later, earlier, turned in ((other, one, False), (one, other, True)):
        if later.origin is not None and later.origin.slice() is earlier:
            rows = later.origin.without, later.origin.new
            return rows[::-1] if turned else rows
    return None


_ENDPOINT_COLUMNS = [
    column.name
    for column in fields(EndpointColumns)
    # The first two say which endpoint it is; VTEPs are compared by what they are.
    if column.name not in ("tenant", "mac", "vtep")
]


def _unlike(one: _Run, other: _Run, hosts: tuple[U32, U32] | None) -> tuple[Indices, Indices]:
    """The endpoints of either that the other does not have just so."""
    key_one, key_other = _keys(one, other)
    if not len(key_one) or not len(key_other):
        return np.arange(len(key_one)), np.arange(len(key_other))
    place = np.searchsorted(key_other, key_one)
    place[place == len(key_other)] = 0
    left = np.flatnonzero(key_other[place] == key_one)
    right = place[left]
    a, b = one.part.endpoints, other.part.endpoints
    vtep_a, vtep_b = a.vtep[left], b.vtep[right]
    if hosts is not None:
        vtep_a, vtep_b = hosts[0][vtep_a], hosts[1][vtep_b]
    unlike = vtep_a != vtep_b
    for name in _ENDPOINT_COLUMNS:
        one_column, other_column = getattr(a, name), getattr(b, name)
        if isinstance(one_column, np.ndarray):
            unlike |= one_column[left] != other_column[right]
        else:
            texts = one_column.take(pa.array(left)), other_column.take(pa.array(right))
            unlike |= np.asarray(pc.not_equal(*texts).to_numpy(zero_copy_only=False), bool)
    for relation_a, relation_b in zip(_addresses(one.part), _addresses(other.part), strict=True):
        unlike |= unlike_addresses(relation_a, relation_b, left, right, len(a), len(b))
    return (
        np.setdiff1d(np.arange(len(a)), left[~unlike], assume_unique=True),
        np.setdiff1d(np.arange(len(b)), right[~unlike], assume_unique=True),
    )


def _keys(one: _Run, other: _Run) -> tuple[U64, U64]:
    """A number for each endpoint, ascending: equal for equal VNI and MAC."""
    if np.array_equal(one.vni, other.vni) and len(one.vni) < 1 << 16:
        return one.part.keys, other.part.keys
    vni = np.concatenate([run.vni[run.part.endpoints.tenant] for run in (one, other)])
    mac = np.concatenate([run.part.endpoints.mac for run in (one, other)])
    order = np.lexsort((mac, vni))
    begins = (np.diff(vni[order]) != 0) | (np.diff(mac[order]) != 0)
    rank = np.empty(len(order), np.uint64)
    rank[order] = np.cumsum(np.append(False, begins)[: len(order)])
    return rank[: len(one.part)], rank[len(one.part) :]


Belongings = tuple[U32, list[Any]]
"""What belongs to endpoints, of one kind: the owners, ascending, and columns."""


def listed_addresses(part: Slice) -> tuple[Belongings, ...]:
    """Return the addresses and allowed pairs that the overlay lists."""
    return tuple(
        (relation.endpoint, [getattr(relation, column.name) for column in fields(relation)[1:]])
        for relation in part.relations
    )


def _addresses(part: Slice) -> tuple[Belongings, ...]:
    """Those that are owned are compared beside those that are listed, since an endpoint's
    link-local address can become another's, or stand in another's allowed pair.
    """
    owner, owned = part.owned6
    return (*listed_addresses(part), (owner, [owned, part.shared6]))


def unlike_addresses(
    one: Belongings,
    other: Belongings,
    left: Indices,
    right: Indices,
    count_one: int,
    count_other: int,
) -> Flags:
    """Say which of the pairs of endpoints (left, right) do not have the same addresses.

    count_one, count_other: how many endpoints there are on either side
    """
    (owner_one, columns_one), (owner_other, columns_other) = one, other
    if not len(owner_one) and not len(owner_other):
        return np.zeros(len(left), np.bool_)
    size_one = np.bincount(owner_one, minlength=count_one)[left]
    size_other = np.bincount(owner_other, minlength=count_other)[right]
    unlike: Flags = size_one != size_other
    # Those left have as many addresses on either side, in the same order of owner and address:
    # row by row they can be laid side by side.
    rows_one = _rows_of(owner_one, left[~unlike], count_one)
    rows_other = _rows_of(owner_other, right[~unlike], count_other)
    differs = np.zeros(len(rows_one), np.bool_)
    for column_one, column_other in zip(columns_one, columns_other, strict=True):
        found = column_one[rows_one] != column_other[rows_other]
        differs |= found.any(axis=1) if found.ndim == 2 else found
    changed = np.zeros(count_one, np.bool_)
    changed[owner_one[rows_one[differs]]] = True
    return unlike | changed[left]


def _rows_of(owner: U32, endpoints: Indices, count: int) -> Indices:
    """The addresses of these endpoints."""
    wanted = np.zeros(count, np.bool_)
    wanted[endpoints] = True
    return np.flatnonzero(wanted[owner])
