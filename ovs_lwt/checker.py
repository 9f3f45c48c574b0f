"""The agent's own `ovs-lwt check`: at start, every minute, and soon after the kernel has told that
something about devices, addresses or routes is new, or a host's switch that it is; in a process of
its own.

What flows in: what is expected of each host. What flows out: findings, whenever that process has
ended. Nothing here waits.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, Final

from ovs_lwt.findings import Finding, warn
from ovs_lwt.programs import program
from ovs_lwt.underlay.expected import Expected
from ovs_lwt.veth.notices import Notices

LOG = logging.getLogger(__name__)

EVERY: Final = 60.0
"""Seconds from one check to the next."""

SOON: Final = 1.0
"""Seconds from what the kernel tells to the check of it; what comes in a burst is one."""

GAP: Final = 10.0
"""Seconds between two checks at least, however much the kernel has to tell."""

# include/uapi/linux/rtnetlink.h: RTNLGRP_LINK, _IPV4_IFADDR, _IPV4_ROUTE and those of IPv6.
_GROUPS: Final = (1, 5, 7, 9, 11)

_PATIENCE: Final = 45.0  # a check that has not ended by then never will
_PROGRAM: Final = tuple(program("ovs_lwt.ops.check"))

Found = Mapping[str, tuple[Finding, ...]]


class Checker:
    """Checks hosts in the background.

    due: when the next check is to begin
    """

    def __init__(self, command: Sequence[str] = _PROGRAM) -> None:
        self.due = float("-inf")
        self._notices = Notices(socket.NETLINK_ROUTE, _GROUPS)
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._hosts: tuple[str, ...] = ()
        self._began = float("-inf")
        self._output: IO[bytes] | None = None

    @property
    def running(self) -> bool:
        """Whether a check is under way."""
        return self._process is not None

    def listen(self, now: float) -> None:
        """Let the next check come soon if the kernel has told of something."""
        if self._notices.poll():
            self.hurry(now)

    def hurry(self, now: float) -> None:
        """Let the next check come soon."""
        self.due = min(self.due, max(now + SOON, self._began + GAP))

    def start(self, expected: Iterable[Expected], now: float) -> None:
        """Begin to check these hosts."""
        every = tuple(expected)
        self._hosts = tuple(each.host for each in every)
        self._began, self.due = now, now + EVERY
        # Files, not pipes: whoever writes to those waits for whoever reads.
        with tempfile.TemporaryFile() as lines:
            lines.write("".join(f"{each.dumped()}\n" for each in every).encode())
            lines.seek(0)
            self._output = tempfile.TemporaryFile()  # noqa: SIM115 - it is closed when it is read
            self._process = subprocess.Popen(
                self._command,
                stdin=lines,
                stdout=self._output,
                stderr=subprocess.DEVNULL,
                env=os.environ | {"PYTHONWARNINGS": "ignore"},
            )

    def poll(self, now: float) -> Found | None:
        """What was found, by host, if the check has just ended; else None."""
        process = self._process
        if process is None:
            return None
        how = "has said nothing"
        if process.poll() is None:
            if now < self._began + _PATIENCE:
                return None
            process.kill()
            how = f"has not ended within {_PATIENCE:.0f} s"
        elif process.returncode:
            how = f"has failed (status {process.returncode})"
        process.wait()
        found = self._read(how)
        self._close()
        return found

    def close(self) -> None:
        """End the check that is under way."""
        self._notices.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._close()

    def _read(self, how: str) -> Found:
        """A host whose line is missing is said to be unknown: nothing is made up.

        how: what became of the check, for those
        """
        assert self._output is not None, "there is an output while a check runs"
        self._output.seek(0)
        found: dict[str, tuple[Finding, ...]] = {}
        for host, line in zip(self._hosts, self._output.read().splitlines(), strict=False):
            try:
                found[host] = tuple(Finding.from_json(each) for each in json.loads(line))
            except (ValueError, KeyError, TypeError, RecursionError):
                LOG.warning("%s: the check said what it should not: %r", host, line[:200])
        unknown = warn(
            "check",
            f"the check of this host {how}",
            "see what `ovs-lwt check` says here",
        )
        return {host: found.get(host, (unknown,)) for host in self._hosts}

    def _close(self) -> None:
        if self._output is not None:
            self._output.close()
        self._process, self._output = None, None
