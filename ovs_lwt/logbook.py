"""What the agent says of itself in the log: what it starts with, and what a change is.

What flows in: what was read, and two overlays. What flows out: one line each.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from ovs_lwt import __version__
from ovs_lwt.changes import Differing, compare
from ovs_lwt.mistakes import listing
from ovs_lwt.topology import Topology

FEW: Final = 5
"""Endpoints, and tenants, that are named; where more have changed they are counted."""


def start(
    overlay: Mapping[str, Any],
    hosts: Collection[str],
    control: Path | None,
    places: Collection[str],
) -> str:
    """What is running here, on what, and where it can be reached.

    overlay: what the source says of what it has read; places: where switches may call
    """
    digest = f" (sha256 {overlay['sha256']})" if overlay.get("sha256") else ""
    parts = [
        f"ovs-lwt {__version__} starts: {listing(hosts)} of overlay {overlay.get('file')}{digest}",
        *([f"control socket {control}"] if control is not None else []),
        *([f"switches call at {listing(places, FEW)}"] if places else []),
    ]
    return "; ".join(parts)


def change(old: Topology, new: Topology) -> str:
    """What of the overlay has changed, as far as endpoints and tenants have; "" if none has."""
    before, after = compare(old, new)
    return ", ".join([*_tenants(before, after), *_endpoints(before, after)])


def _tenants(before: Differing, after: Differing) -> Iterator[str]:
    if max(len(before.tenants), len(after.tenants)) > FEW:
        yield _count("tenants", before.tenants, after.tenants)
        return
    gone, here = (
        {
            int(side.topology.tenants.vni[row]): side.topology.tenants.name[row]
            for row in side.tenants.tolist()
        }
        for side in (before, after)
    )
    for vni, name in here.items():
        earlier = gone.get(vni)
        if earlier is None:
            yield f"tenant {name} is new"
        elif earlier != name:
            yield f"tenant {earlier} is called {name} now"
        else:
            yield f"tenant {name} has changed"
    yield from (f"tenant {name} is gone" for vni, name in gone.items() if vni not in here)


def _endpoints(before: Differing, after: Differing) -> Iterator[str]:
    if max(len(before.endpoints), len(after.endpoints)) > FEW:
        yield _count("endpoints", before.endpoints, after.endpoints)
        return
    gone, here = _hosts(before), _hosts(after)
    for name, host in here.items():
        earlier = gone.get(name)
        if earlier is None:
            yield f"{name} is new"
        elif earlier != host:
            yield f"{name} moved from {earlier} to {host}"
        else:
            yield f"{name} has changed"
    yield from (f"{name} is gone" for name in gone if name not in here)


def _count(what: str, before: Any, after: Any) -> str:
    return f"{len(after):,} {what} are new or changed, {len(before):,} are gone or were different"


def _hosts(side: Differing) -> dict[str, str]:
    """TENANT/NAME -> host of those few."""
    topology = side.topology
    rows = topology.taken(side.endpoints)
    named = zip(rows.tenant.tolist(), rows.name.to_pylist(), rows.vtep.tolist(), strict=True)
    return {
        f"{topology.tenants.name[tenant]}/{name}": topology.vteps.name[vtep]
        for tenant, name, vtep in named
    }
