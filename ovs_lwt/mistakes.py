"""What can be wrong with what a user wrote, said so that it can be mended."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import ClassVar

from ovs_lwt.printable import printable


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing to mend: where it stands, what it is about, and what is wrong with it.

    `place` is ``FILE:LINE`` or ``FILE``, the file named as the user named it. `path` is the way
    through the document (``tenants.blue.endpoints.web2.mac``) and may be empty.
    """

    place: str
    path: str
    message: str

    def __str__(self) -> str:
        return printable(": ".join(part for part in (self.place, self.path, self.message) if part))


class OverlayInvalid(Exception):
    """The overlay cannot be used; `mistakes` holds everything wrong with it, in file order."""

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        self.mistakes: tuple[Mistake, ...] = tuple(mistakes)
        super().__init__("\n".join(str(mistake) for mistake in self.mistakes))


class Refused(Exception):
    """Something that cannot be done: a sentence for the user, with the mend; or several, each of
    which is a line.

    exit_status: what a command ends with that was refused: 2 for what a person must mend
    """

    exit_status: ClassVar[int] = 2

    def __str__(self) -> str:
        return "\n".join(printable(str(line)) for line in self.args)


class NotNow(Refused):
    """What may pass by itself: who is asked is away, silent or busy, or a device or a module of the
    kernel is not there yet. It is worth trying again.
    """

    exit_status: ClassVar[int] = 1


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the known word nearest to `word`, or nothing."""
    near = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" (did you mean '{near[0]}'?)" if near else ""


def listing(names: Iterable[str], limit: int = 10) -> str:
    """Return `names` as one comma-separated text, cut after `limit` of them."""
    every = list(names)
    if not every:
        return "none"
    more = len(every) - limit
    return ", ".join(every[:limit]) + (f", … and {more} more" if more > 0 else "")
