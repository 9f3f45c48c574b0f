"""Folders that are made for something, and taken away again if nothing comes of it."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


def missing_folders(folder: Path) -> list[Path]:
    """Return what `mkdir` would have to make, the innermost first. Raises OSError."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    return missing


def unmake(folders: Iterable[Path]) -> None:
    """Remove these folders, the innermost first, as far as nobody has put anything into them."""
    with suppress(OSError):
        for folder in folders:
            folder.rmdir()
