"""Many hosts of one overlay, driven by one agent: the protocol is real, the switches are in memory.

A story drives it, a generator: every `yield` in it means that the agent works until it has nothing
left to do at once. The switch of a host may be the strict one or a quick one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from ovs_lwt.agent import Agent, Clock, Item, Opened, Received, Reload
from ovs_lwt.model import Plane
from ovs_lwt.ovs_host import OvsHost
from ovs_lwt.plane import Options, Switched
from ovs_lwt.sources import Unkept
from ovs_lwt.topology import Topology
from ovs_lwt.vswitch import LocalPort
from tests.support.overlays import claims
from tests.support.world import FakeConnection, FakeOvsdb, Switch

Story = Iterator[None]

OPTIONS = Options(bridge="br-lwt")


@dataclass(slots=True)
class Shared(Unkept):
    """A source that is handed every topology."""

    topology: Topology
    changes: int = 0

    def read(self) -> Topology:
        return self.topology

    def version(self) -> int:
        return self.changes


S = TypeVar("S", bound=Switch)


class Fleet(Generic[S]):
    """All hosts of a topology, each with its guests' ports.

    new: makes an empty switch; ovsdb, switch: by the host's name; line: of those connected
    """

    def __init__(
        self,
        topology: Topology,
        new: Callable[[], S],
        clock: Clock = lambda: 1000.0,
    ) -> None:
        self.source = Shared(topology)
        self.ovsdb = {name: FakeOvsdb() for name in topology.vteps.name}
        self.switch = {name: new() for name in self.ovsdb}
        self.line: dict[str, FakeConnection] = {}
        self._new, self._clock = new, clock
        self._inbox: deque[Item] = deque()
        self._story: Story = iter(())
        for name, facts in self.ovsdb.items():
            facts.found = claims(topology, name)

    def run(self, story: Story) -> None:
        """Run an agent for all of them through the story."""
        self._story = story
        hosts = [(name, "") for name in self.ovsdb]
        self.agent = Agent(self.source, hosts, OPTIONS, self._receive, self._clock, self._make)
        self.agent.run()

    def connect(self, names: Iterable[str]) -> None:
        """Their switches connect."""
        topology = self.source.topology
        for name in names:
            datapath_id = int(topology.vteps.datapath_id[topology.vtep_index(name)])
            self.switch[name].reconnect()
            line = self.line[name] = FakeConnection(datapath_id, self.switch[name], self._inbox)
            self._inbox.append(Opened(line))

    def hang_up(self, name: str) -> None:
        """Its switch hangs up."""
        if line := self.line.pop(name, None):
            line.hang_up()

    def plug(self, name: str, ports: Sequence[LocalPort]) -> None:
        """Its guests' ports are these from now on."""
        self.ovsdb[name].found = [*ports]
        self.ovsdb[name].changed = True

    def change(self, topology: Topology) -> None:
        """The overlay has become this one."""
        self.source.topology = topology
        self.source.changes += 1
        self._inbox.append(Reload())

    def fresh(self, name: str) -> S:
        """A switch that was empty, and got all that this host's should hold now."""
        switch, inbox = self._new(), deque[Item]()
        host: Switched = self._make("ovs", name, "", OPTIONS)
        host.look(self.source.topology, 0.0)
        line = FakeConnection(0, switch, inbox)
        host.connect(line, 0.0)
        while host.flush() or inbox:
            if inbox and isinstance(item := inbox.popleft(), Received):
                host.receive(line, item.message, 0.0)
        return switch

    def _make(self, _plane: Plane, name: str, _where: str, options: Options) -> OvsHost:
        return OvsHost(name, self.ovsdb[name], options)

    def _receive(self, wait: float) -> Item | None:
        if not self._inbox and wait:
            try:
                next(self._story)
            except StopIteration:
                self.agent.stop()
        return self._inbox.popleft() if self._inbox else None
