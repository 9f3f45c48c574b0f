"""Ping 100 times a second until the input ends; say what was lost, and how long the longest took.

    python -m bench.scale.pinger ADDRESS

A reply counts however late it comes: lost is what the switch has dropped.
"""

from __future__ import annotations

import json
import os
import select
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

_EVERY: Final = 0.01  # s
_GRACE: Final = 3.0  # s that the last replies have
_ECHO: Final = struct.Struct("!BBHHH")  # RFC 792
_REQUEST, _REPLY = 8, 0
_IPV4: Final = 20  # a raw socket gives the header, too


@dataclass(slots=True)
class Tally:
    """What came of it. longest: s"""

    sent: int = 0
    lost: int = 0
    longest: float = 0.0


@contextmanager
def pinging(netns: str, address: str) -> Iterator[Tally]:
    """Ping from there meanwhile; the tally is filled in at the end."""
    command = ["ip", "netns", "exec", netns, sys.executable, "-m", "bench.scale.pinger", address]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None, "a pipe"
        process.stdout.readline()  # the first has come back: both know each other's MAC
        tally = Tally()
        try:
            yield tally
        finally:
            told = json.loads(process.communicate(timeout=_GRACE + 30)[0])
            tally.sent, tally.lost, tally.longest = told


class _Pinger:
    """Sends, and tells replies from other packets."""

    def __init__(self, address: str) -> None:
        self.tally = Tally()
        self.away: dict[int, float] = {}
        self._address = address
        self._own = os.getpid() & 0xFFFF
        self._wire = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)

    def send(self) -> None:
        """One more."""
        number = self.tally.sent & 0xFFFF
        blank = _ECHO.pack(_REQUEST, 0, 0, self._own, number)
        packet = _ECHO.pack(_REQUEST, 0, _checksum(blank), self._own, number)
        self.away[number] = time.perf_counter()
        self._wire.sendto(packet, (self._address, 0))
        self.tally.sent += 1

    def receive(self, seconds: float) -> None:
        """Wait that long, at most, for a reply."""
        ready, _, _ = select.select([self._wire], [], [], max(0.0, seconds))
        if not ready:
            return
        kind, _, _, whose, number = _ECHO.unpack_from(self._wire.recv(256), _IPV4)
        if kind == _REPLY and whose == self._own and number in self.away:
            took = time.perf_counter() - self.away.pop(number)
            if not self.tally.longest:
                print("there", flush=True)
            self.tally.longest = max(self.tally.longest, took)


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def _input_ended() -> bool:
    return bool(select.select([sys.stdin], [], [], 0)[0])


def main(address: str) -> None:
    """Send until told to stop, then wait for what is still away."""
    pinger = _Pinger(address)
    following = time.perf_counter()
    while not _input_ended():
        if time.perf_counter() >= following:
            pinger.send()
            following += _EVERY
        pinger.receive(following - time.perf_counter())
    end = time.perf_counter() + _GRACE
    while pinger.away and time.perf_counter() < end:
        pinger.receive(_EVERY)
    print(json.dumps([pinger.tally.sent, len(pinger.away), pinger.tally.longest]))


if __name__ == "__main__":
    main(sys.argv[1])
