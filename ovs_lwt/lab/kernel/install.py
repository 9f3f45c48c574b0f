"""Where user-mode Linux is on this machine."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from ovs_lwt.mistakes import Refused

FOLDER_VARIABLE = "OVS_LWT_UML"
_BINARY = "linux.uml"
_PACKAGE = "user-mode-linux"
# What a machine's first steps call, and the Debian packages that have them.
_TOOLS = {"modprobe": "kmod", "ip": "iproute2", "pivot_root": "mount", "stty": "coreutils"}
_SBIN = "/usr/local/sbin:/usr/sbin:/sbin"


@dataclass(frozen=True, slots=True)
class Installation:
    """The kernel `linux` (an executable file) and the folder `modules` with its modules."""

    linux: Path
    modules: Path


def find() -> Installation:
    """Return the user-mode Linux of this machine; raise `Refused` if there is none.

    ``OVS_LWT_UML`` may name a folder into which the Debian package was extracted (``dpkg -x``),
    for whoever cannot install it; else ``linux.uml`` is looked for in PATH.
    """
    path = with_sbin(os.environ.get("PATH", ""))
    missing = sorted({tool for tool in _TOOLS if shutil.which(tool, path=path) is None})
    if missing:
        packages = " ".join(sorted({_TOOLS[tool] for tool in missing}))
        raise Refused(
            f"the kernel lab needs {' and '.join(missing)}: 'apt-get install {packages}' brings"
            " it (Debian, Ubuntu)"
        )
    extracted = os.environ.get(FOLDER_VARIABLE)
    if extracted:
        linux = Path(extracted, "usr/bin", _BINARY).absolute()
        if not os.access(linux, os.X_OK):
            raise Refused(
                f"{FOLDER_VARIABLE} names {extracted}, which has no usr/bin/{_BINARY}: extract"
                f" Debian's package {_PACKAGE} there (dpkg -x), or unset it"
            )
    else:
        found = shutil.which(_BINARY, path=path)
        if found is None:
            raise Refused(
                f"user-mode Linux is not installed: 'apt-get install {_PACKAGE}' brings it"
                f" (Debian), or 'apt-get download {_PACKAGE}', 'dpkg -x' and"
                f" {FOLDER_VARIABLE}=FOLDER"
            )
        linux = Path(found).resolve()
    modules = linux.parent.parent / "lib/uml/modules"
    if not modules.is_dir():
        raise Refused(f"user-mode Linux lacks its modules, {modules}: reinstall {_PACKAGE}")
    return Installation(linux, modules)


def with_sbin(path: str) -> str:
    """Return a PATH with the system's own directories, which a plain user's leaves out."""
    return path if "/usr/sbin" in path.split(":") else f"{path}:{_SBIN}".lstrip(":")
