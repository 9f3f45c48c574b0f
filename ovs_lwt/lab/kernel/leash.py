"""The process between us and a machine: it ends the machine when told, in time, or if we die.

    python -I leash.py FOLDER SECONDS FDS COMMAND…

It holds the machine as long as its standard input is open, which only whoever started it has the
other end of: however that one ends, SIGKILL included, the machine goes, with all its processes
and its FOLDER. After the machine's own end, or SECONDS (may be inf), the folder stays until then,
to be read. FDS are file descriptors (comma-separated, may be empty) for COMMAND to inherit. The
exit status is 124 after a time-out, else 0. No import but the standard library's: it starts in
20 ms.
"""

from __future__ import annotations

import ctypes
import math
import os
import resource
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

TIMED_OUT = 124  # as timeout(1)
CONSOLE = "console"
_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
_PR_SET_CHILD_SUBREAPER = 36
_KILL_SECONDS = 5.0


def main(folder: Path, seconds: float, fds: list[int], command: list[str]) -> int:
    """Run `command` to its end, or ours; return the exit status."""
    libc = ctypes.CDLL(None)
    # What the machine's main process leaves behind becomes ours to wait for.
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)

    # User-mode Linux keeps open what it has read of our files: more than the usual 1,024.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    def die_with_us() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    try:
        # Appending: qemu opens it again, for what the kernel says.
        with (folder / CONSOLE).open("ab") as console:
            machine = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stderr=console,
                pass_fds=fds,
                start_new_session=True,
                preexec_fn=die_with_us,  # noqa: PLW1509 (no threads here)
            )
        try:
            ended = _wait(machine, seconds)
        finally:
            _kill_group(machine)
        # Whoever reads the output sees its end.
        os.close(1)
        select.select([0], [], [])
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0 if ended else TIMED_OUT


def _wait(machine: subprocess.Popen[bytes], seconds: float) -> bool:
    """Wait for the machine's end, or our parent's: True; or for the time-out: False."""
    pidfd = os.pidfd_open(machine.pid)
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    poller.register(0, select.POLLIN | select.POLLHUP)
    found = poller.poll(None if math.isinf(seconds) else seconds * 1000)
    os.close(pidfd)
    return bool(found)


def _kill_group(machine: subprocess.Popen[bytes]) -> None:
    """Kill the machine and its helpers. There is nothing in it to save."""
    # Not waited for yet, the leader keeps the group's number from being used again.
    os.killpg(machine.pid, signal.SIGKILL)
    until = time.monotonic() + _KILL_SECONDS
    while time.monotonic() < until:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.01)
        except ChildProcessError:
            return


def _end(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _end)
    _folder, _seconds, _fds, *_command = sys.argv[1:]
    sys.exit(
        main(Path(_folder), float(_seconds), [int(fd) for fd in _fds.split(",") if fd], _command)
    )
