"""What a host says of itself in the log."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final

from ovs_lwt.backends.outcome import C, Synced
from ovs_lwt.findings import Finding, Level

_LOG: Final = logging.getLogger("ovs_lwt")
_SHOWN: Final = 10  # lines of a report that may be long
_REMEMBERED: Final = 10  # errors


@dataclass(slots=True)
class Voice:
    """Speaks for the host called `name`, and says nothing twice.

    errors: the last ones, with the time (ISO 8601), newest last
    """

    name: str
    errors: deque[str] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))
    _told: dict[str, str] = field(default_factory=dict)
    _wide: dict[str, str] = field(default_factory=dict)
    _found: frozenset[str] = frozenset()
    _trouble: str | None = None

    def say(self, level: int, text: str) -> None:
        """Say one thing."""
        _LOG.log(level, "%s: %s", self.name, text)
        if level >= logging.ERROR:
            moment = datetime.now(UTC).isoformat(timespec="seconds")
            self.errors.append(f"{moment} {text.strip()}")

    def list(self, level: int, lines: Sequence[str], more: int = 0) -> None:
        """Say many things, the first of them in full. more: how many are not among the lines."""
        for line in lines[:_SHOWN]:
            self.say(level, f"  {line}")
        more += max(len(lines) - _SHOWN, 0)
        if more:
            self.say(level, f"  … and {more} more")

    def ports(self, errors: Mapping[str, str]) -> None:
        """Say what is wrong with guests' ports (name -> sentence), as far as it is news."""
        for name, error in errors.items():
            if self._told.get(name) != error:
                self.say(logging.WARNING, f"port {name}: {error}")
        self._told = dict(errors)

    def trouble(self, trouble: str | None) -> None:
        """Say what keeps the switch from being prepared, as far as it is news."""
        if trouble is not None and trouble != self._trouble:
            self.say(logging.ERROR, f"is not prepared: {trouble}; tried again by and by")
        elif trouble is None and self._trouble is not None:
            self.say(logging.INFO, "is prepared after all")
        self._trouble = trouble

    def floods(self, wide: Mapping[str, str]) -> None:
        """Say whose broadcasts are too wide (tenant -> sentence), as far as it is news."""
        news = [f"{name}: {text}" for name, text in wide.items() if self._wide.get(name) != text]
        if news:
            self.say(logging.WARNING, f"{len(news)} tenants have wide floods:")
            self.list(logging.WARNING, news)
        self._wide = dict(wide)

    def findings(self, findings: Sequence[Finding]) -> None:
        """Say what a check has found wrong, as far as it is news, and what is right again."""
        now = {each.sentence: each for each in findings if each.level is not Level.OK}
        for sentence, each in now.items():
            if sentence not in self._found:
                failing = each.level is Level.FAIL
                self.say(logging.ERROR if failing else logging.WARNING, sentence)
        for sentence in sorted(self._found - now.keys()):
            self.say(logging.INFO, f"is right again: {sentence}")
        self._found = frozenset(now)

    def synced(self, now: Synced[C], before: Synced[C] | None) -> Synced[C]:
        """Say that all is as it should be. Returns what is to be remembered of it: an audit that
        found nothing is no news, but now all that is installed is counted.
        """
        nothing_new = now.audit and not now.counts.changes
        if now.repaired:
            what = f"repaired {now.repaired} entries that somebody else had changed"
            self.say(logging.WARNING, f"{what}, after {now.seconds:.3f} s: {now.counts}")
        else:
            level = logging.DEBUG if nothing_new else logging.INFO
            self.say(level, f"in sync after {now.seconds:.3f} s: {now.counts}")
        if not nothing_new or before is None:
            return now
        return replace(before, counts=replace(before.counts, unchanged=now.counts.unchanged))
