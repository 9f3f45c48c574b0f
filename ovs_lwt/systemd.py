"""systemd, told how its service is: ready, what `status` says, and that the loop still turns.

The protocol is sd_notify(3): datagrams of assignments to the socket that NOTIFY_SOCKET names. Where
no such socket is named nobody is told anything, and nothing here waits or fails: a service runs on
whether or not it was heard.
"""

from __future__ import annotations

import os
import socket
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from ovs_lwt.mistakes import listing
from ovs_lwt.printable import printable
from ovs_lwt.status import DEGRADED, IN_SYNC

EVERY: Final = 1.0
"""Seconds from one message to the next. A watchdog wants several in its time (WatchdogSec=)."""

_PATIENCE: Final = 30_000_000
"""Microseconds by which a start that is still under way may go on after each message."""

_LONGEST: Final = 1000  # characters of STATUS

States = Mapping[str, tuple[str, str]]
"""Host -> its state, and why that is, "" if there is nothing to say."""


class ServiceManager:
    """The systemd that has started this process.

    The start is over once a host is in sync (or degraded) and none is about to be; until then, as
    while the switch is away, systemd is asked for more time.
    """

    def __init__(self, address: str, *, watched: bool) -> None:
        """address: of its socket, "@" in front for an abstract one; watched: it wants to hear that
        the loop turns.
        """
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._watched = watched
        self._due = float("-inf")
        self._ready = False
        self._told = ""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)

    @classmethod
    def of(cls, environ: Mapping[str, str] = os.environ) -> ServiceManager | None:
        """The one that the environment names; None: nobody wants to know."""
        address = environ.get("NOTIFY_SOCKET", "")
        if not address.startswith(("/", "@")):
            return None
        # sd_watchdog_enabled(3): a process that a service has started is not the one watched.
        watched = environ.get("WATCHDOG_USEC", "0") != "0"
        ours = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        return cls(address, watched=watched and ours)

    def due(self, now: float) -> bool:
        """Whether it is time for `tell`."""
        return now >= self._due

    def tell(self, states: States, now: float, *, busy: bool) -> None:
        """Say how the hosts are. busy: one of them is about to agree, or to refuse."""
        self._due = now + EVERY
        ready = any(state in (IN_SYNC, DEGRADED) for state, _ in states.values()) and not busy
        lines = ["WATCHDOG=1"] if self._watched else []
        if not self._ready:
            lines.append("READY=1" if ready else f"EXTEND_TIMEOUT_USEC={_PATIENCE}")
        line = status_line(states)
        if line != self._told:
            lines.append(f"STATUS={line}")
        if lines and self._send(*lines):
            self._told, self._ready = line, self._ready or ready

    @contextmanager
    def reloading(self) -> Iterator[None]:
        """The overlay is being read again in here."""
        if self._ready:
            moment = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
            self._send("RELOADING=1", f"MONOTONIC_USEC={moment}")
        try:
            yield
        finally:
            if self._ready:
                self._send("READY=1")

    def stop(self) -> None:
        """The service ends."""
        self._send("STOPPING=1", "STATUS=stopped; what is installed stays")
        self._socket.close()

    def _send(self, *lines: str) -> bool:
        try:
            self._socket.sendto("\n".join(lines).encode(), self._address)
        except OSError:
            return False
        return True


def status_line(states: States) -> str:
    """How the hosts are, in one line."""
    if len(states) == 1:
        ((name, (state, why)),) = states.items()
        line = f"{name}: {state}{f': {why}' if why else ''}"
    else:
        counts = Counter(state for state, _ in states.values()).most_common()
        others = [f"{name} {state}" for name, (state, _) in states.items() if state != IN_SYNC]
        told = ", ".join(f"{count:,} {state}" for state, count in counts)
        line = f"{len(states):,} hosts: {told}{f' ({listing(others, 5)})' if others else ''}"
    return printable(line)[:_LONGEST]
