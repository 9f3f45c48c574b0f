"""Every command tried with every wrong value, and in odd places: what is wrong with how it ends.

It is tried in a network namespace of its own and, as root, with a root that cannot be written (but
for /run and the folder of values): what ought to be refused harms nobody if it is not.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import re
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Final

from tests.support.commandline import (
    TREE,
    Case,
    Ended,
    cases,
    make_values,
    plain,
    run,
    standard_streams,
)

NOBODY: Final = 65534
_NEW: Final = 0x40000000 | 0x00020000  # CLONE_NEWNET, CLONE_NEWNS of <linux/sched.h>
_BIND, _REMOUNT, _READONLY, _REC, _PRIVATE = 0x1000, 0x20, 0x1, 0x4000, 0x40000  # <linux/mount.h>
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


def enclose(folder: Path) -> None:
    """Put this process into namespaces of its own, where nothing but `folder` and /run can be
    written; without root nothing else can be anyway.
    """
    if os.geteuid() != 0:
        return
    _check(_LIBC.unshare(_NEW))
    _mount(None, "/", None, _REC | _PRIVATE)
    _mount(str(folder), str(folder), None, _BIND)
    for mount in ("/", "/tmp", "/var", "/var/lib", "/home", "/root"):
        if os.path.ismount(mount):
            _mount(None, mount, None, _BIND | _REMOUNT | _READONLY)
    _mount("tmpfs", "/run", "tmpfs", 0)


def _mount(source: str | None, target: str, kind: str | None, flags: int) -> None:
    names = [None if word is None else word.encode() for word in (source, target, kind)]
    _check(_LIBC.mount(*names, flags, None))


def _check(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


# Judging

# Who is asked may be away, and then it is worth trying again.
_AWAY: Final = re.compile(r"no (controller|ovsdb-server) (answers|at)|no lab called")
_TORN: Final = re.compile(r"Traceback|unexpected:|Error: |Exception")
_RAW: Final = re.compile(r"[^\S\n ]|[\x00-\x09\x0b-\x1f\x7f\u202e]")


def faults(ended: Ended) -> Iterator[str]:
    """What is wrong with how a wrong command line ended."""
    away = _AWAY.search(ended.err) is not None
    right = away if ended.status in (1, 4) else ended.status == 2
    # Where something is to be made, a path of nothing is none that is wrong.
    right |= ended.status == 0 and not ended.err
    if not right:
        yield f"status {ended.status}"
    yield from torn(ended)


def torn(ended: Ended) -> Iterator[str]:
    """What no command may say, however it ends."""
    if ended.status and not ended.err.strip():
        yield "no word"
    if _TORN.search(ended.err):
        yield "not a sentence"
    if _RAW.search(ended.err):
        yield "control characters"


def try_all(way: str, folder: Path) -> int:
    """Try the command with every wrong value, and print what is wrong with how it took it.

    On plane route first: what makes no difference there, since it is about Open vSwitch, without
    a plane as well.
    """
    enclose(folder)
    values = make_values(folder)
    if all(parameter.name != "plane" for parameter in TREE[way].params):
        _try(cases(way, values, folder), folder)
        return 0
    (as_ever,) = run([plain(way, folder, "route")], folder)
    found = _try(cases(way, values, folder, "route"), folder)
    missed = {case.id for case, ended in found if last(ended) == last(as_ever)}
    # A framework lives once in a process.
    importlib.import_module("ovs_lwt.app")
    again = (case for case in cases(way, values, folder) if case.id in missed)
    _try(again, folder, alone=way == "run")
    return 0


def _try(every: Iterator[Case], folder: Path, *, alone: bool = False) -> list[tuple[Case, Ended]]:
    """Run these, those of one parameter in one process, or each alone; print what is wrong."""
    found: list[tuple[Case, Ended]] = []
    there = inventory(folder, Path("/run"))
    for _, lot in groupby(every, lambda case: case if alone else case.parameter):
        tried = list(lot)
        ended = run(tried, folder)
        before, there = there, inventory(folder, Path("/run"))
        changed = sorted({path for path, _ in before.items() ^ there.items()})
        if changed:
            print(f"made, changed or removed by {tried[0]} to {tried[-1]}: {changed}", flush=True)
        for case, how in zip(tried, ended, strict=True):
            if said := [*faults(how)]:
                print(f"{case}: {'; '.join(said)}\n{how.err[-400:]}", flush=True)
        found += zip(tried, ended, strict=True)
    return found


# Surroundings


def _closed(*files: int) -> Callable[[], None]:
    def close() -> None:
        for number in files:
            os.close(number)
            if number:
                setattr(sys, ("stdin", "stdout", "stderr")[number], None)

    return close


def _full() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, 1)
    os.close(full)


def _without(*names: str, **others: str) -> Callable[[], None]:
    def change() -> None:
        for name in names:
            os.environ.pop(name, None)
        os.environ.update(others)

    return change


def _gone() -> None:
    os.mkdir("gone")  # noqa: PTH102 - where we are
    os.chdir("gone")
    os.rmdir("../gone")  # noqa: PTH106


def _nobody() -> None:
    os.setgroups([])
    os.setresuid(NOBODY, NOBODY, NOBODY)


SURROUNDINGS: Final[Mapping[str, Callable[[], None]]] = {
    "no standard input": _closed(0),
    "no standard output": _closed(1),
    "no files at all": _closed(0, 1, 2),
    "a full disk": _full,
    "a terminal of ASCII": lambda: standard_streams("ascii"),
    "no home": _without("HOME", "USER", "LOGNAME"),
    "no path": _without("PATH"),
    "odd widths": _without(COLUMNS="0", LINES="x", TERM="\x1b[2J"),
    "a folder that is gone": _gone,
    "no folder for temporary files": _without(TMPDIR="/nowhere"),
    "nobody": _nobody,
}


def try_surroundings(folder: Path) -> int:
    """Give every command no wrong value but an odd place to run in; print what it takes ill."""
    enclose(folder)
    make_values(folder)
    folder.chmod(0o755)
    for way in TREE:
        if way in ("demo", "manager"):  # for them nothing is missing: they would begin
            continue
        for kind, odd in SURROUNDINGS.items():
            if kind == "nobody" and os.geteuid() != 0:
                continue
            (ended,) = run([plain(way, folder, "route")], folder, odd)
            said = [*torn(ended)] if kind != "no files at all" else []
            if ended.status not in (0, 1, 2, 4):
                said.append(f"status {ended.status}")
            if said:
                print(f"{way}: {kind}: {'; '.join(said)}\n{ended.err[-400:]}", flush=True)
    return 0


def last(ended: Ended) -> tuple[int, str]:
    """The status, and the last word."""
    return ended.status, next(iter(ended.err.splitlines()[-1:]), "")


def inventory(*folders: Path) -> dict[str, tuple[int, int, int]]:
    """All that is below these folders, with its type, size and time of change."""
    found = {}
    for top in folders:
        for at, names, files in os.walk(top):
            for name in (*names, *files):
                path = Path(at, name)
                if name.startswith("."):
                    continue
                about = path.lstat()
                if stat.S_ISSOCK(about.st_mode):
                    continue  # one that nobody listens on makes room for the next
                # A folder says when something in it came or went: what is there now counts.
                what = (0, 0) if path.is_dir() else (about.st_size, about.st_mtime_ns)
                found[str(path)] = (stat.S_IFMT(about.st_mode), *what)
    return found
