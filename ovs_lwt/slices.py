"""Slices: some tenants of an overlay with all their endpoints, in numpy columns.

An overlay is a row of slices, each of about `SIZE` endpoints. A slice is never written to: a change
makes a new one in place of the old, and all others stay the same objects. So who keeps something
about a slice (how a host sees it, which flows it makes) knows by ``is`` that it still holds.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ovs_lwt.columns import (
    NO_ADDRESSES6,
    NO_PAIRS4,
    NO_PAIRS6,
    NO_PORT_KEYS,
    U8,
    U32,
    U64,
    Addresses4,
    Addresses6,
    EndpointColumns,
    Flags,
    Indices,
    Pairs4,
    Pairs6,
    PortKeys,
    Relation,
    among,
    link_local,
    of_endpoints,
    ordered4,
    ordered6,
    ordered_pairs4,
    ordered_pairs6,
    ordered_port_keys,
    shifted,
    stacked,
)

SIZE = 8192
"""Endpoints in a slice, about: few enough to be cheap to replace, enough for numpy to be quick."""

_TENANTS = 1 << 15
_WIDE = 64  # a table of bytes for every endpoint, at most


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What one host needs to know of a slice before it looks at single endpoints.

    here: bool[T], the tenants with an endpoint on it; tenant, vtep: every remote host of those,
    ascending, each pair once; peers: those hosts; lists: the distinct flood lists (VTEP indices,
    uint32, as bytes); first: the first tenant of each; chosen: which of them each tenant here has
    """

    here: Flags
    tenant: U32
    vtep: U32
    peers: U32
    lists: tuple[bytes, ...]
    first: Indices
    chosen: Indices


@dataclass(frozen=True, slots=True, eq=False)
class Origin:
    """Which slice another was made from, without which of its endpoints, and with which new."""

    slice: weakref.ref[Slice]
    without: Indices
    new: Indices


