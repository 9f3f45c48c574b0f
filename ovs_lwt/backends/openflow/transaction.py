"""One bundle: the messages that turn what is installed into what is desired, and who is who among
them.

Order in the bundle: groups before the flows that use them, then flows, deletes last. The bundle is
atomic: the switch does all of it or nothing. Every message has a transaction id of its own, so that
an error reply names its flow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ovs_lwt.backends.openflow import encode, listing, wire
from ovs_lwt.backends.openflow.pipeline import BUNDLE, COOKIE_OURS, COOKIE_OURS_MASK
from ovs_lwt.backends.openflow.program import FlowBlock, Program
from ovs_lwt.backends.openflow.rows import SHARED_LIST
from ovs_lwt.delta import Block, Indices, difference
from ovs_lwt.stencil import Bytes, big_endian

_COOKIE = 0  # the first part of a flow's value, in both layouts
_TABLE, _PRIORITY, _MATCH = 0, 1, 2  # the parts of its key
_VNIS = 1 << 24


@dataclass(frozen=True, slots=True)
class Counts:
    """What a transaction does. flows/groups written are new or changed."""

    flows_written: int = 0
    flows_deleted: int = 0
    groups_written: int = 0
    groups_deleted: int = 0
    unchanged: int = 0

    @property
    def changes(self) -> int:
        """How many messages it takes."""
        return self.flows_written + self.flows_deleted + self.groups_written + self.groups_deleted

    def __str__(self) -> str:
        return (
            f"{self.flows_written} flows written, {self.flows_deleted} deleted,"
            f" {self.unchanged} as they were;"
            f" {self.groups_written} groups written, {self.groups_deleted} deleted"
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Step:
    """Messages of one size; describe: row -> what it does, in ovs-ofctl syntax."""

    rows: Bytes
    describe: Callable[[int], str]


@dataclass(slots=True, eq=False)
class Transaction:
    """The messages of one bundle, without its opening and its commit.

    foreign: flows and groups that are not ours and go, in ovs-ofctl syntax
    growth: how many flows and groups there are more than before
    """

    steps: list[_Step] = field(default_factory=list)
    counts: Counts = Counts()
    foreign: list[str] = field(default_factory=list)
    growth: tuple[int, int] = (0, 0)
    _first_xid: int = 0

    def __len__(self) -> int:
        return sum(len(step.rows) for step in self.steps)

    def number(self, first_xid: int) -> None:
        """Give every message its transaction id, counting up from `first_xid`."""
        self._first_xid = first_xid
        for step in self.steps:
            xids = big_endian(np.arange(first_xid, first_xid + len(step.rows)), 4)
            for place in wire.XIDS:
                step.rows[:, place : place + 4] = xids
            first_xid += len(step.rows)

    def messages(self) -> Iterator[memoryview]:
        """The bytes to send, in order."""
        for step in self.steps:
            yield step.rows.reshape(-1).data

    def describe(self, xid: int) -> str | None:
        """What the message with this transaction id was about; None if it is none of these."""
        row = xid - self._first_xid
        for step in self.steps:
            if 0 <= row < len(step.rows):
                return step.describe(row)
            row -= len(step.rows)
        return None


def between(
    installed: Sequence[Block],
    installed_groups: Mapping[int, bytes],
    desired: Program,
    *,
    keep_foreign: bool = False,
) -> Transaction:
    """The transaction that leads from what is installed to what is desired; without steps if they
    are the same.

    keep_foreign: leave flows alone whose cookie is not ours, and groups whose number is not
    """
    delta = difference(desired.blocks, installed)
    doomed = [
        rows[_ours(block.rows[rows][:, block.value[_COOKIE]])] if keep_foreign else rows
        for block, rows in zip(installed, delta.delete, strict=True)
    ]
    stale = [
        id_
        for id_ in installed_groups
        if id_ not in desired.groups and not (keep_foreign and not _our_group(id_))
    ]
    fresh = [id_ for id_, body in desired.groups.items() if installed_groups.get(id_) != body]
    steps = [
        _group_step(desired.groups[id_], "MODIFY" if id_ in installed_groups else "ADD", id_)
        for id_ in fresh
    ]
    for flows, rows in zip(desired.flows, delta.write, strict=True):
        if len(rows):
            # All of them, as on a cold start: no copy.
            messages = flows.block.rows if len(rows) == len(flows.block) else flows.block.rows[rows]
            steps.append(_Step(messages, partial(_line, flows, rows)))
    for block, rows in zip(installed, doomed, strict=True):
        if len(rows):
            steps.append(_delete_step(block, rows))
    steps += [_group_step(installed_groups[id_], "DELETE", id_) for id_ in stale]
    counts = Counts(
        sum(map(len, delta.write)), sum(map(len, doomed)), len(fresh), len(stale), delta.same
    )
    foreign = [f"group_id={id_}" for id_ in stale if not _our_group(id_)]
    for block, rows in zip(installed, doomed, strict=True):
        others = rows[~_ours(block.rows[rows][:, block.value[_COOKIE]])]
        foreign += [listing.flow_line(block, int(row)) for row in others]
    growth = (
        desired.flow_count - sum(map(len, installed)),
        len(desired.groups) - len(installed_groups),
    )
    return Transaction(steps, counts, foreign, growth)


def _line(flows: FlowBlock, rows: Indices, row: int) -> str:
    return flows.line(int(rows[row]))


def _ours(cookies: Bytes) -> NDArray[np.bool_]:
    mask, wanted = big_endian(np.array([COOKIE_OURS_MASK, COOKIE_OURS], np.uint64), 8)
    ours: NDArray[np.bool_] = ((cookies & mask) == wanted).all(axis=1)
    return ours


def _our_group(group: int) -> bool:
    return 0 < group < _VNIS or SHARED_LIST < group < SHARED_LIST + _VNIS


def _group_step(body: bytes, command: str, group: int) -> _Step:
    head = encode.in_bundle(encode.group_mod(command, group, []), BUNDLE, 0)
    buckets = b"" if command == "DELETE" else body[len(head) - wire.INNER - wire.GROUP_MOD_BODY :]
    row = _with_lengths(np.frombuffer(head + buckets, np.uint8)[None, :].copy())
    return _Step(row, lambda _: f"{command.lower()}-group {listing.group_line(group, body)}")


def _delete_step(block: Block, rows: Indices) -> _Step:
    """Strict deletes of these rows, in whichever layout they came: a key is all it takes."""
    chosen = block.rows[rows]
    head = np.frombuffer(encode.in_bundle(encode.flow_delete(0, 0), BUNDLE, 0), np.uint8)[
        : wire.ADD_MATCH
    ]
    match = chosen[:, block.key[_MATCH]]
    messages = np.empty((len(rows), len(head) + match.shape[1]), np.uint8)
    messages[:, : len(head)] = head
    messages[:, len(head) :] = match
    messages[:, wire.ADD_TABLE] = chosen[:, block.key[_TABLE]]
    messages[:, wire.ADD_PRIORITY] = chosen[:, block.key[_PRIORITY]]
    return _Step(
        _with_lengths(messages), lambda row: f"delete {listing.flow_line(block, int(rows[row]))}"
    )


def _with_lengths(messages: Bytes) -> Bytes:
    width = messages.shape[1]
    for place, start in zip(wire.LENGTHS, (0, wire.INNER), strict=True):
        messages[:, place : place + 2] = big_endian(np.array([width - start]), 2)
    return messages
