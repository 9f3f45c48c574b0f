"""Those who wait for a reload, and what they are told: which hosts have it, and which do not."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping
from typing import Final

from ovs_lwt.control import Request
from ovs_lwt.mistakes import NotNow, Refused, listing
from ovs_lwt.plane import Plane, Switched

SILENCE: Final = 20.0
"""Seconds after which nobody waits any longer for a switch that shows no sign of progress."""

LONGEST: Final = 120.0
"""... and for hosts that do, however many they are."""

_START: Final = 2.0  # seconds that hosts have to be ready at the start after the first of them is
_STEP: Final = 0.02


class Reloads:
    """Requests to be answered once every host that can be reached has the overlay.

    put_off: those whose overlay must not be taken over yet
    """

    def __init__(self) -> None:
        self.put_off: list[Request] = []
        self._waiting: list[Request] = []
        self._until = 0.0

    def add(self, request: Request, now: float) -> None:
        """One more waits."""
        self._waiting.append(request)
        self._until = now + LONGEST

    def settle(
        self, hosts: Mapping[str, Plane], busy: Collection[str], turns: bool, now: float
    ) -> None:
        """Answer all of them if there is nothing left to wait for.

        busy: hosts that are at something; turns: whether some have not even begun
        """
        if not self._waiting:
            return
        if now < self._until and (turns or any(not _stuck(hosts[name], now) for name in busy)):
            return
        waiting, self._waiting = self._waiting, []
        without = {name: found for name, host in hosts.items() if (found := [*_reasons(host)])}
        lines = [f"{name}: {reason}" for name, reasons in without.items() for reason in reasons]
        have = {name: host for name, host in hosts.items() if name not in without}
        if without and have:
            lines.append(f"the others have it: {listing(have)}")
        for request in waiting:
            if without:
                request.error("\n".join(lines))
            else:
                request.reply("\n".join(f"{name}: {host.outcome()}" for name, host in have.items()))


def _stuck(host: Plane, now: float) -> bool:
    return isinstance(host, Switched) and not host.preparing and host.silent(now) > SILENCE


def _reasons(host: Plane) -> Iterator[str]:
    """Why a host does not have what the overlay says."""
    if isinstance(host, Switched) and (missing := host.missing()) is not None:
        yield missing
    yield from host.refusals()


def await_first(hosts: Collection[Plane]) -> None:
    """Wait until the switches are prepared, or those that can be: who is not ready soon after the
    first goes on preparing while the others are served.

    Raises Refused if no host can be.
    """
    switched = [host for host in hosts if isinstance(host, Switched)]
    until = None if len(switched) == len(hosts) else time.monotonic() + _START
    while any(host.preparing for host in switched):
        if until is None and any(not (host.preparing or host.trouble) for host in switched):
            until = time.monotonic() + _START
        if until is not None and time.monotonic() > until:
            return
        time.sleep(_STEP)
    troubles = {host.name: host.trouble for host in switched if host.trouble is not None}
    if len(hosts) == 1 and troubles:
        raise next(iter(troubles.values()))
    if hosts and len(troubles) == len(hosts):
        passing = all(isinstance(trouble, NotNow) for trouble in troubles.values())
        raise (NotNow if passing else Refused)(
            *(f"{name}: {why}" for name, why in troubles.items())
        )
