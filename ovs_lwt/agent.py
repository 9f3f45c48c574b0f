"""The loop: source → view → plane. It owns the clock and every host, on one thread.

What flows in: events (a switch connected, hung up, sent a message; a command), what happens on this
machine, the source. What flows out: bytes to switches and kernels, words to the log.

It drives one host or a thousand: an event concerns one of them, a change of the overlay those whose
view may differ, and all are visited once per POLL. What takes long (compiling a view, sending a
large load) is done in turns, so that nobody waits for everybody.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass
from itertools import cycle

from ovs_lwt import logbook, status
from ovs_lwt.changes import hosts_touched
from ovs_lwt.checker import Checker, Found
from ovs_lwt.control import ControlSocket, Request
from ovs_lwt.findings import Finding
from ovs_lwt.intake import Intake
from ovs_lwt.memory import share_allocator
from ovs_lwt.mistakes import OverlayInvalid, Refused
from ovs_lwt.model import Plane as PlaneName
from ovs_lwt.model import Underlay
from ovs_lwt.plane import Connection, Options, Plane, Switched
from ovs_lwt.planes import host_on
from ovs_lwt.reloads import Reloads, await_first
from ovs_lwt.sources import Source
from ovs_lwt.systemd import ServiceManager, States
from ovs_lwt.topology import Topology

LOG = logging.getLogger("ovs_lwt")

POLL = 0.05
"""Seconds from one look at this machine, the control socket and the source to the next."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A switch has connected and said who it is."""

    connection: Connection


@dataclass(frozen=True, slots=True)
class Closed:
    """A switch is gone."""

    connection: Connection


@dataclass(frozen=True, slots=True)
class Received:
    """A switch has sent a message, given whole."""

    connection: Connection
    message: bytes


@dataclass(frozen=True, slots=True)
class Drained:
    """A switch reads again: there is room for more on its connection."""

    connection: Connection


@dataclass(frozen=True, slots=True)
class Reload:
    """Somebody wants the source read again."""


Item = Opened | Closed | Received | Drained | Reload
Clock = Callable[[], float]
HostOn = Callable[[PlaneName, str, str, Options], Plane]


@dataclass(frozen=True, slots=True)
class _Ground:
    """What a host stands on, whatever its tenants are."""

    underlay: Underlay
    plane: PlaneName
    address: str
    external: bool
    datapath_id: int
    replicated: bool

    @classmethod
    def of(cls, topology: Topology, name: str) -> _Ground:
        vteps, index = topology.vteps, topology.vtep_index(name)
        return cls(
            topology.underlay,
            vteps.plane[index],
            vteps.address(index),
            bool(vteps.external[index]),
            int(vteps.datapath_id[index]),
            vteps.replicated,
        )


