"""What every benchmark leaves: a table, bench/results/NAME.json, and an exit status."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

FOLDER = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison. unit: of ours and theirs ("s", "bytes", "count"); bar: what ratio must stay
    below.
    """

    name: str
    size: int
    unit: str
    ours: float
    theirs: float
    ratio: float
    bar: float
    holds: bool

    @classmethod
    def compare(
        cls, name: str, size: int, unit: str, ours: float, theirs: float, bar: float
    ) -> Row:
        """A row whose ratio must be below `bar`."""
        ratio = ours / theirs
        return cls(
            name, size, unit, round(ours, 4), round(theirs, 4), round(ratio, 3), bar, ratio < bar
        )


def arguments(about: str | None, size: int, rounds: int = 3) -> argparse.Namespace:
    """The command line of a benchmark: --size N, --rounds N, --here."""
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=size)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument(
        "--here", action="store_true", help="never in user-mode Linux, whatever this kernel lacks"
    )
    return parser.parse_args()


def timed(work: Callable[[], object]) -> float:
    """Seconds that `work` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def report(name: str, rows: Sequence[Row]) -> int:
    """Save and print the rows; 1 if one does not hold."""
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{name}.json").write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    table = Table(title=name, title_justify="left")
    for heading in ("what", "size", "ours", "theirs", "ratio", "bar", "holds"):
        table.add_column(heading, justify="left" if heading == "what" else "right")
    for row in rows:
        numbers = (
            f"{row.ours:,.2f} {row.unit}",
            f"{row.theirs:,.2f} {row.unit}",
            f"{row.ratio:.2f}",
            f"< {row.bar}",
        )
        table.add_row(row.name, f"{row.size:,}", *numbers, "yes" if row.holds else "NO")
    Console(width=120).print(table)
    return 0 if all(row.holds for row in rows) else 1
