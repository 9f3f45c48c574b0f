"""From a host's view to its flood lists: the groups, and the rows that lead to them.

A tenant's guests here are one group, or several that call each other; its other hosts are a flood
list, which all tenants with the same hosts share. A list of more than `ONE_GROUP` VTEPs is wide:
kept in shares. Where a tenant has replicators (RFC 9574) and this host is none, it asks one of them
by the request port. See docs/adr/0015-assisted-replication.md.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from ovs_lwt.backends.openflow.limits import GUESTS, ONE_GROUP, ONE_PASS, SHARES
from ovs_lwt.backends.openflow.relations import Buckets, Rows, requests_of, tunnel_of
from ovs_lwt.backends.scope import Scope
from ovs_lwt.columns import U32, U64, Indices
from ovs_lwt.stencil import Column
from ovs_lwt.topology import VtepColumns
from ovs_lwt.view import VTEP_SIZE, View, members

SHARED_LIST = 1_000_000_000
"""Group number of a list of VTEPs, less the lowest VNI of the tenants that share it."""

GROUP_STEP = 20_000_000
"""From one group of a list to its next: more than there are VNIs."""

# Places of a list's other groups, and of those of a tenant's many guests, in steps.
_SHARE, _CHAIN, _ASK, _GUESTS = 1, 11, 19, 50
_PORTS = 1 << 16  # a switch has no more
_VNIS = 1 << 24


def is_ours(group: int) -> bool:
    """Whether this is the number of a group that a host of ours can have."""
    place, vni = divmod(group - SHARED_LIST, GROUP_STEP)
    ours = 0 <= place <= _ASK or _GUESTS <= place < _GUESTS + _PORTS // GUESTS
    return 0 < group < _VNIS or (ours and 0 < vni < _VNIS)


def local_floods(scope: Scope) -> Iterator[Buckets]:
    """The tenants' own groups: the ports of their guests here; those that others call before those
    that call them.
    """
    tenants, port = scope.tenant_columns, scope.view.ports.port[scope.tenant_ports]
    tenant = scope.endpoints.tenant[scope.endpoint_of(scope.tenant_ports)]
    edges = np.searchsorted(tenant, np.array([scope.tenants, scope.tenants + 1], np.uint32))
    for index, low, high in zip(scope.tenants.tolist(), *edges.tolist(), strict=True):
        vni, mark = int(tenants.vni[index]), tenants.mark[[index]]
        following = None
        for first in reversed(range(low, max(high, low + 1), GUESTS)):
            place = (first - low) // GUESTS
            group = vni if not place else SHARED_LIST + (_GUESTS + place) * GROUP_STEP + vni
            ports = port[first : min(first + GUESTS, high)]
            found = Buckets("local_flood", group, len(ports), {"mark": mark, "port": ports})
            if following is not None:
                found = _behind(found, "next_guests", "next_guests", following)
            yield found
            following = group


def remote_floods(view: View, lists: Mapping[bytes, int]) -> Iterator[Buckets]:
    """The groups of these lists (list -> owner, see FloodLists), those that others call before
    those that call them.
    """
    for vteps, owner in lists.items():
        yield from _list(view, vteps, owner).groups()


def tenant_rows(scope: Scope) -> Iterator[Rows]:
    """The tenants' rows of the table bum."""
    tenants = np.flatnonzero(scope.relisted)
    vni = scope.vni[tenants]
    local: dict[str, Column] = {"vni": vni, "local_flood": vni}
    remote: dict[str, Column] = {"remote_flood": _list_of(scope.view, scope.first_tenant + tenants)}
    yield Rows("bum.from_tunnel", len(vni), local | tunnel_of(scope.view))
    yield Rows("bum.from_guest", len(vni), local | remote)


def shared_rows(view: View) -> Iterator[Rows]:
    """The rows that are no tenant's and no list's: about the leaves that may ask."""
    if view.requests is None:
        return
    vteps = view.topology.vteps
    leaves = _addresses(vteps, view.host, view.peers) | requests_of(view)
    six = "6" * ("vtep6" in leaves)
    yield Rows(f"copy.back{six}", len(view.peers), leaves)
    if not view.userspace:
        share = {"leaf_share": 1 + _shares(vteps, view.peers)}
        yield Rows(f"peer.leaf{six}", len(view.peers), leaves | share)


def list_rows(view: View, lists: Mapping[bytes, int]) -> Iterator[Rows]:
    """The rows of these lists (list -> owner): who sends the copies."""
    for vteps, owner in lists.items():
        yield from _list(view, vteps, owner).rows()


def wide_floods(view: View) -> dict[str, int]:
    """Tenants whose broadcasts make more copies here than one action list of the datapath takes:
    name -> copies.
    """
    lists = view.flood_lists
    long = [vteps for vteps in lists.owners if len(vteps) > ONE_PASS * VTEP_SIZE]
    copies = {lists.owners[vteps]: _copies(view, vteps) for vteps in long}
    wide = {owner: made for owner, made in copies.items() if made > ONE_PASS}
    if not wide:
        return {}
    tenants = np.flatnonzero(view.here & np.isin(lists.owner, list(wide)))
    names = view.topology.tenants.name
    return {names[index]: wide[int(lists.owner[index])] for index in tenants.tolist()}


