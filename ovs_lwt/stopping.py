"""Signals to a process of ours: stop cleanly on SIGTERM or SIGINT, leaving in time whatever hangs;
take note of SIGHUP.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from types import FrameType

#: Seconds that there are for stopping; a stuck thread must not hold the process.
STOP_WITHIN = 5.0

#: Seconds from one SIGHUP that is heeded to the next.
PAUSE = 0.1


class Stop:
    """Something to wait for in the main thread, until a signal says that it is time to stop.

    A socket pair is used rather than an Event: setting an Event in a signal handler can meet its
    own lock, and a socket wakes eventlet's loop as well as a native thread.
    """

    def __init__(self) -> None:
        self._receiver, self._sender = socket.socketpair()
        self._sender.setblocking(False)
        self._said = False

    def wait(self, seconds: float | None = None) -> bool:
        """Return True when a signal has come; False if none has in so many seconds (0: by now)."""
        self._receiver.settimeout(seconds)
        try:
            self._receiver.recv(1)
        except (TimeoutError, BlockingIOError):
            return False
        return True

    def say(self, signum: int, _frame: FrameType | None) -> None:
        """Handle a signal: say stop; the second time, leave at once with status 128+`signum`."""
        if self._said:
            os._exit(128 + signum)
        self._said = True
        self._sender.send(b"!")


@contextlib.contextmanager
def on_signal() -> Iterator[Stop]:
    """Give a `Stop` that SIGTERM and SIGINT trigger, in the main thread; restore them after."""
    stop = Stop()
    before = {number: signal.signal(number, stop.say) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Hangups:
    """SIGHUPs, of which many in a row are one.

    A handler that puts something into a queue may meet the queue's own lock, if the signal comes
    while another is being put there: so `note` leaves nothing but a mark.
    """

    def __init__(self) -> None:
        self._noted = False
        self._not_before = float("-inf")

    def note(self, *_: object) -> None:
        """Handle a signal."""
        self._noted = True

    def taken(self) -> bool:
        """Whether one has come since it was last so; never more often than every PAUSE seconds, so
        that a storm of them leaves time for the rest.
        """
        now = time.monotonic()
        if not self._noted or now < self._not_before:
            return False
        self._noted, self._not_before = False, now + PAUSE
        return True


@contextlib.contextmanager
def no_hangups() -> Iterator[None]:
    """Ignore SIGHUP in the block, unless the block takes it over.

    For an app that reloads on SIGHUP: one that comes before its handler stands must not kill it.
    """
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
            signal.signal(signal.SIGHUP, before)


@contextlib.contextmanager
def deadline(seconds: float = STOP_WITHIN) -> Iterator[None]:
    """End the process with status 1 if the block takes longer than `seconds`."""

    def leave(_signum: int, _frame: FrameType | None) -> None:
        print(f"not stopped after {seconds:g} s: leaving as it is", file=sys.stderr, flush=True)
        os._exit(1)

    before = signal.signal(signal.SIGALRM, leave)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
