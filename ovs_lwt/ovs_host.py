"""A host of plane ovs: its switch in OVSDB, its OpenFlow connection, its session."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ovs_lwt.backends.openflow import floods, limits, neighbours, rawstats, session
from ovs_lwt.backends.openflow.claimants import ANSWERS, ANSWERS_BUSY, Claimants
from ovs_lwt.backends.openflow.pipeline import pipeline
from ovs_lwt.backends.openflow.session import Session, State
from ovs_lwt.backends.openflow.transaction import Counts
from ovs_lwt.backends.openflow.unlisted import UnlistedSources
from ovs_lwt.backends.outcome import Moment, Repairs, Synced
from ovs_lwt.claims import renamed_claims
from ovs_lwt.findings import Finding, fail
from ovs_lwt.memory import give_back
from ovs_lwt.mistakes import Refused
from ovs_lwt.offer import Offer
from ovs_lwt.ovs_marks import PortMarks
from ovs_lwt.ovs_mutes import PortMutes
from ovs_lwt.plane import Connection, Options
from ovs_lwt.ports import Renaming, identified, portless, resolve, strangers
from ovs_lwt.topology import Topology
from ovs_lwt.underlay.expected import Expected
from ovs_lwt.view import View
from ovs_lwt.voice import Voice
from ovs_lwt.vswitch import DEFAULT_REQUEST_PORT, DEFAULT_TUNNEL_PORT, LocalPort, SwitchPlan
from ovs_lwt.vswitch.watched import WatchedSwitch

_PACKET_IN = 10  # ofp_type
_CHUNK = 1 << 19  # bytes handed to a connection at a time
_CALLS_WITHIN = 3.0  # seconds in which a switch calls that has been told where
_CALLS_AGAIN = 10.0  # ... and in which one calls that was restarted
_MISSED = "its switch does not call, and forwards by what it holds, if it lives"
_MISSED_MEND = "see whether ovs-vswitchd runs (systemctl status ovs-vswitchd), and its log"
_WAITING = (State.READING, State.LOADING, State.COMMITTING)


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
        self._claimants = Claimants()
        self.guests: dict[str, str] = {}
        self.errors: dict[str, str] = {}
        self.wide_floods: dict[str, int] = {}
        self.last: Synced[Counts] | None = None
        self.refused: session.SwitchRefused | None = None
        self.repairs = Repairs()
        self.synced = Moment()
        self._options = options
        self._planned: SwitchPlan | None = None
        # Whether its switch has been seen, and whether the overlay has replicators.
        self._known = self._replicated = False
        self._offer = Offer()
        # Until when its switch, once prepared, is expected to call; and whether that is so now.
        self._awaited, self._awaiting = float("-inf"), False
        self._now = 0.0
        # Since when nobody is connected, None while somebody is; and whether that is too long.
        self._alone: float | None = None
        self._missed = False
        self._view: View | None = None
        self.strangers: dict[str, str] = {}
        self._found: tuple[LocalPort, ...] = ()
        self._renaming = Renaming()
        # Whether its switch was still being prepared when it was last asked for news: what has come
        # of it since has not been looked at yet.
        self._unsettled = False
        self._voice = Voice(name)
        self._marks = PortMarks(self.switch)
        self._mutes = PortMutes(self.switch)
        self._unlisted = UnlistedSources()

    # Its switch in OVSDB

    def check(self, topology: Topology) -> None:
        """Raise Refused if something is known to be in the way of what the overlay needs."""
        self.switch.check(self._plan(topology))

    def prepare(self, topology: Topology) -> None:
        """Begin to make the local switch what the overlay needs. Raises Refused."""
        self._learn_offer(topology)
        self._planned = self._plan(topology)
        self.switch.prepare(self._planned)
        self._unsettled = self.preparing

    def _learn_offer(self, topology: Topology) -> None:
        """Take note of who replicates, and of whether this host is offering to by now."""
        self._known = self.switch.tunnel_ofport() is not None
        self._replicated = topology.vteps.replicated
        self._offer.learn(
            replicated=self._replicated, found=self.switch.request_ofport() is not None
        )

    def _plan(self, topology: Topology) -> SwitchPlan:
        """All but the controller's target, which whoever keeps the switch finds out."""
        index = topology.own_index(self.name)
        wanted = self._offer.stands and not self._offer.ending
        requests = topology.underlay.replication_udp_port if wanted else None
        return SwitchPlan(
            local_vtep=topology.vteps.address(index),
            udp_port=topology.underlay.udp_port,
            datapath_id=int(topology.vteps.datapath_id[index]),
            table_names=pipeline().tables,
            bridge=self._options.bridge,
            datapath_type=self._options.datapath_type,
            agent=self._options.agent,
            replication_udp_port=requests,
            # One that is there may be in its grace; that it may be, where nothing is known yet.
            keep_requests=self._offer.ending or not self._known,
        )

    @property
    def preparing(self) -> bool:
        """Whether nobody knows yet how the last `prepare` comes out."""
        return self.switch.preparing

    @property
    def trouble(self) -> Refused | None:
        """Why its switch is not what the overlay needs; None if it is."""
        return self.switch.trouble

    def poll(self) -> bool:
        """Take note of what OVSDB has to say; say whether that is anything new. Keep the ports'
        marks, and keep them mute.
        """
        self._unsettled = self.preparing
        news = self.switch.run()
        muted = self._mutes.run()
        self.repairs.note(len(muted))
        for mended in (*muted, *self._marks.run()):
            self._voice.say(logging.WARNING, mended)
        if repaired := self.switch.repairs():
            self.repairs.note(len(repaired))
            self._voice.say(logging.WARNING, f"repaired {len(repaired)} settings of the switch:")
            self._voice.list(logging.WARNING, repaired)
        if not self.preparing:
            self._voice.trouble(None if self.trouble is None else str(self.trouble))
        if news and not self._known and self.switch.tunnel_ofport() is not None:
            self._known = True
            found = self.switch.request_ofport() is not None
            self._offer.learn(replicated=self._replicated, found=found)
        return news

    def close(self) -> None:
        """Close the connection with OVSDB. Flows and marks stay, and ports stay mute."""
        self._mutes.close()
        self._marks.close()
        self.switch.close()

    def look(self, topology: Topology, now: float) -> None:
        """Hand the session a view if the overlay or the switch's ports make a new one."""
        tunnel = self.switch.tunnel_ofport()
        if tunnel is None:
            return
        host = topology.vtep_index(self.name)
        self._found = self._renaming.over(self.switch.ports(), now)
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
            self._unlisted.look(view)
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

    @property
    def connection(self) -> Connection | None:
        """The connection with its switch; None while it is away."""
        return self._claimants.current

    def connect(self, connection: Connection, now: float) -> None:
        """Its switch has connected, or somebody who says so."""
        switch = f"switch {connection.datapath_id:016x} ({connection.about})"
        self._now = now
        self._claimants.opened(connection, now)
        if connection is self.connection:
            self._voice.say(logging.INFO, f"{switch} has connected")
            self.session.connected(now)
        else:
            again = "has connected once more: the connection that answers is spoken with"
            self._voice.say(logging.WARNING, f"{switch} {again}")

    def disconnect(self, connection: Connection, now: float) -> None:
        """A connection is gone: ours, another host's, or one in reserve."""
        rawstats.expect(connection, frozenset())
        before = self.connection
        self._claimants.closed(connection)
        if connection is not before:
            return
        self._voice.say(logging.INFO, "the switch has hung up")
        self.session.disconnected()
        if self.connection is not None:
            self._speak_with(self.connection, now)

    def _speak_with(self, connection: Connection, now: float) -> None:
        self._voice.say(
            logging.WARNING, f"speaks with its switch as {connection.about} from now on"
        )
        self.session.connected(now)

    def receive(self, connection: Connection, message: bytes, now: float) -> None:
        """A message from its switch; one in reserve has nothing to say but that it is there."""
        self._claimants.heard(connection, now)
        if connection is not self.connection:
            return
        if message[1] != _PACKET_IN:
            self.session.receive(message, now)
        elif self._unlisted.hears(message):
            if self._view and (news := self._unlisted.note(self._view, message, now)):
                self._voice.say(logging.WARNING, news)
        elif self.session.installed is not None and connection.ready:
            reply = neighbours.answer(self.session.installed, message, 0)
            if reply is not None:
                self.session.outbox.append(reply)

    def tick(self, now: float) -> None:
        """Let the session do what is due; speak with another connection if this one is silent."""
        self._now = now
        self.session.tick(now)
        if self.preparing:
            self._awaited = now + _CALLS_WITHIN
        self._awaiting = now < self._awaited
        self._miss(now)
        self._end_offer(now)
        if not self._claimants.contested:
            return
        waits = self.session.state in _WAITING
        if waits and self.silent(now) > ANSWERS:
            self._claimants.doubt(now)
        before = self.connection
        if self._claimants.tick(now, ANSWERS_BUSY if waits else ANSWERS):
            assert before is not None, "somebody was silent"
            assert self.connection is not None, "somebody answers"
            rawstats.expect(before, frozenset())
            self.session.disconnected()
            self._speak_with(self.connection, now)
        if self._claimants.kept:
            self._claimants.kept = False
            self._voice.say(logging.WARNING, "its switch answers: the other connection has to wait")

    def _miss(self, now: float) -> None:
        """Take note of a switch that has not called for long, for no reason that is known."""
        if self.connection is not None:
            self._alone, self._missed = None, False
            return
        self._alone = now if self._alone is None else self._alone
        known = self.preparing or self.trouble is not None or not self.switch.connected
        missed = not known and now - self._alone > _CALLS_AGAIN
        if missed and not self._missed:
            self._voice.say(logging.WARNING, f"{_MISSED}: {_MISSED_MEND}")
        self._missed = missed

    def _end_offer(self, now: float) -> None:
        """End the offer to replicate, once its grace is over. The flows follow the port."""
        if self._planned is None or not self._offer.over(now):
            return
        self._planned = replace(self._planned, replication_udp_port=None, keep_requests=False)
        self.switch.prepare(self._planned)
        self._voice.say(logging.INFO, "offers to replicate no longer")
        self._offer.withdrawn()

    def flush(self) -> bool:
        """Send what the session wants sent, and tell what it has to tell; make the next piece of a
        large load ready, and say whether there is one. While the switch does not read, there is
        none.
        """
        if self.connection is not None:
            self._send(self.connection)
        while self.session.events:
            self._tell(self.session.events.pop(0))
        if self.connection is not None and not self.connection.ready:
            return False
        return self.session.produce(self._now)

    def _send(self, connection: Connection) -> None:
        pending = self.session
        rawstats.expect(connection, pending.listing_xids)
        if pending.close:
            pending.close = False
            connection.close()
        while pending.outbox:
            data = memoryview(pending.outbox.pop(0))
            for start in range(0, len(data), _CHUNK):
                connection.send(data[start : start + _CHUNK])

    def _tell(self, event: session.Event) -> None:
        match event:
            case Synced():
                self.last, self.refused = self._voice.synced(event, self.last), None
                self.repairs.note(event.repaired)
                self.synced.now()
                give_back(event.counts.changes + event.counts.unchanged)
            case session.ForeignRemoved(lines):
                what = "flows or groups that are not ours"
                self._voice.say(logging.WARNING, f"removed {len(lines)} {what}:")
                self._voice.list(logging.WARNING, lines)
            case session.ForeignKept(foreign):
                what = "flows in tables of ours that are not ours"
                self._voice.say(logging.WARNING, f"keeps {len(foreign)} {what}:")
                self._voice.list(logging.WARNING, foreign.lines, len(foreign) - len(foreign.lines))
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

    @property
    def state(self) -> str:
        """What the session is at."""
        return str(self.session.state)

    def outcome(self) -> str:
        """How it last came out, or what the session is at."""
        return str(self.last.counts if self.last else self.session.state)

    def _tunnel(self) -> dict[str, object]:
        """The shared port, as planned and as it is."""
        if self._planned is None:
            return {}
        shared = self._planned.tunnels[0]
        return {
            "port": shared.name,
            "udp_port": shared.udp_port,
            "local": self._planned.local_vtep,
            "number": self.switch.tunnel_ofport(),
        }

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
        state = self.session.state
        return self._unsettled or state in _WAITING or (state is State.OFFLINE and self._awaiting)

    def missing(self) -> str | None:
        """Why its switch does not hold what the overlay says yet; None if it does."""
        if self.trouble is not None:
            return str(self.trouble)
        match self.session.state:
            case State.IN_SYNC | State.REFUSED:
                return None
            case State.OFFLINE:
                return "offline: its switch has it once it is back"
            case state:
                return f"{state}: its switch does not answer"

    def silent(self, now: float) -> float:
        """Seconds without a sign of progress from its switch."""
        return now - self.session.heard

    def rename(self, renamed: Mapping[str, str]) -> None:
        """Have ports that claim endpoints of these tenants claim them anew."""
        again = renamed_claims(self.guests, renamed)
        if again:
            self._renaming.note(again, self._now)
            self.switch.rewrite_claims(again)
        for port, (_, claim) in again.items():
            self._voice.say(logging.INFO, f"port {port} claims {claim} now: its tenant is renamed")

    def expected(self, topology: Topology) -> Expected:
        """What the overlay expects of this machine, for a check."""
        return Expected.of(
            topology,
            self.name,
            self.switch.remote,
            self._options.bridge,
            DEFAULT_TUNNEL_PORT,
            DEFAULT_REQUEST_PORT,
        )

    def findings(self) -> Sequence[Finding]:
        """What it has found wrong itself."""
        found = [] if self.trouble is None else [fail("switch", str(self.trouble), "")]
        if not self.switch.connected:
            stands = " (and the userspace datapath stands still meanwhile)"
            userspace = self._view is not None and self._view.userspace
            found.append(
                fail(
                    "ovsdb",
                    f"ovsdb-server at {self.switch.remote} does not answer"
                    f"{stands if userspace else ''}",
                    "see whether it runs (systemctl status ovsdb-server)",
                )
            )
        if self._missed:
            found.append(fail("switch", _MISSED, _MISSED_MEND))
        found += self.session.foreign.findings(self._options.bridge)
        return [*found, *self._mutes.findings(), *self._unlisted.findings(self._now)]

    def tell_findings(self, findings: Sequence[Finding]) -> None:
        """Log what a check has found, as far as it is news."""
        self._voice.findings(findings)

    def status(self) -> dict[str, object]:
        """The host's part of `ovs-appctl -t … status`."""
        return {
            "plane": "ovs",
            "state": self.state,
            "flows": self.session.flow_count,
            "groups": self.session.group_count,
            "ports": self.guests,
            "errors": self.errors,
            "tunnel": self._tunnel(),
            "portless": self.portless(),
            "strangers": self.strangers,
            "marking": self._marks.marking(),
            "wide_floods": self.wide_floods,
            "replication": str(self._offer),
            "repaired": self.repairs.count,
            "repaired_at": self.repairs.last,
            "foreign": self.session.foreign.as_json(),
            "refused": list(self.refusals()),
            "last": str(self.last.counts) if self.last else None,
            "seconds": self.last.seconds if self.last else None,
            "synced": self.synced.ago,
            "trouble": list(self._voice.errors),
        }
