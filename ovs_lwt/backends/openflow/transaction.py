"""One bundle: the messages that turn what is installed into what is desired, and who is who among
them.

Order in the bundle: groups before the flows that use them, then flows, deletes last. The bundle is
atomic: the switch does all of it or nothing. Every message has a transaction id of its own, so that
an error reply names its flow.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import chain, groupby

import numpy as np
from numpy.typing import NDArray

from ovs_lwt.backends.openflow import encode, floods, listing, wire
from ovs_lwt.backends.openflow.foreign import Foreign
from ovs_lwt.backends.openflow.pipeline import BUNDLE, COOKIE_OURS, COOKIE_OURS_MASK
from ovs_lwt.backends.openflow.program import Part, Program
from ovs_lwt.delta import Block, DuplicateKey, Indices, Installed
from ovs_lwt.mistakes import Refused
from ovs_lwt.stencil import Bytes, big_endian

_COOKIE = 0  # the first part of a flow's value, in both layouts
_TABLE, _PRIORITY, _MATCH = 0, 1, 2  # the parts of its key


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


@dataclass(frozen=True, slots=True, eq=False)
class _Sent:
    """Messages that went out: their transaction ids, and what they do."""

    xids: range
    describe: Callable[[int], str]


class Transaction:
    """What leads from installed to desired: the messages of one bundle, made as they are sent.

    They are not kept: a million flows are never in memory at once.

    counts, growth (how many flows and groups there are more than before) and foreign (flows and
    groups that are not ours and go, in ovs-ofctl syntax) and kept (flows that are not ours and
    stay) are complete once all is taken.
    """

    def __init__(
        self,
        installed: Sequence[Block],
        installed_groups: Mapping[int, bytes],
        desired: Program,
        *,
        keep_foreign: bool = False,
    ) -> None:
        """keep_foreign: leave flows alone whose cookie is not ours, and groups whose number is not.

        Raises Refused for a group that no message can hold.
        """
        self.growth = (0, 0)
        self.foreign: list[str] = []
        self.kept = Foreign()
        self._keep_foreign = keep_foreign
        self._counts = Counter[str]()
        self._sent: list[_Sent] = []
        self._steps = chain(
            self._written_groups(installed_groups, desired.groups),
            self._flows(installed, desired.parts),
            self._deleted_groups(installed_groups, desired.groups),
        )

    @property
    def counts(self) -> Counts:
        """What it has done so far."""
        return Counts(**self._counts)

    def take(self, number: Callable[[int], int]) -> memoryview | None:
        """Return the next messages to send; None: that was all.

        number: gives the first of so many transaction ids in a row

        Raises Refused if two flows have one match; then there is nothing more to take.
        """
        step = next(self._steps, None)
        if step is None:
            return None
        first = number(len(step.rows))
        xids = big_endian(np.arange(first, first + len(step.rows)), 4)
        for place in wire.XIDS:
            step.rows[:, place : place + 4] = xids
        self._sent.append(_Sent(range(first, first + len(step.rows)), step.describe))
        return step.rows.reshape(-1).data

    def describe(self, xid: int) -> str | None:
        """Say what the message with this transaction id was about; None if it is none of these."""
        for sent in self._sent:
            if xid in sent.xids:
                return sent.describe(xid - sent.xids.start)
        return None

    def _written_groups(
        self, installed: Mapping[int, bytes], desired: Mapping[int, bytes]
    ) -> Iterator[_Step]:
        fresh = [id_ for id_, body in desired.items() if installed.get(id_) != body]
        self._counts.update(groups_written=len(fresh))
        yield from _group_steps(
            ("MODIFY" if id_ in installed else "ADD", id_, desired[id_]) for id_ in fresh
        )

    def _flows(self, installed: Sequence[Block], desired: Sequence[Part]) -> Iterator[_Step]:
        try:
            there = Installed(installed)
        except DuplicateKey as duplicate:
            lines = [listing.flow_line(installed[block], row) for block, row in duplicate.args]
            raise Refused(_both("the switch lists two flows with one match", lines)) from None
        count = 0
        for part in desired:
            flows = part.flows()
            count += sum(len(each.block) for each in flows)
            try:
                differing = there.differing([each.block for each in flows])
            except DuplicateKey as duplicate:
                lines = [flows[block].line(row) for block, row in duplicate.args]
                raise Refused(_both("two flows would have one match", lines)) from None
            for number, (each, rows) in enumerate(zip(flows, differing, strict=True)):
                if len(rows):
                    self._counts.update(flows_written=len(rows))
                    # All of them, as on a cold start: no copy.
                    whole = len(rows) == len(each.block)
                    messages = each.block.rows if whole else each.block.rows[rows]
                    yield _Step(messages, partial(_line, part, number, rows))
        for block, orphans in zip(installed, there.orphans(), strict=True):
            ours = _ours(block.rows[orphans][:, block.value[_COOKIE]])
            rows = orphans[ours] if self._keep_foreign else orphans
            if len(rows):
                self._counts.update(flows_deleted=len(rows))
                yield _delete_step(block, rows)
            if self._keep_foreign:
                self.kept = self.kept.joined(Foreign.among(block, orphans[~ours]))
            else:
                foreign = orphans[~ours].tolist()
                self.foreign += [listing.flow_line(block, row) for row in foreign]
        self._counts.update(unchanged=there.same)
        self.growth = (count - sum(map(len, installed)), self.growth[1])

    def _deleted_groups(
        self, installed: Mapping[int, bytes], desired: Mapping[int, bytes]
    ) -> Iterator[_Step]:
        # Groups call those of higher numbers: who calls goes first.
        stale = [id_ for id_ in sorted(installed) if id_ not in desired]
        if self._keep_foreign:
            stale = [id_ for id_ in stale if floods.is_ours(id_)]
        self._counts.update(groups_deleted=len(stale))
        # Before those of the flows, as they stand in the switch's own lists.
        self.foreign[:0] = [f"group_id={id_}" for id_ in stale if not floods.is_ours(id_)]
        self.growth = (self.growth[0], len(desired) - len(installed))
        yield from _group_steps(("DELETE", id_, installed[id_]) for id_ in stale)


def _both(what: str, lines: Sequence[str]) -> str:
    return f"{what}: " + " and ".join(f"'{line}'" for line in lines)


def _line(part: Part, number: int, rows: Indices, row: int) -> str:
    return part.flows()[number].line(int(rows[row]))


def _ours(cookies: Bytes) -> NDArray[np.bool_]:
    mask, wanted = big_endian(np.array([COOKIE_OURS_MASK, COOKIE_OURS], np.uint64), 8)
    ours: NDArray[np.bool_] = ((cookies & mask) == wanted).all(axis=1)
    return ours


def _group_steps(groups: Iterable[tuple[str, int, bytes]]) -> Iterator[_Step]:
    """The messages that do this (command, number, body) with groups, in the same order; those of
    one size that follow each other are one step.
    """
    for _, some in groupby(groups, lambda each: len(_kept(each[0], each[2]))):
        together = list(some)
        messages = [_group_message(command, body) for command, _, body in together]
        rows = np.frombuffer(bytearray().join(messages), np.uint8)
        yield _Step(rows.reshape(len(messages), -1), partial(_group_line, together))


def _group_line(groups: Sequence[tuple[str, int, bytes]], row: int) -> str:
    command, id_, body = groups[row]
    return f"{command.lower()}-group {listing.group_line(id_, body)}"


def _kept(command: str, body: bytes) -> bytes:
    return body[: wire.GROUP_HEAD] if command == "DELETE" else body


def _group_message(command: str, body: bytes) -> bytearray:
    message = bytearray(_group_start(command) + _kept(command, body))
    # There are thousands of groups: in numpy, each would cost as much as hundreds of flows.
    for place, start in zip(wire.LENGTHS, (0, wire.INNER), strict=True):
        message[place : place + 2] = (len(message) - start).to_bytes(2, "big")
    return message


@cache
def _group_start(command: str) -> bytes:
    """What a bundled group mod begins with, up to where the group itself is written."""
    message = encode.in_bundle(encode.group_mod(command, 0, []), BUNDLE, 0)
    return message[: wire.INNER + wire.GROUP_MOD_BODY]


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
    width = messages.shape[1]
    for place, start in zip(wire.LENGTHS, (0, wire.INNER), strict=True):
        messages[:, place : place + 2] = big_endian(np.array([width - start]), 2)
    return _Step(messages, lambda row: f"delete {listing.flow_line(block, int(rows[row]))}")
