"""Change endpoints of an overlay: the slices that it concerns are made anew, the others stay.

What flows in: a topology, the endpoints that are put (added, moved, altered) and those that go.
What flows out: another topology, or `Refused` with the endpoint that clashes, and nothing is done.
A source that hears of single endpoints keeps its topology this way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Interface, IPv6Interface
from itertools import chain
from weakref import ref

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ovs_lwt import slices
from ovs_lwt.changes import listed_addresses, unlike_addresses
from ovs_lwt.columns import (
    NO,
    U8,
    U32,
    U64,
    UNSAID,
    YES,
    Addresses4,
    Addresses6,
    EndpointColumns,
    Indices,
)
from ovs_lwt.mistakes import Refused
from ovs_lwt.model import Endpoint
from ovs_lwt.names import endpoint_id
from ovs_lwt.pairs import other_owners, pairs_of, repeated_pairs
from ovs_lwt.port_keys import owners_of, port_keys_of, same_mac_beside, text
from ovs_lwt.slices import Origin, Slice
from ovs_lwt.topology import Topology


@dataclass(frozen=True, slots=True, eq=False)
class Changes:
    """Endpoints of one topology, by tenant and MAC.

    put: as they shall be, in any order; `tenant` and `vtep` are indices of the topology
    gone_tenant, gone_mac: those that go; one that is not there is gone already
    """

    put: Slice
    gone_tenant: U32
    gone_mac: U64

    @classmethod
    def of(
        cls, topology: Topology, put: Mapping[str, Endpoint], gone: Iterable[str] = ()
    ) -> Changes:
        """Return the changes that put these endpoints, named ``TENANT/NAME``, and remove those.

        Raises Refused for a tenant or host that the overlay does not have.
        """
        owners = [topology.tenant_index(identity.partition("/")[0]) for identity in put]
        names = [identity.partition("/")[2] for identity in put]
        # What bore such a name until now goes, in case it had another MAC.
        stale = [topology.find(identity) for identity in (*put, *gone)]
        old = topology.taken(np.array(sorted({at for at in stale if at is not None}), np.intp))
        return cls(_columns(topology, owners, names, list(put.values())), old.tenant, old.mac)


def changed(topology: Topology, changes: Changes) -> Topology:
    """Return the topology after these changes; it shares all slices that they do not concern.

    Raises Refused when a name, MAC or address would stand twice in a tenant, when a tenant would
    lie on hosts that cannot reach each other, or when a port could be that of two endpoints.
    """
    edges = topology.tenant_edges
    put_at = np.searchsorted(edges, changes.put.endpoints.tenant, "right") - 1
    gone_at = np.searchsorted(edges, changes.gone_tenant, "right") - 1
    order = np.argsort(put_at, kind="stable")
    parts: list[Sequence[Slice]] = [(part,) for part in topology.slices]
    for number in np.unique(np.concatenate([put_at, gone_at])).tolist():
        first = int(edges[number])
        low, high = np.searchsorted(put_at, [number, number + 1], sorter=order)
        part = topology.slices[number]
        put = slices.picked(changes.put, order[low:high], first, part.tenants)
        gone = gone_at == number
        gone_keys = _keys(changes.gone_tenant[gone] - np.uint32(first), changes.gone_mac[gone])
        parts[number] = _recut(_edited(topology, first, part, put, gone_keys))
    edited = replace(topology, slices=tuple(chain.from_iterable(parts)))
    if len(changes.put) and edited.with_port_keys:
        _check_port_keys(edited, changes.put)
    return edited


def _check_port_keys(topology: Topology, put: Slice) -> None:
    """Refuse a port that could be that of two endpoints of the overlay, one of them put."""
    given = np.flatnonzero(put.port_keys.uuid.any(axis=1))
    owners: dict[int, int] = {}
    for which, endpoint in owners_of(topology, put.port_keys.uuid[given]):
        if (other := owners.setdefault(which, endpoint)) != endpoint:
            one, two = topology.endpoint_id(endpoint), topology.endpoint_id(other)
            port = text(put.port_keys.uuid[given[which]])
            raise Refused(f"{one}: port {port} is that of {two} as well")
    if not any(len(part.known_by_mac) for _, part in topology.with_port_keys):
        return
    firsts = topology.endpoint_edges[:-1]
    rows = np.concatenate(
        [
            first + part.of_macs(put.endpoints.vtep, put.endpoints.mac)
            for first, part in zip(firsts.tolist(), topology.slices, strict=True)
        ]
    )
    some, flagged = topology.taken(rows), np.flatnonzero(topology.known_by_mac(rows))
    known, beside = same_mac_beside(some.vtep, some.mac, flagged)
    if len(known):
        one, two = (topology.endpoint_id(int(rows[each[0]])) for each in (known, beside))
        raise Refused(f"{one}: a port with its MAC could be that of {two} as well")


def _recut(part: Slice) -> Sequence[Slice]:
    return (part,) if len(part) <= 2 * slices.SIZE else slices.cut(part)


def _edited(topology: Topology, first: int, part: Slice, put: Slice, gone: U64) -> Slice:
    """One slice, after the changes that concern it. first: its first tenant."""
    keys = _keys(put.endpoints.tenant, put.endpoints.mac)
    again = np.flatnonzero(np.diff(np.sort(keys)) == 0)
    if len(again):
        twice = int(np.flatnonzero(keys == np.sort(keys)[again[0]])[1])
        raise Refused(f"{_name(topology, first, put, twice)}: its MAC stands twice in one change")
    replaced = _rows(part, keys)
    keep = np.ones(len(part), np.bool_)
    keep[replaced], keep[_rows(part, gone)] = False, False
    rows = np.concatenate([np.flatnonzero(keep), len(part) + np.arange(len(put))])
    edited = slices.ordered(slices.below(part, put), rows)
    if len(put):
        if len(replaced) < len(put) or not _alike(part, replaced, put):
            _check_twins(topology, first, edited, put)
            _check_pairs(topology, first, edited, put)
        _check_kinds(topology, first, edited, put)
    if any(len(each.addresses6) + len(each.pairs4) + len(each.pairs6) for each in (edited, part)):
        # One endpoint's addresses can change what another owns, and what is answered for it.
        return edited
    new = np.searchsorted(edited.keys, np.sort(keys))
    return replace(edited, origin=Origin(ref(part), np.flatnonzero(~keep), new))


def _rows(part: Slice, keys: U64) -> Indices:
    """Where a slice has these keys, those left out that it does not have."""
    at = np.searchsorted(part.keys, keys)
    at[at == len(part)] = 0
    return at[part.keys[at] == keys] if len(part) else at[:0]


def _alike(part: Slice, replaced: Indices, put: Slice) -> bool:
    """Whether rows that are put have the names and addresses of those that they replace."""
    if part.endpoints.name.take(pa.array(replaced)) != put.endpoints.name:
        return False
    pairs = replaced, np.arange(len(put)), len(part), len(put)
    return not any(
        unlike_addresses(before, after, *pairs).any()
        for before, after in zip(listed_addresses(part), listed_addresses(put), strict=True)
    )


def _check_pairs(topology: Topology, first: int, edited: Slice, put: Slice) -> None:
    """Refuse an allowed pair whose MAC or address would be another endpoint's own."""
    begin, end = _span(edited, put)
    tenant, own_macs = edited.endpoints.tenant, (np.arange(len(edited)), edited.endpoints.mac)
    for some, listed in (
        (edited.pairs4, edited.addresses4),
        (edited.pairs6, edited.addresses6),
    ):
        if not len(some):
            continue
        own_addresses = listed.endpoint, listed.ip
        for what, own, values in (
            ("MAC", own_macs, some.mac),
            ("address", own_addresses, some.ip),
        ):
            whose = other_owners(tenant, own, (some.endpoint, values))
            clash = (whose >= 0) & (some.endpoint >= begin) & (some.endpoint < end)
            if clash.any():
                at = int(np.flatnonzero(clash)[0])
                name = _name(topology, first, edited, int(some.endpoint[at]))
                other = _name(topology, first, edited, int(whose[at]))
                raise Refused(f"{name}: the {what} of one of its allowed pairs is {other}'s own")
        again = repeated_pairs(some)[0]
        again = again[(some.endpoint[again] >= begin) & (some.endpoint[again] < end)]
        if len(again):
            name = _name(topology, first, edited, int(some.endpoint[again[0]]))
            raise Refused(f"{name}: one of its allowed pairs stands twice")


