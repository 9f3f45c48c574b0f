"""Output whose reader leaves (``| head -1``): it undoes no work, and leaves no traceback.

A command that only prints ends when nobody reads on, as other programs do. One that does something
`outlives_readers`: what it would still have said is lost, and the work is done. Either way the exit
status is that of a program that SIGPIPE has ended, unless the command has failed by itself.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, TextIO

from ovs_lwt.mistakes import NotNow

BROKEN_PIPE: Final = 128 + signal.SIGPIPE


class _Pipe(io.RawIOBase):
    """A file descriptor; once its reader has left, what is written goes nowhere."""

    def __init__(self, fd: int, *, outlive: bool = False) -> None:
        self._fd = fd
        self.outlive = outlive
        self.broken = self.raised = False

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def isatty(self) -> bool:
        return os.isatty(self._fd)

    def write(self, data: object, /) -> int:
        view = memoryview(data)  # type: ignore[arg-type]
        try:
            return os.write(self._fd, view)
        except BrokenPipeError:
            self.broken = True
            self._write_nowhere()
            if not self.outlive:
                self.raised = True
                raise
            return view.nbytes
        except OSError as error:
            self._write_nowhere()
            if self.outlive:
                return view.nbytes
            raise NotNow(f"what it prints cannot be written: {error.strerror}") from error

    def _write_nowhere(self) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._fd)
        os.close(nowhere)


# The standard output of the command that runs.
_stdout: list[_Pipe] = []


def _open_all() -> None:
    """Have all three standard files open: else the next one that is opened (the overlay, a socket)
    gets the number of what is missing, and whatever we start reads it, or writes into it.
    """
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one


def outlives_readers() -> None:
    """Say that the command does its work to the end, whether or not somebody reads what it says."""
    for pipe in _stdout:
        pipe.outlive = True


@contextmanager
def closable() -> Iterator[None]:
    """Run a command whose readers may leave; what ends it is a `SystemExit` with the status."""
    _open_all()
    before: tuple[TextIO | None, TextIO | None] = sys.stdout, sys.stderr
    out, err = _Pipe(1), _Pipe(2, outlive=True)
    for name, pipe, old in (("stdout", out, before[0]), ("stderr", err, before[1])):
        if old is not None:  # closed by whoever started us: then it goes nowhere
            old.flush()
        text = io.TextIOWrapper(
            io.BufferedWriter(pipe),
            old.encoding if old is not None else "utf-8",
            old.errors if old is not None else "backslashreplace",
            line_buffering=name == "stderr" or pipe.isatty(),
            write_through=name == "stderr",
        )
        setattr(sys, name, text)
    _stdout.append(out)
    status: int | str | None = 0
    try:
        try:
            yield
        except SystemExit as end:
            status = end.code
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        if not out.raised:
            raise
    finally:
        _stdout.remove(out)
        # Not closed: the process may say more, and these are its files.
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        sys.stdout, sys.stderr = before
    if out.raised or (out.broken and not status):
        status = BROKEN_PIPE
    raise SystemExit(status)