@dataclass(frozen=True, eq=False)
class Slice:
    """`tenants` tenants with their endpoints; both are numbered from the slice's own first.

    origin: what it was made from, if it was by changing some endpoints
    """

    tenants: int
    endpoints: EndpointColumns
    addresses4: Addresses4
    addresses6: Addresses6
    pairs4: Pairs4 = NO_PAIRS4
    pairs6: Pairs6 = NO_PAIRS6
    port_keys: PortKeys = NO_PORT_KEYS
    origin: Origin | None = None
    _seen: dict[int, Seen | None] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.endpoints)

    @property
    def relations(self) -> tuple[Relation, ...]:
        """What belongs to its endpoints: addresses and allowed pairs, of either family, and by what
        their ports are known.
        """
        return self.addresses4, self.addresses6, self.pairs4, self.pairs6, self.port_keys

    @cached_property
    def bare(self) -> Flags:
        """bool[E]: the endpoints of which the overlay says no address, nor an allowed pair."""
        bare = np.ones(len(self), np.bool_)
        for relation in (self.addresses4, self.addresses6, self.pairs4, self.pairs6):
            bare[relation.endpoint] = False
        return bare

    @cached_property
    def keys(self) -> U64:
        """uint64[E], ascending: tenant and MAC of every endpoint in one number.

        Only for slices of fewer than 2**16 tenants.
        """
        return (self.endpoints.tenant.astype(np.uint64) << np.uint64(48)) | self.endpoints.mac

    @cached_property
    def spans(self) -> tuple[U32, U32]:
        """(tenant, VTEP), ascending: which tenant has endpoints where, each pair once."""
        hosts = int(self.endpoints.vtep.max(initial=0)) + 1
        pairs = self.endpoints.tenant.astype(np.intp) * hosts + self.endpoints.vtep
        if self.tenants * hosts < _WIDE * len(self):
            # Marked in a table, which is quicker than to sort them.
            marked = np.zeros(self.tenants * hosts, np.bool_)
            marked[pairs] = True
            pairs = np.flatnonzero(marked)
        else:
            pairs = np.unique(pairs)
        tenant = pairs // hosts
        return tenant.astype(np.uint32), (pairs - tenant * hosts).astype(np.uint32)

    @cached_property
    def owned6(self) -> tuple[U32, U8]:
        """The IPv6 addresses that endpoints answer for: (endpoint, address), ascending.

        An endpoint with an IPv6 address has its link-local one too, unless another of its tenant
        lists that one.
        """
        listed, ip = self.addresses6.endpoint, self.addresses6.ip
        if not len(listed):
            return listed, ip
        dual = np.unique(listed)
        owner = np.concatenate([listed, dual])
        every = np.concatenate([ip, link_local(self.endpoints.mac[dual])])
        tenant = self.endpoints.tenant[owner].astype(">u4").view(np.uint8).reshape(-1, 4)
        key = np.ascontiguousarray(np.concatenate([tenant, every], axis=1)).view("V20").ravel()
        _, first = np.unique(key, return_index=True)
        first = first[np.argsort(owner[first], kind="stable")]
        return owner[first], every[first]

    @cached_property
    def by_uuid(self) -> tuple[NDArray[np.bytes_], U32]:
        """The UUIDs of its endpoints' ports, ascending, 16 bytes each; and whose they are."""
        keys = self.port_keys
        given = np.flatnonzero(keys.uuid.any(axis=1))
        uuids = np.ascontiguousarray(keys.uuid[given]).view("S16").ravel()
        order = np.argsort(uuids)
        return uuids[order], keys.endpoint[given[order]]

    @cached_property
    def known_by_mac(self) -> Indices:
        """Its endpoints whose port may be known by its MAC, ascending."""
        keys = self.port_keys
        return keys.endpoint[keys.by_mac].astype(np.intp)

    @cached_property
    def _by_host(self) -> tuple[U64, Indices]:
        """(VTEP and MAC in one number, endpoint), ascending. (Of 2**16 VTEPs and more some share
        their numbers.)
        """
        keys = _on_host(self.endpoints.vtep, self.endpoints.mac)
        order = np.argsort(keys)
        return keys[order], order

    def of_macs(self, vtep: U32, mac: U64) -> Indices:
        """Return the endpoints that have both VTEP and MAC of one of these, ascending; there may
        be others among them. What it costs grows with how many are asked for.
        """
        keys, endpoint = self._by_host
        wanted = np.unique(_on_host(vtep, mac))
        low, high = (np.searchsorted(keys, wanted, side) for side in ("left", "right"))
        count = high - low
        within = np.arange(int(count.sum())) - np.repeat(np.cumsum(count) - count, count)
        return np.sort(endpoint[np.repeat(low, count) + within])

    @cached_property
    def shared4(self) -> Flags:
        """bool of each of `addresses4`: whether it stands in an allowed pair of the tenant, too."""
        four, pairs = self.addresses4, self.pairs4
        return _among(self.endpoints.tenant, (four.endpoint, four.ip), (pairs.endpoint, pairs.ip))

    @cached_property
    def shared6(self) -> Flags:
        """The same of each of `owned6`."""
        pairs = self.pairs6
        return _among(self.endpoints.tenant, self.owned6, (pairs.endpoint, pairs.ip))

    def seen_from(self, host: int) -> Seen | None:
        """Return what the VTEP `host` (an index) needs to know; None if no tenant is there."""
        if host not in self._seen:
            self._seen[host] = _seen_from(self, host)
        return self._seen[host]


def _on_host(vtep: U32, mac: U64) -> U64:
    return (vtep.astype(np.uint64) << np.uint64(48)) | mac


def _among(tenant: U32, one: tuple[U32, NDArray[Any]], other: tuple[U32, NDArray[Any]]) -> Flags:
    """Say which (endpoint, address) stand among others' of the same tenant."""
    if not len(other[0]):
        return np.zeros(len(one[0]), np.bool_)
    return among((tenant[one[0]], one[1]), (tenant[other[0]], other[1]))


EMPTY = Slice(
    0,
    EndpointColumns(
        np.empty(0, np.uint32),
        np.empty(0, np.uint64),
        np.empty(0, np.uint32),
        np.empty(0, np.bool_),
        np.empty(0, np.uint8),
        pa.array([], pa.string()),
    ),
    Addresses4(np.empty(0, np.uint32), np.empty(0, np.uint32), np.empty(0, np.uint8)),
    NO_ADDRESSES6,
)
"""No tenant, and no endpoint."""


def cut(whole: Slice) -> tuple[Slice, ...]:
    """Cut into slices of about `SIZE` endpoints, between tenants; columns are not copied."""
    starts = np.searchsorted(whole.endpoints.tenant, np.arange(whole.tenants, dtype=np.uint32))
    # Fewer than 2**16 tenants in each, however empty they are: see `Slice.keys`.
    number = starts // SIZE + np.arange(whole.tenants) // _TENANTS
    edges = np.flatnonzero(np.diff(number)) + 1
    if not len(edges):
        return (whole,)
    lows, highs = [0, *edges.tolist()], [*edges.tolist(), whole.tenants]
    return tuple(_part(whole, starts, low, high) for low, high in zip(lows, highs, strict=True))


