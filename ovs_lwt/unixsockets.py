"""Unix sockets by their paths: who is behind one, and making room for one of ours.

A path that is not a socket's is never removed.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ovs_lwt.folders import missing_folders, unmake
from ovs_lwt.mistakes import Refused

LONGEST: Final = 107
"""Bytes of a socket's path (sun_path of unix(7), without the closing zero)."""

_CREDENTIALS: Final = struct.Struct("3i")  # struct ucred of unix(7): pid, uid, gid
_CONNECT_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Process:
    """Who is at the other end of a unix socket, as the kernel noted it when they connected (or
    began to listen); pid: 0 if it is of another process namespace.
    """

    pid: int
    uid: int

    def __str__(self) -> str:
        return f"process {self.pid} ({command(self.pid)}) of uid {self.uid}"


def process_behind(connected: Any) -> Process:
    """Return the peer of a connected unix socket (SO_PEERCRED of unix(7))."""
    size = _CREDENTIALS.size
    pid, uid, _ = _CREDENTIALS.unpack(
        connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    )
    return Process(pid, uid)


def command(pid: int) -> str:
    """Return what a process calls itself, quoted: it chooses its name, which then is in our log."""
    try:
        return ascii(Path(f"/proc/{pid}/comm").read_text(errors="replace").rstrip("\n"))
    except OSError:
        return "gone"


def listener(path: Path) -> Process | None:
    """Return who listens at `path`; None if nobody does, or if it is no socket.

    One that takes no more connections listens, too. Raises PermissionError where we may not ask.
    """
    with socket.socket(socket.AF_UNIX) as probe:
        # A full queue (a listener that is stuck) then is an error, not an endless wait.
        probe.settimeout(_CONNECT_SECONDS)
        try:
            with address(path) as short:
                probe.connect(short)
        except PermissionError:
            raise
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
            return None
        except OSError:
            return Process(0, 0)
        return process_behind(probe)


@contextmanager
def address(path: Path) -> Iterator[str]:
    """Give what to bind or connect to for a path of any length: where it is too long for a socket,
    by its folder's number. Raises OSError if there is no such folder.
    """
    if len(os.fsencode(path)) <= LONGEST:
        yield os.fspath(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def refuse_long(path: Path, what: str, mend: str) -> None:
    """Raise Refused if no socket can have this path: the `ovs` library would recur without end."""
    if (length := len(os.fsencode(path))) > LONGEST:
        raise Refused(
            f"{what} {path} has a path of {length} bytes, and a socket's has {LONGEST} at most:"
            f" {mend}"
        )


def refuse_other(path: Path, what: str, mend: str) -> None:
    """Raise Refused if no socket can have this path, or if something else is there. (Nothing at all
    may be there: whoever listens is to come.)
    """
    refuse_long(path, what, mend)
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, PermissionError):
        return  # who is not let in is told so by whoever connects
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) else error
        raise Refused(f"{what} cannot be at {path} ({said}): {mend}") from error
    if not stat.S_ISSOCK(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a file"
        raise Refused(f"{what} {path} is {kind}, not a socket: {mend}")


def make_room(path: Path, what: str, mend: str) -> list[Path]:
    """See that a socket can be made at `path`: its folder is made, a socket of the dead removed.
    Return the folders that were made, the innermost first.

    Raises Refused if the path is too long, if its folder cannot be made, or if something else is
    there. what: whose socket it is; mend: what to do about it.
    """
    refuse_long(path, what, mend)
    try:
        made = missing_folders(path.parent)
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Refused(
            f"the folder of {what} {path} cannot be made ({_said(error)}): {mend}"
        ) from error
    try:
        _clear(path, what, mend)
    except Refused:
        unmake(made)
        raise
    return made


def _clear(path: Path, what: str, mend: str) -> None:
    """Remove a socket of the dead; raise Refused if the path is something else's, or if the kernel
    makes no socket there. (The `ovs` library would say that as well, by itself, to standard error.)
    """
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise Refused(f"{path} is there already, and is not a socket: it stays; {mend}")
        path.unlink(missing_ok=True)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise Refused(f"{what} {path} cannot be made ({_said(error)}): {mend}") from error
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.bind(os.fspath(path))
        except (OSError, ValueError) as error:
            said = _said(error) if isinstance(error, OSError) else str(error)
            raise Refused(f"{what} {path} cannot be made ({said}): {mend}") from error
        path.unlink()


def remove(path: Path, inode: tuple[int, int]) -> None:
    """Remove the socket at `path` if it is the one with this `identity`, and not one made since."""
    if identity(path) == inode:
        path.unlink(missing_ok=True)


def identity(path: Path) -> tuple[int, int]:
    """Return what tells a file from all others, (device, inode); (0, 0) if there is none."""
    try:
        found = path.lstat()
    except OSError:
        return (0, 0)
    return (found.st_dev, found.st_ino)


def _said(error: OSError) -> str:
    return os.strerror(error.errno or errno.EIO)
