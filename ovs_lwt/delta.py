"""Desired against installed: what to write and what to delete, over rows of bytes.

A row has a key (what it is about: table, priority, match) and a value (what it says: cookie,
instructions). Desired and installed rows may come in different layouts (a message we would send, an
entry the switch has listed): a block says where in its rows key and value stand. Nothing is
decoded, and nothing loops over rows in Python.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
from numpy.typing import NDArray

from ovs_lwt.stencil import Bytes

Indices = NDArray[np.intp]

_CHUNK = 1 << 16  # rows fingerprinted at a time: they fit the processor's cache


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Rows of one layout.

    rows: uint8[n, width]; key, value: the parts of a row, in an order that all blocks share
    """

    rows: Bytes
    key: tuple[slice, ...]
    value: tuple[slice, ...]

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, slots=True, eq=False)
class Delta:
    """What leads from installed to desired.

    write[i]: rows of desired block i that are new, or whose value differs; delete[i]: rows of
    installed block i whose key nobody desires; same: how many rows need nothing
    """

    write: tuple[Indices, ...]
    delete: tuple[Indices, ...]
    same: int


class _Collision(Exception):
    """Two different keys had one fingerprint."""


class DuplicateKey(Exception):
    """Two rows of one side have one key: (block, row) of each."""


def difference(desired: Sequence[Block], installed: Sequence[Block]) -> Delta:
    """The exact difference; fingerprints only find the pairs, bytes decide.

    Raises DuplicateKey when two desired rows have one key, or two installed rows have.
    """
    for seed in count(1):
        try:
            return _difference(desired, installed, seed)
        except _Collision:
            continue
    raise AssertionError("unreachable")


def _difference(desired: Sequence[Block], installed: Sequence[Block], seed: int) -> Delta:
    wanted, there = _keys(desired, seed), _keys(installed, seed)
    _refuse_duplicates(desired, wanted)
    order = np.argsort(there)
    sorted_there = there[order]
    if (sorted_there[1:] == sorted_there[:-1]).any():
        _refuse_duplicates(installed, there)
    place = np.searchsorted(sorted_there, wanted)
    place[place == len(there)] = 0
    found = sorted_there[place] == wanted if len(there) else np.zeros(len(wanted), bool)
    partner = order[place] if len(there) else place
    same = _same(desired, installed, np.flatnonzero(found), partner[found])
    keep = np.ones(len(wanted), bool)
    keep[same] = False
    orphan = np.ones(len(there), bool)
    orphan[partner[found]] = False
    return Delta(_per_block(desired, keep), _per_block(installed, orphan), len(same))


def _same(
    desired: Sequence[Block], installed: Sequence[Block], wanted: Indices, there: Indices
) -> Indices:
    """Those of the pairs (numbers across all blocks) that are equal in every byte; all must have
    equal keys.
    """
    d_start, i_start = _starts(desired), _starts(installed)
    d_block = np.searchsorted(d_start, wanted, "right") - 1
    i_block = np.searchsorted(i_start, there, "right") - 1
    same = [np.empty(0, np.intp)]
    for pair in np.unique(d_block * len(installed) + i_block):
        d, i = divmod(int(pair), len(installed))
        mine = (d_block == d) & (i_block == i)
        left = desired[d].rows[wanted[mine] - d_start[d]]
        right = installed[i].rows[there[mine] - i_start[i]]
        if not _equal(left, desired[d].key, right, installed[i].key).all():
            raise _Collision
        same.append(wanted[mine][_equal(left, desired[d].value, right, installed[i].value)])
    return np.concatenate(same)


def _equal(
    left: Bytes, left_parts: Sequence[slice], right: Bytes, right_parts: Sequence[slice]
) -> NDArray[np.bool_]:
    equal = np.ones(len(left), bool)
    for a, b in zip(left_parts, right_parts, strict=True):
        if a.stop - a.start != b.stop - b.start:
            return np.zeros(len(left), bool)
        equal &= (left[:, a] == right[:, b]).all(axis=1)
    return equal


def _refuse_duplicates(side: Sequence[Block], fingerprints: NDArray[np.uint64]) -> None:
    order = np.argsort(fingerprints, kind="stable")
    again = np.flatnonzero(fingerprints[order][1:] == fingerprints[order][:-1])
    if not len(again):
        return
    starts = _starts(side)
    places = []
    for number in order[[again[0], again[0] + 1]]:
        block = int(np.searchsorted(starts, number, "right")) - 1
        places.append((block, int(number - starts[block])))
    (a, row_a), (b, row_b) = places
    left, right = side[a].rows[[row_a]], side[b].rows[[row_b]]
    if _equal(left, side[a].key, right, side[b].key).all():
        raise DuplicateKey(*places)
    raise _Collision


def _keys(blocks: Sequence[Block], seed: int) -> NDArray[np.uint64]:
    """A 64-bit fingerprint of every row's key, block after block: uint64[n]."""
    return np.concatenate(
        [np.empty(0, np.uint64), *(fingerprints(block.rows, block.key, seed) for block in blocks)]
    )


def fingerprints(rows: Bytes, parts: Sequence[slice], seed: int) -> NDArray[np.uint64]:
    """A 64-bit fingerprint of these parts of every row; equal bytes have equal fingerprints in
    every layout.
    """
    width = sum(part.stop - part.start for part in parts)
    result = np.empty(len(rows), np.uint64)
    words = np.zeros((min(len(rows), _CHUNK), -(-width // 8) * 8), np.uint8)
    start = np.random.default_rng(seed).integers(1 << 63, dtype=np.uint64) + np.uint64(width)
    for first in range(0, len(rows), _CHUNK):
        chunk = rows[first : first + _CHUNK]
        at = 0
        for part in parts:
            words[: len(chunk), at : at + part.stop - part.start] = chunk[:, part]
            at += part.stop - part.start
        result[first : first + len(chunk)] = _fold(words[: len(chunk)].view(np.uint64), start)
    return result


def _fold(words: NDArray[np.uint64], start: np.uint64) -> NDArray[np.uint64]:
    """Multiply and mix word by word (the constants are those of splitmix64, which spread every
    bit).
    """
    state = np.full(len(words), start, np.uint64)
    for word in words.T:
        state ^= word
        state *= np.uint64(0xBF58476D1CE4E5B9)
        state ^= state >> np.uint64(31)
        state *= np.uint64(0x94D049BB133111EB)
        state ^= state >> np.uint64(29)
    return state


def _starts(blocks: Sequence[Block]) -> Indices:
    return np.cumsum([0, *(len(block) for block in blocks)])[:-1]


def _per_block(blocks: Sequence[Block], chosen: NDArray[np.bool_]) -> tuple[Indices, ...]:
    edges = np.cumsum([len(block) for block in blocks])[:-1]
    return tuple(np.flatnonzero(part) for part in np.split(chosen, edges)) if blocks else ()
