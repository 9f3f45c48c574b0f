"""What an agent says of itself: `ovs-lwt status`, put together in one place.

What flows in: what each host says of itself, what a check has found, what the source knows. What
flows out: JSON that docs/status.md describes, and its version.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ovs_lwt import __version__
from ovs_lwt.findings import Finding, Level

SCHEMA: Final = 1
"""Rises when a field changes its meaning or goes; fields that come are no new version."""

IN_SYNC: Final = "in-sync"
DEGRADED: Final = "degraded"
"""What is installed is what the overlay says, and packets may not pass, or more than should."""

_WAITING: Final = {
    "offline": "for the switch, which has not called: does ovs-vswitchd run?",
    "reading": "for the list of what is installed",
    "loading": "for the switch to take what is new",
    "committing": "for the switch to put it in force",
    "writing": "for the kernel to take what is new",
}
"""What a host waits for, by its session's state."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What the last check of a host found, and when that was (seconds since 1970)."""

    findings: tuple[Finding, ...]
    at: float


def of_host(
    about: Mapping[str, Any], found: Sequence[Finding], checked: Checked | None
) -> dict[str, Any]:
    """A host's part. about: what it says of itself, its session's state as "state"; found: what it
    has found wrong itself.

    The state of a host that is in sync is degraded as long as a finding says that packets do not
    pass, or that tenants may meet.
    """
    told = _told(found, checked)
    sync = str(about["state"])
    return {
        **about,
        "state": _state(sync, told),
        "sync": sync,
        "waiting": _WAITING.get(sync),
        "findings": [finding.as_json() for finding in told],
        "checked": _since_then(checked.at) if checked else None,
    }


def in_short(
    sync: str, found: Sequence[Finding], checked: Checked | None, refusals: Sequence[str]
) -> tuple[str, str]:
    """A host's state, and the first reason why it is no better, if one is known. sync: its
    session's state
    """
    told = _told(found, checked)
    failing = [finding.sentence for finding in told if finding.level is Level.FAIL]
    waiting = [f"waiting {what}" for state, what in _WAITING.items() if state == sync]
    return _state(sync, told), next(iter([*failing, *refusals, *waiting]), "")


def _told(found: Sequence[Finding], checked: Checked | None) -> list[Finding]:
    every = [*found, *(checked.findings if checked else ())]
    return [finding for finding in every if finding.level is not Level.OK]


def _state(sync: str, told: Sequence[Finding]) -> str:
    failing = any(finding.level is Level.FAIL for finding in told)
    return DEGRADED if failing and sync == IN_SYNC else sync


def whole(hosts: Mapping[str, Mapping[str, Any]], overlay: Mapping[str, Any], began: float) -> str:
    """All of it, as text. began: when the agent started (seconds since 1970)."""
    return json.dumps(
        {
            "schema": SCHEMA,
            "version": __version__,
            "uptime": _since_then(began),
            "overlay": overlay,
            "hosts": hosts,
        },
        indent=2,
    )


def _since_then(moment: float) -> float:
    return round(max(0.0, time.time() - moment), 1)
