"""Whether a file is whole: written by rename, closed by whoever wrote it, or at rest for a while.

Somebody may be in the middle of writing it. A rename puts another inode in its place at once,
whole. Else nobody may have it open for writing: the kernel gives a read lease (F_SETLEASE,
fcntl(2)) only then. Where it gives none to anybody (network file systems, files of other users), a
file that has not changed for REST seconds passes for whole.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

REST: Final = 1.0
"""Seconds without a change after which a file counts as whole, whoever has it open."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """What tells one content of a file from another; inode: which file it is."""

    inode: tuple[int, int]
    size: int
    changed: int


def stamp(path: Path) -> Stamp | None:
    """Return the stamp of a file; None if there is none, or if it is a pipe or a device."""
    try:
        about = path.stat()
    except OSError:
        return None
    if not stat.S_ISREG(about.st_mode):
        return None
    return Stamp((about.st_dev, about.st_ino), about.st_size, about.st_mtime_ns)


def whole(path: Path, known: Stamp | None, now: float | None = None) -> bool:
    """Say whether what stands at `path` is whole.

    known: the stamp of the content that is known already, None for none; now: seconds since 1970
    """
    found = stamp(path)
    if found is None or (known is not None and found.inode != known.inode):
        return True
    written = _being_written(path)
    if written is False:
        return True
    moment = time.time() if now is None else now
    # A file of the future (a clock that was set back, a machine without one) says nothing of when
    # it was written; it would be left alone until then.
    return abs(moment - found.changed / 1e9) >= REST


def _being_written(path: Path) -> bool | None:
    """Whether somebody has the file open for writing; None: the kernel does not say."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        # Whoever opens it for writing meanwhile makes the kernel send us a signal: SIGIO would end
        # us, this one is ignored by default.
        fcntl.fcntl(file, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        return True if error.errno == errno.EAGAIN else None
    finally:
        os.close(file)
    return False
