"""The library that user-mode Linux needs where processes have more registers than it keeps.

Any processor shows what it does: the kernel refuses a set of extended registers that lacks its last
bytes, however many it has.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ovs_lwt.lab.kernel.uml import xstate
from ovs_lwt.mistakes import Refused

# A debugger in Python: it gives the child the low half of ymm0 anew by a set that lacks its last
# bytes, and prints what the kernel said and what the child has then.
DEBUGGER = """
import ctypes, json, os, signal
libc = ctypes.CDLL(None, use_errno=True)
TRACEME, CONT, GETREGSET, SETREGSET, XSTATE = 0, 7, 0x4204, 0x4205, 0x202
XMM0 = slice(160, 176)  # of the area that XSAVE writes (Intel SDM 1, 13.4.1)
class Vector(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]
def ptrace(request, pid, buffer, length):
    vector = Vector(ctypes.addressof(buffer), length)
    said = libc.ptrace(request, pid, ctypes.c_void_p(XSTATE), ctypes.byref(vector))
    return said, ctypes.get_errno() if said else vector.length
child = os.fork()
if child == 0:
    libc.ptrace(TRACEME, 0, None, None)
    os.kill(os.getpid(), signal.SIGSTOP)
    os._exit(7)
os.waitpid(child, 0)
before, after = (ctypes.create_string_buffer(65536) for _ in range(2))
_, whole = ptrace(GETREGSET, child, before, len(before))
before[XMM0] = bytes(range(16))
before[512] = bytes([before[512][0] | 2])  # XSTATE_BV: the SSE registers are not as at the start
said, error = ptrace(SETREGSET, child, before, whole - 64)
ptrace(GETREGSET, child, after, len(after))
libc.ptrace(CONT, child, None, None)
print(json.dumps({
    "said": said, "error": error, "given": after[XMM0] == before[XMM0],
    "others": before[576:whole] == after[576:whole], "end": os.waitpid(child, 0)[1] >> 8,
}))
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the library is kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/ovs-lwt"


def debug(**environment: str) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-c", DEBUGGER],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def test_a_set_that_lacks_its_end_is_completed() -> None:
    refused = debug()
    assert refused["said"] == -1, "the host's kernel takes it whole or not at all"
    assert refused["given"] is False

    completed = debug(LD_PRELOAD=str(xstate.library()))
    del completed["error"]
    assert completed == {"said": 0, "given": True, "others": True, "end": 7}


def test_it_is_compiled_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = xstate.library()
    assert list(cache.iterdir()) == [library]

    monkeypatch.setenv("PATH", "/nowhere")
    assert xstate.library() == library


def test_without_a_compiler_its_package_is_named(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(Refused, match=r"AMX.*'apt-get install gcc libc6-dev' brings the compiler"):
        xstate.library()
    assert list(cache.iterdir()) == []


def test_what_the_compiler_lacks_is_shown(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = tmp_path / "bin/cc"
    compiler.parent.mkdir()
    compiler.write_text("#!/bin/sh\necho 'dlfcn.h: No such file' >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("PATH", f"{compiler.parent}:{os.environ['PATH']}")
    with pytest.raises(
        Refused, match=r"says\n  dlfcn.h: No such file\n'apt-get install libc6-dev'"
    ):
        xstate.library()
    assert list(cache.iterdir()) == []


def test_a_cache_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(Refused, match=r"cannot be made .*: set XDG_CACHE_HOME"):
        xstate.library()


def test_it_is_needed_where_the_processor_has_tiles() -> None:
    flags = Path("/proc/cpuinfo").read_text().split()
    assert xstate.needed() is ("amx_tile" in flags)
