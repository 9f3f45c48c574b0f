"""An OpenFlow 1.4 switch in memory, on real bytes, that fails on demand.

It is a witness: it reads and writes the wire with `struct` after the specification (OpenFlow
1.4.1; section numbers below), and shares no code with what it judges. It is as strict as a switch
may be: a flow that names a group which is not there yet is refused, and a group that goes takes the
flows that use it along, as Open vSwitch does. So a wrong order in a bundle shows in what it holds.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

VERSION = 5
ERROR, FLOW_MOD, GROUP_MOD, MULTIPART_REQUEST, MULTIPART_REPLY = 1, 14, 15, 18, 19
BARRIER_REQUEST, BARRIER_REPLY, BUNDLE_CONTROL, BUNDLE_ADD = 20, 21, 33, 34
SET_CONFIG, PORT_MOD, SET_ASYNC, REQUEST_FORWARD = 9, 16, 28, 32
OPEN, COMMIT, DISCARD = 0, 4, 6
FLOW_STATS, GROUP_DESC, PORT_DESC, FLOW_MONITOR = 1, 7, 13, 16
ADDED, REMOVED, PAUSED = 1, 2, 5  # of a flow update
ATOMIC_ORDERED = 3
MORE = 1

# (type, code) of the errors that it knows (7.5.4).
BAD_TABLE_IN_GOTO = (3, 2)
BAD_OUT_GROUP = (2, 9)
BAD_SET_ARGUMENT = (2, 15)
TABLE_FULL = (5, 1)
GROUP_EXISTS, OUT_OF_GROUPS, UNKNOWN_GROUP = (6, 0), (6, 3), (6, 8)
BAD_BUNDLE, BUNDLE_EXISTS, BAD_FLAGS = (17, 2), (17, 3), (17, 7)
MESSAGE_BAD_LENGTH, MESSAGE_BAD_XID, MESSAGE_UNSUPPORTED = (17, 8), (17, 9), (17, 10)
MESSAGE_FAILED = (17, 13)

_HEADER = struct.Struct("!BBHI")
_FLOW_MOD = struct.Struct("!QQBBHHHIIIHH")  # 7.3.4.1, after the header
_FLOW_ENTRY = struct.Struct("!HBxIIHHHHH2xQQQ")  # 7.3.5.2, before the match
_GROUP_MOD = struct.Struct("!HBxI")  # 7.3.4.2, after the header
_BUNDLE = struct.Struct("!I2xH")  # 7.3.9.6, after the header
_UPDATE = struct.Struct("!HHBBHHH4xQ")  # 7.3.5.15, before the match
_COOKIE = struct.Struct("!QQ")  # 7.3.5.2: cookie and its mask, in a request for flows

FlowKey = tuple[int, int, bytes]
"""Table, priority, match as it stands on the wire, padding included."""


class ConnectionDropped(Exception):
    """The switch has hung up."""


@dataclass(frozen=True, slots=True)
class Flow:
    """What a flow says. rest: its instructions as they stand on the wire."""

    cookie: int
    timeouts: tuple[int, int]
    flags: tuple[int, int]
    rest: bytes


@dataclass(frozen=True, slots=True)
class Message:
    """One message as it came; kind: ofp_type."""

    kind: int
    xid: int
    body: bytes

    @property
    def inner(self) -> Message:
        """The message that a bundle add carries."""
        return _message(self.body[_BUNDLE.size :])


class _Refusal(Exception):
    def __init__(self, error: tuple[int, int], about: Message) -> None:
        super().__init__(error)
        self.error, self.about = error, about


@dataclass(slots=True)
class State:
    """Everything that the switch holds."""

    flows: dict[FlowKey, Flow] = field(default_factory=dict)
    groups: dict[int, tuple[int, bytes]] = field(default_factory=dict)

    def copy(self) -> State:
        """A state of its own with the same content."""
        return State(dict(self.flows), dict(self.groups))


@dataclass(slots=True)
class FakeSwitch:
    """The switch. Give it bytes with `take`; it returns the bytes that it answers.

    entries_per_part: how many flows or groups one part of a list holds
    Faults: drop_after_bytes, drop_after_bundled: hang up then; refuse: number of a bundled message
    (from 0) -> error when it is added; flow_limit, group_limit: what its tables hold; silent: never
    answer
    seen: every message since the connection began, without the requests to be told of changes,
    which are in watches; committed: bundles committed ever
    """

    state: State = field(default_factory=State)
    entries_per_part: int = 200
    drop_after_bytes: int | None = None
    drop_after_bundled: int | None = None
    refuse: dict[int, tuple[int, int]] = field(default_factory=dict)
    flow_limit: int = 1 << 30
    group_limit: int = 1 << 30
    silent: bool = False
    seen: list[Message] = field(default_factory=list)
    watches: list[Message] = field(default_factory=list)
    committed: int = 0
    _pending: bytes = b""
    _taken: int = 0
    _added: int = 0
    _bundles: dict[int, list[Message]] = field(default_factory=dict)

    @property
    def bundled(self) -> list[Message]:
        """The messages inside the bundles of this connection."""
        return [message.inner for message in self.seen if message.kind == BUNDLE_ADD]

    def forget(self) -> None:
        """Note and count messages from here on."""
        self.seen, self._added = [], 0

    def reconnect(self) -> None:
        """A new connection: bundles that were not committed are gone, faults of the line mended."""
        self.seen, self._pending, self._taken, self._added, self._bundles = [], b"", 0, 0, {}
        self.watches = []
        self.drop_after_bytes = self.drop_after_bundled = None

    def take(self, data: bytes) -> bytes:
        """What the switch answers to these bytes. Raises ConnectionDropped."""
        limit = self.drop_after_bytes
        cut = data if limit is None else data[: max(limit - self._taken, 0)]
        self._taken += len(cut)
        self._pending += cut
        answers = b"".join(self._answers())
        if len(cut) < len(data):
            raise ConnectionDropped
        return b"" if self.silent else answers

    def _answers(self) -> Iterator[bytes]:
        while len(self._pending) >= _HEADER.size:
            length = _HEADER.unpack_from(self._pending)[2]
            if len(self._pending) < length:
                return
            message, self._pending = _message(self._pending[:length]), self._pending[length:]
            if _watches(message):
                self.watches.append(message)
                continue
            self.seen.append(message)
            if message.kind == BUNDLE_ADD and self._added == self.drop_after_bundled:
                raise ConnectionDropped
            try:
                yield from self._answer(message)
            except _Refusal as refusal:
                yield error(refusal.about, refusal.error)

    def _answer(self, message: Message) -> Iterator[bytes]:
        if message.kind == MULTIPART_REQUEST:
            yield from self._list(message)
        elif message.kind == BARRIER_REQUEST:
            yield _reply(BARRIER_REPLY, message.xid, b"")
        elif message.kind == BUNDLE_ADD:
            self._add(message)
        elif message.kind == BUNDLE_CONTROL:
            bundle, what, flags = struct.unpack("!IHH", message.body)
            if flags != ATOMIC_ORDERED:
                raise _Refusal(BAD_FLAGS, message)
            yield from self._control(message, bundle, what)
            yield _reply(BUNDLE_CONTROL, message.xid, struct.pack("!IHH", bundle, what + 1, flags))
        else:
            raise AssertionError(f"a message of type {message.kind} outside of a bundle")

    def _list(self, request: Message) -> Iterator[bytes]:
        kind = int.from_bytes(request.body[:2], "big")
        if kind == FLOW_STATS:
            entries = [*_flow_entries(self.state, *_COOKIE.unpack_from(request.body, 24))]
        else:
            entries = [*_group_entries(self.state)]
        parts = range(0, max(len(entries), 1), self.entries_per_part)
        for start in parts:
            body = b"".join(entries[start : start + self.entries_per_part])
            more = MORE if start != parts[-1] else 0
            head = struct.pack("!HH4x", kind, more)
            yield _reply(MULTIPART_REPLY, request.xid, head + body)

    def _add(self, message: Message) -> None:
        bundle, flags = _BUNDLE.unpack_from(message.body)
        inner = message.inner
        number = self._added
        self._added += 1
        if bundle not in self._bundles:
            raise _Refusal(BAD_BUNDLE, message)
        if flags != ATOMIC_ORDERED:
            raise _Refusal(BAD_FLAGS, message)
        if inner.xid != message.xid:
            raise _Refusal(MESSAGE_BAD_XID, message)
        if _HEADER.size + len(inner.body) != len(message.body) - _BUNDLE.size:
            raise _Refusal(MESSAGE_BAD_LENGTH, message)
        if inner.kind not in (FLOW_MOD, GROUP_MOD):
            raise _Refusal(MESSAGE_UNSUPPORTED, message)
        if number in self.refuse:
            raise _Refusal(self.refuse[number], message)
        self._bundles[bundle].append(message)

    def _control(self, message: Message, bundle: int, what: int) -> Iterator[bytes]:
        if what == OPEN:
            if bundle in self._bundles:
                raise _Refusal(BUNDLE_EXISTS, message)
            self._bundles[bundle] = []
        elif bundle not in self._bundles:
            raise _Refusal(BAD_BUNDLE, message)
        elif what == DISCARD:
            del self._bundles[bundle]
        elif what == COMMIT:
            changed = self.state.copy()
            try:
                for each in self._bundles.pop(bundle):
                    self._apply(changed, each)
            except _Refusal as refusal:
                yield error(refusal.about, refusal.error)
                raise _Refusal(MESSAGE_FAILED, message) from None
            self.state = changed
            self.committed += 1
        else:
            raise AssertionError(f"bundle control {what}")

    def _apply(self, state: State, message: Message) -> None:
        inner = message.inner
        if inner.kind == GROUP_MOD:
            self._change_group(state, inner)
        else:
            self._change_flow(state, inner)

    def _change_group(self, state: State, message: Message) -> None:
        command, kind, group = _GROUP_MOD.unpack_from(message.body)
        buckets = message.body[_GROUP_MOD.size :]
        if command == 0 and group in state.groups:
            raise _Refusal(GROUP_EXISTS, message)
        if command == 0 and len(state.groups) >= self.group_limit:
            raise _Refusal(OUT_OF_GROUPS, message)
        if command == 1 and group not in state.groups:
            raise _Refusal(UNKNOWN_GROUP, message)
        if command == 2:
            state.groups.pop(group, None)
            for key in [key for key, flow in state.flows.items() if group in groups_of(flow)]:
                del state.flows[key]
            return
        if any(called not in state.groups for called in groups_called(buckets)):
            raise _Refusal(BAD_OUT_GROUP, message)
        state.groups[group] = (kind, buckets)

    def _change_flow(self, state: State, message: Message) -> None:
        values = _FLOW_MOD.unpack_from(message.body)
        cookie, _, table, command, idle, hard, priority, _, _, _, flags, importance = values
        match, rest = split_match(message.body[_FLOW_MOD.size :])
        key = (table, priority, match)
        if command == 4:
            state.flows.pop(key, None)
            return
        assert command == 0, f"flow mod command {command}"
        flow = Flow(cookie, (idle, hard), (flags, importance), rest)
        if any(target <= table for target in gotos_of(flow)):
            raise _Refusal(BAD_TABLE_IN_GOTO, message)
        if any(group not in state.groups for group in groups_of(flow)):
            raise _Refusal(BAD_OUT_GROUP, message)
        if key not in state.flows and len(state.flows) >= self.flow_limit:
            raise _Refusal(TABLE_FULL, message)
        state.flows[key] = flow

    # What others do meanwhile, and what the switch says of it to whoever watches

    def meddle(self, key: FlowKey, flow: Flow | None) -> bytes:
        """Somebody else writes a flow, or deletes it (None)."""
        before = self.state.flows.get(key)
        if flow is None:
            del self.state.flows[key]
        else:
            self.state.flows[key] = flow
        about = flow or before
        assert about is not None, "there was a flow to delete"
        match, event = key[2], ADDED if flow else REMOVED
        length = _UPDATE.size + len(match) + len(about.rest)
        head = _UPDATE.pack(length, event, key[0], 0, *about.timeouts, key[1], about.cookie)
        return self._told(head + match + about.rest)

    def meddle_with_group(self, group: int, body: tuple[int, bytes] | None) -> bytes:
        """Somebody else writes a group, or deletes it (None)."""
        if body is None:
            del self.state.groups[group]
        else:
            self.state.groups[group] = body
        inner = _reply(GROUP_MOD, 0, _GROUP_MOD.pack(0 if body else 2, 0, group))
        return _reply(REQUEST_FORWARD, 0, inner)

    def pause(self) -> bytes:
        """Too much has changed for the switch to tell."""
        return self._told(struct.pack("!HHI", 8, PAUSED, 0))

    def _told(self, update: bytes) -> bytes:
        watched = {int.from_bytes(each.body[:2], "big") for each in self.watches}
        assert FLOW_MONITOR in watched, "nobody has asked to be told"
        return _reply(MULTIPART_REPLY, 0, struct.pack("!HH4x", FLOW_MONITOR, 0) + update)


def _watches(message: Message) -> bool:
    kind = int.from_bytes(message.body[:2], "big")
    listed = message.kind == MULTIPART_REQUEST and kind in (FLOW_MONITOR, PORT_DESC)
    return listed or message.kind in (SET_ASYNC, SET_CONFIG)


def error(about: Message, what: tuple[int, int]) -> bytes:
    """OFPT_ERROR about a message (7.5.4): type, code, the beginning of what was wrong."""
    head = _HEADER.pack(VERSION, about.kind, _HEADER.size + len(about.body), about.xid)
    return _reply(ERROR, about.xid, struct.pack("!HH", *what) + (head + about.body)[:64])


def split_match(data: bytes) -> tuple[bytes, bytes]:
    """The match (7.2.2.1) with its padding, and what stands behind it."""
    length = int.from_bytes(data[2:4], "big")
    end = -(-length // 8) * 8
    return data[:end], data[end:]


def fields_of(match: bytes) -> dict[tuple[int, int], bytes]:
    """The fields of a match: (class, field) -> value, and mask where there is one (7.2.2.2)."""
    end, at, fields = int.from_bytes(match[2:4], "big"), 4, {}
    while at < end:
        oxm_class, field_and_mask, length = struct.unpack_from("!HBB", match, at)
        fields[oxm_class, field_and_mask >> 1] = match[at + 4 : at + 4 + length]
        at += 4 + length
    return fields


def instructions_of(flow: Flow) -> Iterator[tuple[int, bytes]]:
    """Type and body of every instruction (7.2.4)."""
    yield from _type_length(flow.rest)


def gotos_of(flow: Flow) -> list[int]:
    """The tables that a flow sends packets to."""
    return [body[0] for kind, body in instructions_of(flow) if kind == 1]


def actions_of(flow: Flow) -> Iterator[tuple[int, bytes]]:
    """Type and body of every action that a flow applies (7.2.5)."""
    for kind, body in instructions_of(flow):
        if kind == 4:
            yield from _type_length(body[4:])


def groups_of(flow: Flow) -> list[int]:
    """The groups that a flow sends packets to."""
    return [int.from_bytes(body[:4], "big") for kind, body in actions_of(flow) if kind == 22]


def groups_called(buckets: bytes) -> Iterator[int]:
    """The groups that buckets (7.3.4.2) send packets to."""
    return _targets(buckets, 22)


def ports_fed(buckets: bytes) -> Iterator[int]:
    """The ports that buckets send packets to."""
    return _targets(buckets, 0)


def _targets(buckets: bytes, wanted: int) -> Iterator[int]:
    at = 0
    while at < len(buckets):
        length = int.from_bytes(buckets[at : at + 2], "big")
        for kind, body in _type_length(buckets[at + 16 : at + length]):
            if kind == wanted:
                yield int.from_bytes(body[:4], "big")
        at += length


def _type_length(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        kind, length = struct.unpack_from("!HH", data, at)
        yield kind, data[at + 4 : at + length]
        at += length


def _flow_entries(state: State, cookie: int, mask: int) -> Iterator[bytes]:
    for number, ((table, priority, match), flow) in enumerate(state.flows.items()):
        if flow.cookie & mask != cookie & mask:
            continue
        length = _FLOW_ENTRY.size + len(match) + len(flow.rest)
        # Durations and counters: never the same twice.
        yield (
            _FLOW_ENTRY.pack(
                *(length, table, number + 1, number * 7919, priority, *flow.timeouts),
                *(*flow.flags, flow.cookie, number * 3, number * 5),
            )
            + match
            + flow.rest
        )


def _group_entries(state: State) -> Iterator[bytes]:
    for group, (kind, buckets) in state.groups.items():
        yield struct.pack("!HBxI", 8 + len(buckets), kind, group) + buckets


def _message(data: bytes) -> Message:
    version, kind, length, xid = _HEADER.unpack_from(data)
    assert version == VERSION
    return Message(kind, xid, data[_HEADER.size : length])


def _reply(kind: int, xid: int, body: bytes) -> bytes:
    assert _HEADER.size + len(body) <= 0xFFFF, "ask for fewer entries_per_part"
    return _HEADER.pack(VERSION, kind, _HEADER.size + len(body), xid) + body


def messages_in(stream: bytes) -> Iterator[bytes]:
    """The messages of a stream, each whole."""
    at = 0
    while at < len(stream):
        length = _HEADER.unpack_from(stream, at)[2]
        yield stream[at : at + length]
        at += length
