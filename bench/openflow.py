"""`make bench`: an overlay of 100,000 endpoints onto a real switch, against `ovs-ofctl --bundle
add-flows`. What `make bench-scale` measures at several sizes and against more, in a minute.

Ours: the running controller is told to reload; from there it reads overlay.yaml and the CSV,
stamps, sends and waits for the bundle's commit, and answers. Theirs: ovs-ofctl reads the very same
flows (exported) and commits them in a bundle; its groups are there already. In turns, each on a
switch that has just started; medians. Neighbours are answered by flows: two for each endpoint.

    python -m bench.openflow [--size N] [--rounds N]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from bench import results
from bench.scale import cold, correctness, overlays


def measure(endpoints: int, rounds: int, folder: Path) -> results.Row:
    """Take turns, `rounds` times."""
    fabric = overlays.write(folder / "overlay", endpoints, neighbours="answer")
    with cold.turns(fabric, folder, rounds) as (seconds, now):
        if correctness.differences(now.host, fabric, folder):
            raise SystemExit("the switch does not hold what was exported")
        print(f"{endpoints:,} endpoints make {now.flows:,} flows on this host")
    return results.Row.compare(
        "overlay to committed bundle", endpoints, "s", *seconds.against_ofctl, 1.0
    )


def main() -> int:
    """Measure, print, save."""
    chosen = results.arguments(__doc__, size=100_000)
    with tempfile.TemporaryDirectory(prefix="ovs-lwt-bench-") as name:
        row = measure(chosen.size, chosen.rounds, Path(name))
    return results.report("openflow", [row])


if __name__ == "__main__":
    sys.exit(main())
