"""Desired against installed: what to write and what to delete, over rows of bytes.

A row has a key (what it is about: table, priority, match) and a value (what it says: cookie,
instructions). Desired and installed rows may come in different layouts (a message we would send, an
entry the switch has listed): a block says where in its rows key and value stand. Nothing is
decoded, and nothing loops over rows in Python.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, count, pairwise

import numpy as np
from numpy.typing import NDArray

from ovs_lwt.stencil import Bytes

Indices = NDArray[np.intp]

_CHUNK = 1 << 16  # rows fingerprinted at a time: they fit the processor's cache
_SMALL = 256


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


class DuplicateKey(Exception):
    """Two rows of one side have one key: (block, row) of each."""


def difference(desired: Sequence[Block], installed: Sequence[Block]) -> Delta:
    """The exact difference.

    Raises DuplicateKey when two desired rows have one key, or two installed rows have.
    """
    there = Installed(installed)
    write = there.differing(desired)
    return Delta(write, there.orphans(), there.same)


class Installed:
    """What is there, to be compared with what is desired, all at once or piece by piece.

    Fingerprints only find the pairs, bytes decide. same: how many desired rows were there already
    """

    def __init__(self, blocks: Sequence[Block]) -> None:
        """Raises DuplicateKey when two rows have one key."""
        self.blocks, self.same = blocks, 0
        self._starts = _starts(blocks)
        for self._seed in count(1):
            found = _keys(blocks, self._seed)
            self._order = np.argsort(found)
            self._sorted = found[self._order]
            if not (self._sorted[1:] == self._sorted[:-1]).any():
                break
            _refuse_duplicates(blocks, found)
        self._wanted = np.zeros(len(found), bool)

    def differing(self, desired: Sequence[Block]) -> tuple[Indices, ...]:
        """Return, for each block, its rows that are new, or whose value differs.

        Raises DuplicateKey when two of the rows have one key. Pieces must not share a key.
        """
        wanted = _keys(desired, self._seed)
        _refuse_duplicates(desired, wanted)
        keep = np.ones(len(wanted), bool)
        if len(self._sorted):
            place = np.searchsorted(self._sorted, wanted)
            place[place == len(self._sorted)] = 0
            found = np.flatnonzero(self._sorted[place] == wanted)
            keep[self._meet(desired, found, self._order[place[found]])] = False
        return _per_block(desired, keep)

    def orphans(self) -> tuple[Indices, ...]:
        """Return, for each installed block, the rows whose key nobody has desired so far."""
        return _per_block(self.blocks, ~self._wanted)

    def _meet(self, desired: Sequence[Block], wanted: Indices, there: Indices) -> Indices:
        """Those of the pairs (numbers across all blocks) that are equal in every byte; takes note
        of those whose keys are.
        """
        d_start, i_start = _starts(desired), self._starts
        d_block = np.searchsorted(d_start, wanted, "right") - 1
        i_block = np.searchsorted(i_start, there, "right") - 1
        same = [np.empty(0, np.intp)]
        for pair in np.unique(d_block * len(self.blocks) + i_block):
            d, i = divmod(int(pair), len(self.blocks))
            mine = (d_block == d) & (i_block == i)
            left = desired[d].rows[wanted[mine] - d_start[d]]
            right = self.blocks[i].rows[there[mine] - i_start[i]]
            met = _equal(left, desired[d].key, right, self.blocks[i].key)
            self._wanted[there[mine][met]] = True
            met &= _equal(left, desired[d].value, right, self.blocks[i].value)
            same.append(wanted[mine][met])
        found = np.concatenate(same)
        self.same += len(found)
        return found


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
    ascending = np.sort(fingerprints)
    if not (ascending[1:] == ascending[:-1]).any():
        return
    order = np.argsort(fingerprints, kind="stable")
    starts = _starts(side)
    known: dict[bytes, tuple[int, int]] = {}
    # Rows of one key have one fingerprint, and few others do.
    for first in np.flatnonzero(np.diff(fingerprints[order]) == 0).tolist():
        for number in order[first : first + 2]:
            block = int(np.searchsorted(starts, number, "right")) - 1
            place = block, int(number - starts[block])
            key = b"".join(side[block].rows[place[1], part].tobytes() for part in side[block].key)
            if known.setdefault(key, place) != place:
                raise DuplicateKey(known[key], place)


def _keys(blocks: Sequence[Block], seed: int) -> NDArray[np.uint64]:
    """A 64-bit fingerprint of every row's key, block after block: uint64[n]."""
    found: list[NDArray[np.uint64]] = [np.empty(0, np.uint64)] * len(blocks)
    small: dict[int, list[int]] = {}
    for number, block in enumerate(blocks):
        if len(block) > _SMALL:
            found[number] = fingerprints(block.rows, block.key, seed)
        else:
            small.setdefault(sum(part.stop - part.start for part in block.key), []).append(number)
    # One row costs as much as hundreds: small blocks with keys of one size are done together.
    for width, numbers in small.items():
        keys = [
            np.concatenate([blocks[number].rows[:, part] for part in blocks[number].key], axis=1)
            for number in numbers
        ]
        together = fingerprints(np.concatenate(keys), (slice(0, width),), seed)
        edges = accumulate(map(len, keys), initial=0)
        for number, (low, high) in zip(numbers, pairwise(edges), strict=True):
            found[number] = together[low:high]
    return np.concatenate([np.empty(0, np.uint64), *found])


def fingerprints(rows: Bytes, parts: Sequence[slice], seed: int) -> NDArray[np.uint64]:
    """A 64-bit fingerprint of these parts of every row; equal bytes have equal fingerprints in
    every layout.
    """
    width = sum(part.stop - part.start for part in parts)
    result = np.empty(len(rows), np.uint64)
    words = np.zeros((min(len(rows), _CHUNK), -(-width // 8) * 8), np.uint8)
    start = _start(seed) + np.uint64(width)
    for first in range(0, len(rows), _CHUNK):
        chunk = rows[first : first + _CHUNK]
        at = 0
        for part in parts:
            words[: len(chunk), at : at + part.stop - part.start] = chunk[:, part]
            at += part.stop - part.start
        result[first : first + len(chunk)] = _fold(words[: len(chunk)].view(np.uint64), start)
    return result


@cache
def _start(seed: int) -> np.uint64:
    return np.random.default_rng(seed).integers(1 << 63, dtype=np.uint64)


def _fold(words: NDArray[np.uint64], start: np.uint64) -> NDArray[np.uint64]:
    """Multiply and mix word by word (the constants are those of splitmix64, which spread every
    bit).
    """
    state = np.full(len(words), start, np.uint64)
    for word in words.T:
        state ^= word
        state *= _SPREAD[0]
        state ^= state >> _SHIFT[0]
        state *= _SPREAD[1]
        state ^= state >> _SHIFT[1]
    return state


# Made once: for few rows they would cost more than the arithmetic.
_SPREAD = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_SHIFT = np.uint64(31), np.uint64(29)


def _starts(blocks: Sequence[Block]) -> Indices:
    return np.cumsum([0, *(len(block) for block in blocks)])[:-1]


def _per_block(blocks: Sequence[Block], chosen: NDArray[np.bool_]) -> tuple[Indices, ...]:
    edges = accumulate(map(len, blocks), initial=0)
    return tuple(np.flatnonzero(chosen[low:high]) for low, high in pairwise(edges))
