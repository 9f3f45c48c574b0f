"""By what else than TENANT/NAME a port is known: columns from what is written, and what clashes.

libvirt gives each port a UUID (`iface-id`) and says the guest's MAC (`attached-mac`); an endpoint
may list the one (`port`) and take the other (`attached_mac`). Nothing here looks at endpoints where
none does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from ovs_lwt.columns import U8, U64, Flags, Indices, PortKeys
from ovs_lwt.topology import Topology


def port_keys_of(found: Iterable[tuple[int, str | None, bool]]) -> PortKeys:
    """Return the columns of (endpoint, `port`, `attached_mac`); those that say neither left out."""
    rows = [(row, port, by_mac) for row, port, by_mac in found if port or by_mac]
    octets = b"".join(UUID(port).bytes if port else bytes(16) for _, port, _ in rows)
    return PortKeys(
        np.array([row for row, _, _ in rows], np.uint32),
        np.frombuffer(octets, np.uint8).reshape(-1, 16),
        np.array([by_mac for _, _, by_mac in rows], np.bool_),
    )


def sparse(uuid: U8, by_mac: Flags) -> PortKeys:
    """Return the columns of all endpoints, each of which has a row in `uuid` ``[E, 16]`` (zero: no
    UUID) and in `by_mac`.
    """
    rows = np.flatnonzero(uuid.any(axis=1) | by_mac)
    return PortKeys(rows.astype(np.uint32), uuid[rows], by_mac[rows])


def flat(uuid: U8) -> NDArray[np.bytes_]:
    """UUIDs as one value each, which can be sorted and looked up."""
    # Bytes of a fixed width compare as they stand: nothing is cut off that would make a difference.
    return np.ascontiguousarray(uuid).view("S16").ravel()


def owners_of(topology: Topology, uuids: U8) -> Iterator[tuple[int, int]]:
    """Find UUIDs ``[N, 16]`` among those of the endpoints' ports: yields (row of `uuids`, endpoint)
    for each that bears it. It looks each of them up in each slice that has any.
    """
    if not len(uuids):
        return
    wanted = flat(uuids)
    for first, part in topology.with_port_keys:
        known, endpoint = part.by_uuid
        low, high = (np.searchsorted(known, wanted, side) for side in ("left", "right"))
        for which in np.flatnonzero(high > low).tolist():
            for at in endpoint[low[which] : high[which]].tolist():
                yield which, first + at


def keys_of(topology: Topology, endpoint: int) -> tuple[str | None, bool]:
    """Return the UUID of an endpoint's port, and whether its port may be known by its MAC."""
    number = int(np.searchsorted(topology.endpoint_edges, endpoint, "right")) - 1
    keys = topology.slices[number].port_keys
    rows = np.flatnonzero(keys.endpoint == endpoint - topology.endpoint_edges[number])
    if not len(rows):
        return None, False
    uuid = keys.uuid[rows[0]]
    return text(uuid) if uuid.any() else None, bool(keys.by_mac[rows[0]])


def text(uuid: U8) -> str:
    """Return one UUID as it is written."""
    return str(UUID(bytes=uuid.tobytes()))


def repeated_uuids(keys: PortKeys) -> tuple[Indices, Indices]:
    """Return the rows whose UUID stands in an earlier row, and where it stands first."""
    known = np.flatnonzero(keys.uuid.any(axis=1))
    _, first, code = np.unique(flat(keys.uuid[known]), return_index=True, return_inverse=True)
    origin = first[code.reshape(-1)]
    later = np.flatnonzero(origin != np.arange(len(known)))
    return known[later], known[origin[later]]


def same_mac_beside(host: NDArray[np.integer], mac: U64, known: Indices) -> tuple[Indices, Indices]:
    """Return of the endpoints that are known by their MAC those that share host and MAC with
    another endpoint, and that one.

    host, mac: of every endpoint, negative or 0 where unknown; known: the rows of those that are
    known by their MAC
    """
    near = np.flatnonzero(np.isin(mac, mac[known]))
    near = near[(mac[near] != 0) & (host[near] >= 0)]
    near = near[np.lexsort((mac[near], host[near]))]
    again = (np.diff(host[near]) == 0) & (mac[near][1:] == mac[near][:-1])
    begins = np.flatnonzero(np.append(True, ~again)[: len(near)])
    count = np.diff(begins, append=len(near))
    # The first of those that are alike stands beside all others, and the second beside it.
    first = np.repeat(begins, count)
    place = np.arange(len(near))
    several = np.repeat(count > 1, count)
    beside = np.full(len(mac), -1, np.intp)
    beside[near[several]] = near[np.where(place == first, first + 1, first)[several]]
    found = known[beside[known] >= 0]
    return found, beside[found]
