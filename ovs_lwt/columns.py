"""Columns of an overlay's endpoints and of their addresses: numpy arrays side by side, a row each.

Nothing here knows of slices or overlays; every function takes columns and returns new ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

U8 = NDArray[np.uint8]
U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]
Flags = NDArray[np.bool_]
Indices = NDArray[np.intp]

UNSAID, NO, YES = 0, 1, 2
"""What a column of three values says: the overlay does not say, false, true."""

_FEW = 16


@dataclass(frozen=True, slots=True, eq=False)
class EndpointColumns:
    """E endpoints, ascending by (tenant, mac).

    `tenant` and `vtep` are indices; `mac` is the 48-bit number; `spoofing` is True where the
    port may send from any address; `router` is `UNSAID`, `NO` or `YES`; `name` is the name within
    the tenant.
    """

    tenant: U32
    mac: U64
    vtep: U32
    spoofing: Flags
    router: U8
    name: pa.StringArray

    def __len__(self) -> int:
        return len(self.mac)

    def taken(self, rows: Indices) -> EndpointColumns:
        """Return these rows, in this order."""
        taken: dict[str, Any] = {}
        for column in fields(self):
            values = getattr(self, column.name)
            taken[column.name] = (
                values[rows] if isinstance(values, np.ndarray) else _taken(values, rows)
            )
        return EndpointColumns(**taken)

    def span(self, low: int, high: int) -> EndpointColumns:
        """Return the rows from `low` up to `high`, without copying columns."""
        return _span(self, low, high)


def _taken(texts: pa.StringArray, rows: Indices) -> pa.StringArray:
    """These rows; a few unbroken runs of them, as after a change, are cut out and joined."""
    breaks = np.flatnonzero(np.diff(rows) != 1) + 1
    if len(breaks) > _FEW or not len(rows):
        return texts.take(pa.array(rows))
    firsts, lasts = [0, *breaks.tolist()], [*(breaks - 1).tolist(), len(rows) - 1]
    spans = zip(rows[firsts].tolist(), rows[lasts].tolist(), strict=True)
    return pa.concat_arrays([texts[first : last + 1] for first, last in spans])


@dataclass(frozen=True, slots=True, eq=False)
class Addresses4:
    """IPv4 addresses of endpoints, ascending by (endpoint, ip); `ip` in host byte order."""

    endpoint: U32
    ip: U32
    prefix: U8

    def __len__(self) -> int:
        return len(self.endpoint)


@dataclass(frozen=True, slots=True, eq=False)
class Addresses6:
    """IPv6 addresses of endpoints, ascending by (endpoint, ip); `ip` is ``[A, 16]`` bytes."""

    endpoint: U32
    ip: U8
    prefix: U8

    def __len__(self) -> int:
        return len(self.endpoint)


@dataclass(frozen=True, slots=True, eq=False)
class Pairs4:
    """What else endpoints may send from and are reached by (`allowed_pairs`): a MAC with an IPv4
    address; ascending by (endpoint, ip, mac), each once. `mac` is the endpoint's own where none is
    given.
    """

    endpoint: U32
    mac: U64
    ip: U32

    def __len__(self) -> int:
        return len(self.endpoint)


@dataclass(frozen=True, slots=True, eq=False)
class Pairs6:
    """The same with IPv6 addresses, ``[P, 16]`` bytes."""

    endpoint: U32
    mac: U64
    ip: U8

    def __len__(self) -> int:
        return len(self.endpoint)


@dataclass(frozen=True, slots=True, eq=False)
class PortKeys:
    """By what else than TENANT/NAME endpoints' ports are known, ascending by endpoint, each once at
    most: `uuid` is the port's own (`port`), ``[K, 16]`` bytes, all zero for none; `by_mac` is True
    where the MAC of what is attached to a port makes it the endpoint's (`attached_mac`).
    """

    endpoint: U32
    uuid: U8
    by_mac: Flags

    def __len__(self) -> int:
        return len(self.endpoint)


NO_ADDRESSES6 = Addresses6(
    np.empty(0, np.uint32), np.empty((0, 16), np.uint8), np.empty(0, np.uint8)
)
NO_PAIRS4 = Pairs4(np.empty(0, np.uint32), np.empty(0, np.uint64), np.empty(0, np.uint32))
NO_PAIRS6 = Pairs6(np.empty(0, np.uint32), np.empty(0, np.uint64), np.empty((0, 16), np.uint8))
NO_PORT_KEYS = PortKeys(np.empty(0, np.uint32), np.empty((0, 16), np.uint8), np.empty(0, np.bool_))

Relation = Addresses4 | Addresses6 | Pairs4 | Pairs6 | PortKeys
"""Columns whose rows belong to endpoints: `endpoint` is the owner, ascending."""

_Relation = TypeVar("_Relation", bound=Relation)
_Columns = TypeVar("_Columns", bound=EndpointColumns | Relation)


def _span(columns: _Columns, low: int, high: int) -> _Columns:
    return type(columns)(
        **{column.name: getattr(columns, column.name)[low:high] for column in fields(columns)}
    )


def of_endpoints(columns: _Relation, first: int, last: int) -> _Relation:
    """Return the rows of the endpoints first..last (excluded), numbered from `first` on."""
    # Of the column's own type, or the whole column is converted first.
    low, high = np.searchsorted(columns.endpoint, np.array([first, last], np.uint32))
    return shifted(_span(columns, int(low), int(high)), "endpoint", -first)


def stacked(parts: Sequence[_Columns]) -> _Columns:
    """Return columns one below the other."""
    if len(parts) == 1:
        return parts[0]
    columns: dict[str, Any] = {}
    for column in fields(parts[0]):
        arrays = [getattr(part, column.name) for part in parts]
        join = np.concatenate if isinstance(arrays[0], np.ndarray) else pa.concat_arrays
        columns[column.name] = join(arrays)
    return type(parts[0])(**columns)


def shifted(columns: _Columns, index: str, by: int) -> _Columns:
    """Return the same columns, the one called `index` counting from `by`."""
    column = getattr(columns, index)
    moved = column + np.uint32(by) if by >= 0 else column - np.uint32(-by)
    return replace(columns, **{index: moved})


def link_local(mac: U64) -> U8:
    """The link-local addresses that follow from these MACs (RFC 4291, appendix A): uint8[n, 16]."""
    octets = mac.astype(">u8").view(np.uint8).reshape(-1, 8)[:, 2:]
    address = np.zeros((len(mac), 16), np.uint8)
    address[:, 0:2] = 0xFE, 0x80
    address[:, 8:11] = octets[:, 0:3]
    address[:, 8] ^= 0x02
    address[:, 11:13] = 0xFF, 0xFE
    address[:, 13:16] = octets[:, 3:6]
    return address


def among(
    one: tuple[NDArray[Any], NDArray[Any]], other: tuple[NDArray[Any], NDArray[Any]]
) -> Flags:
    """Say which (owner, address) of `one` stand in `other`. Addresses: ``[n]``, or ``[n, 16]``."""
    keys = []
    for owner, ip in (one, other):
        whose = owner.astype(">u4").view(np.uint8).reshape(-1, 4)
        octets = ip.astype(">u4").view(np.uint8).reshape(-1, 4) if ip.ndim == 1 else ip
        key = np.ascontiguousarray(np.concatenate([whose, octets], axis=1))
        keys.append(key.view(f"S{key.shape[1]}").ravel())
    return np.isin(keys[0], keys[1])


def ordered4(addresses: Addresses4, order: Indices, endpoints: int) -> Addresses4:
    """Return the addresses of the endpoints that `order` takes, as these are numbered then.

    order: endpoints, each once at most; endpoints: how many there are
    """
    count = len(addresses)
    if count == endpoints and (addresses.endpoint == np.arange(count, dtype=np.uint32)).all():
        # One address each, the usual case: they go where their endpoints go.
        endpoint, rows = np.arange(len(order), dtype=np.uint32), order
    else:
        endpoint, kept = _moved(addresses.endpoint, order, endpoints)
        by_ip = np.argsort((endpoint.astype(np.uint64) << np.uint64(32)) | addresses.ip[kept])
        endpoint, rows = endpoint[by_ip], kept[by_ip]
    return Addresses4(endpoint, addresses.ip[rows], addresses.prefix[rows])


def ordered6(addresses: Addresses6, order: Indices, endpoints: int) -> Addresses6:
    """Return the same of IPv6 addresses: see `ordered4`."""
    if not len(addresses):
        return addresses
    endpoint, kept = _moved(addresses.endpoint, order, endpoints)
    words = np.ascontiguousarray(addresses.ip[kept]).view(">u8").reshape(-1, 2)
    by_ip = np.lexsort((words[:, 1], words[:, 0], endpoint))
    rows = kept[by_ip]
    return Addresses6(endpoint[by_ip], addresses.ip[rows], addresses.prefix[rows])


def ordered_pairs4(pairs: Pairs4, order: Indices, endpoints: int) -> Pairs4:
    """Return the same of allowed pairs: see `ordered4`."""
    if not len(pairs):
        return pairs
    endpoint, kept = _moved(pairs.endpoint, order, endpoints)
    rows = np.lexsort((pairs.mac[kept], pairs.ip[kept], endpoint))
    return Pairs4(endpoint[rows], pairs.mac[kept[rows]], pairs.ip[kept[rows]])


def ordered_pairs6(pairs: Pairs6, order: Indices, endpoints: int) -> Pairs6:
    """Return the same of allowed pairs: see `ordered4`."""
    if not len(pairs):
        return pairs
    endpoint, kept = _moved(pairs.endpoint, order, endpoints)
    words = np.ascontiguousarray(pairs.ip[kept]).view(">u8").reshape(-1, 2)
    rows = np.lexsort((pairs.mac[kept], words[:, 1], words[:, 0], endpoint))
    return Pairs6(endpoint[rows], pairs.mac[kept[rows]], pairs.ip[kept[rows]])


def ordered_port_keys(keys: PortKeys, order: Indices, endpoints: int) -> PortKeys:
    """Return the same of what ports are known by: see `ordered4`."""
    if not len(keys):
        return keys
    endpoint, kept = _moved(keys.endpoint, order, endpoints)
    by_endpoint = np.argsort(endpoint)
    rows = kept[by_endpoint]
    return PortKeys(endpoint[by_endpoint], keys.uuid[rows], keys.by_mac[rows])


def _moved(owner: U32, order: Indices, endpoints: int) -> tuple[U32, Indices]:
    """Where the owners of addresses have gone, and which addresses are left."""
    place = np.full(endpoints, -1, np.int64)
    place[order] = np.arange(len(order))
    now = place[owner]
    kept = np.flatnonzero(now >= 0)
    return now[kept].astype(np.uint32), kept