class Agent:
    """Drives the hosts named in `hosts` by what `source` says.

    hosts: (name, where): where its OVSDB listens, or its network namespace; "": here
    receive: waits up to that many seconds for the next item, None if there is none
    make: makes a host of its plane, its name and where it is
    checker: has the hosts checked every minute; None: nobody does
    """

    def __init__(
        self,
        source: Source,
        hosts: Sequence[tuple[str, str]],
        options: Options,
        receive: Callable[[float], Item | None],
        clock: Clock = time.monotonic,
        make: HostOn = host_on,
        checker: Checker | None = None,
    ) -> None:
        share_allocator()
        self._source, self._options, self._receive, self._clock = source, options, receive, clock
        self._intake = Intake(source, options.brake)
        self._topology = self._intake.first(
            lambda topology: [topology.own_index(name) for name, _ in hosts]
        )
        self._version: Hashable = source.version()
        self._grounds = {name: _Ground.of(self._topology, name) for name, _ in hosts}
        self._hosts: dict[str, Plane] = {}
        # Whose turn is next; who then looks at the overlay, which was the same for it up to that
        # one; and who is audited.
        self._turns: dict[str, None] = {}
        self._behind: dict[str, Topology] = {}
        self._doubted: set[str] = set()
        self._busy: set[str] = set()
        self._reloads = Reloads()
        self._polled = clock()
        self._began = time.time()
        self._checker = checker
        self._checked: dict[str, status.Checked] = {}
        self._running = True
        self._manager = ServiceManager.of()
        self.control: ControlSocket | None = None
        try:
            for name, where in hosts:
                host = self._hosts[name] = make(self._grounds[name].plane, name, where, options)
                host.prepare(self._topology)
            await_first(self._hosts.values())
        except BaseException:
            self._close_hosts()
            raise
        for host in self._hosts.values():
            host.look(self._topology, self._polled)
        self._switched = {
            name: host for name, host in self._hosts.items() if isinstance(host, Switched)
        }
        self._mistaken = {name for name, host in self._hosts.items() if host.errors}
        self._rounds = cycle(self._switched.values())
        self._by_datapath = self._datapaths()
        self._by_connection: dict[Connection, Switched] = {}

    def listen(self, control: ControlSocket) -> None:
        """Serve this control socket as well."""
        control.offer(self.commands())
        self.control = control

    def run(self, places: Collection[str] = ()) -> None:
        """Run until `stop`. No exception ends it: the connection that it came from starts over.

        places: where switches may call, for the log
        """
        control = self.control.path if self.control is not None else None
        LOG.info("%s", logbook.start(self._intake.status(), self._hosts, control, places))
        while self._running:
            wait = 0.0 if self._turns else POLL
            item = self._receive(wait)
            try:
                self._turn(item, idle=item is None and wait > 0)
            except Exception:
                LOG.exception("unexpected; going on")
        if self.control is not None:
            self.control.close()
        if self._checker is not None:
            self._checker.close()
        self._close_hosts()
        if self._manager is not None:
            self._manager.stop()
        LOG.info("ovs-lwt has stopped; what is installed stays")

    def _close_hosts(self) -> None:
        for host in self._hosts.values():
            host.close()

    def stop(self) -> None:
        """End `run` soon. Flows stay."""
        self._running = False

    def _turn(self, item: Item | None, *, idle: bool) -> None:
        now = self._clock()
        if item is not None:
            self._take(item, now)
        if self._turns:
            host = self._hosts[next(iter(self._turns))]
            with self._starting_over(host):
                self._proceed(host, now)
        # Before time passes: an audit that is due need not keep anybody waiting.
        self._reloads.settle(self._hosts, self._busy, bool(self._turns), now)
        if idle or now - self._polled >= POLL:
            self._poll(now)

    # What comes in

    def _take(self, item: Item, now: float) -> None:
        match item:
            case Reload():
                self._reload_alone()
            case Opened(connection):
                self._open(connection, now)
            case Closed(connection) if host := self._by_connection.pop(connection, None):
                with self._starting_over(host):
                    host.disconnect(connection, now)
                    self._proceed(host, now)
            case Received(connection, message) if host := self._by_connection.get(connection):
                with self._starting_over(host):
                    host.receive(connection, message, now)
                    self._proceed(host, now)
            case Drained(connection) if host := self._by_connection.get(connection):
                with self._starting_over(host):
                    self._proceed(host, now)

    def _open(self, connection: Connection, now: float) -> None:
        host = self._by_datapath.get(connection.datapath_id)
        if host is None:
            LOG.warning("switch %016x is none of our hosts: left alone", connection.datapath_id)
            return
        if not connection.may_be(host.name):
            who = f"switch {connection.datapath_id:016x} ({connection.about})"
            LOG.warning("%s: %s is not this host's switch: hung up on", host.name, who)
            connection.close()
            return
        self._by_connection[connection] = host
        with self._starting_over(host):
            host.connect(connection, now)
            self._proceed(host, now)

    def host(self, name: str) -> Plane:
        """The host of that name, which it drives."""
        return self._hosts[name]

    def _poll(self, now: float) -> None:
        self._polled = now
        # One after the other, so that nobody holds on to an overlay long gone.
        if switched := next(self._rounds, None):
            self._catch_up(switched)
        if self.control is not None:
            self.control.run()
        if self._checker is not None:
            self._check(self._checker, now)
        if self._manager is not None and self._manager.due(now):
            busy = bool(self._busy or self._turns)
            self._manager.tell(self._states(), now, busy=busy)
        again = self._intake.again
        if self._reloads.put_off if again is None else now >= again:
            self._reload_again()
        if self._options.watch and self._source.version() != self._version:
            self._reload_alone()
        for name, host in self._hosts.items():
            with self._starting_over(host):
                if host.poll():
                    self._look(host, now)
                    if self._checker is not None:
                        # The database is back, or a port came: what was checked before is old.
                        self._checker.hurry(now)
                host.tick(now)
                if name not in self._turns:
                    self._proceed(host, now)

    def _check(self, checker: Checker, now: float) -> None:
        """Take what a check in the background has found; begin the next one if it is time."""
        if (found := checker.poll(now)) is not None:
            self._tell(found)
        checker.listen(now)
        if now >= checker.due and not checker.running:
            topology = self._topology
            expected = [host.expected(topology) for host in self._hosts.values()]
            checker.start([each for each in expected if each.here], now)

    def _states(self) -> States:
        """Of every host its state, and the first reason where that is no good one."""
        return {
            name: status.in_short(
                host.state, self._findings(host), self._checked.get(name), host.refusals()
            )
            for name, host in self._hosts.items()
        }

    def _findings(self, host: Plane) -> Sequence[Finding]:
        """What the agent and the host have found wrong themselves."""
        return [*self._intake.findings(), *host.findings()]

    def _tell(self, found: Found) -> None:
        for name, findings in found.items():
            if (host := self._hosts.get(name)) is not None:
                host.tell_findings(findings)
                self._checked[name] = status.Checked(findings, time.time())

    # What a host does

    @contextmanager
    def _starting_over(self, host: Plane) -> Iterator[None]:
        """Whatever goes wrong in here costs this host its connection, and others nothing."""
        try:
            yield
        except Exception:
            LOG.exception("unexpected; going on")
            if host.name in self._switched and (line := self._switched[host.name].connection):
                line.close()
        (self._busy.add if host.busy else self._busy.discard)(host.name)

    def _proceed(self, host: Plane, now: float) -> None:
        """Let a host do what it has to. If that is not all, it has another turn, after others'."""
        name = host.name
        self._turns.pop(name, None)
        if name in self._behind:
            self._look(host, now)
        if name in self._doubted:
            self._doubted.discard(name)
            host.audit(now)
        if host.flush():
            self._turns[name] = None

    def _look(self, host: Plane, now: float) -> None:
        if switched := self._switched.get(host.name):
            self._catch_up(switched)
        self._behind.pop(host.name, None)
        host.look(self._topology, now)
        # Ports with wrong claims: any change may right them, or be another reason.
        (self._mistaken.add if host.errors else self._mistaken.discard)(host.name)

    def _catch_up(self, host: Switched) -> None:
        host.follow(self._behind.get(host.name, self._topology))

    # The overlay

    def _reload_alone(self) -> None:
        """Read the source again, without anybody who waits for it. (Where somebody does, systemd
        knows by its ExecReload.)
        """
        with nullcontext() if self._manager is None else self._manager.reloading():
            self.reload()

    def _reload_again(self) -> None:
        """What had to wait is read again, for those who have waited too."""
        waiting, self._reloads.put_off = self._reloads.put_off, []
        if not waiting:
            self._reload_alone()
        for request in waiting:
            self._serve_reload(request)

    def reload(self, *, anew: bool = False, force: bool = False) -> list[str]:
        """Read the source again. Returns what is wrong with it; then everything stays as it was.

        anew: every host is prepared, looks and is audited; else only those that may be concerned
        force: whatever it takes away, and whatever number it gives to another tenant
        """
        self._version = self._source.version()
        running, now = self._topology, self._clock()
        try:
            topology = self._intake.next(running, now, force=force)
            self._take_over(topology, anew=anew)
        except OverlayInvalid as invalid:
            problems = [str(mistake) for mistake in invalid.mistakes]
        except Refused as refused:
            problems = str(refused).splitlines()
        else:
            for host in self._hosts.values():
                host.rename(self._intake.renamed)
            self._intake.accept(topology, running, now)
            return []
        self._intake.refuse(tuple(problems))
        if self._intake.again is not None:
            LOG.info("the overlay is not taken over yet: %s", "; ".join(problems))
            return problems
        LOG.error("the overlay is not taken over, everything stays as it was:")
        for problem in problems:
            LOG.error("  %s", problem)
        return problems

    def _take_over(self, topology: Topology, *, anew: bool) -> None:
        grounds = self._grounds_in(topology)
        shaken = self._shaken(grounds)
        touched = None if anew else hosts_touched(self._topology, topology)
        concerned = self._hosts.keys() & (
            self._hosts if touched is None else {*touched, *shaken, *self._mistaken}
        )
        # A kernel's devices follow the tenants; a switch stands on its ground alone.
        kernels = {name for name in concerned if name not in self._switched}
        self._prepare(topology, concerned if anew else kernels | shaken)
        for name in concerned:
            self._behind.setdefault(name, self._topology)
        if what := logbook.change(self._topology, topology):
            LOG.info("the overlay has changed: %s", what)
        self._topology, self._grounds = topology, grounds
        if shaken:
            if self._checker is not None:
                self._checker.hurry(self._clock())
            self._by_datapath = self._datapaths()
        if anew:
            self._doubted |= concerned
        self._turns.update(dict.fromkeys(sorted(concerned)))

    def _grounds_in(self, topology: Topology) -> dict[str, _Ground]:
        """What the hosts stand on now. Raises Refused if one is on another plane."""
        before = self._topology
        if topology.vteps is before.vteps and topology.underlay == before.underlay:
            return self._grounds
        grounds = {name: _Ground.of(topology, name) for name in self._hosts}
        for name, ground in grounds.items():
            if ground.plane != self._grounds[name].plane:
                raise Refused(
                    f"{name} runs on plane {self._grounds[name].plane}, and the overlay now says"
                    f" {ground.plane}: stop the agent, remove what it made (docs/planes.md), and"
                    " start it again"
                )
        return grounds

    def _shaken(self, grounds: dict[str, _Ground]) -> set[str]:
        if grounds is self._grounds:
            return set()
        return {name for name in grounds if grounds[name] != self._grounds[name]}

    def _datapaths(self) -> dict[int, Switched]:
        return {self._grounds[name].datapath_id: host for name, host in self._switched.items()}

    def _prepare(self, topology: Topology, names: Collection[str]) -> None:
        """Prepare these hosts, or none: where one says that it cannot, the others are taken back.

        A host that cannot say anything holds up nobody.
        """
        hosts = [host for name, host in self._hosts.items() if name in names] if names else []
        for host in hosts:
            if isinstance(host, Switched):
                host.check(topology)
        try:
            for host in hosts:
                host.prepare(topology)
        except Refused:
            for host in hosts:
                with suppress(Refused):
                    host.prepare(self._topology)
            raise

    # The control socket

    def commands(self) -> dict[str, Callable[[Request], None]]:
        """What the control socket understands."""
        return {
            "status": self._serve_status,
            "expects": self._serve_expects,
            "reload": self._serve_reload,
            "reload-force": lambda request: self._serve_reload(request, force=True),
            "exit": self._serve_exit,
        }

    def _serve_status(self, request: Request) -> None:
        request.reply(self.status())

    def _serve_expects(self, request: Request) -> None:
        """What `ovs-lwt check` is to look for here."""
        every = [host.expected(self._topology) for host in self._hosts.values()]
        request.reply(json.dumps([asdict(expected) for expected in every]))

    def _serve_reload(self, request: Request, *, force: bool = False) -> None:
        problems = self.reload(anew=True, force=force)
        if self._intake.again is not None:
            self._reloads.put_off.append(request)
            return
        if problems:
            request.error("\n".join(problems))
            return
        self._reloads.add(request, self._clock())

    def _serve_exit(self, request: Request) -> None:
        request.reply("")
        self.stop()

    def status(self) -> str:
        """What `ovs-appctl -t … status` prints: see docs/status.md."""
        hosts = {
            name: status.of_host(host.status(), self._findings(host), self._checked.get(name))
            for name, host in self._hosts.items()
        }
        return status.whole(hosts, self._intake.status(), self._began)
