"""The two frameworks, each in the interpreter that has it, and apps running on them."""

from __future__ import annotations

import atexit
import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.ovs import eventually

CHECKOUT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python that has a framework: `framework` is ``os-ken`` or ``ryu``."""

    framework: str
    python: str

    @property
    def package(self) -> str:
        """What the framework is imported as."""
        return self.framework.replace("-", "_")

    def manager(self, *arguments: str) -> list[str]:
        """The command line of `ovs-lwt manager` on this framework."""
        return [self.python, "-m", "ovs_lwt.manager", "--framework", self.framework, *arguments]


def interpreter(framework: str) -> Interpreter:
    """The interpreter for `framework`: ours, or the one that ``OVS_LWT_RYU_PYTHON`` names."""
    if framework == "os-ken":
        return Interpreter(framework, sys.executable)
    python = os.environ.get("OVS_LWT_RYU_PYTHON", str(CHECKOUT / ".venv-ryu/bin/python"))
    assert Path(python).exists(), f"no Ryu at {python}: make test, or set OVS_LWT_RYU_PYTHON"
    return Interpreter(framework, python)


class Running:
    """A started command whose output (stdout and stderr) is watched."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self._log = log

    @property
    def output(self) -> str:
        """Everything printed so far."""
        return self._log.read_text("utf-8", errors="replace")

    def says(self, what: str, times: int = 1, within: float = 15.0) -> bool:
        """Whether `what` is printed, `times` times, while the process runs."""
        eventually(
            lambda: self.output.count(what) >= times or self.process.poll() is not None, within
        )
        return self.output.count(what) >= times

    def send(self, number: int) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, float]:
        """Send `number` and wait: the exit status, and the seconds it took."""
        started = time.monotonic()
        self.process.send_signal(number)
        return self.process.wait(20), time.monotonic() - started


@contextlib.contextmanager
def running(command: Sequence[str], log: Path, netns: str | None = None) -> Iterator[Running]:
    """Run `command` (in `netns`), its output in the file `log`; it is killed at the end."""
    prefix = ("ip", "netns", "exec", netns) if netns else ()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*prefix, *command],
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield Running(process, log)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


_NUMBERS = itertools.count(1)
_STATES = Path(tempfile.mkdtemp(prefix="ovs-lwt-state-"))
atexit.register(shutil.rmtree, _STATES, ignore_errors=True)


def environment() -> dict[str, str]:
    """The environment in which an interpreter finds this checkout, whatever it has installed, and
    an agent keeps nothing from its last life, unless it is told where (`--state`).
    """
    state = _STATES / str(next(_NUMBERS))
    return os.environ | {"PYTHONPATH": str(CHECKOUT), "STATE_DIRECTORY": str(state)}
