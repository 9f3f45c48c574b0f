"""What is measured on: a switch of its own for every figure, and the controller that runs on it.

A switch that has held a million flows before is quicker with the next million, since it has the
memory already. So nothing is measured on a switch that something else was measured on.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from bench import results
from bench.scale.overlays import Fabric
from ovs_lwt.control import ask
from ovs_lwt.mistakes import Refused
from tests.support.ovs import OvsHost

HOST: Final = "h0"
BRIDGE: Final = "br-lwt"
NETNS: Final = f"ovs-lwt-scale-{os.getpid()}"
OFCTL: Final = ("ovs-ofctl", "-O", "OpenFlow14")
PATIENCE: Final = 600.0  # s
_PAUSE: Final = 0.2  # s: longer than the agent takes from one look to the next


@contextmanager
def empty_bridge(bridge: str) -> Iterator[OvsHost]:
    """A switch that has just started, with a bridge that nobody controls."""
    with OvsHost(NETNS) as host:
        kind = ("datapath_type=netdev", "fail_mode=secure")
        host.vsctl("add-br", bridge, "--", "set", "bridge", bridge, *kind)
        yield host


class Controller:
    """A controller of h0, as `ovs-lwt run` starts it, or another program with the same options.

    began: when it was started (time.perf_counter)
    """

    def __init__(self, host: OvsHost, program: Sequence[str | Path]) -> None:
        self._host = host
        self._control = host.rundir / "h0.ctl"
        self.log = host.rundir / "controller.log"
        netns = ("ip", "netns", "exec", str(host.netns))
        options = ("--host", HOST, "--ovsdb", host.remote, "--control", str(self._control))
        command = [*netns, sys.executable, "-m", *map(str, program), *options]
        # What an earlier figure's agent has accepted is nothing to this one.
        state = host.rundir / "state"
        self.began = time.perf_counter()
        with self.log.open("a") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, env=os.environ | {"STATE_DIRECTORY": str(state)}
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Its process id (`ip netns exec` becomes what it starts)."""
        return self._process.pid

    def agreed(self) -> float:
        """Wait until the switch holds what the overlay says; return when that was."""
        while not self._in_sync():
            if self._process.poll() is not None:
                raise SystemExit(self.log.read_text())
            if time.perf_counter() > self.began + PATIENCE:
                raise SystemExit(f"not in sync: {self.status()}\n{self.log.read_text()}")
            time.sleep(0.01)
        return time.perf_counter()

    def _in_sync(self) -> bool:
        # Not there yet, or there and not listening yet.
        with suppress(Refused):
            return bool(self._control.exists() and self.status()["sync"] == "in-sync")
        return False

    def settle(self) -> None:
        """Wait until it has looked at the switch once more, which it does after a reload."""
        time.sleep(_PAUSE)
        self.agreed()
        time.sleep(_PAUSE)

    def status(self) -> dict[str, Any]:
        """What it says of the host."""
        return dict(json.loads(ask(self._control, "status"))["hosts"][HOST])

    def reload(self) -> float:
        """Have the overlay read again; return the seconds until the switch holds all of it."""
        return results.timed(lambda: ask(self._control, "reload"))

    def kill(self) -> None:
        """End it without a word."""
        self._end(signal.SIGKILL)
        self._control.unlink(missing_ok=True)

    def stop(self) -> None:
        """Ask it to end."""
        self._end(signal.SIGTERM)

    def wait(self) -> None:
        """Wait until it has ended by itself."""
        if self._process.wait(PATIENCE):
            raise SystemExit(self.log.read_text())

    def _end(self, how: signal.Signals) -> None:
        if self._process.poll() is None:
            self._process.send_signal(how)
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


def started(host: OvsHost, overlay: Path) -> Controller:
    """`ovs-lwt run OVERLAY` on this host."""
    return Controller(host, ("ovs_lwt.cli", "run", overlay))


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """A switch and its controller, after a cold start.

    seconds: from the word that the overlay has endpoints, until the switch held them
    agent, switch: bytes of memory before and after, and how many flows that made
    """

    host: OvsHost
    controller: Controller
    seconds: float
    agent: tuple[int, int]
    switch: tuple[int, int]
    flows: int


@contextmanager
def loaded(fabric: Fabric, beside: str = "") -> Iterator[Loaded]:
    """A running controller reads the endpoints of an overlay that had none before.

    beside: what tells its namespace from another one's that is there already
    """
    fabric.empty()
    with OvsHost(NETNS + beside) as host, started(host, fabric.overlay) as controller:
        controller.agreed()
        before = memory(controller.pid), memory(_pid(host))
        fabric.fill()
        seconds = controller.reload()
        controller.settle()
        yield Loaded(
            host,
            controller,
            seconds,
            (before[0], memory(controller.pid)),
            (before[1], memory(_pid(host))),
            int(controller.status()["flows"]),
        )


def memory(pid: int) -> int:
    """Bytes that this process has in memory (RSS)."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _pid(host: OvsHost) -> int:
    assert host.vswitchd_pid is not None, "it runs"
    return host.vswitchd_pid
