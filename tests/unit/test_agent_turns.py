"""Many hosts behind one loop: who is visited for what, and who waits for whom."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from ovs_lwt.agent import POLL, Agent, Closed, Item, Opened, Received, Reload
from ovs_lwt.control import Request
from ovs_lwt.findings import Finding
from ovs_lwt.mistakes import Refused
from ovs_lwt.plane import Connection, Options
from ovs_lwt.sources.overlay_file import from_dict
from ovs_lwt.topology import Topology
from ovs_lwt.underlay.expected import Expected
from tests.support.overlays import endpoint
from tests.support.world import Asker, FakeSource, Story

HOSTS = ("host1", "host2", "host3")


@dataclass(slots=True, eq=False)
class Line:
    """A connection that only knows whether it is closed."""

    datapath_id: int
    closed: bool = False
    ready: bool = True
    about: str = "somebody"

    def may_be(self, host: str) -> bool:
        return True

    def send(self, data: bytes | memoryview) -> None:
        raise AssertionError("nobody sends here")

    def close(self) -> None:
        self.closed = True


@dataclass(slots=True, eq=False)
class Diary:
    """A host that notes in `log`, (what, its name), whatever is asked of it.

    pieces: how often it has more to send
    """

    name: str
    log: list[tuple[str, str]]
    connection: Connection | None = None
    errors: Mapping[str, str] = field(default_factory=dict)
    pieces: int = 0
    breaks: bool = False
    topology: Topology | None = None

    def note(self, what: str) -> None:
        self.log.append((what, self.name))

    preparing: bool = False
    trouble: Refused | None = None

    def check(self, topology: Topology) -> None:
        self.note("check")

    def prepare(self, topology: Topology) -> None:
        self.note("prepare")

    def missing(self) -> str | None:
        return None

    def silent(self, now: float) -> float:
        return 0.0

    def poll(self) -> bool:
        self.note("poll")
        return False

    def look(self, topology: Topology, now: float) -> None:
        self.note("look")
        self.topology = topology

    def follow(self, topology: Topology) -> None:
        self.topology = topology

    def tick(self, now: float) -> None:
        if self.breaks:
            raise ValueError("broken on purpose")

    def flush(self) -> bool:
        self.note("flush")
        self.pieces = max(self.pieces - 1, 0)
        return self.pieces > 0

    def audit(self, now: float) -> None:
        self.note("audit")

    @property
    def busy(self) -> bool:
        return self.pieces > 0

    state = "in-sync"

    def outcome(self) -> str:
        return "done"

    def refusals(self) -> tuple[str, ...]:
        return ()

    def rename(self, renamed: Mapping[str, str]) -> None:
        if renamed:
            self.note("rename")

    def expected(self, topology: Topology) -> Expected:
        return Expected.of(topology, self.name, "", "br-lwt", "vx-lwt", "vx-lwt-ar")

    def findings(self) -> Sequence[Finding]:
        return ()

    def tell_findings(self, findings: Sequence[Finding]) -> None:
        self.note("findings")

    def status(self) -> dict[str, object]:
        return {"state": "in-sync"}

    def close(self) -> None:
        self.note("close")

    def connect(self, connection: Connection, now: float) -> None:
        self.connection = connection

    def disconnect(self, connection: Connection, now: float) -> None:
        self.connection = None

    def receive(self, connection: Connection, message: bytes, now: float) -> None:
        self.note("receive")


class Loop:
    """An agent whose three hosts keep diaries. At every `yield` of a story it works until it is
    quiet; if there is nothing to do, POLL passes.

    a_message_takes: seconds of the clock
    """

    def __init__(self, a_message_takes: float = 0.0) -> None:
        self.source = FakeSource()
        self.log: list[tuple[str, str]] = []
        self.inbox: deque[Item] = deque()
        self.waits: list[float] = []
        self.host = {name: Diary(name, self.log) for name in HOSTS}
        self._now, self._a_message_takes = 1000.0, a_message_takes

    def run(self, story: Story) -> None:
        self._story = story
        options = Options(bridge="br-lwt")
        self.agent = Agent(
            *(self.source, [(name, "") for name in HOSTS], options, self._receive),
            *(lambda: self._now, lambda _, name, *__: self.host[name]),
        )
        self.agent.run()

    def connect(self, name: str) -> Line:
        topology = from_dict(self.source.overlay)
        line = Line(int(topology.vteps.datapath_id[topology.vtep_index(name)]))
        self.inbox.append(Opened(line))
        return line

    def said(self, what: str) -> list[str]:
        """Who has noted this, in order."""
        return [name for noted, name in self.log if noted == what]

    def _receive(self, wait: float) -> Item | None:
        self.waits.append(wait)
        if not self.inbox and wait:
            try:
                next(self._story)
            except StopIteration:
                self.agent.stop()
        if self.inbox:
            self._now += self._a_message_takes
            return self.inbox.popleft()
        self._now += wait
        return None


def test_only_hosts_whose_view_may_differ_look_at_a_change() -> None:
    loop = Loop()

    def story() -> Story:
        loop.log.clear()
        endpoint(loop.source.overlay, "red/web2")["mac"] = "02:00:00:00:00:99"
        loop.inbox.append(Reload())
        yield
        assert loop.said("look") == ["host1", "host2"], "tenant red is not on host3"
        assert loop.said("prepare") == []

    loop.run(story())


def test_only_the_host_whose_address_differs_is_prepared_again() -> None:
    loop = Loop()

    def story() -> Story:
        loop.log.clear()
        loop.source.overlay["vteps"]["host3"]["address"] = "192.0.2.33"
        loop.inbox.append(Reload())
        yield
        assert loop.said("prepare") == ["host3"]
        assert sorted(loop.said("look")) == [*HOSTS], "blue sends to host3 from everywhere"

    loop.run(story())


def test_all_are_prepared_on_another_udp_port() -> None:
    loop = Loop()

    def story() -> Story:
        loop.log.clear()
        loop.source.overlay["underlay"] = {"udp_port": 8472}
        loop.inbox.append(Reload())
        yield
        assert loop.said("prepare") == [*HOSTS]
        assert sorted(loop.said("look")) == [*HOSTS]

    loop.run(story())


def test_a_switch_is_found_by_the_datapath_id_that_it_has_now() -> None:
    loop = Loop()

    def story() -> Story:
        loop.source.overlay["vteps"]["host2"]["datapath_id"] = "00000000000000aa"
        loop.inbox.append(Reload())
        yield
        line = loop.connect("host2")
        yield
        assert line.datapath_id == 0xAA
        assert loop.host["host2"].connection is line

    loop.run(story())


def test_many_changes_in_a_row_are_one_look_at_the_last() -> None:
    loop = Loop()

    def story() -> Story:
        loop.log.clear()
        for last in range(10, 20):
            endpoint(loop.source.overlay, "red/web1")["mac"] = f"02:00:00:00:01:{last}"
            loop.agent.reload()
        yield
        assert loop.said("look") == ["host1", "host2"]
        topology = loop.host["host2"].topology
        assert topology is not None
        mac = int(topology.endpoints.mac[topology.endpoint_index("red/web1")])
        assert mac == 0x020000000119

    loop.run(story())


def test_messages_come_in_between_the_looks_at_a_change_however_long_these_take() -> None:
    loop = Loop(a_message_takes=2 * POLL)

    def story() -> Story:
        line = loop.connect("host3")
        yield
        loop.log.clear()
        endpoint(loop.source.overlay, "blue/web2")["mac"] = "02:00:00:00:00:99"
        loop.inbox.extend([Reload(), *[Received(line, b"")] * 2])
        yield
        told = [noted for noted in loop.log if noted[0] in ("look", "receive")]
        assert told == [
            *[("look", "host1"), ("receive", "host3"), ("look", "host3")],
            *[("look", "host2"), ("receive", "host3")],
        ]

    loop.run(story())


def test_one_hosts_flood_of_messages_visits_nobody_else() -> None:
    loop = Loop()

    def story() -> Story:
        line = loop.connect("host1")
        yield
        loop.log.clear()
        loop.inbox.extend(Received(line, b"") for _ in range(500))
        yield
        assert loop.said("poll") == []
        assert loop.said("receive") == ["host1"] * 500
        assert set(loop.said("flush")) == {"host1"}

    loop.run(story())


def test_a_flood_of_messages_does_not_keep_the_others_from_being_visited() -> None:
    loop = Loop(a_message_takes=POLL / 10)

    def story() -> Story:
        line = loop.connect("host1")
        yield
        loop.log.clear()
        loop.inbox.extend(Received(line, b"") for _ in range(100))
        yield
        assert loop.said("poll").count("host2") in (9, 10, 11)

    loop.run(story())


def test_messages_of_a_connection_that_is_gone_reach_nobody() -> None:
    loop = Loop()

    def story() -> Story:
        old, new = loop.connect("host1"), loop.connect("host1")
        yield
        loop.inbox.extend([Closed(old), Received(old, b"")])
        yield
        assert loop.said("receive") == []
        loop.inbox.extend([Received(new, b""), Closed(new), Received(new, b"")])
        yield
        assert loop.said("receive") == ["host1"], "which knows its connections"

    loop.run(story())


def test_large_loads_take_turns_and_messages_come_in_between() -> None:
    loop = Loop()

    def story() -> Story:
        lines = [loop.connect(name) for name in HOSTS]
        yield
        loop.log.clear()
        loop.waits.clear()
        loop.host["host1"].pieces = loop.host["host2"].pieces = 5
        loop.inbox.extend(Received(line, b"") for line in (*lines, lines[2]))
        yield
        assert loop.log[:13] == [
            *[("receive", "host1"), ("flush", "host1"), ("flush", "host1")],
            *[("receive", "host2"), ("flush", "host2"), ("flush", "host1")],
            *[("receive", "host3"), ("flush", "host3"), ("flush", "host2")],
            *[("receive", "host3"), ("flush", "host3"), ("flush", "host1")],
            ("flush", "host2"),
        ]
        assert loop.waits[:6] == [0.0] * 6, "nobody waits while there is something to send"
        assert loop.waits[-1] == POLL

    loop.run(story())


def test_a_reload_is_answered_when_the_last_piece_is_sent() -> None:
    loop = Loop()

    def story() -> Story:
        loop.host["host2"].pieces = 3
        asker = Asker()
        loop.agent.commands()["reload"](Request(asker))
        assert asker.waits()
        loop.log.clear()
        yield
        assert asker.answer == "\n".join(f"{name}: done" for name in HOSTS)
        assert loop.said("audit") == [*HOSTS]

    loop.run(story())


def test_a_host_that_breaks_loses_its_connection_and_no_other_does(
    caplog: pytest.LogCaptureFixture,
) -> None:
    loop = Loop()

    def story() -> Story:
        lines = [loop.connect(name) for name in HOSTS]
        yield
        loop.log.clear()
        loop.host["host1"].breaks = True
        yield
        assert [line.closed for line in lines] == [True, False, False]
        assert loop.said("poll")[:3] == [*HOSTS]
        assert "unexpected; going on" in caplog.text

    loop.run(story())