def _span(edited: Slice, put: Slice) -> tuple[int, int]:
    """The first row of the first tenant that has a new one, and the first behind the last's."""
    ends = put.endpoints.tenant[[0, -1]] + np.array([0, 1], np.uint32)
    begin, end = np.searchsorted(edited.endpoints.tenant, ends)
    return int(begin), int(end)


def _check_twins(topology: Topology, first: int, edited: Slice, put: Slice) -> None:
    """Refuse a name or an address that a tenant would have twice."""
    begin, end = _span(edited, put)
    tenant = edited.endpoints.tenant[begin:end]
    row = _twin(tenant, edited.endpoints.name[begin:end], put.endpoints.name)
    if row is not None:
        raise Refused(f"{_name(topology, first, edited, begin + row)} would stand twice")
    for every, new in (
        (edited.addresses4, put.addresses4),
        (edited.addresses6, put.addresses6),
    ):
        if not len(new):
            continue
        low, high = np.searchsorted(every.endpoint, np.array([begin, end], np.uint32))
        owner = every.endpoint[low:high]
        row = _twin(tenant[owner - begin], _values(every.ip[low:high]), _values(new.ip))
        if row is not None:
            name = _name(topology, first, edited, int(owner[row]))
            raise Refused(f"{name}: one of its addresses is another endpoint's of the tenant")


