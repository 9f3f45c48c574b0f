"""In the machine: run commands of `ovs-lwt` for whoever is at the other end of the serial lines.

    python -m ovs_lwt.lab.boxed.server LINES

One thread does it all, and each command is a fork of it: what they import is there already, which
would take each of them seconds in a machine as slow as this.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
import tty
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NoReturn

from ovs_lwt.lab.boxed.command import Command
from ovs_lwt.lab.boxed.frames import OUTPUT, STATUS, WINDOW, Decoder, Frame, Kind, Request

_HANGUP_SECONDS: Final = 3.0
_TICK_MS: Final = 500


@dataclass(slots=True)
class Line:
    """One serial line, and the command that runs for it; `prepare` is called before each."""

    fd: int
    prepare: Callable[[], object] = lambda: None
    command: Command | None = None
    out: bytearray = field(default_factory=bytearray)
    _decoder: Decoder = field(default_factory=Decoder)
    _parts: bytearray = field(default_factory=bytearray)
    _hung_up: float | None = None

    def wants(self) -> Iterator[tuple[int, int]]:
        """Yield the files to be polled, and for what."""
        yield self.fd, select.POLLIN | (select.POLLOUT if self.out else 0)
        if self.command is None:
            return
        if self.command.unwritten:
            yield self.command.stdin, select.POLLOUT
        if not self.out:
            # What nobody takes from us, we take from nobody.
            yield self.command.pidfd, select.POLLIN
            for output in self.command.outputs:
                yield output, select.POLLIN

    def handle(self, fd: int, events: int) -> None:
        """Do what can be done with this file."""
        if fd == self.fd:
            if events & select.POLLOUT:
                del self.out[: os.write(fd, self.out[:OUTPUT])]
            if events & select.POLLIN:
                data = os.read(fd, OUTPUT)
                if not data:
                    raise SystemExit("the other end of the line is gone")
                for frame in self._decoder.feed(data):
                    self._take(frame)
        elif self.command is not None:
            # A terminal is both its input and its output.
            if fd == self.command.stdin and self.command.unwritten and events & ~select.POLLIN:
                if self.command.write():
                    self._say(Kind.ACK)
            elif fd in self.command.outputs:
                self._pass_on(self.command, fd)
            elif fd == self.command.pidfd:
                self._end(self.command)

    def tick(self, now: float) -> None:
        """End what has not ended when it was told to."""
        if self._hung_up is not None and self.command is not None and now > self._hung_up:
            self.command.signal(signal.SIGKILL)

    def _say(self, kind: Kind, payload: bytes = b"") -> None:
        self.out += Frame(kind, payload).pack()

    def _take(self, frame: Frame) -> None:
        match frame.kind:
            case Kind.PART:
                self._parts += frame.payload
                self._say(Kind.ACK)
            case Kind.RUN:
                request = Request.read(bytes(self._parts + frame.payload))
                self._parts.clear()
                self.prepare()
                self.command = Command.start(request)
                self._say(Kind.ACK)
            case Kind.STDIN:
                if self.command is None or self.command.feed(frame.payload):
                    self._say(Kind.ACK)
            case Kind.SIGNAL if self.command is not None:
                self.command.signal(frame.payload[0])
            case Kind.SIZE if self.command is not None:
                self.command.resize(*WINDOW.unpack(frame.payload))
            case Kind.HANGUP:
                self._parts.clear()
                self._hung_up = time.monotonic() + _HANGUP_SECONDS
                if self.command is None:
                    self._gone()
                else:
                    self.command.signal(signal.SIGHUP)

    def _pass_on(self, command: Command, fd: int) -> bool:
        data = command.read(fd, OUTPUT)
        if data:
            self._say(Kind.STDERR if fd == command.stderr else Kind.STDOUT, data)
        return bool(data)

    def _end(self, command: Command) -> None:
        """Pass on what the command has said, but do not wait for those that it has left behind."""
        for fd in list(command.outputs):
            while select.select([fd], [], [], 0)[0] and self._pass_on(command, fd):
                pass
        self._say(Kind.EXIT, STATUS.pack(command.close()))
        self.command = None
        if self._hung_up is not None:
            self._gone()

    def _gone(self) -> None:
        self._hung_up = None
        self._say(Kind.GONE)


def serve(lines: list[Line]) -> NoReturn:
    """Serve `lines` as long as the machine is on."""
    for line in lines:
        line.out += Frame(Kind.READY).pack()
    while True:
        owners: dict[int, Line] = {}
        wanted: dict[int, int] = {}
        for line in lines:
            for fd, events in line.wants():
                owners[fd] = line
                wanted[fd] = wanted.get(fd, 0) | events
        poller = select.poll()
        for fd, events in wanted.items():
            poller.register(fd, events)
        for fd, events in poller.poll(_TICK_MS):
            owners[fd].handle(fd, events)
        now = time.monotonic()
        for line in lines:
            line.tick(now)


def open_line(number: int) -> Line:
    """Open a serial line, for bytes as they are."""
    fd = os.open(f"/dev/line{number}", os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    # Virtual machines have ports that are no terminals.
    if os.isatty(fd):
        tty.setraw(fd)
    return Line(fd, see_changes)


def see_changes() -> None:
    """Have the files of the machine we are on looked at anew: an overlay may have been edited.

    The kernel here takes them for its own, which nobody else changes (Documentation, drop_caches:
    2 is directory entries and inodes).
    """
    Path("/proc/sys/vm/drop_caches").write_text("2\n")


if __name__ == "__main__":
    serve([open_line(number) for number in range(1, int(sys.argv[1]) + 1)])
