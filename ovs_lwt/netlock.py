"""One agent for a network namespace: what OVSDB's lock is for a bridge, on the kernel's planes."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Final

from ovs_lwt.mistakes import Refused
from ovs_lwt.netns import namespace_path

_OURS: Final = "/proc/thread-self/ns/net"


class NamespaceLock:
    """Held until closed, or until its process ends (flock(2)), whatever ends it.

    folder: where agents of this machine keep their locks, root's own; netns: a namespace's name or
    path, None for our own; agent: who this is, in words
    Raises Refused, with the other's words, if another agent holds it.
    """

    def __init__(self, folder: Path, netns: str | None, agent: str) -> None:
        found = Path(_OURS if netns is None else namespace_path(netns)).stat()
        self._path = folder / f"netns-{found.st_dev}-{found.st_ino}.lock"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = self._hold(netns or "this network namespace")
        except OSError as error:
            raise Refused(
                f"the lock {self._path} cannot be made ({error.strerror}): run this as root (sudo)"
            ) from error
        os.truncate(self._file, 0)
        os.pwrite(self._file, agent.encode(), 0)

    def _hold(self, where: str) -> int:
        while True:
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                other = os.pread(file, 500, 0).decode(errors="replace")
                os.close(file)
                raise Refused(
                    f"{where} is driven by another agent ({other or 'of no name'}):"
                    " stop that one first"
                ) from None
            # Whoever closes it removes it: what we have may be the one that is gone.
            if self._path.exists() and os.path.samestat(os.fstat(file), self._path.stat()):
                return file
            os.close(file)

    def close(self) -> None:
        """Let another have it."""
        self._path.unlink(missing_ok=True)
        os.close(self._file)
