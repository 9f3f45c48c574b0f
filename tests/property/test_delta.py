"""The difference of blocks is the difference of dicts, in whatever layouts the rows come."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ovs_lwt import delta
from ovs_lwt.delta import Block, DuplicateKey, difference

Row = tuple[bytes, bytes]
"""Key and value."""

# How many bytes the parts of key and value have; rows of different sizes go into different blocks.
_SIZES = st.tuples(st.sampled_from((1, 2, 9)), st.sampled_from((0, 1, 8)))


@st.composite
def rows(draw: st.DrawFn) -> dict[bytes, bytes]:
    """Rows with few different bytes, so that keys meet; a key is 2 bytes and a part of any size."""
    found = {}
    for key, value in draw(st.lists(_SIZES, max_size=8)):
        octet = st.sampled_from(b"\0\1")
        head = bytes(draw(st.lists(octet, min_size=2, max_size=2)))
        tail = bytes(draw(st.lists(octet, min_size=1, max_size=1))) * key
        found[head + tail] = bytes(draw(st.lists(octet, min_size=1, max_size=1))) + b"v" * value
    return found


@st.composite
def blocks(draw: st.DrawFn, content: dict[bytes, bytes]) -> tuple[list[Block], list[list[Row]]]:
    """The rows as blocks of mixed layouts, and what stands in them."""
    shelves: dict[tuple[int, int, int], list[Row]] = {}
    for key, value in content.items():
        shelf = draw(st.integers(0, 1))
        shelves.setdefault((len(key), len(value), shelf), []).append((key, value))
    found, contents = [], []
    for (key_size, value_size, _), entries in shelves.items():
        width = 5 + key_size + value_size
        value_first = draw(st.booleans())
        base = draw(st.integers(0, 3))
        octets = np.frombuffer(draw(st.binary(min_size=width, max_size=width)), np.uint8)
        table = np.tile(octets, (len(entries), 1))
        value_at = slice(base, base + value_size)
        after = base + value_size if value_first else base
        if not value_first:
            value_at = slice(base + key_size, base + key_size + value_size)
        head, tail = slice(after, after + 2), slice(after + 2, after + key_size)
        for at, (key, value) in enumerate(entries):
            table[at, head], table[at, tail] = list(key[:2]), list(key[2:])
            table[at, value_at] = list(value)
        first = slice(value_at.start, value_at.start + 1)
        rest = slice(value_at.start + 1, value_at.stop)
        found.append(Block(table, (head, tail), (first, rest)))
        contents.append(entries)
    if draw(st.booleans()):
        found.append(
            Block(
                np.empty((0, 9), np.uint8), (slice(0, 2), slice(2, 3)), (slice(3, 4), slice(4, 4))
            )
        )
        contents.append([])
    return found, contents


def weak(bits: int) -> AbstractContextManager[object]:
    """Fingerprints of so few bits that different keys often share one."""
    fold: Callable[[NDArray[np.uint64], np.uint64], NDArray[np.uint64]] = delta._fold
    mask = np.uint64((1 << bits) - 1)
    return mock.patch.object(delta, "_fold", lambda words, start: fold(words, start) & mask)


def chosen(parts: Sequence[NDArray[np.intp]], contents: list[list[Row]]) -> list[Row]:
    pairs = zip(parts, contents, strict=True)
    return sorted(entries[row] for numbers, entries in pairs for row in numbers.tolist())


@pytest.mark.parametrize("bits", [64, 8, 6])
@given(data=st.data(), wanted=rows(), there=rows())
def test_difference_is_that_of_dicts(
    bits: int, data: st.DataObject, wanted: dict[bytes, bytes], there: dict[bytes, bytes]
) -> None:
    desired, desired_rows = data.draw(blocks(wanted))
    installed, installed_rows = data.draw(blocks(there))
    with weak(bits) if bits < 64 else nullcontext():
        found = difference(desired, installed)
    write = sorted((key, value) for key, value in wanted.items() if there.get(key) != value)
    assert chosen(found.write, desired_rows) == write
    gone = sorted((key, value) for key, value in there.items() if key not in wanted)
    assert chosen(found.delete, installed_rows) == gone
    assert found.same == len(wanted) - len(write)


@pytest.mark.parametrize("bits", [64, 8])
@given(data=st.data(), wanted=rows(), again=rows())
def test_two_desired_rows_with_one_key_are_a_mistake(
    bits: int, data: st.DataObject, wanted: dict[bytes, bytes], again: dict[bytes, bytes]
) -> None:
    one, one_rows = data.draw(blocks(wanted))
    other, other_rows = data.draw(blocks(again))
    with weak(bits) if bits < 64 else nullcontext():
        if not wanted.keys() & again.keys():
            difference(one + other, [])
            return
        with pytest.raises(DuplicateKey) as raised:
            difference(one + other, [])
    contents = one_rows + other_rows
    (first, row), (second, other_row) = raised.value.args
    assert (first, row) != (second, other_row)
    assert contents[first][row][0] == contents[second][other_row][0]


@given(data=st.data(), content=rows())
def test_fingerprints_know_no_layout(data: st.DataObject, content: dict[bytes, bytes]) -> None:
    fingerprints = []
    for _ in range(2):
        some, entries = data.draw(blocks(content))
        numbers = [delta.fingerprints(block.rows, block.key, 1).tolist() for block in some]
        fingerprints.append(
            {
                key: number
                for block, of_block in zip(entries, numbers, strict=True)
                for (key, _), number in zip(block, of_block, strict=True)
            }
        )
    assert fingerprints[0] == fingerprints[1]
    # Within one length they differ as well: a collision costs a second round.
    found = {(len(key), number) for key, number in fingerprints[0].items()}
    assert len(found) == len(content)
