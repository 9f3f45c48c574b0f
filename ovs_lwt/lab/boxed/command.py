"""A command of `ovs-lwt` as a child of the server: a fork of it, with files or a terminal."""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import io
import os
import pty
import struct
import sys
import termios
import traceback
from dataclasses import dataclass, field
from typing import Final, NoReturn

from ovs_lwt.lab.boxed.frames import Request

# By its name, as a process of its own would be started: the command line stands above the lab.
_PROGRAM: Final = importlib.import_module("ovs_lwt.cli")
# The server has fewer files open than that.
_FILES: Final = 1024


@dataclass(slots=True)
class Command:
    """A command that runs.

    `stdin` is where its input goes (-1 once that has ended), `outputs` are where its output comes
    from, `stderr` one of them, or -1 with a terminal, which has one output.
    """

    pid: int
    pidfd: int
    stdin: int
    stderr: int
    outputs: list[int]
    terminal: bool
    _input: bytearray = field(default_factory=bytearray)

    @classmethod
    def start(cls, request: Request) -> Command:
        """Fork, and run the request there."""
        if request.terminal is not None:
            master, theirs = pty.openpty()
            _resize(master, request.terminal)
            files, ours = (theirs, theirs, theirs), (master, master, -1)
        else:
            read_in, write_in = os.pipe()
            read_out, write_out = os.pipe()
            read_err, write_err = os.pipe()
            files, ours = (read_in, write_out, write_err), (write_in, read_out, read_err)
        pid = os.fork()
        if pid == 0:
            _become(request, files)
        for fd in set(files):
            os.close(fd)
        for fd in set(ours) - {-1}:
            os.set_blocking(fd, False)
        stdin, stdout, stderr = ours
        outputs = [stdout] if stderr < 0 else [stdout, stderr]
        return cls(pid, os.pidfd_open(pid), stdin, stderr, outputs, request.terminal is not None)

    @property
    def unwritten(self) -> bool:
        """Whether input waits until the command takes it."""
        return self.stdin >= 0 and bool(self._input)

    def feed(self, data: bytes) -> bool:
        """Take input, or its end (b""); say whether the command has it already."""
        if self.stdin < 0:
            return True
        if not data and not self.terminal:
            os.close(self.stdin)
            self.stdin = -1
            return True
        self._input += data
        return self.write()

    def write(self) -> bool:
        """Write what the command can take; say whether that was all."""
        try:
            del self._input[: os.write(self.stdin, self._input)]
        except BlockingIOError:
            return False
        except OSError:  # it has closed its input, or has ended
            self._input.clear()
        return not self._input

    def read(self, fd: int, most: int) -> bytes:
        """Read output; b"" and no more of it at its end."""
        try:
            data = os.read(fd, most)
        except BlockingIOError:
            return b""
        except OSError:  # EIO: nobody has the terminal open any more
            data = b""
        if not data:
            self.outputs.remove(fd)
            if fd != self.stdin:
                os.close(fd)
        return data

    def signal(self, number: int) -> None:
        """Send a signal to the command and what it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def resize(self, rows: int, columns: int) -> None:
        """Tell its terminal how large ours is."""
        if self.terminal:
            _resize(self.stdin, (rows, columns))

    def close(self) -> int:
        """Return the status of the command, which has ended, and forget it."""
        _, status = os.waitpid(self.pid, 0)
        for fd in {self.stdin, self.pidfd, *self.outputs} - {-1}:
            os.close(fd)
        return os.waitstatus_to_exitcode(status)


def _resize(fd: int, size: tuple[int, int]) -> None:
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))


def _become(request: Request, files: tuple[int, int, int]) -> NoReturn:
    """Be the command, in the process that was forked for it."""
    status = 1
    try:
        # A group of its own for signals, and a terminal of its own.
        os.setsid()
        for number, fd in enumerate(files):
            os.dup2(fd, number)
        os.closerange(3, _FILES)
        if request.terminal is not None:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        os.environ.clear()
        os.environ.update(request.environment)
        try:
            os.chdir(request.folder)
        except OSError:  # a folder that is not in the machine, like one below /run
            os.chdir("/")
        for name, fd in (("stdout", 1), ("stderr", 2)):
            raw = io.FileIO(fd, "wb", closefd=False)
            setattr(sys, name, io.TextIOWrapper(raw, "utf-8", "replace", write_through=True))
        sys.argv = ["ovs-lwt", *request.words]
        status = _status_of_main()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _status_of_main() -> int:
    try:
        _PROGRAM.main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0
