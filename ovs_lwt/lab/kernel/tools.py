"""Programs of this machine that the lab calls."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from typing import Final

from ovs_lwt.mistakes import Refused

_SBIN: Final = "/usr/local/sbin:/usr/sbin:/sbin"


def with_sbin(path: str) -> str:
    """Return a PATH with the system's own directories, which a plain user's leaves out."""
    return path if "/usr/sbin" in path.split(":") else f"{path}:{_SBIN}".lstrip(":")


def find(program: str) -> str | None:
    """Return where a program is, or None."""
    return shutil.which(program, path=with_sbin(os.environ.get("PATH", "")))


def need(programs: Mapping[str, str]) -> dict[str, str]:
    """Return where `programs` (name -> Debian package) are; raise `Refused` if one is missing."""
    found = {name: where for name in programs if (where := find(name)) is not None}
    missing = sorted(programs.keys() - found.keys())
    if missing:
        packages = " ".join(sorted({programs[name] for name in missing}))
        raise Refused(
            f"the kernel lab needs {' and '.join(missing)}: 'apt-get install {packages}' brings"
            " it (Debian, Ubuntu)"
        )
    return found
