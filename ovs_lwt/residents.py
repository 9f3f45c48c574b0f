"""The endpoints of one host: which they are, and what their ports are called.

What it costs grows with the endpoints of that host and not with the overlay: names are made for one
host at a time, when somebody attaches or exports.
"""

from __future__ import annotations

from collections.abc import Container, Iterable

import numpy as np
import pyarrow as pa

from ovs_lwt.columns import Indices
from ovs_lwt.names import endpoint_id, port_name
from ovs_lwt.topology import Topology


def endpoints_on(
    topology: Topology, host: int, slices: Iterable[int] | None = None
) -> tuple[Indices, list[str]]:
    """Return index and TENANT/NAME of every endpoint on `host` (an index), ascending.

    slices: numbers of the slices to look at, ascending; None: all
    """
    names = topology.tenants.name
    found = [np.empty(0, np.intp)]
    identities: list[str] = []
    for number in range(len(topology.slices)) if slices is None else slices:
        part = topology.slices[number].endpoints
        rows = np.flatnonzero(part.vtep == host)
        if not len(rows):
            continue
        owners = (part.tenant[rows] + topology.tenant_edges[number]).tolist()
        own = part.name.take(pa.array(rows)).to_pylist()
        found.append(rows + topology.endpoint_edges[number])
        identities += [
            endpoint_id(names[owner], name) for owner, name in zip(owners, own, strict=True)
        ]
    return np.concatenate(found), identities


def port_names(topology: Topology, host: int, taken: Container[str] = ()) -> dict[str, str]:
    """Return the name of the port of every endpoint on `host` (an index), by TENANT/NAME.

    No two are the same: where two shortened names would be, the endpoint that comes later in the
    overlay's own order (by VNI and MAC) gets another, on whichever machine this is asked.

    taken: names that no guest may have, such as those of the host's bridge and tunnel port
    """
    given: dict[str, str] = {}
    names: set[str] = set()
    for identity in endpoints_on(topology, host)[1]:
        tenant, _, endpoint = identity.partition("/")
        name = port_name(tenant, endpoint, _Either(taken, names))
        given[identity] = name
        names.add(name)
    return given


class _Either:
    """Two containers asked as one."""

    def __init__(self, *parts: Container[str]) -> None:
        self._parts = parts

    def __contains__(self, name: object) -> bool:
        return any(name in part for part in self._parts)
