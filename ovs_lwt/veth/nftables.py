"""The program `nft`, run in a network namespace; and nobody else who changes the same there.

It encodes what it is told (libnftables-json(5)), a batch at a time, which the kernel takes as a
whole or not at all.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from ovs_lwt.netns import namespace_path

_SYSTEM: Final = "/usr/sbin:/sbin"  # not in everybody's PATH
_OURS: Final = "/proc/thread-self/ns/net"
_SECONDS: Final = 10.0
_POLL: Final = 0.02
_HOLDERS: Final = "grep :{} /proc/locks"


class NftLacks(Exception):
    """This machine cannot do by nft what it was asked to: why, and how it is had."""


class NftBusy(NftLacks):
    """nft, or somebody who changes the same tables, has not come to an end in time: what stood
    there stands, and asking again may help.
    """


def nft(netns: str | None, *words: str, text: str = "") -> str:
    """Run `nft` and return what it prints. netns: a namespace's name or path; None: ours

    Raises NftLacks if it is missing, or if it, or the kernel, refuses; NftBusy if it hangs.
    """
    program = shutil.which("nft") or shutil.which("nft", path=_SYSTEM)
    if program is None:
        raise NftLacks("nft is not installed (apt-get install nftables)")
    # The process enters the namespace, not this thread: others may run on it while we wait.
    prefix = ["nsenter", f"--net={namespace_path(netns)}"] if netns is not None else []
    try:
        done = subprocess.run(
            [*prefix, program, *words],
            input=text,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        raise NftBusy(
            f"nft has not answered within {_SECONDS:g} s: see what it waits for"
        ) from late
    if done.returncode != 0:
        said = re.search(r"Error: (.*)", done.stderr)
        why = said[1] if said else done.stderr.strip()
        raise NftLacks(f"nft says '{why}' (its kernel modules: nf_tables, nft_meta, nft_ct)")
    return done.stdout


def batch(netns: str | None, commands: Sequence[dict[str, Any]]) -> None:
    """Have the kernel take these commands, or none of them. Raises NftLacks."""
    nft(netns, "--json", "--file", "-", text=json.dumps({"nftables": list(commands)}))


@contextmanager
def alone(netns: str | None, seconds: float) -> Iterator[None]:
    """Keep others who ask for the same from changing our tables in this namespace meanwhile.

    seconds: how long to wait for another who does; then this raises NftBusy

    An agent and an `attach` may each have read what is there before either has written. The lock
    is the namespace's own inode, so it is nobody's file and goes with whoever holds it.
    """
    path = _OURS if netns is None else namespace_path(netns)
    namespace = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        deadline = time.monotonic() + seconds
        while not _locked(namespace):
            if time.monotonic() >= deadline:
                raise NftBusy(
                    "another process holds the lock on this network namespace, and does not let go:"
                    f" see which ({_HOLDERS.format(os.fstat(namespace).st_ino)})"
                )
            time.sleep(_POLL)
        yield
    finally:
        os.close(namespace)


def _locked(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
