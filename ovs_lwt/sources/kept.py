"""The overlay that was last taken over, on disk: what a host runs that starts onto a broken file.

What flows in: the very bytes that a reading has read, and word that they were accepted. What flows
out: their digests, as `sha256sum` prints them, and the files to read again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Final

from ovs_lwt.folders import missing_folders, unmake

OVERLAY: Final = "overlay.yaml"
ENDPOINTS: Final = "endpoints.csv"
_SUMS: Final = "SHA256SUMS"
_NEW: Final = ".new"


def accepted_in(state: Path, host: str) -> Path:
    """Return the folder of the overlay that was last accepted, by the agent of this (first) host.

    state: where agents keep what must outlive them
    """
    return state / f"{host}.accepted"


@dataclass(slots=True, eq=False)
class Kept:
    """A folder with the files of one overlay; None keeps nothing, and only digests are made."""

    folder: Path | None
    _digests: dict[str, str] = field(default_factory=dict)
    _work: list[Thread] = field(default_factory=list)
    _failed: list[OSError] = field(default_factory=list)
    _made: list[Path] = field(default_factory=list)

    def begin(self) -> None:
        """A reading begins: what an earlier one has left and nobody accepted is nothing."""
        self._join()
        self._digests.clear()
        self._failed.clear()

    def note(self, name: str, data: bytes) -> None:
        """Digest the bytes of one file (OVERLAY, ENDPOINTS) and put them aside, while they are
        being read: a million endpoints take a quarter of a second.
        """
        work = Thread(target=self._aside, args=(name, data), daemon=True)
        self._work.append(work)
        work.start()

    def digests(self) -> Mapping[str, str]:
        """File -> SHA-256 of what was last read."""
        self._join()
        return dict(self._digests)

    def accept(self) -> None:
        """What was last read is the overlay that runs. Raises OSError where it cannot be kept."""
        self._join()
        if self._failed:
            raise self._failed[0]
        if self.folder is None or OVERLAY not in self._digests:
            return
        self._made.clear()
        # The endpoints first: an overlay that names none has no use for them, old or new.
        for name in (ENDPOINTS, OVERLAY):
            path = self.folder / name
            if name in self._digests:
                path.with_name(name + _NEW).replace(path)
            else:
                path.unlink(missing_ok=True)
        sums = "".join(f"{digest}  {name}\n" for name, digest in sorted(self._digests.items()))
        (self.folder / (_SUMS + _NEW)).write_text(sums, "ascii")
        (self.folder / (_SUMS + _NEW)).replace(self.folder / _SUMS)

    def forget(self) -> None:
        """What was last read does not run: nothing of it stays, nor a folder made for it."""
        self._join()
        if self.folder is not None:
            with suppress(OSError):
                for name in (ENDPOINTS, OVERLAY):
                    (self.folder / (name + _NEW)).unlink(missing_ok=True)
            unmake(self._made)
        self._made.clear()

    def files(self) -> tuple[Path, Path] | None:
        """The overlay that was last accepted and its endpoints (which may not exist); None: there
        is none.
        """
        if self.folder is None or not (self.folder / OVERLAY).is_file():
            return None
        return self.folder / OVERLAY, self.folder / ENDPOINTS

    def accepted(self) -> Mapping[str, str]:
        """File -> SHA-256 of what was last accepted."""
        if self.folder is None:
            return {}
        try:
            lines = (self.folder / _SUMS).read_text("ascii").splitlines()
        except (OSError, ValueError):
            return {}
        # As `sha256sum` writes them: digest, two spaces, name.
        pairs = (line.partition("  ") for line in lines)
        return {name: digest for digest, _, name in pairs}

    def _aside(self, name: str, data: bytes) -> None:
        self._digests[name] = hashlib.sha256(data).hexdigest()
        if self.folder is None:
            return
        try:
            self._made += missing_folders(self.folder)
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            path = self.folder / (name + _NEW)
            with open(path, "wb", opener=_private) as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            self._failed.append(error)

    def _join(self) -> None:
        for work in self._work:
            work.join()
        self._work.clear()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
