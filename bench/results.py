"""What every benchmark leaves: a table, bench/results/NAME.json, and an exit status."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

FOLDER = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table. unit: of ours and theirs ("s", "bytes", "count").

    bar: what ratio must not pass; without a ratio, what ours must not pass; None where the figure
    is stated and nothing is asked of it: then nothing holds or fails either
    """

    name: str
    size: int
    unit: str
    ours: float
    theirs: float | None = None
    ratio: float | None = None
    bar: float | None = None
    holds: bool | None = None

    @classmethod
    def compare(
        cls, name: str, size: int, unit: str, ours: float, theirs: float, bar: float
    ) -> Row:
        """A row whose ratio must not pass `bar`."""
        ratio = ours / theirs
        return cls(
            name, size, unit, round(ours, 4), round(theirs, 4), round(ratio, 3), bar, ratio <= bar
        )

    @classmethod
    def limit(
        cls, name: str, size: int, unit: str, ours: float, bar: float, theirs: float | None = None
    ) -> Row:
        """A row where ours must not pass `bar` by itself, whatever theirs is."""
        return cls(name, size, unit, round(ours, 4), theirs, bar=bar, holds=ours <= bar)

    def without_bar(self) -> Row:
        """The same, with nothing asked of it."""
        return replace(self, bar=None, holds=None)

    @classmethod
    def state(
        cls, name: str, size: int, unit: str, ours: float, theirs: float | None = None
    ) -> Row:
        """A row that nothing is asked of."""
        if theirs is None:
            return cls(name, size, unit, round(ours, 4))
        ratio = round(ours / theirs, 3) if theirs else None
        return cls(name, size, unit, round(ours, 4), round(theirs, 4), ratio)


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
        table.add_row(row.name, f"{row.size:,}", *_words(row))
    Console(width=140).print(table)
    return 0 if all(row.holds is not False for row in rows) else 1


def _words(row: Row) -> tuple[str, ...]:
    return (
        _amount(row.ours, row.unit),
        "" if row.theirs is None else _amount(row.theirs, row.unit),
        "" if row.ratio is None else f"{row.ratio:.2f}",
        "" if row.bar is None else f"<= {row.bar:g}",
        {None: "", True: "yes", False: "NO"}[row.holds],
    )


def _amount(value: float, unit: str) -> str:
    return f"{value:,.2f} {unit}" if value % 1 else f"{value:,.0f} {unit}"
