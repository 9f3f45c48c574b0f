"""What turns the entries that are installed into those that are desired, and who is who among them.

Adding replaces, so an entry that changes is never missing. Adds go first and in the order of
`KINDS`, deletes after them in the reverse order: what an entry leans on is there as long as it is.
Only where the kernel does not replace (`Kind.first`) deletes come before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from pyroute2.netlink import NLM_F_REQUEST

from ovs_lwt.backends.netlink import wire
from ovs_lwt.backends.netlink.kinds import ABSENT, KINDS, Kind
from ovs_lwt.backends.netlink.listing import delete_line
from ovs_lwt.backends.netlink.program import Program, Stamped
from ovs_lwt.backends.netlink.templates import Devices
from ovs_lwt.backends.netlink.wire import Listed
from ovs_lwt.columns import Flags, Indices
from ovs_lwt.delta import Block, DuplicateKey, difference, fingerprints
from ovs_lwt.mistakes import Refused
from ovs_lwt.stencil import Bytes


@dataclass(frozen=True, slots=True)
class Counts:
    """What a transaction does; written are new or changed."""

    written: int = 0
    deleted: int = 0
    unchanged: int = 0

    @property
    def changes(self) -> int:
        """How many messages it takes."""
        return self.written + self.deleted

    def __str__(self) -> str:
        return f"{self.written} written, {self.deleted} deleted, {self.unchanged} as they were"


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """Messages of one length.

    done: answers that mean it is so already; describe: row -> what it does, in `ip`'s words
    """

    rows: Bytes
    done: frozenset[int]
    describe: Callable[[int], str]


@dataclass(frozen=True, slots=True)
class Transaction:
    """Messages to send, in order."""

    steps: Sequence[Step] = field(default_factory=list)
    counts: Counts = Counts()

    def __len__(self) -> int:
        return sum(len(step.rows) for step in self.steps)


def between(installed: Sequence[Listed], desired: Program) -> Transaction:
    """The transaction that leads from what is installed to what is desired; without steps if they
    are the same.

    Only entries that are ours are deleted; what another has put in the place of ours is replaced.
    Raises Refused if two desired rows are about one entry.
    """
    first, writes, deletes = [], [], []
    unchanged = 0
    for kind in KINDS:
        there = [listed for listed in installed if listed.kind is kind]
        wanted = [stamped for stamped in desired.stamped if stamped.template.kind is kind]
        there, doubled = _without_doubles(there)
        first += _deletes(kind, doubled, desired.devices)
        try:
            delta = difference(_blocks([each.entries for each in wanted]), _blocks(there))
        except DuplicateKey as duplicate:
            raise Refused(_both(wanted, *duplicate.args)) from None
        unchanged += delta.same
        writes += [
            Step(_chosen(stamped.entries.block.rows, rows), kind.exists, _writer(stamped, rows))
            for stamped, rows in zip(wanted, delta.write, strict=True)
            if len(rows)
        ]
        orphans = [
            (listed, rows[listed.mine[rows]])
            for listed, rows in zip(there, delta.delete, strict=True)
        ]
        if kind.first:
            changed = _replaced(wanted, delta.write, there)
            first += _deletes(kind, [*orphans, *changed], desired.devices)
            continue
        deletes.append(_deletes(kind, _in_order(orphans), desired.devices))
    last = [step for steps in reversed(deletes) for step in steps]
    deleted = sum(len(step.rows) for step in (*first, *last))
    counts = Counts(sum(len(step.rows) for step in writes), deleted, unchanged)
    return Transaction([*first, *writes, *last], counts)


def _blocks(listed: Sequence[Listed]) -> list[Block]:
    return [each.block for each in listed]


def _chosen(rows: Bytes, which: Indices) -> Bytes:
    # All of them, as on a cold start: no copy.
    return rows if len(which) == len(rows) else rows[which]


def _writer(stamped: Stamped, rows: Indices) -> Callable[[int], str]:
    return lambda row: stamped.line(int(rows[row]))


def _both(wanted: Sequence[Stamped], one: tuple[int, int], other: tuple[int, int]) -> str:
    lines = [f"'{wanted[block].line(row)}'" for block, row in (one, other)]
    return f"two rows are about one entry: {' and '.join(lines)}"


def _without_doubles(
    installed: Sequence[Listed],
) -> tuple[list[Listed], list[tuple[Listed, Indices]]]:
    """Those whose key is theirs alone, and the others: the kernel takes routes that differ in the
    next hop only, and which of them a replacing would meet is not ours to know.
    """
    if not installed:
        return [], []
    keys = [fingerprints(each.block.rows, each.block.key, 0) for each in installed]
    every = np.sort(np.concatenate(keys))
    several = np.unique(every[1:][every[1:] == every[:-1]])
    if not len(several):
        return list(installed), []
    kept, doubled = [], []
    for each, key in zip(installed, keys, strict=True):
        again: Flags = np.isin(key, several)
        rows = each.block.rows[~again]
        kept.append(Listed(each.kind, Block(rows, each.block.key, each.block.value), each.shape))
        doubled.append((each, np.flatnonzero(again & each.mine)))
    return kept, doubled


def _replaced(
    wanted: Sequence[Stamped], write: Sequence[Indices], installed: Sequence[Listed]
) -> list[tuple[Listed, Indices]]:
    """Installed entries whose key is that of an entry about to be written."""
    keys = [
        fingerprints(_chosen(each.entries.block.rows, rows), each.entries.block.key, 0)
        for each, rows in zip(wanted, write, strict=True)
    ]
    written = np.concatenate([np.empty(0, np.uint64), *keys])
    return [
        (each, np.flatnonzero(np.isin(fingerprints(each.block.rows, each.block.key, 0), written)))
        for each in installed
    ]


def _in_order(chosen: Sequence[tuple[Listed, Indices]]) -> list[tuple[Listed, Indices]]:
    """The same entries in the order of their kind, in runs of one shape."""
    chosen = [(listed, rows) for listed, rows in chosen if len(rows)]
    if not chosen or chosen[0][0].kind.order is None:
        return list(chosen)
    shape = np.repeat(np.arange(len(chosen)), [len(rows) for _, rows in chosen])
    row = np.concatenate([rows for _, rows in chosen])
    order = np.argsort(
        np.concatenate([listed.places(rows) for listed, rows in chosen]), kind="stable"
    )
    runs = np.split(order, np.flatnonzero(np.diff(shape[order])) + 1)
    return [(chosen[shape[run[0]]][0], row[run]) for run in runs]


def _deletes(kind: Kind, chosen: Sequence[tuple[Listed, Indices]], devices: Devices) -> list[Step]:
    """An entry is deleted in the words in which it was listed: that names no other."""
    steps = []
    for listed, rows in chosen:
        if len(rows):
            messages = listed.block.rows[rows]
            for place, value in ((wire.TYPE, kind.delete), (wire.FLAGS, NLM_F_REQUEST)):
                messages[:, place] = wire.octets(value, 2)
            steps.append(Step(messages, ABSENT, partial(_delete_line, listed, rows, devices)))
    return steps


def _delete_line(listed: Listed, rows: Indices, devices: Devices, row: int) -> str:
    return delete_line(listed, int(rows[row]), devices)
