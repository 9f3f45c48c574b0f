"""Benchmarks that need what this kernel may lack: run in user-mode Linux, and what it has used."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

from bench import results
from ovs_lwt.lab.kernel import find, missing_features, run_in_kernel

_NOT_THE_KERNELS: Final = ("MemFree", "Buffers", "Cached", "AnonPages", "PageTables")


def elsewhere(module: str, here: bool, *, memory: int, timeout: float) -> int | None:
    """Run `python -m MODULE` as we were called, in user-mode Linux; return its exit status.

    None if it is to run here: this kernel has all the features, or the user insists.
    memory: MB; timeout: s
    """
    if here or not missing_features():
        return None
    print("in user-mode Linux, since this kernel lacks something:", flush=True)
    command = [sys.executable, "-m", module, *sys.argv[1:], "--here"]
    done = run_in_kernel(
        find("uml"),
        command,
        out=results.FOLDER,
        memory=memory,
        timeout=timeout,
        echo=lambda data: os.write(1, data),
    )
    if done.timed_out:
        print(f"it took longer than {timeout:.0f} s", file=sys.stderr)
    return done.status


def kernel_memory() -> int:
    """Bytes that are neither free, nor cache, nor a process's own: what the kernel keeps. To the
    megabyte: each processor has a reserve of pages.
    """
    found = _meminfo()
    return found["MemTotal"] - sum(found[name] for name in _NOT_THE_KERNELS)


def slab() -> int:
    """Bytes in small objects of the kernel's that it needs: exact, but not all that it keeps."""
    return _meminfo()["SUnreclaim"]


def _meminfo() -> dict[str, int]:
    Path("/proc/sys/vm/drop_caches").write_text("3")
    lines = Path("/proc/meminfo").read_text().splitlines()
    return {name: int(rest.split()[0]) << 10 for name, rest in (line.split(":") for line in lines)}
