"""`make bench-scale`: an overlay of a million endpoints on a real switch, against others on the
same work in the same run.

Sizes are a hundredth, a tenth, and all of it. Every switch is a fresh ovs-vswitchd (userspace
datapath); the table is printed, saved as bench/results/scale.json and drawn as docs/scale.svg; the
exit status says whether all bars hold.

    python -m bench.scale [--size N] [--rounds N]
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from bench import fleet, results
from bench.results import Row
from bench.scale import (
    changes,
    cold,
    correctness,
    floods,
    macplan,
    memory,
    overlays,
    plot,
    restart,
    spread,
    switch,
)

_SIZE: Final = 1_000_000
_COSTS: Final = ("s", "ms", "bytes")


def measure(size: int, rounds: int, folder: Path) -> list[Row]:
    """All rows of the table."""
    small, middle, large = (
        overlays.write(folder / str(part), part) for part in (size // 100, size // 10, size)
    )
    answered = overlays.write(folder / "answered", middle.size, neighbours="answer")
    rows: list[Row] = []
    with cold.turns(small, folder, rounds) as (small_start, _):
        rows += small_start.rows(small.size)
    rows.append(cold.against_objects(small, small_start))
    with cold.turns(middle, folder, rounds) as (start, _):
        rows += start.rows(middle.size)
    with cold.turns(answered, folder, rounds) as (answered_start, _):
        rows += answered_start.rows(answered.size, " with answered neighbours")
    # Where there is little to do, what is done once weighs more.
    rows = [row.without_bar() for row in rows]
    rows.append(cold.against_objects(middle, start))
    with cold.turns(large, folder, rounds) as (start, now):
        rows += start.rows(large.size)
        rows += memory.rows(now, large)
        rows += correctness.rows(now, large, folder)
        rows += switch.rows(now, large, folder)
        exact = now.seconds, now.flows
    rows += restart.rows(large)
    rows += macplan.rows(folder, large, *exact)
    rows += changes.rows_of_single(large, small_start.middle)
    rows += changes.rows_of_churn(middle)
    rows += floods.rows(large.tenants)
    rows += spread.rows()
    # The bars of what it costs are for the whole size; what is right or wrong is so at any.
    return rows if size >= _SIZE else [_stated(row) for row in rows]


def _stated(row: Row) -> Row:
    return row.without_bar() if row.unit in _COSTS else row


def main() -> int:
    """Measure, print, save, draw."""
    chosen = results.arguments(__doc__, size=_SIZE)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="ovs-lwt-scale-") as name:
        rows = measure(chosen.size, chosen.rounds, Path(name))
    rows += fleet.rows()
    status = results.report("scale", rows)
    plot.draw()
    print(f"{time.monotonic() - began:.0f} s in all")
    return status


if __name__ == "__main__":
    sys.exit(main())
