"""The difference of desired and installed rows, where one can still see it with the naked eye."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest

from ovs_lwt import delta
from ovs_lwt.delta import Block, Delta, DuplicateKey, difference


def block(*rows: str, key: tuple[int, int] = (0, 1), value: tuple[int, int] = (1, 2)) -> Block:
    """Rows of one letter of key and one of value, unless said otherwise."""
    table = np.array([list(row.encode()) for row in rows], np.uint8).reshape(len(rows), -1)
    return Block(table, (slice(*key),), (slice(*value),))


def told(found: Delta) -> tuple[list[list[int]], list[list[int]], int]:
    return (
        [rows.tolist() for rows in found.write],
        [rows.tolist() for rows in found.delete],
        found.same,
    )


def test_new_changed_gone_and_same() -> None:
    desired, installed = block("a1", "b2", "c3"), block("b2", "c9", "d4")
    assert told(difference([desired], [installed])) == ([[0, 2]], [[2]], 1)


def test_nothing_desired_and_nothing_installed() -> None:
    rows = block("a1", "b2")
    assert told(difference([], [])) == ([], [], 0)
    assert told(difference([rows], [])) == ([[0, 1]], [], 0)
    assert told(difference([], [rows])) == ([], [[0, 1]], 0)


def test_rows_are_numbered_within_their_block() -> None:
    desired = [block("a1", "b2"), block("c3"), block("d4", "e5")]
    installed = [block("e5", "x0"), block("y0"), block("a1")]
    assert told(difference(desired, installed)) == ([[1], [0], [0]], [[1], [0], []], 2)


def test_key_and_value_may_stand_anywhere() -> None:
    sent = block("..a.1", "..b.2", key=(2, 3), value=(4, 5))
    listed = block("1a!", "3b!", key=(1, 2), value=(0, 1))
    assert told(difference([sent], [listed])) == ([[1]], [[]], 1)


def test_values_of_other_lengths_differ() -> None:
    longer = block("a11", value=(1, 3))
    assert told(difference([block("a1")], [longer])) == ([[0]], [[]], 0)


def test_two_desired_rows_with_one_key_are_a_mistake() -> None:
    with pytest.raises(DuplicateKey) as raised:
        difference([block("a1", "b2"), block("a3")], [])
    assert raised.value.args == ((0, 0), (1, 0))


def test_a_switch_that_lists_a_flow_twice_is_not_believed() -> None:
    with pytest.raises(DuplicateKey) as raised:
        difference([block("b2")], [block("b2", "a1"), block("a1")])
    assert raised.value.args == ((0, 1), (1, 0))


def test_fingerprints_only_find_the_pairs_and_bytes_decide() -> None:
    """However different keys collide, in the end another seed tells them apart."""
    fold, tries = delta._fold, []

    def weak(words: np.typing.NDArray[np.uint64], start: np.uint64) -> np.typing.NDArray[np.uint64]:
        if start not in tries:
            tries.append(start)
        return fold(words, start) if len(tries) > 3 else np.zeros(len(words), np.uint64)

    with mock.patch.object(delta, "_fold", weak):
        found = difference([block("a1", "b2")], [block("b2", "c3"), block("d4")])
    assert told(found) == ([[0]], [[1], [0]], 1)
    assert len(tries) == 4


def test_a_single_pair_that_collides_is_not_taken_for_one_key() -> None:
    fold, tries = delta._fold, []

    def weak(words: np.typing.NDArray[np.uint64], start: np.uint64) -> np.typing.NDArray[np.uint64]:
        if start not in tries:
            tries.append(start)
        return fold(words, start) if len(tries) > 1 else np.zeros(len(words), np.uint64)

    with mock.patch.object(delta, "_fold", weak):
        assert told(difference([block("a1")], [block("b1")])) == ([[0]], [[0]], 0)


def test_more_rows_than_are_fingerprinted_at_a_time() -> None:
    count = delta._CHUNK + 7
    numbers = np.arange(count, dtype=">u4").view(np.uint8).reshape(-1, 4)
    rows = np.concatenate([numbers, numbers[:, 3:]], axis=1)
    there = rows[::-1].copy()
    there[5, 4] ^= 1
    parts = (slice(0, 4),), (slice(4, 5),)
    found = difference([Block(rows, *parts)], [Block(there[:-1], *parts)])
    assert told(found) == ([[0, count - 6]], [[]], count - 2)
