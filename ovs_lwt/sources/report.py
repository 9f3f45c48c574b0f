"""All mistakes of one reading, in file order, and never a flood of one kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from ovs_lwt.mistakes import Mistake, OverlayInvalid

LIMIT = 100


@dataclass(frozen=True, slots=True)
class Spot:
    """A place in one of the files of an overlay; `line` None means the file as a whole."""

    file: str
    line: int | None = None
    path: str = ""

    def __str__(self) -> str:
        return self.file if self.line is None else f"{self.file}:{self.line}"


class Report:
    """Collects mistakes; at most `LIMIT` of a kind are kept, the rest are counted."""

    def __init__(self, file: str) -> None:
        """`file` is the one that comes first."""
        self._file = file
        self._found: list[tuple[Spot, str]] = []
        self._seen: Counter[tuple[str, str]] = Counter()

    def add(self, spot: Spot, message: str, kind: str = "") -> None:
        """Note one mistake; without a `kind` it is always kept."""
        self._seen[spot.file, kind] += 1
        if not kind or self._seen[spot.file, kind] <= LIMIT:
            self._found.append((spot, message))

    def rows(
        self, rows: NDArray[Any], say: Callable[[int], tuple[Spot, str] | None], kind: str
    ) -> None:
        """Note a mistake for each of `rows`; `say` is asked only about those that are kept."""
        spot: Spot | None = None
        for row in rows[:LIMIT]:
            if (said := say(int(row))) is not None:
                spot, message = said
                self.add(spot, message, kind)
        if spot is not None:
            self._seen[spot.file, kind] += max(0, len(rows) - LIMIT)

    def __len__(self) -> int:
        return len(self._found)

    def mistakes(self) -> tuple[Mistake, ...]:
        """Return everything noted, by file in the order of first mention, then by line."""
        files = {self._file: 0}
        for spot, _ in self._found:
            files.setdefault(spot.file, len(files))

        def order(item: tuple[Spot, str]) -> tuple[int, int]:
            spot = item[0]
            # A mistake about a file as a whole comes before those in its lines.
            return files[spot.file], -1 if spot.line is None else spot.line

        ordered = sorted(self._found, key=order)
        noted = [(spot, Mistake(str(spot), spot.path, text)) for spot, text in ordered]
        result: list[Mistake] = []
        for name in files:
            result += [mistake for spot, mistake in noted if spot.file == name]
            result += [
                Mistake(name, "", f"… and {count - LIMIT:,} more of this kind: {kind}")
                for (file, kind), count in self._seen.items()
                if file == name and kind and count > LIMIT
            ]
        return tuple(result)

    def raise_if_any(self) -> None:
        """Raise `OverlayInvalid` if anything was noted."""
        if self._found:
            raise OverlayInvalid(self.mistakes())
