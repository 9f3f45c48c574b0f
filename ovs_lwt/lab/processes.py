"""Processes of a lab: which they are, starting them, and stopping them."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ovs_lwt.lab.kernel import slowness, we_are_in
from ovs_lwt.mistakes import Refused
from ovs_lwt.netns import NAMED

_TERM_SECONDS = 3.0
_KILL_SECONDS = 5.0


def inside(namespace: str, command: Sequence[str]) -> list[str]:
    """Return the command line that runs `command` in `namespace`, under its own process id."""
    return ["nsenter", f"--net={NAMED / namespace}", "--", *command]


def run(
    command: Sequence[str], *, env: Mapping[str, str] | None = None, timeout: float = 30
) -> str:
    """Run a helper program and return its standard output; raise `Refused` if it fails.

    In a machine of the lab's it has more than `timeout` (s), for that is slower.
    """
    timeout *= slowness(we_are_in())
    try:
        done = subprocess.run(
            command,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError:
        raise Refused(f"{command[0]} is not installed") from None
    except subprocess.TimeoutExpired:
        raise Refused(f"{' '.join(command)}: no answer in {timeout:g} s") from None
    if done.returncode:
        said = (done.stderr or done.stdout).strip() or f"exit status {done.returncode}"
        raise Refused(f"{' '.join(command)}: {said}")
    return done.stdout


def living_in(namespaces: Iterable[str]) -> list[int]:
    """Return the ids of all processes whose network namespace is one of `namespaces`.

    A lab's namespaces are made for it alone, so whatever lives there is the lab's: daemons,
    controllers, and what ``exec`` left behind. This process and its ancestors are spared: ``down``
    may be typed in a shell that ``exec`` started.
    """
    wanted = set()
    for namespace in namespaces:
        try:
            status = (NAMED / namespace).stat()
        except FileNotFoundError:
            continue
        wanted.add((status.st_dev, status.st_ino))
    spared = _ancestors()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) in spared:
            continue
        try:
            status = (entry / "ns" / "net").stat()
        except OSError:  # gone meanwhile, or a kernel thread's
            continue
        if (status.st_dev, status.st_ino) in wanted:
            found.append(int(entry.name))
    return sorted(found)


def stop_all(namespaces: Sequence[str]) -> int:
    """End every process in `namespaces`, first by asking; return how many there were."""
    first = living_in(namespaces)
    for how, seconds in ((signal.SIGTERM, _TERM_SECONDS), (signal.SIGKILL, _KILL_SECONDS)):
        left = living_in(namespaces)
        if not left:
            break
        for pid in left:
            _signal(pid, how)
        until = time.monotonic() + seconds
        while living_in(namespaces) and time.monotonic() < until:
            time.sleep(0.02)
    return len(first)


def alive(pid: int, *words: str) -> bool:
    """Say whether `pid` runs, and with all of `words` in its command line: ids are used again."""
    try:
        line = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
        state = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]
    except OSError:
        return False
    # While it becomes another program (execve), a process has no command line.
    return state != "Z" and (not line or all(word in line for word in words))


def tail(path: Path, lines: int = 15) -> list[str]:
    """Return the last lines of a log, indented; a missing or empty one is said."""
    try:
        text = path.read_text(errors="replace").splitlines()[-lines:]
    except OSError:
        text = []
    return [f"    {line}" for line in text] or ["    (nothing)"]


def _signal(pid: int, how: signal.Signals) -> None:
    try:
        os.kill(pid, how)
    except ProcessLookupError:
        return


def _ancestors() -> set[int]:
    found, pid = set(), os.getpid()
    while pid > 0:
        found.add(pid)
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            break
    return found
