"""A host of plane ovs: its switch in OVSDB, its OpenFlow connection, its session."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from ovs_lwt.backends.openflow import floods, limits, neighbours, rawstats, session
from ovs_lwt.backends.openflow.pipeline import pipeline
from ovs_lwt.backends.openflow.session import Session, State
from ovs_lwt.backends.openflow.transaction import Counts
from ovs_lwt.backends.outcome import Repairs, Synced
from ovs_lwt.findings import Finding
from ovs_lwt.memory import give_back
from ovs_lwt.mistakes import Refused
from ovs_lwt.offer import Offer
from ovs_lwt.ovs_marks import PortMarks
from ovs_lwt.plane import Connection, Options
from ovs_lwt.ports import identified, portless, resolve, strangers
from ovs_lwt.topology import Topology
from ovs_lwt.underlay.expected import Expected
from ovs_lwt.view import View
from ovs_lwt.voice import Voice
from ovs_lwt.vswitch import DEFAULT_TUNNEL_PORT, LocalPort, SwitchPlan
from ovs_lwt.vswitch.watched import WatchedSwitch

_PACKET_IN = 10  # ofp_type
_CHUNK = 1 << 19  # bytes handed to a connection at a time


class OvsHost:
    """Joins what the overlay says of a host with what its switch says, and tells of both.

    guests: port name -> endpoint; errors: port name -> what is wrong with its claim
    strangers: port name -> iface-id of those that are no endpoint's
    wide_floods: tenants whose broadcasts the datapath cannot take at once -> copies
    last, refused: how the session last came out
    """

    def __init__(self, name: str, switch: WatchedSwitch, options: Options) -> None:
        self.name = name
        self.switch = switch
        self.session = Session(keep_foreign=options.keep_foreign)
        self.connection: Connection | None = None
        self.guests: dict[str, str] = {}
        self.errors: dict[str, str] = {}
        self.wide_floods: dict[str, int] = {}
        self.last: Synced[Counts] | None = None
        self.refused: session.SwitchRefused | None = None
        self.repairs = Repairs()
        self._options = options
        self._plan: SwitchPlan | None = None
        self._offer = Offer()
        self._view: View | None = None
        self.strangers: dict[str, str] = {}
        self._found: tuple[LocalPort, ...] = ()
        self._voice = Voice(name)
        self._marks = PortMarks(self.switch)

    # Its switch in OVSDB

    def prepare(self, topology: Topology) -> None:
        """Make the local switch what the overlay needs. Raises Refused."""
        index = topology.vtep_index(self.name)
        if topology.vteps.external[index]:
            raise Refused(f"{self.name} is external, says the overlay: somebody else runs it")
        offering = self.switch.request_ofport() is not None
        self._offer.learn(replicated=topology.vteps.replicated, found=offering)
        requests = topology.underlay.replication_udp_port if self._offer.stands else None
        self._plan = SwitchPlan(
            local_vtep=topology.vteps.address(index),
            udp_port=topology.underlay.udp_port,
            datapath_id=int(topology.vteps.datapath_id[index]),
            controller=self._options.controller,
            table_names=pipeline().tables,
            bridge=self._options.bridge,
            datapath_type=self._options.datapath_type,
            replication_udp_port=requests,
        )
        self.switch.prepare(self._plan)

    def poll(self) -> bool:
        """Take note of what OVSDB has to say; say whether that is anything new. Keep the marks."""
        for mended in self._marks.run():
            self._voice.say(logging.WARNING, mended)
        return self.switch.run()

    def close(self) -> None:
        """Close the connection with OVSDB. Flows and marks stay."""
        self._marks.close()
        self.switch.close()

    def look(self, topology: Topology, now: float) -> None:
        """Hand the session a view if the overlay or the switch's ports make a new one."""
        tunnel = self.switch.tunnel_ofport()
        if tunnel is None:
            return
        host = topology.vtep_index(self.name)
        self._found = self.switch.ports()
        found = identified(topology, host, self._found)
        ports, self.errors = resolve(topology, host, found)
        self.strangers = strangers(found)
        self.guests = {
            port.name: port.claim
            for port in found
            if port.claim is not None and port.name not in self.errors
        }
        userspace = self.switch.datapath_type() == "netdev"
        by_flow, requests = self._nd_by_flow(userspace), self.switch.request_ofport()
        view = View(topology, host, tunnel, ports, by_flow, userspace, requests)
        if self._view is not None:
            view.learn(self._view)
        marks = topology.tenants.mark[view.guests.tenant].tolist()
        numbers = dict(zip(ports.port.tolist(), marks, strict=True))
        self._marks.want(found, {p.name: numbers[p.ofport] for p in found if p.name in self.guests})
        if self._view is None or not view.same(self._view):
            self._view = view
            self.session.desire(view, now)
            self._weigh(view)
        self._voice.ports(self.errors)
        self.switch.report_errors(self.errors)

    def follow(self, topology: Topology) -> None:
        """For this host `topology` is what it last looked at: compare with it from now on.

        So what a change costs does not grow with all that has changed elsewhere, and what has gone
        there need not be kept.
        """
        before = self._view
        if before is None or before.topology is topology:
            return
        host = topology.vtep_index(self.name)
        ports, _ = resolve(topology, host, identified(topology, host, self._found))
        self._view = replace(before, topology=topology, host=host, ports=ports)
        self.session.follow(self._view)

    def _weigh(self, view: View) -> None:
        """Warn of floods that are too wide for the datapath."""
        self.wide_floods = floods.wide_floods(view)
        replicator = bool(view.topology.vteps.replicator[view.host])
        self._voice.floods(
            {
                name: limits.wide_flood(n, userspace=view.userspace, replicator=replicator)
                for name, n in self.wide_floods.items()
            }
        )

    def _nd_by_flow(self, userspace: bool) -> bool:
        chosen = self._options.neighbour_discovery
        return userspace if chosen == "auto" else chosen == "flow"

    # Its OpenFlow connection

    def connect(self, connection: Connection, now: float) -> None:
        """Its switch has connected."""
        switch = f"switch {connection.datapath_id:016x}"
        self._voice.say(logging.INFO, f"{switch} has connected")
        self.connection = connection
        self.session.connected(now)

    def disconnect(self, connection: Connection) -> None:
        """A connection is gone: ours, another host's, or one that ours has replaced since."""
        rawstats.expect(connection, frozenset())
        if connection is not self.connection:
            return
        self._voice.say(logging.INFO, "the switch has hung up")
        self.connection = None
        self.session.disconnected()

    def receive(self, message: bytes, now: float) -> None:
        """A message from its switch."""
        if message[1] != _PACKET_IN:
            self.session.receive(message, now)
        elif self.session.installed is not None:
            reply = neighbours.answer(self.session.installed, message, 0)
            if reply is not None:
                self.session.outbox.append(reply)

    def tick(self, now: float) -> None:
        """Let the session do what is due; end the offer to replicate, once its grace is over."""
        self.session.tick(now)
        if self._plan is None or not self._offer.over(now):
            return
        try:
            # The flows follow the port.
            self._plan = replace(self._plan, replication_udp_port=None)
            self.switch.prepare(self._plan, wait=False)
        except Refused as refused:
            self._voice.say(logging.WARNING, f"still offers to replicate: {refused}")
            self._offer.again(now)
        else:
            self._voice.say(logging.INFO, "offers to replicate no longer")
            self._offer.withdrawn()

    def flush(self) -> bool:
        """Send what the session wants sent, and tell what it has to tell; make the next piece of a
        large load ready, and say whether there is one.
        """
        if self.connection is not None:
            self._send(self.connection)
        while self.session.events:
            self._tell(self.session.events.pop(0))
        return self.session.produce()

    def _send(self, connection: Connection) -> None:
        pending = self.session
        if pending.close:
            connection.close()
            pending.close = False
        rawstats.expect(connection, pending.listing_xids)
        while pending.outbox:
            data = memoryview(pending.outbox.pop(0))
            for start in range(0, len(data), _CHUNK):
                connection.send(data[start : start + _CHUNK])

    def _tell(self, event: session.Event) -> None:
        match event:
            case Synced():
                self.last, self.refused = self._voice.synced(event, self.last), None
                self.repairs.note(event.repaired)
                give_back(event.counts.changes + event.counts.unchanged)
            case session.ForeignRemoved(lines):
                what = "flows or groups that are not ours"
                self._voice.say(logging.WARNING, f"removed {len(lines)} {what}:")
                self._voice.list(logging.WARNING, lines)
            case session.PortsMended(lines):
                self.repairs.note(len(lines))
                for line in lines:
                    self._voice.say(logging.WARNING, f"repaired: {line}")
            case session.SwitchRefused(reasons, retry_in):
                self.refused = event
                self._voice.say(logging.ERROR, "the switch refused, and keeps what it had:")
                self._voice.list(logging.ERROR, reasons)
                again = f"next try in {retry_in:.0f} s, or at the next change"
                self._voice.say(logging.ERROR, again)

    # What it says when asked

    def audit(self, now: float) -> None:
        """Read the switch, soon.

        Where the overlay changed nothing, whoever asks means the switch; where it did, the switch
        is read once the change is there.
        """
        self.last = None
        self.session.audit(now)

    def outcome(self) -> str:
        """How it last came out, or what the session is at."""
        return str(self.last.counts if self.last else self.session.state)

    def portless(self) -> list[str]:
        """The host's endpoints that have no port here."""
        view = self._view
        return [] if view is None else portless(view.topology, view.host, view.ports)

    def refusals(self) -> tuple[str, ...]:
        """What the switch refused."""
        return self.refused.reasons if self.refused else ()

    @property
    def busy(self) -> bool:
        """Whether its switch is about to agree, or to refuse."""
        return self.session.state in (State.READING, State.LOADING, State.COMMITTING)

    def expected(self, topology: Topology) -> Expected:
        """What the overlay expects of this machine, for a check."""
        return Expected.of(
            topology, self.name, self.switch.remote, self._options.bridge, DEFAULT_TUNNEL_PORT
        )

    def findings(self) -> Sequence[Finding]:
        """What it has found wrong itself."""
        return ()

    def tell_findings(self, findings: Sequence[Finding]) -> None:
        """Log what a check has found, as far as it is news."""
        self._voice.findings(findings)

    def status(self) -> dict[str, object]:
        """The host's part of `ovs-appctl -t … status`."""
        return {
            "plane": "ovs",
            "state": str(self.session.state),
            "flows": self.session.flow_count,
            "groups": self.session.group_count,
            "ports": self.guests,
            "errors": self.errors,
            "portless": self.portless(),
            "strangers": self.strangers,
            "marking": self._marks.marking(),
            "wide_floods": self.wide_floods,
            "replication": str(self._offer),
            "repaired": self.repairs.count,
            "refused": list(self.refusals()),
            "last": str(self.last.counts) if self.last else None,
            "seconds": self.last.seconds if self.last else None,
        }
