"""An OpenFlow 1.4 switch in memory that is quick and believes what it is told.

`fake_switch.py` is the strict one, and the witness of this one: the same bytes must
leave the same flows and groups in both (tests/unit/test_quick_switch.py). Here a flow is two
strings of bytes, and a thousand switches cost little beside the agent that is measured.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

# ofp_type, OpenFlow 1.4.1, 7.1.1.
_GROUP_MOD, _MULTIPART_REQUEST, _MULTIPART_REPLY = 15, 18, 19
_BARRIER_REQUEST, _BARRIER_REPLY, _BUNDLE_CONTROL, _BUNDLE_ADD = 20, 21, 33, 34
_WATCHED = (13, 16)  # ports, and flows that others change: it has no ports, and no others
_SETTINGS = (9, 28)  # set-config, set-async: it has none to set
_OPEN, _COMMIT = 0, 4  # ofp_bundle_ctrl_type, 7.3.9.2
_FLOW_STATS: Final = 1
_MORE: Final = 1
_STRICT_DELETE, _GROUP_DELETE = 4, 2
_PART: Final = 60_000  # bytes of entries in one message

_HEADER = struct.Struct("!BBHI")
_FLOW_ENTRY = struct.Struct("!HBxIIH4s4s2x8sQQ")  # 7.3.5.2, before the match


@dataclass(slots=True)
class QuickSwitch:
    """Give it bytes with `take`; it returns the bytes that it answers.

    flows: table, priority and match -> cookie, timeouts, flags and instructions, as on the wire;
    groups: number -> type and buckets; commits: bundles committed ever
    """

    flows: dict[bytes, bytes] = field(default_factory=dict)
    groups: dict[int, bytes] = field(default_factory=dict)
    commits: int = 0
    _bundle: list[bytes] = field(default_factory=list)
    _rest: bytes = b""

    def take(self, data: bytes) -> bytes:
        """What the switch answers to these bytes."""
        data = self._rest + data
        answers: list[bytes] = []
        at, end = 0, len(data)
        while at + _HEADER.size <= end:
            _, kind, length, xid = _HEADER.unpack_from(data, at)
            if at + length > end:
                break
            if kind == _BUNDLE_ADD:
                self._bundle.append(data[at + 16 : at + length])
            else:
                answers.extend(self._answer(kind, xid, data[at + 8 : at + length]))
            at += length
        self._rest = data[at:]
        return b"".join(answers)

    def reconnect(self) -> None:
        """A new connection: what was not committed is gone."""
        self._bundle.clear()
        self._rest = b""

    def memory(self) -> int:
        """Bytes that its tables take in this process."""
        strings = (*self.flows, *self.flows.values(), *self.groups.values())
        return sum(map(sys.getsizeof, (self.flows, self.groups, *strings)))

    def _answer(self, kind: int, xid: int, body: bytes) -> Iterator[bytes]:
        if kind == _MULTIPART_REQUEST:
            what = int.from_bytes(body[:2], "big")
            if what in _WATCHED:
                return
            entries = self._flow_entries() if what == _FLOW_STATS else self._group_entries()
            parts = [*_parts(entries)]
            for number, part in enumerate(parts, 1):
                head = struct.pack("!HH4x", what, _MORE if number < len(parts) else 0)
                yield _reply(_MULTIPART_REPLY, xid, head + part)
        elif kind == _BARRIER_REQUEST:
            yield _reply(_BARRIER_REPLY, xid, b"")
        elif kind == _BUNDLE_CONTROL:
            bundle, what, flags = struct.unpack("!IHH", body)
            if what == _COMMIT:
                for message in self._bundle:
                    self._apply(message)
                self.commits += 1
            self._bundle.clear()
            yield _reply(_BUNDLE_CONTROL, xid, struct.pack("!IHH", bundle, what + 1, flags))
        elif kind not in _SETTINGS:
            raise ValueError(f"a message of type {kind} outside of a bundle")

    def _apply(self, message: bytes) -> None:
        if message[1] == _GROUP_MOD:
            command, group = message[9], int.from_bytes(message[12:16], "big")
            if command == _GROUP_DELETE:
                self.groups.pop(group, None)
            else:
                self.groups[group] = message[10:11] + message[16:]
            return
        # ofp_flow_mod, 7.3.4.1: the match begins at byte 48, padded to 8 bytes.
        end = 48 + -(-int.from_bytes(message[50:52], "big") // 8) * 8
        key = message[24:25] + message[30:32] + message[48:end]
        if message[25] == _STRICT_DELETE:
            self.flows.pop(key, None)
        else:
            self.flows[key] = message[8:16] + message[26:30] + message[44:48] + message[end:]

    def _flow_entries(self) -> Iterator[bytes]:
        for number, (key, value) in enumerate(self.flows.items()):
            length = _FLOW_ENTRY.size + len(key) - 3 + len(value) - 16
            priority = int.from_bytes(key[1:3], "big")
            counted = number, number * 7  # never the same twice
            head = _FLOW_ENTRY.pack(
                *(length, key[0], *counted, priority, value[8:12], value[12:16], value[:8]),
                *counted,
            )
            yield head + key[3:] + value[16:]

    def _group_entries(self) -> Iterator[bytes]:
        for group, body in self.groups.items():
            yield struct.pack("!HBxI", len(body) + 7, body[0], group) + body[1:]


def _parts(entries: Iterable[bytes]) -> Iterator[bytes]:
    """Entries in strings that fit a message; one that is empty if there are none."""
    part: list[bytes] = []
    size = 0
    for entry in entries:
        if size + len(entry) > _PART and part:
            yield b"".join(part)
            part, size = [], 0
        part.append(entry)
        size += len(entry)
    yield b"".join(part)


def _reply(kind: int, xid: int, body: bytes) -> bytes:
    return _HEADER.pack(5, kind, _HEADER.size + len(body), xid) + body
