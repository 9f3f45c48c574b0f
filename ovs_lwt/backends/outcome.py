"""How a session comes out, whatever it speaks to; and how often it looks and tries again."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Generic, Protocol, TypeVar

AUDIT: Final = 60.0
"""Seconds from one reading of what is installed to the next, to find what others have changed."""

AUDIT_SHARE: Final = 100
"""... but no more than a hundredth of the time is spent reading."""

RETRY_FIRST: Final = 5.0
RETRY_LAST: Final = 300.0
"""Seconds from a refusal to the next try: twice as long each time."""


class Counts(Protocol):
    """What a transaction did; a frozen dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def changes(self) -> int:
        """How many messages it took."""

    @property
    def unchanged(self) -> int:
        """How many entries needed none."""


C = TypeVar("C", bound=Counts)


@dataclass(frozen=True, slots=True)
class Synced(Generic[C]):
    """What is installed is what is desired.

    seconds: since the change, or since reading began; audit: nothing of ours had changed, but what
    is installed was compared
    """

    counts: C
    seconds: float
    audit: bool

    @property
    def repaired(self) -> int:
        """How many entries others had changed; 0 where the overlay or the machine did."""
        return self.counts.changes if self.audit else 0


@dataclass(slots=True)
class Moment:
    """When something was last so."""

    at: float | None = None

    def now(self) -> None:
        """It is now."""
        self.at = time.monotonic()

    @property
    def ago(self) -> float | None:
        """Seconds since then; None: never."""
        return None if self.at is None else round(time.monotonic() - self.at, 1)


@dataclass(slots=True)
class Repairs:
    """What others have changed and we have put right, since the agent started.

    count: entries, rows and settings; last: when, in seconds since 1970
    """

    count: int = 0
    last: float | None = None

    def note(self, count: int) -> None:
        """So many more, now."""
        if count:
            self.count, self.last = self.count + count, time.time()
