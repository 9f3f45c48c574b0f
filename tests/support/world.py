"""An agent among fakes: switches on real bytes, an OVSDB and a source that the test writes.

A test is a story, a generator: every `yield` in it means that the agent works until it is quiet.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Hashable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

from ovs_lwt.agent import Agent, Closed, Item, Opened, Received
from ovs_lwt.claims import Renamed
from ovs_lwt.control import Request
from ovs_lwt.mistakes import Mistake, OverlayInvalid, Refused
from ovs_lwt.model import Plane
from ovs_lwt.ovs_host import OvsHost
from ovs_lwt.plane import Options
from ovs_lwt.sources.overlay_file import from_dict
from ovs_lwt.topology import Topology
from ovs_lwt.vswitch import LocalPort, SwitchPlan
from tests.support.fake_switch import ConnectionDropped, FakeSwitch, messages_in
from tests.support.overlays import REQUESTS, TUNNEL, Overlay, claims, two_tenants

Story = Iterator[None]


@dataclass(slots=True)
class FakeSource:
    """A source whose overlay the test writes."""

    overlay: Overlay = field(default_factory=two_tenants)
    mistakes: tuple[Mistake, ...] = ()
    written: int = 0
    good: Overlay | None = None

    def read(self) -> Topology:
        if self.mistakes:
            raise OverlayInvalid(self.mistakes)
        return from_dict(self.overlay)

    def version(self) -> Hashable:
        return self.written

    def accept(self) -> None:
        self.good = deepcopy(self.overlay)

    def forget(self) -> None:
        pass

    def accepted(self) -> bool:
        return self.overlay == self.good

    def last_good(self) -> Topology | None:
        return None if self.good is None else from_dict(self.good)

    def describe(self, *, last_good: bool = False) -> dict[str, Any]:
        return {"file": "overlay.yaml", "sha256": "0" * 64}


@dataclass(slots=True)
class FakeOvsdb:
    """What the agent sees of a LocalSwitch."""

    remote: str = "unix:/fake/db.sock"
    found: list[LocalPort] = field(default_factory=list)
    tunnel: int | None = TUNNEL
    requests: int | None = None
    datapath: Literal["system", "netdev"] = "netdev"
    changed: bool = False
    plans: list[SwitchPlan] = field(default_factory=list)
    errors: dict[str, str] = field(default_factory=dict)
    refusal: str | None = None
    trouble: Refused | None = None
    preparing: bool = False
    connected: bool = True
    repaired: list[str] = field(default_factory=list)

    def check(self, plan: SwitchPlan) -> None:
        if self.refusal:
            raise Refused(self.refusal)

    def prepare(self, plan: SwitchPlan) -> None:
        self.plans.append(plan)
        before = self.requests
        if plan.replication_udp_port:
            self.requests = REQUESTS
        elif not plan.keep_requests:
            self.requests = None
        self.changed |= before != self.requests

    def run(self) -> bool:
        changed, self.changed = self.changed, False
        return changed

    def ports(self) -> tuple[LocalPort, ...]:
        return tuple(self.found)

    def tunnel_ofport(self) -> int | None:
        return self.tunnel

    def request_ofport(self) -> int | None:
        return self.requests

    def datapath_type(self) -> Literal["system", "netdev"]:
        return self.datapath

    def report_errors(self, errors: Mapping[str, str]) -> None:
        self.errors = dict(errors)

    def record_markings(self, markings: Mapping[str, str]) -> None:
        self.found = [
            replace(port, marking=markings.get(port.name, port.marking)) for port in self.found
        ]
        self.changed = True

    def rewrite_claims(self, claims: Renamed) -> None:
        now = dict(claims.values())
        self.found = [
            replace(port, claim=now.get(port.claim or "", port.claim)) for port in self.found
        ]
        self.changed = True

    def repairs(self) -> list[str]:
        found, self.repaired = self.repaired, []
        return found

    def close(self) -> None:
        self.found = []


class Switch(Protocol):
    """A switch in memory."""

    def take(self, data: bytes) -> bytes:
        """What it answers to these bytes. Raises ConnectionDropped."""

    def reconnect(self) -> None:
        """A new connection: what was not committed is gone."""


@dataclass(slots=True, eq=False)
class FakeConnection:
    """A line from the agent to a fake switch."""

    datapath_id: int
    switch: Switch
    inbox: deque[Item]
    others: list[bytes] = field(default_factory=list)
    closed: bool = False
    ready: bool = True
    about: str = "somebody"
    hosts: frozenset[str] | None = None

    def may_be(self, host: str) -> bool:
        return self.hosts is None or host in self.hosts

    def send(self, data: bytes | memoryview) -> None:
        if bytes(data)[1:2] == b"\x0d":  # packet-out
            self.others.append(bytes(data))
            return
        try:
            answers = self.switch.take(bytes(data))
        except ConnectionDropped:
            self.hang_up()
            return
        self.inbox.extend(Received(self, message) for message in messages_in(answers))

    def close(self) -> None:
        self.hang_up()

    def hang_up(self) -> None:
        self.closed = True
        self.inbox.append(Closed(self))


class Asker:
    """Somebody at the control socket."""

    def __init__(self) -> None:
        self.answer: str | None = None
        self.refusal: str | None = None

    def waits(self) -> bool:
        """Whether there is no answer yet."""
        return self.answer is None and self.refusal is None

    def reply(self, text: str) -> None:
        self.answer = text

    def reply_error(self, text: str) -> None:
        self.refusal = text


class World:
    """Hosts host1 and host2 of one overlay, driven by one agent."""

    def __init__(self, **options: Any) -> None:
        self.source = FakeSource()
        self.ovsdb = {name: FakeOvsdb() for name in ("host1", "host2")}
        self.switch = {name: FakeSwitch() for name in self.ovsdb}
        self.inbox: deque[Item] = deque()
        self.now = 1000.0
        self._story: Story = iter(())
        self._options = Options(bridge="br-lwt", **options)
        for name in self.ovsdb:
            self.plug(name)

    def plug(self, host: str) -> None:
        """Attach every guest that the overlay has on a host."""
        self.ovsdb[host].found = claims(from_dict(self.source.overlay), host)
        self.ovsdb[host].changed = True

    def connect(self, host: str) -> FakeConnection:
        """The host's switch connects."""
        topology = from_dict(self.source.overlay)
        datapath_id = int(topology.vteps.datapath_id[topology.vtep_index(host)])
        self.switch[host].reconnect()
        connection = FakeConnection(datapath_id, self.switch[host], self.inbox)
        self.inbox.append(Opened(connection))
        return connection

    def ask(self, command: str) -> Asker:
        """Say something at the control socket."""
        asker = Asker()
        self.agent.commands()[command](Request(asker))
        return asker

    def status(self, host: str) -> dict[str, Any]:
        answer = self.ask("status").answer
        assert answer is not None
        found: dict[str, Any] = json.loads(answer)["hosts"][host]
        return found

    def run(self, story: Story, *hosts: str) -> None:
        """Run an agent for `hosts` (default: host1) through the story."""
        self._story = story
        pairs = [(host, "") for host in hosts or ("host1",)]
        self.agent = Agent(
            *(self.source, pairs, self._options, self._receive, lambda: self.now), self._make
        )
        self.agent.run()

    def _make(self, _plane: Plane, name: str, _where: str, options: Options) -> OvsHost:
        return OvsHost(name, self.ovsdb[name], options)

    def _receive(self, wait: float) -> Item | None:
        if not self.inbox and not wait:
            return None
        if not self.inbox:
            try:
                next(self._story)
            except StopIteration:
                self.agent.stop()
            return None
        return self.inbox.popleft()
