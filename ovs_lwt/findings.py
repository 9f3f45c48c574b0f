"""What a check finds: a line each, with the mend beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Level(StrEnum):
    """How bad it is.

    fail: packets do not pass, or not all of them; warn: they pass today
    """

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One question and its answer.

    subject: what was looked at, in one or two words, the same from run to run: "vtep address"
    text: what was found; mend: what to do about it, empty where nothing is to be done
    """

    subject: str
    level: Level
    text: str
    mend: str = ""

    @property
    def sentence(self) -> str:
        """What was found and what to do, for a log or a status."""
        return f"{self.text}: {self.mend}" if self.mend else self.text

    def as_json(self) -> dict[str, str]:
        """The finding's part of `ovs-lwt check --json`."""
        return {
            "subject": self.subject,
            "level": str(self.level),
            "text": self.text,
            "mend": self.mend,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Finding:
        """The reverse of `as_json`."""
        return cls(value["subject"], Level(value["level"]), value["text"], value["mend"])


def ok(subject: str, text: str) -> Finding:
    """It is as it should be."""
    return Finding(subject, Level.OK, text)


def warn(subject: str, text: str, mend: str) -> Finding:
    """Packets pass, and something is to be known or mended all the same."""
    return Finding(subject, Level.WARN, text, mend)


def fail(subject: str, text: str, mend: str) -> Finding:
    """Packets do not pass, or not all of them."""
    return Finding(subject, Level.FAIL, text, mend)


def worst(findings: Iterable[Finding]) -> Level:
    """The level of the worst of them; ok for none."""
    order = list(Level)
    return max((finding.level for finding in findings), key=order.index, default=Level.OK)