def joined(slices: Sequence[Slice]) -> Slice:
    """Return one slice of all of them, tenants in the same order."""
    if len(slices) <= 1:
        return slices[0] if slices else EMPTY
    endpoints = []
    relations: list[list[Any]] = [[] for _ in EMPTY.relations]
    tenants = rows = 0
    for each in slices:
        endpoints.append(shifted(each.endpoints, "tenant", tenants))
        for found, relation in zip(relations, each.relations, strict=True):
            found.append(shifted(relation, "endpoint", rows))
        tenants, rows = tenants + each.tenants, rows + len(each)
    return _sealed(Slice(tenants, stacked(endpoints), *map(stacked, relations)))


def below(upper: Slice, lower: Slice) -> Slice:
    """Return the rows of both, of the same tenants; no longer in order."""
    relations: list[Any] = [
        stacked([one, shifted(other, "endpoint", len(upper))])
        for one, other in zip(upper.relations, lower.relations, strict=True)
    ]
    return Slice(upper.tenants, stacked([upper.endpoints, lower.endpoints]), *relations)


def picked(whole: Slice, rows: Indices, first: int, tenants: int) -> Slice:
    """Return these endpoints in order, of the `tenants` tenants that begin with `first`."""
    some = ordered(whole, rows)
    shifted = replace(some.endpoints, tenant=some.endpoints.tenant - np.uint32(first))
    return replace(some, tenants=tenants, endpoints=shifted, _seen={})


def ordered(whole: Slice, rows: Indices | None = None) -> Slice:
    """Return the slice with its columns in the order that they promise.

    rows: the endpoints to keep (None: all), in any order; those left out take their addresses along
    """
    tenant, mac = whole.endpoints.tenant, whole.endpoints.mac
    if rows is None:
        order = _endpoint_order(tenant, mac)
    else:
        order = rows[_endpoint_order(tenant[rows], mac[rows])]
    return _sealed(
        Slice(
            whole.tenants,
            whole.endpoints.taken(order),
            ordered4(whole.addresses4, order, len(whole)),
            ordered6(whole.addresses6, order, len(whole)),
            ordered_pairs4(whole.pairs4, order, len(whole)),
            ordered_pairs6(whole.pairs6, order, len(whole)),
            ordered_port_keys(whole.port_keys, order, len(whole)),
        )
    )


def _part(whole: Slice, starts: Indices, low: int, high: int) -> Slice:
    """The tenants low..high (excluded) of a slice; starts: first endpoint of every tenant."""
    first = int(starts[low])
    last = int(starts[high]) if high < whole.tenants else len(whole)
    endpoints = shifted(whole.endpoints.span(first, last), "tenant", -low)
    relations: list[Any] = [of_endpoints(each, first, last) for each in whole.relations]
    return _sealed(Slice(high - low, endpoints, *relations))


def _endpoint_order(tenant: U32, mac: U64) -> Indices:
    if len(tenant) == 0 or int(tenant.max()) < 1 << 16:
        # Stable, which is quick where most of it is in order already: after a change it is.
        return np.argsort((tenant.astype(np.uint64) << np.uint64(48)) | mac, kind="stable")
    return np.lexsort((mac, tenant))


def _seen_from(part: Slice, host: int) -> Seen | None:
    tenant, vtep = part.spans
    here = np.zeros(part.tenants, np.bool_)
    here[tenant[vtep == host]] = True
    if not here.any():
        return None
    remote = here[tenant] & (vtep != host)
    tenant, vtep = tenant[remote], vtep[remote]
    local = np.flatnonzero(here)
    edges = np.searchsorted(tenant, np.array([local, local + 1], np.uint32))
    lists: dict[bytes, int] = {}
    chosen = np.array(
        [
            lists.setdefault(vtep[low:high].tobytes(), len(lists))
            for low, high in zip(*edges.tolist(), strict=True)
        ],
        np.intp,
    )
    first = local[np.searchsorted(np.maximum.accumulate(chosen), np.arange(len(lists)))]
    peers = np.flatnonzero(np.bincount(vtep)).astype(np.uint32)
    return Seen(here, tenant, vtep, peers, tuple(lists), first, chosen)


def _sealed(part: Slice) -> Slice:
    """The same slice, its arrays locked against writing."""
    for columns in (part.endpoints, *part.relations):
        for column in fields(columns):
            array = getattr(columns, column.name)
            if isinstance(array, np.ndarray):
                array.setflags(write=False)
    return part
