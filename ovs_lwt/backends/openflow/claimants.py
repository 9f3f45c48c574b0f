"""The connections that claim to be one switch's: the one that answers is spoken with.

A switch has one connection at a time. Where there are two, the older may be dead without anybody
knowing, or the newer somebody else's. Both are asked; the older stays as long as it answers, and
whoever is not spoken with is kept in reserve.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ovs_lwt.backends.openflow.wire import HEADER
from ovs_lwt.plane import Connection

ANSWERS: Final = 5.0
"""Seconds in which a switch answers an echo request that has nothing else to do."""

ANSWERS_BUSY: Final = 30.0
"""... while it takes a large bundle, or lists its flows."""

MOST: Final = 4
"""Connections of one switch at a time."""

_VERSION, _ECHO_REQUEST, _XID = 5, 2, 0x7FFFFFFF


@dataclass(slots=True, eq=False)
class _Line:
    connection: Connection
    heard: float = float("-inf")


class Claimants:
    """Who is spoken with (`current`), and who is in reserve.

    kept: set once the current one has answered while others wait, for whoever tells of it
    """

    def __init__(self) -> None:
        self.current: Connection | None = None
        self.kept = False
        self._lines: list[_Line] = []  # as they came
        self._doubted: float | None = None
        self._asked = 0.0

    @property
    def contested(self) -> bool:
        """Whether there is more than one."""
        return len(self._lines) > 1

    def opened(self, connection: Connection, now: float) -> None:
        """One more. If there are too many, the one that came last before it has to go."""
        if len(self._lines) >= MOST:
            last = next(line for line in reversed(self._lines) if line.connection != self.current)
            self._lines.remove(last)
            last.connection.close()
        self._lines.append(_Line(connection))
        if self.current is None:
            self.current = connection
        else:
            self._doubted = None
            self.doubt(now)

    def closed(self, connection: Connection) -> None:
        """One is gone. If it was spoken with, the one last heard of takes its place."""
        self._lines = [line for line in self._lines if line.connection is not connection]
        if connection is self.current:
            best = max(self._lines, key=lambda line: line.heard, default=None)
            self.current = None if best is None else best.connection
        if not self.contested:
            self._doubted = None

    def heard(self, connection: Connection, now: float) -> None:
        """A message has come by this one."""
        for line in self._lines:
            if line.connection is connection:
                line.heard = now
        if connection is self.current and self._doubted is not None:
            self._doubted, self.kept = None, self.contested

    def doubt(self, now: float) -> None:
        """Ask all of them whether they are there, unless they have been asked already."""
        if self._doubted is None and self.contested:
            self._doubted = self._asked = now
            self._ask()

    def tick(self, now: float, patience: float) -> bool:
        """Let time pass; say whether another one is to be spoken with: the current one has been
        silent for so many seconds, and the other answers.
        """
        if self._doubted is None:
            return False
        if now - self._doubted >= patience:
            for line in self._lines:
                if line.connection is not self.current and line.heard >= self._doubted:
                    self.current, self._doubted = line.connection, None
                    return True
        if now - self._asked >= ANSWERS:
            self._asked = now
            self._ask()
        return False

    def _ask(self) -> None:
        for line in self._lines:
            if line.connection.ready:
                line.connection.send(HEADER.pack(_VERSION, _ECHO_REQUEST, HEADER.size, _XID))
