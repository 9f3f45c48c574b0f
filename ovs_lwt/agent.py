"""The loop: source → view → plane. It owns the clock and every host, on one thread.

What flows in: events (a switch connected, hung up, sent a message; a command), what happens on this
machine, the source. What flows out: bytes to switches and kernels, words to the log.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from ovs_lwt.control import ControlSocket, Request
from ovs_lwt.mistakes import OverlayInvalid, Refused
from ovs_lwt.model import Plane as PlaneName
from ovs_lwt.plane import Connection, Options, Plane, Switched
from ovs_lwt.planes import host_on
from ovs_lwt.sources import Source
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
class Reload:
    """Somebody wants the source read again."""


Item = Opened | Closed | Received | Reload
Clock = Callable[[], float]


class Agent:
    """Drives the hosts named in `hosts` by what `source` says.

    hosts: (name, where): where its OVSDB listens, or its network namespace; "": here
    receive: waits up to that many seconds for the next item, None if there is none
    """

    def __init__(
        self,
        source: Source,
        hosts: Sequence[tuple[str, str]],
        options: Options,
        receive: Callable[[float], Item | None],
        clock: Clock = time.monotonic,
    ) -> None:
        self._source, self._options, self._receive, self._clock = source, options, receive, clock
        self._topology = source.read()
        self._version: Hashable = source.version()
        self._hosts: dict[str, Plane] = {}
        self._waiting: list[Request] = []
        self._running = True
        self.control: ControlSocket | None = None
        self._planes = self._planes_of(self._topology, [name for name, _ in hosts])
        for name, where in hosts:
            host = self._hosts[name] = host_on(self._planes[name], name, where, options)
            host.prepare(self._topology)
            host.look(self._topology, clock())

    def listen(self, control: ControlSocket) -> None:
        """Serve this control socket as well."""
        control.offer(self.commands())
        self.control = control

    def run(self) -> None:
        """Run until `stop`. No exception ends it: the connection that it came from starts over."""
        while self._running:
            item = self._receive(POLL)
            try:
                if item is not None:
                    self._take(item)
                self._poll()
            except Exception:
                LOG.exception("unexpected; going on")
                if isinstance(item, Received | Opened):
                    item.connection.close()
        if self.control is not None:
            self.control.close()
        for host in self._hosts.values():
            host.close()

    def stop(self) -> None:
        """End `run` soon. Flows stay."""
        self._running = False

    def _take(self, item: Item) -> None:
        now = self._clock()
        match item:
            case Opened(connection):
                self._open(connection, now)
            case Closed(connection):
                for each in self._switched:
                    each.disconnect(connection)
            case Received(connection, message) if host := self._host_of(connection):
                host.receive(message, now)
            case Reload():
                self.reload()

    def _open(self, connection: Connection, now: float) -> None:
        for host in self._switched:
            index = self._topology.vtep_index(host.name)
            if int(self._topology.vteps.datapath_id[index]) == connection.datapath_id:
                host.connect(connection, now)
                return
        LOG.warning("switch %016x is none of our hosts: left alone", connection.datapath_id)

    @property
    def _switched(self) -> list[Switched]:
        return [host for host in self._hosts.values() if isinstance(host, Switched)]

    def _host_of(self, connection: Connection) -> Switched | None:
        return next((host for host in self._switched if host.connection is connection), None)

    def _poll(self) -> None:
        now = self._clock()
        if self.control is not None:
            self.control.run()
        if self._options.watch and self._source.version() != self._version:
            self.reload()
        for host in self._hosts.values():
            if host.poll():
                host.look(self._topology, now)
            host.flush()
        # Before time passes: an audit that is due need not keep anybody waiting.
        self._settle()
        for host in self._hosts.values():
            host.tick(now)
            host.flush()

    def reload(self) -> list[str]:
        """Read the source again. Returns what is wrong with it; then everything stays as it was."""
        self._version = self._source.version()
        now = self._clock()
        try:
            topology = self._source.read()
            self._prepare(topology)
        except OverlayInvalid as invalid:
            problems = [str(mistake) for mistake in invalid.mistakes]
        except Refused as refused:
            problems = [str(refused)]
        else:
            self._topology = topology
            for host in self._hosts.values():
                host.look(topology, now)
            return []
        LOG.error("the overlay is not taken over, everything stays as it was:")
        for problem in problems:
            LOG.error("  %s", problem)
        return problems

    def _prepare(self, topology: Topology) -> None:
        """Prepare all hosts, or none: where one cannot, the others are taken back."""
        for name, plane in self._planes_of(topology, list(self._hosts)).items():
            if plane != self._planes[name]:
                raise Refused(
                    f"{name} runs on plane {self._planes[name]}, and the overlay now says {plane}:"
                    " stop the agent, remove what it made (docs/planes.md), and start it again"
                )
        try:
            for host in self._hosts.values():
                host.prepare(topology)
        except Refused:
            for host in self._hosts.values():
                with suppress(Refused):
                    host.prepare(self._topology)
            raise

    @staticmethod
    def _planes_of(topology: Topology, names: Sequence[str]) -> dict[str, PlaneName]:
        return {name: topology.vteps.plane[topology.vtep_index(name)] for name in names}

    def commands(self) -> dict[str, Callable[[Request], None]]:
        """What the control socket understands."""
        return {
            "status": self._serve_status,
            "reload": self._serve_reload,
            "exit": self._serve_exit,
        }

    def _serve_status(self, request: Request) -> None:
        request.reply(json.dumps(self.status(), indent=2))

    def _serve_reload(self, request: Request) -> None:
        problems = self.reload()
        if problems:
            request.error("\n".join(problems))
            return
        for host in self._hosts.values():
            host.audit(self._clock())
        self._waiting.append(request)

    def _serve_exit(self, request: Request) -> None:
        request.reply("")
        self.stop()

    def _settle(self) -> None:
        """Answer those who wait for a reload, once every host that can be reached has it."""
        hosts = self._hosts.values()
        if not self._waiting or any(host.busy for host in hosts):
            return
        waiting, self._waiting = self._waiting, []
        refused = [f"{host.name}: {reason}" for host in hosts for reason in host.refusals()]
        lines = [f"{host.name}: {host.outcome()}" for host in hosts]
        for request in waiting:
            if refused:
                request.error("\n".join(refused))
            else:
                request.reply("\n".join(lines))

    def status(self) -> dict[str, object]:
        """What `ovs-appctl -t … status` prints."""
        return {"hosts": {host.name: host.status() for host in self._hosts.values()}}
