"""The controller, with a source that changes by itself: the app of `ovs-lwt run`, its file read
once, then edited by a script of changes.

The script runs on the agent's own thread, where the agent asks for the next thing to do: what is
measured begins there, when a change is handed to the topology, and ends when the agent has taken
the switch's answer to the commit.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Generator, Hashable
from pathlib import Path
from typing import Any

from bench.scale import stage
from ovs_lwt.agent import Item, Reload
from ovs_lwt.app import OvsLwt
from ovs_lwt.backends.openflow.session import State
from ovs_lwt.ovs_host import OvsHost
from ovs_lwt.sources import Source, Unkept
from ovs_lwt.topology import Topology

Script = Generator[Topology | float, None, dict[str, Any]]
"""Yields a topology to have installed, or the time (perf_counter) until which there is nothing to
do; is continued when the one is installed, or the other has come. Returns what it has found.
"""


class Held(Unkept):
    """A source that says what it was last given."""

    def __init__(self, topology: Topology) -> None:
        self.topology = topology

    def read(self) -> Topology:
        """Return it."""
        return self.topology

    def version(self) -> Hashable:
        """Nobody watches."""
        return 0


class Driven(OvsLwt):
    """Loads the overlay, lets the script do its changes, writes down what it found, and ends.

    script, result: set before the app is made
    """

    script: Any
    result: Path

    def source(self) -> Source:
        """The file, as it is when it is first read."""
        self._held = Held(super().source().read())
        self._script: Script | None = None
        self._until = 0.0
        return self._held

    def _receive(self, seconds: float) -> Item | None:
        if not self._idle():
            return super()._receive(seconds)
        if self._script is None:
            self._script = type(self).script(self._held.topology)
        wait = self._until - time.perf_counter()
        if wait > 0:
            return super()._receive(min(wait, seconds))
        return self._next(self._script)

    def _idle(self) -> bool:
        host = self._agent.host(stage.HOST)
        assert isinstance(host, OvsHost), "h0 is on plane ovs"
        installed = host.session.installed
        return (
            host.session.state is State.IN_SYNC
            and installed is not None
            and installed.topology is self._held.topology
        )

    def _next(self, script: Script) -> Item | None:
        try:
            wanted = next(script)
        except StopIteration as done:
            type(self).result.write_text(json.dumps(done.value))
            os.kill(os.getpid(), signal.SIGTERM)
            self._until = float("inf")
            return None
        if isinstance(wanted, float):
            self._until = wanted
            return None
        self._held.topology = wanted
        return Reload()


def memory() -> int:
    """Bytes that this process has in memory."""
    return stage.memory(os.getpid())