def _check_kinds(topology: Topology, first: int, edited: Slice, put: Slice) -> None:
    """Refuse a tenant whose hosts would not all reach each other."""
    begin, end = _span(edited, put)
    tenant = edited.endpoints.tenant[begin:end]
    kind = topology.vteps.kind[edited.endpoints.vtep[begin:end]]
    # Ascending by tenant: where the tenant stays the same, so must the kind of host.
    other = (np.diff(kind) != 0) & (np.diff(tenant) == 0)
    if other.any():
        name = _name(topology, first, edited, begin + int(np.flatnonzero(other)[0]) + 1)
        raise Refused(
            f"{name}: its host and others of its tenant cannot reach each other; a tenant's hosts"
            " have addresses of one family, and are all on plane route or none is"
        )


def _twin(tenant: U32, values: pa.Array, new: pa.Array) -> int | None:
    """The row of a new value that its tenant has a second time, if there is one."""
    codes = pc.index_in(values, value_set=new).fill_null(-1).to_numpy()
    rows = np.flatnonzero(codes >= 0)
    keys = _keys(tenant[rows], codes[rows].astype(np.uint64))
    order = np.argsort(keys, kind="stable")
    twins = np.flatnonzero(np.diff(keys[order]) == 0)
    return int(rows[order[twins[0] + 1]]) if len(twins) else None


def _values(ip: U32 | U8) -> pa.Array:
    """Addresses, so that they can be looked up."""
    if ip.ndim == 1:
        return pa.array(ip)
    octets = pa.py_buffer(np.ascontiguousarray(ip))
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(ip), [None, octets])


def _keys(tenant: U32, low: U64) -> U64:
    return (tenant.astype(np.uint64) << np.uint64(48)) | low


def _name(topology: Topology, first: int, part: Slice, row: int) -> str:
    tenant = topology.tenants.name[first + int(part.endpoints.tenant[row])]
    return endpoint_id(tenant, str(part.endpoints.name[row]))


def _columns(
    topology: Topology, owners: list[int], names: list[str], endpoints: list[Endpoint]
) -> Slice:
    four, six = [], []
    for row, endpoint in enumerate(endpoints):
        four += [(row, each) for each in endpoint.ip if isinstance(each, IPv4Interface)]
        six += [(row, each) for each in endpoint.ip if isinstance(each, IPv6Interface)]
    routers = {None: UNSAID, False: NO, True: YES}
    return Slice(
        len(topology.tenants),
        EndpointColumns(
            tenant=np.array(owners, np.uint32),
            mac=np.array([_number(each.mac) for each in endpoints], np.uint64),
            vtep=np.array([topology.vtep_index(each.host) for each in endpoints], np.uint32),
            spoofing=np.array([each.spoofing == "allow" for each in endpoints], np.bool_),
            router=np.array([routers[each.router] for each in endpoints], np.uint8),
            name=pa.array(names, pa.string()),
        ),
        Addresses4(
            np.array([row for row, _ in four], np.uint32),
            np.array([int(each.ip) for _, each in four], np.uint32),
            np.array([each.network.prefixlen for _, each in four], np.uint8),
        ),
        Addresses6(
            np.array([row for row, _ in six], np.uint32),
            np.frombuffer(b"".join(each.ip.packed for _, each in six), np.uint8).reshape(-1, 16),
            np.array([each.network.prefixlen for _, each in six], np.uint8),
        ),
        *pairs_of(
            (row, _number(pair.mac or endpoint.mac), pair.ip)
            for row, endpoint in enumerate(endpoints)
            for pair in endpoint.allowed_pairs
        ),
        port_keys_of(
            (row, endpoint.port, endpoint.attached_mac) for row, endpoint in enumerate(endpoints)
        ),
    )


def _number(mac: str) -> int:
    return int(mac.replace(":", ""), 16)
