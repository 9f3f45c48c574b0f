"""One switch, from connection to agreement: a state machine without I/O and without a clock.

What flows in: the connection's life, messages from the switch, views to realise, the time. What
flows out: bytes to send (`outbox`) and events to tell about (`events`).

    state       waits for                         then
    offline     connected                         reading
    reading     all flows and groups listed       loading, or in-sync if nothing differs
    loading     barrier behind the bundle         committing; refused after an error reply
                                                  (bundle discarded)
    committing  the commit's answer               in-sync, or loading if the view has changed
                                                  meanwhile; refused
    in-sync     a changed view, the next audit,   loading; reading
                what others change (drift)
    refused     a changed view, the retry time    reading

What others change is told by the switch as it happens: see `ovs_lwt.backends.openflow.drift`. It is
put right once they have been silent for SETTLE seconds, and REPAIR_GAP seconds after the last time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from ovs_lwt.backends.openflow import change, encode, faults, program, wire
from ovs_lwt.backends.openflow.drift import Drift
from ovs_lwt.backends.openflow.foreign import Foreign
from ovs_lwt.backends.openflow.load import Load
from ovs_lwt.backends.openflow.portconfig import PortConfigs
from ovs_lwt.backends.openflow.program import Program
from ovs_lwt.backends.openflow.reading import LISTED_WITHIN, Reading
from ovs_lwt.backends.openflow.transaction import Counts, Transaction
from ovs_lwt.backends.outcome import AUDIT, AUDIT_SHARE, RETRY_FIRST, RETRY_LAST, Synced
from ovs_lwt.mistakes import Refused
from ovs_lwt.view import View

LOG = logging.getLogger(__name__)

# ofp_type, OpenFlow 1.4, 7.1.1.
_ERROR, _MULTIPART_REPLY, _BARRIER_REPLY, _BUNDLE_CONTROL = 1, 19, 21, 33
_PORT_STATUS, _REQUEST_FORWARD = 12, 32
# ofp_multipart_type.
_FLOW, _GROUP_DESC, _PORT_DESC, _FLOW_MONITOR = 1, 7, 13, 16

PATIENCE = 120.0
"""Seconds without any sign of progress until the connection is given up."""

SETTLE = 0.2
"""Seconds without another change by somebody else until what they did is put right."""

REPAIR_GAP = 1.0
"""Seconds from one repair to the next: whoever fights with us shall not have all our time."""

_XID_FIRST, _XID_END = 0x40000000, 0x7FFFFFFF


class State(StrEnum):
    """See the table at the top of the module."""

    OFFLINE = "offline"
    READING = "reading"
    LOADING = "loading"
    COMMITTING = "committing"
    IN_SYNC = "in-sync"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class ForeignRemoved:
    """Flows and groups that were not ours are gone, in ovs-ofctl syntax."""

    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SwitchRefused:
    """The switch said no; it keeps what it had. reasons: what was refused, and why."""

    reasons: tuple[str, ...]
    retry_in: float


@dataclass(frozen=True, slots=True)
class PortsMended:
    """Ports were set to what keeps them from working, and are not any more."""

    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ForeignKept:
    """Flows in tables of ours that are not ours stay: others than before."""

    foreign: Foreign


Event = Synced[Counts] | ForeignRemoved | ForeignKept | SwitchRefused | PortsMended


@dataclass(slots=True, eq=False)
class Session:
    """One switch. Give it a view with `desire`; take what it wants sent from `outbox`.

    close: set when the connection is to be given up; flow_count, group_count: what the switch holds
    of ours; heard: when there last was a sign of progress; foreign: flows of others that are kept
    """

    keep_foreign: bool = False
    state: State = State.OFFLINE
    outbox: list[bytes | memoryview] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    close: bool = False
    installed: View | None = None
    flow_count: int = 0
    group_count: int = 0
    heard: float = 0.0
    foreign: Foreign = field(default_factory=Foreign)
    _desired: View | None = None
    _target: View | None = None
    _reading: Reading | None = None
    _load: Load | None = None
    _began: float = 0.0
    _deadline: float = float("inf")
    _next_audit: float = float("inf")
    _retry: float = RETRY_FIRST
    _not_before: float = float("-inf")
    _audit: bool = False
    _drift: Drift = field(default_factory=Drift)
    _repair_at: float = float("inf")
    _repaired: float = float("-inf")
    _ports: PortConfigs = field(default_factory=PortConfigs)
    _next_xid: int = _XID_FIRST

    @property
    def listing_xids(self) -> frozenset[int]:
        """Transaction ids of the lists that it waits for: those replies can be huge."""
        reading = self._reading
        return frozenset((reading.flows_xid, reading.groups_xid)) if reading else frozenset()

    def desire(self, view: View, now: float) -> None:
        """Realise `view` from now on; the difference is sent as soon as the switch is free."""
        self._desired = view
        if self.state is State.IN_SYNC:
            self._load_change(now)
        elif self.state is State.REFUSED:
            self._retry = RETRY_FIRST
            self._read(now)
        elif self.state is State.READING and self._reading is None:
            self._read(now)

    def follow(self, view: View) -> None:
        """`view` says what the one last desired says, of another topology: it takes its place."""
        before, self._desired = self._desired, view
        if self.installed is before:
            self.installed = view
        if self._target is before:
            self._target = view

    def connected(self, now: float) -> None:
        """The switch is there: ask it what it holds, once there is a view to compare with, and
        before that to tell what others change.
        """
        self._forget()
        self.state, self.heard = State.READING, now
        self.outbox.append(encode.flow_monitor_request(self._xid()))
        self.outbox.append(encode.forwarded_groups(self._xid()))
        self.outbox.append(encode.port_desc_request(self._xid()))
        if now < self._not_before:
            # It has listed without end, or too much: not at once again.
            self.state, self._deadline = State.REFUSED, self._not_before
        elif self._desired is not None:
            self._read(now)

    def disconnected(self) -> None:
        """The switch is gone; it keeps what it has, except what was not committed."""
        self._forget()
        self.state = State.OFFLINE

    def tick(self, now: float) -> None:
        """Let time pass: audit, retry, give up."""
        if self.state is State.IN_SYNC and now >= self._repair_at:
            self._repair(now)
            return
        reading = self._reading
        if reading is not None and now - self._began > LISTED_WITHIN:
            self._refuse_list(f"the switch has not listed all in {LISTED_WITHIN:.0f} s", now)
        if now < self._deadline:
            return
        if self.state in (State.IN_SYNC, State.REFUSED):
            self._audit = self.state is State.IN_SYNC
            self._read(now)
        elif self.state is not State.OFFLINE:
            LOG.warning(
                "no answer for %.0f s while %s: giving the connection up", PATIENCE, self.state
            )
            self.close = True
            self._deadline = float("inf")

    def audit(self, now: float) -> None:
        """Read the switch now rather than at the next audit; if it is busy, right after."""
        if self.state in (State.IN_SYNC, State.REFUSED):
            self._audit = self.state is State.IN_SYNC
            self._read(now)
        else:
            self._next_audit = now

    def receive(self, message: bytes, now: float) -> None:
        """A message from the switch, whole. What is none of ours is passed over."""
        _, kind, _, xid = wire.HEADER.unpack_from(message)
        self.heard = now
        if kind == _ERROR:
            self._error(message, xid, now)
        elif kind == _MULTIPART_REPLY and wire.multipart_type(message) == _FLOW_MONITOR:
            self._drift.take(message[wire.MULTIPART_BODY :])
            self._drifted(now)
        elif kind == _REQUEST_FORWARD:
            self._drift.groups = True
            self._drifted(now)
        elif kind == _MULTIPART_REPLY and wire.multipart_type(message) == _PORT_DESC:
            self._ports.listed(message[wire.MULTIPART_BODY :])
            self._mend_ports()
        elif kind == _PORT_STATUS:
            self._ports.changed(message)
            self._mend_ports()
        elif kind == _MULTIPART_REPLY and self.state is State.READING and self._reading is not None:
            self._listed(self._reading, message, xid, now)
        elif (load := self._load) is not None and xid == load.waits_for:
            if kind == _BARRIER_REPLY and self.state is State.LOADING:
                self._loaded(load, now)
            elif kind == _BUNDLE_CONTROL and self.state is State.COMMITTING:
                self._committed(load, now)

    # What others change

    def _drifted(self, now: float) -> None:
        if self._drift:
            self._repair_at = max(now + SETTLE, self._repaired + REPAIR_GAP)

    def _repair(self, now: float) -> None:
        """Put right what others have changed: flow by flow where that is known, else all."""
        drift, self._drift = self._drift, Drift()
        self._repaired, self._repair_at = now, float("inf")
        self._audit = True
        installed = self.installed
        assert installed is not None, "in sync means that a view is installed"
        transaction = drift.repair(installed, keep_foreign=self.keep_foreign)
        if transaction is None or drift.groups:
            # Groups take their flows along, and are few: they are listed, and flows with them
            # where these cannot be told one by one.
            self._drift.there, self._drift.gone = drift.there, drift.gone
            self._read(now, groups_alone=transaction is not None)
            return
        self._began = now
        staying = self.foreign.without({*drift.there, *drift.gone})
        self._plan(installed, lambda: transaction, now, counted=False, staying=staying)

    def _mend_ports(self) -> None:
        view = self.installed or self._target
        if view is None:
            return
        mended = list(self._ports.mends(view, self._xid()))
        self.outbox += [message for message, _ in mended]
        if mended:
            self.events.append(PortsMended(tuple(line for _, line in mended)))

    def _read(self, now: float, *, groups_alone: bool = False) -> None:
        self.state, self._began = State.READING, now
        assert self._desired is not None, "reading begins when there is a view"
        # Each time anew: somebody may have changed it, and the framework does when it connects.
        self.outbox.append(encode.fragments_by_header(self._xid()))
        reading = self._reading = Reading.of(self._desired, self._xid(), self._xid())
        if groups_alone:
            reading.portions = 0
        else:
            # What has been told so far is in the list that comes: nothing is put right twice.
            self._drift, self._repair_at = Drift(), float("inf")
        self.outbox.append(encode.group_desc_request(reading.groups_xid))
        if reading.portions:
            self._read_portion(reading)
        self.heard, self._deadline = now, now + PATIENCE

    def _read_portion(self, reading: Reading) -> None:
        request = encode.flow_stats_request(reading.flows_xid, reading.portion, reading.portions)
        self.outbox.append(request)

    def _listed(self, reading: Reading, message: bytes, xid: int, now: float) -> None:
        kind, flags = wire.multipart_type(message), int.from_bytes(message[10:12], "big")
        body = message[wire.MULTIPART_BODY :]
        if kind == _FLOW and xid == reading.flows_xid:
            reading.flows.append(body)
        elif kind == _GROUP_DESC and xid == reading.groups_xid:
            reading.groups.update(wire.group_desc_entries(body))
        else:
            return
        self._deadline = now + PATIENCE
        reading.size += len(body)
        if reading.size > reading.most:
            self._refuse_list(reading.too_much, now)
            return
        if flags & wire.MULTIPART_MORE:
            return
        if kind == _GROUP_DESC:
            reading.groups_listed = True
        else:
            reading.portion += 1
            if reading.portion < reading.portions:
                reading.flows_xid = self._xid()
                self._read_portion(reading)
        if reading.groups_listed and reading.portion == reading.portions:
            self._compare(reading, now)

    def _compare(self, reading: Reading, now: float) -> None:
        # Groups alone are no reason to take over a view whose flows are not compared.
        view, self._reading = self._desired if reading.portions else self.installed, None
        assert view is not None, "reading begins when there is a view"
        if reading.portions:
            # From here on, and not from the last change: what changes all the time is audited too.
            self._next_audit = now + max(AUDIT, AUDIT_SHARE * (now - self._began))

        def transaction() -> Transaction:
            if not reading.portions:
                self.group_count = len(reading.groups)
                groups = Program((), program.full(view).groups)
                return Transaction([], reading.groups, groups, keep_foreign=self.keep_foreign)
            flows = wire.flow_stats_blocks(reading.flows)
            self.flow_count, self.group_count = sum(map(len, flows)), len(reading.groups)
            desired = program.full(view)
            return Transaction(flows, reading.groups, desired, keep_foreign=self.keep_foreign)

        self._plan(view, transaction, now, staying=Foreign() if reading.portions else None)

    def _load_change(self, now: float) -> None:
        old, new = self.installed, self._desired
        assert old is not None, "in sync means that a view is installed"
        assert new is not None, "in sync means that a view is desired"
        self._began, self.heard, self._audit = now, now, False
        self._plan(new, lambda: change.transaction(old, new), now)

    def _plan(
        self,
        view: View,
        difference: Callable[[], Transaction],
        now: float,
        *,
        counted: bool = True,
        staying: Foreign | None = None,
    ) -> None:
        """Begin what leads to `view`. counted, staying: see `Load`."""
        self._target = view
        try:
            load = Load(difference(), self._xid, counted=counted, staying=staying)
            messages = load.opening()
        except Refused as refused:
            self._refuse((str(refused),), now)
            return
        if not messages:
            self._agree(load, now)
            return
        self.state, self._load = State.LOADING, load
        self.outbox.extend(messages)
        self.heard, self._deadline = now, now + PATIENCE

    def produce(self, now: float) -> bool:
        """Put the next piece of what is being loaded into the outbox, once the last one is on its
        way; say whether there was one.
        """
        load = self._load
        if load is None or load.complete:
            return False
        # The switch has been asked nothing yet that it could answer, but it reads.
        self.heard, self._deadline = now, now + PATIENCE
        self.outbox.extend(load.more())
        return True

    def _loaded(self, load: Load, now: float) -> None:
        if load.errors:
            self.outbox.append(load.discard())
            self._refuse(tuple(load.errors), now)
            return
        self.state = State.COMMITTING
        self.outbox.append(load.commit())
        self._deadline = now + PATIENCE

    def _committed(self, load: Load, now: float) -> None:
        if load.transaction.foreign:
            self.events.append(ForeignRemoved(tuple(load.transaction.foreign)))
        self._agree(load, now)

    def _agree(self, load: Load, now: float) -> None:
        done = load.transaction
        self.state, self.installed, self._retry = State.IN_SYNC, self._target, RETRY_FIRST
        if load.counted:
            flows, groups = done.growth
            self.flow_count, self.group_count = self.flow_count + flows, self.group_count + groups
        if load.staying is not None:
            self._note_foreign(load.staying.joined(done.kept))
        self._drifted(now)
        self._mend_ports()
        self.events.append(Synced(done.counts, now - self._began, self._audit))
        self._load, self._audit = None, False
        self._deadline = self._next_audit
        if self._desired is not self.installed:
            self._load_change(now)

    def _note_foreign(self, foreign: Foreign) -> None:
        before, self.foreign = self.foreign, foreign
        if len(foreign) and foreign != before:
            self.events.append(ForeignKept(foreign))

    def _error(self, message: bytes, xid: int, now: float) -> None:
        reason = faults.text(message)
        load = self._load
        about = None if load is None else load.transaction.describe(xid)
        if load is not None and about is not None:
            load.errors.append(f"{about}: {reason}")
        elif load is not None and xid == load.waits_for:
            self._refuse(tuple(load.errors) or (f"the bundle: {reason}",), now)
        elif (
            self.state is State.READING
            and self._reading
            and xid in (self._reading.flows_xid, self._reading.groups_xid)
        ):
            self._refuse((f"listing flows and groups: {reason}",), now)
        else:
            LOG.warning(
                "the switch reports an error for message %#x, which is none of a bundle: %s",
                xid,
                reason,
            )

    def _refuse(self, reasons: tuple[str, ...], now: float) -> None:
        self.state, self._reading, self._load = State.REFUSED, None, None
        self.events.append(SwitchRefused(reasons, self._retry))
        self._deadline = now + self._retry
        self._retry = min(self._retry * 2, RETRY_LAST)

    def _refuse_list(self, reason: str, now: float) -> None:
        """What the switch lists cannot be what it holds: nothing is compared with it."""
        self._refuse((reason,), now)
        self._not_before = self._deadline
        # Whoever lists without end would go on.
        self.close = True

    def _forget(self) -> None:
        self.outbox.clear()
        self.close = False
        self._reading, self._load = None, None
        self.installed, self._audit = None, False
        self._drift, self._repair_at, self._ports = Drift(), float("inf"), PortConfigs()
        self._deadline = float("inf")

    def _xid(self, span: int = 1) -> int:
        """The first of `span` transaction ids in a row, of a range that frameworks hardly use."""
        first = self._next_xid if self._next_xid + span <= _XID_END else _XID_FIRST
        self._next_xid = first + span
        return first