def _copies(view: View, vteps: bytes) -> int:
    """Copies for other hosts that this host makes of a guest's frame: one for the replicator that
    it asks, or one for each VTEP.
    """
    known = members(vteps)
    return len(_asked(view, known)) or len(known)


@dataclass(frozen=True, slots=True, eq=False)
class _List:
    """One flood list.

    number: its group, or what its groups are counted from; members: its VTEPs
    replicator: [1], the one of them that this host asks, or none: it does it itself
    """

    view: View
    number: int
    members: Indices
    replicator: Indices

    @property
    def _wide(self) -> bool:
        return len(self.members) > ONE_GROUP

    @property
    def _chained(self) -> bool:
        return len(self.members) > ONE_PASS and not self.view.userspace

    def rows(self) -> Iterator[Rows]:
        number: dict[str, Column] = {"remote_flood": _column(self.number)}
        if len(self.replicator):
            yield Rows("replicate.ask", 1, number | {"ask": _column(self._group(_ASK))})
        if not self._wide:
            yield Rows("replicate.list", 1, number)
        elif self._chained:
            yield from self._chain(number)
        else:
            shares = {
                f"share{place + 1}": _column(self._group(_SHARE + place)) for place in range(SHARES)
            }
            many = len(self.members) > ONE_PASS
            yield Rows("replicate.one_by_one" if many else "replicate.together", 1, number | shares)

    def _chain(self, number: dict[str, Column]) -> Iterator[Rows]:
        place = np.arange(SHARES, dtype=np.uint32)
        chain, share = (self.number + (place + first) * GROUP_STEP for first in (_CHAIN, _SHARE))
        yield Rows("replicate.chained", SHARES, number | {"place": place, "chain": chain})
        if self.view.requests is not None:
            behind = number | {"place": place, "next_place": place + 1}
            yield Rows("replicate.skipped", SHARES, behind)
            own = number | {"leaf_share": place + 1, "share": share}
            yield Rows("replicate.leafs_own", SHARES, own)

    def groups(self) -> Iterator[Buckets]:
        if len(self.replicator):
            yield self._buckets("ask", _ASK, self.replicator, requests_of(self.view))
        if not self._wide:
            yield self._buckets("remote_flood", 0, self.members)
            return
        share = _shares(self.view.topology.vteps, self.members)
        for place in range(SHARES):
            part = self.members[share == place]
            if not self._chained or self.view.requests is not None:
                yield self._buckets("remote_flood", _SHARE + place, part)
            if self._chained:
                link = self._buckets("chain", _CHAIN + place, part, tunnel_of(self.view))
                yield _behind(link, "next_share", "next_place", place + 1)

    def _group(self, place: int) -> int:
        return self.number + place * GROUP_STEP

    def _buckets(
        self, entry: str, place: int, vteps: Indices, more: dict[str, Column] | None = None
    ) -> Buckets:
        columns = _addresses(self.view.topology.vteps, self.view.host, vteps)
        six = "6" * ("vtep6" in columns)
        return Buckets(f"{entry}{six}", self._group(place), len(vteps), columns | (more or {}))


def _behind(buckets: Buckets, entry: str, slot: str, value: int) -> Buckets:
    """The same behind one bucket of another entry, with this value in its slot."""
    return replace(buckets, first=Buckets(entry, buckets.group, 1, {slot: _column(value)}))


def _list(view: View, vteps: bytes, owner: int) -> _List:
    known = members(vteps)
    number = SHARED_LIST + int(view.topology.tenants.vni[owner])
    return _List(view, number, known, _asked(view, known))


def _list_of(view: View, tenants: Indices) -> U32:
    """uint32[n]: the flood lists of these tenants (ascending)."""
    owner = view.flood_lists.owner_of(tenants)
    return (view.topology.tenants.vni[owner] + SHARED_LIST).astype(np.uint32)


def _asked(view: View, members: Indices) -> Indices:
    """The replicator that this host asks, [1], or none. Each leaf has the one with the highest
    weight (rendezvous hashing): one that goes leaves what others do as it was.
    """
    vteps = view.topology.vteps
    known = members[vteps.replicator[members]]
    if view.requests is None or vteps.replicator[view.host] or not len(known):
        return known[:0]
    names = np.array([zlib.crc32(vteps.name[index].encode()) for index in known], np.uint64)
    leaf = np.uint64(zlib.crc32(vteps.name[view.host].encode()) << 32)
    best = int(np.argmax(_mixed(leaf | names)))
    return known[best : best + 1]


def _shares(vteps: VtepColumns, members: Indices) -> Indices:
    """The share that each of these VTEPs is in. It follows from its address alone, so that all
    hosts agree on it, and a VTEP more or less moves no other.
    """
    words = np.ascontiguousarray(vteps.ipv6[members]).view(">u8").reshape(-1, 2).astype(np.uint64)
    return (
        _mixed(_mixed(words[:, 0] ^ vteps.ipv4[members]) ^ words[:, 1]) % np.uint64(SHARES)
    ).astype(np.intp)


def _mixed(values: U64) -> U64:
    """A finaliser of 64 bits (splitmix64): every bit of the result depends on every bit given."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _addresses(vteps: VtepColumns, host: int, chosen: Indices) -> dict[str, Column]:
    if vteps.family[host] == 6:
        return {"vtep6": vteps.ipv6[chosen]}
    return {"vtep": vteps.ipv4[chosen]}


def _column(value: int) -> U32:
    return np.array([value], np.uint32)
