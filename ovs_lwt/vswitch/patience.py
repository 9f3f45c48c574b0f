"""When to do again what did not help, or does not last: later each time."""

from __future__ import annotations

from typing import Final

FIRST: Final = 1.0
LAST: Final = 30.0
"""Seconds from one try to the next: twice as long each time."""


class Patience:
    """Ready at once; after a try only later, and at once again when that has lasted."""

    def __init__(self) -> None:
        self._pause, self._not_before = FIRST, float("-inf")

    def ready(self, now: float) -> bool:
        """Whether it may be tried."""
        if now >= self._not_before + LAST:
            self._pause = FIRST
        return now >= self._not_before

    def tried(self, now: float) -> None:
        """It has been tried just now."""
        self._not_before = now + self._pause
        self._pause = min(self._pause * 2, LAST)

    def helped(self) -> None:
        """That was of use: there is nothing to wait for."""
        self._pause, self._not_before = FIRST, float("-inf")
