"""MACs that are given out host by host: a million endpoints are a thousand masked flows.

Counted on a real switch after a cold start: once where all MACs fit, once where one endpoint in a
hundred has a MAC of another host's, as after it has moved.
"""

from __future__ import annotations

import re
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Final

from bench.results import Row
from bench.scale import overlays, stage
from bench.scale.overlays import Fabric
from tests.support.ovs import OvsHost

_BAR: Final = 2
_VTEP = re.compile(r"table=(\w+),.*?(?:tun_src=|set_field:)([0-9.]+)(?:->tun_dst|\s)")
_MASK = re.compile(r"dl_dst=[0-9a-f:]+(/[0-9a-f:]+)?")


def rows(folder: Path, exact: Fabric, seconds: float, flows: int) -> list[Row]:
    """seconds, flows: what a cold start of `exact` takes and makes, which has no plan"""
    size = exact.size
    planned = overlays.write(folder / "planned", size, plan=True)
    with stage.loaded(planned) as now:
        lines = _listed(now.host)
        most = max(_by_vtep(lines).values())
        masks = {found[1] for line in lines if (found := _MASK.search(line))}
        fitting = [
            Row.limit("MAC plan: flows of one VTEP in one table", size, "flows", most, _BAR),
            Row.state("MAC plan: flows, against one each", size, "flows", now.flows, flows),
            Row.state("MAC plan: masks of destination MACs", size, "masks", len(masks)),
            Row.state("MAC plan: cold start, against one each", size, "s", now.seconds, seconds),
        ]
        kept = now.flows
    few = size // 100
    astray = overlays.write(folder / "astray", size, plan=True, astray=few)
    with stage.loaded(astray) as now:
        more = now.flows - kept
        off = abs(more - _remote(astray, few))
    name = f"MAC plan: exact flows for {few:,} that do not fit"
    return [
        *fitting,
        Row.state(f"{name}, more than without", size, "flows", more),
        Row.limit(f"{name}, off by", size, "flows", off, 0),
    ]


def _remote(fabric: Fabric, few: int) -> int:
    """How many of the first endpoints are not on the host that is loaded."""
    with fabric.endpoints.open() as file:
        rows = islice(file, 1, few + 1)
        return sum(not row.endswith(f",{stage.HOST}\n") for row in rows)


def _listed(host: OvsHost) -> list[str]:
    command = (*stage.OFCTL, "--names", "--no-stats", "dump-flows", stage.BRIDGE)
    return host.run(*command, timeout=stage.PATIENCE).splitlines()


def _by_vtep(lines: list[str]) -> Counter[tuple[str, str]]:
    """How many flows there are of each (table, VTEP)."""
    return Counter((found[1], found[2]) for line in lines if (found := _VTEP.search(line)))
