"""Run a command of `ovs-lwt` in a lab's machine as if it ran here.

Output comes as it is made, the exit status is ours, and signals that ask us to end go to the
command. If all three of our files are a terminal, the command has one of its own, of the same size,
and ours is raw meanwhile: Ctrl-C and Ctrl-Z are then keys like others.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import termios
import tty
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ovs_lwt.lab.boxed.frames import OUTPUT, PIECE, STATUS, WINDOW, Decoder, Frame, Kind, Request
from ovs_lwt.lab.boxed.record import BoxedLab, await_end, connect, gone
from ovs_lwt.pipes import BROKEN_PIPE

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def run(
    lab: BoxedLab, words: Sequence[str], *, reads: bool = False, to_its_end: bool = False
) -> int:
    """Run ``ovs-lwt WORDS…`` in the lab's machine; return its exit status, 128 + n for signal n.

    `reads` if our standard input is the command's. If nobody reads our output any more, the command
    ends too, unless it is `to_its_end`. Raises `MachineEnded`.
    """
    terminal = all(os.isatty(fd) for fd in (0, 1, 2)) and _foreground()
    reads = reads and (not os.isatty(0) or _foreground())
    request = Request(
        words=list(words),
        folder=str(Path.cwd()),
        environment=dict(os.environ),
        terminal=_size() if terminal else None,
    )
    with connect(lab) as connection, _woken_by_signals() as wake:
        raw = _raw_terminal() if terminal and reads else contextlib.nullcontext()
        with raw:
            status = _Conversation(connection, wake, request, reads, to_its_end).hold()
        if status is None:
            await_end(connection)
    if status is None:
        raise gone(lab)
    return 128 - status if status < 0 else status


@dataclass(slots=True)
class _Conversation:
    """One command: what is still to be sent, and whether the machine waits for more."""

    connection: socket.socket
    wake: socket.socket
    request: Request
    reads: bool
    to_its_end: bool
    _unheard: bool = False
    _unsent: deque[Frame] = field(default_factory=deque)
    _due: bool = False
    _decoder: Decoder = field(default_factory=Decoder)
    # Not epoll, which takes no regular files: our input may be one.
    _selector: selectors.PollSelector = field(default_factory=selectors.PollSelector)

    def hold(self) -> int | None:
        """Hold it; return the command's status, or None if the machine ended before it."""
        self._unsent += self.request.frames()
        if not self.reads:
            self._unsent.append(Frame(Kind.STDIN))
        with self._selector as ready:
            ready.register(self.connection, selectors.EVENT_READ)
            ready.register(self.wake, selectors.EVENT_READ)
            while True:
                for key, _ in ready.select():
                    if key.fileobj is self.connection:
                        data = self.connection.recv(OUTPUT)
                        if not data:
                            return None
                        for frame in self._decoder.feed(data):
                            status = self._take(frame)
                            if status is not None:
                                return status
                    elif key.fileobj is self.wake:
                        self._signalled(self.wake.recv(64))
                    else:
                        self._read()

    def _take(self, frame: Frame) -> int | None:
        try:
            match frame.kind:
                case Kind.READY | Kind.ACK:
                    self._due = True
                    self._send_next()
                case Kind.STDOUT:
                    _write(1, frame.payload)
                case Kind.STDERR:
                    _write(2, frame.payload)
                case Kind.EXIT:
                    status = int(STATUS.unpack(frame.payload)[0])
                    return BROKEN_PIPE if self._unheard and status == 0 else status
        except BrokenPipeError:
            self._unheard = True
            if not self.to_its_end:
                # As whoever wrote there itself.
                return BROKEN_PIPE
        return None

    def _send_next(self) -> None:
        if self._due and self._unsent:
            self._due = False
            self.connection.sendall(self._unsent.popleft().pack())
        elif self._due and self.reads:
            with contextlib.suppress(KeyError):  # it is registered already
                self._selector.register(0, selectors.EVENT_READ)

    def _read(self) -> None:
        """Send some of our input; and no more until the machine has taken it."""
        self._selector.unregister(0)
        try:
            data = os.read(0, PIECE)
        except OSError:  # closed, or a terminal that is gone
            data = b""
        self.reads = bool(data)
        self._unsent.append(Frame(Kind.STDIN, data))
        self._send_next()

    def _signalled(self, numbers: bytes) -> None:
        for number in numbers:
            if number == signal.SIGWINCH:
                frame = Frame(Kind.SIZE, WINDOW.pack(*_size()))
            else:
                frame = Frame(Kind.SIGNAL, bytes([number]))
            self.connection.sendall(frame.pack())


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def _size() -> tuple[int, int]:
    size = os.get_terminal_size(0)
    return size.lines, size.columns


def _foreground() -> bool:
    """Say whether the terminal is ours to read: a job in the background would be stopped."""
    return os.tcgetpgrp(0) == os.getpgrp()


@contextlib.contextmanager
def _raw_terminal() -> Iterator[None]:
    before = termios.tcgetattr(0)
    # Draining, not flushing: what was typed ahead is the command's.
    tty.setraw(0, termios.TCSADRAIN)
    try:
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)


@contextlib.contextmanager
def _woken_by_signals() -> Iterator[socket.socket]:
    """Yield a socket that tells the numbers of signals instead of their being acted upon."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    numbers = (*_SIGNALS, signal.SIGWINCH) if os.isatty(0) else _SIGNALS
    with ours, theirs:
        old_fd = signal.set_wakeup_fd(theirs.fileno())
        before = {number: signal.signal(number, lambda *_: None) for number in numbers}
        try:
            yield ours
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(old_fd)
