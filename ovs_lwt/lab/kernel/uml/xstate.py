"""The library that user-mode Linux needs on processors with a large register state: xstate.c."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
from importlib import resources
from pathlib import Path
from typing import Final

from ovs_lwt.lab.kernel.cache import cache
from ovs_lwt.mistakes import Refused

_SOURCE: Final = "xstate.c"
_COMPILERS: Final = ("cc", "gcc", "clang")
_FLAGS: Final = ("-shared", "-fPIC", "-O2", "-Wl,-z,now")
_SECONDS: Final = 60.0
# <linux/auxvec.h>: the stack that a signal takes, mostly the registers that a process may have.
_AT_MINSIGSTKSZ: Final = 51
# It is 3,632 with all 2,696 bytes that user-mode Linux keeps (AVX-512, PKRU), 11,952 with AMX.
_LARGEST_KEPT: Final = 4096


def needed() -> bool:
    """Say whether a process here has more registers than user-mode Linux keeps."""
    return bool(ctypes.CDLL(None).getauxval(_AT_MINSIGSTKSZ) > _LARGEST_KEPT)


def library() -> Path:
    """Return the library, compiled if it never was; raise `Refused` if it cannot be."""
    source = resources.files(__package__).joinpath(_SOURCE).read_bytes()
    made = cache() / f"xstate-{hashlib.sha256(source).hexdigest()[:16]}.so"
    if not made.exists():
        # Renamed into place: of two that compile at one moment, each finds a whole one.
        new = made.with_suffix(f".{os.getpid()}")
        try:
            _compile(source, new)
            new.replace(made)
        finally:
            new.unlink(missing_ok=True)
    return made


def _compile(source: bytes, to: Path) -> None:
    compiler = next((found for name in _COMPILERS if (found := shutil.which(name))), None)
    if compiler is None:
        raise Refused(
            "this processor has more registers (AMX) than user-mode Linux keeps, and the small"
            " library that helps it must be compiled: 'apt-get install gcc libc6-dev' brings the"
            " compiler (Debian, Ubuntu)"
        )
    done = subprocess.run(
        [compiler, *_FLAGS, "-x", "c", "-", "-o", str(to), "-ldl"],
        input=source,
        capture_output=True,
        timeout=_SECONDS,
        check=False,
    )
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        raise Refused(
            f"the library that helps user-mode Linux on this processor could not be compiled;"
            f" {compiler} says",
            *(f"  {line}" for line in said.splitlines()),
            "'apt-get install libc6-dev' brings what may be missing (Debian, Ubuntu)",
        )
