"""A cold start: the running controller reads a million endpoints, and its switch gets all of them.

In turns with ovs-ofctl, and with the limit: the same bytes, written straight into the socket.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bench.results import Row
from bench.scale import peers, stage
from bench.scale.overlays import Fabric

_OFCTL_BAR: Final = 0.7
_LIMIT_BAR: Final = 1.3
_OBJECTS_BAR: Final = 0.1


@dataclass(slots=True)
class Seconds:
    """What each of them took, turn by turn."""

    ours: list[float] = field(default_factory=list)
    ofctl: list[float] = field(default_factory=list)
    limit: list[float] = field(default_factory=list)

    @property
    def middle(self) -> float:
        """Ours, the median."""
        return statistics.median(self.ours)

    @property
    def against_ofctl(self) -> tuple[float, float]:
        """Ours and ovs-ofctl's, the medians."""
        return self.middle, statistics.median(self.ofctl)

    @property
    def against_limit(self) -> tuple[float, float]:
        """Ours and the limit, the medians."""
        return self.middle, statistics.median(self.limit)

    def show(self, size: int) -> None:
        """Print all of them."""
        print(f"cold start of {size:,}, in turns:")
        for name in ("ours", "ofctl", "limit"):
            print(f"  {name:6}", *(f"{seconds:.2f}" for seconds in getattr(self, name)), "s")

    def rows(self, size: int, about: str = "") -> list[Row]:
        """Ours against the others."""
        name = f"cold start{about}, against"
        return [
            Row.compare(f"{name} ovs-ofctl --bundle", size, "s", *self.against_ofctl, _OFCTL_BAR),
            Row.compare(f"{name} the bare bytes", size, "s", *self.against_limit, _LIMIT_BAR),
        ]


@contextmanager
def turns(fabric: Fabric, folder: Path, rounds: int) -> Iterator[tuple[Seconds, stage.Loaded]]:
    """Take turns, `rounds` times; yields what it took, and what is loaded at the end."""
    files = peers.prepare(fabric, folder)
    seconds = Seconds()
    for turn in range(rounds):
        seconds.ofctl.append(peers.ofctl(files))
        seconds.limit.append(peers.limit(files))
        with stage.loaded(fabric) as now:
            seconds.ours.append(now.seconds)
            if turn == rounds - 1:
                seconds.show(fabric.size)
                yield seconds, now


def against_objects(fabric: Fabric, ours: Seconds) -> Row:
    """A plain app sends an OFPFlowMod for each endpoint."""
    theirs = peers.objects(fabric)
    name = "cold start, against an OFPFlowMod each"
    return Row.compare(name, fabric.size, "s", ours.middle, theirs, _OBJECTS_BAR)
