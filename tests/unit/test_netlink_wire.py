"""Cutting what a socket gives into rows of one shape, against a reader that goes one by one."""

from __future__ import annotations

import struct

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ovs_lwt.backends.netlink import wire
from ovs_lwt.backends.netlink.kinds import BRIDGE_FDB, NEIGHBOUR, ROUTE
from tests.support.fake_kernel import HEADER, split


def attribute(kind: int, body: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(body), kind) + body + b"\0" * (-len(body) % 4)


def message(kind: int, fixed: bytes, *attributes: bytes) -> bytes:
    body = fixed + b"".join(attributes)
    return HEADER.pack(HEADER.size + len(body), kind, 2, 1, 0) + body


def neighbour(state: int, flags: int, *attributes: bytes) -> bytes:
    return message(28, struct.pack("=BxxxiHBB", 7, 5, state, flags, 0), *attributes)


def matrix(*messages: bytes) -> np.typing.NDArray[np.uint8]:
    return np.frombuffer(b"".join(messages), np.uint8).reshape(len(messages), -1).copy()


attributes = st.lists(st.tuples(st.integers(1, 40), st.binary(max_size=20)), max_size=5)
messages = attributes.map(lambda found: message(24, bytes(12), *(attribute(*a) for a in found)))


@given(st.lists(messages, max_size=40))
def test_messages_are_cut_where_they_end(sent: list[bytes]) -> None:
    data = b"".join(sent)
    found = [bytes(row) for rows in wire.cut(data) for row in rows]
    assert sorted(found) == sorted(split(data)) == sorted(sent)
    for rows in wire.cut(data):
        width = rows.shape[1]
        assert [bytes(row) for row in rows] == [one for one in sent if len(one) == width]


@given(st.lists(attributes, min_size=1, max_size=30))
def test_every_row_is_in_the_shape_of_its_attributes(sent: list[list[tuple[int, bytes]]]) -> None:
    whole = [message(24, bytes(12), *(attribute(*a) for a in found)) for found in sent]
    for rows in wire.cut(b"".join(whole)):
        seen = []
        for which, shape in wire.shapes(rows, HEADER.size + 12):
            for row in which.tolist():
                said = {kind: bytes(rows[row, place])[4:] for kind, place in shape.items()}
                assert said == dict(sent[whole.index(bytes(rows[row]))])
            seen += which.tolist()
        assert sorted(seen) == list(range(len(rows)))


def test_numbers_are_the_hosts() -> None:
    rows = matrix(message(24, bytes(12)), message(25, bytes(12)))
    assert wire.numbers(rows, wire.TYPE).tolist() == [24, 25]
    assert wire.octets(25, 2).tobytes() == rows[1, wire.TYPE].tobytes()


def test_what_the_kernel_adds_to_a_header_is_taken_off() -> None:
    mac = attribute(2, bytes(6))
    static, offloaded = neighbour(2, 0x10, mac), neighbour(2, 0x30, mac)
    (listed,) = wire.entries(BRIDGE_FDB, matrix(static, offloaded))
    # NTF_EXT_LEARNED as listed, and NTF_MASTER as it must be sent.
    assert listed.block.rows[:, 26].tolist() == [0x14, 0x14]


def test_routes_over_a_device_that_is_down_are_the_same_routes() -> None:
    dead, alive = (
        message(24, struct.pack("=BBBBBBBBI", 2, 24, 0, 0, 10, 76, 0, 1, flags))
        for flags in (21, 4)
    )
    (listed,) = wire.entries(ROUTE, matrix(dead, alive))
    assert listed.block.rows[:, 24].tolist() == [4, 4]


def test_ours_are_told_from_others_by_protocol() -> None:
    there = attribute(1, bytes(4))
    ours, zebras = attribute(12, b"\x4c"), attribute(12, b"\x0b")
    rows = matrix(neighbour(128, 0, there, ours), neighbour(128, 0, there, zebras))
    (listed,) = wire.entries(NEIGHBOUR, rows)
    assert listed.mine.tolist() == [True, False]
    (learned,) = wire.entries(NEIGHBOUR, matrix(neighbour(128, 0, there)))
    assert learned.mine.tolist() == [False]


def test_bytes_that_are_no_message_end_the_cutting() -> None:
    assert list(wire.cut(b"")) == []
    assert list(wire.cut(b"\0" * 12)) == []
    torn = message(24, bytes(12), struct.pack("=HH", 0, 1))
    ((which, shape),) = wire.shapes(matrix(torn), HEADER.size + 12)
    assert (which.tolist(), shape) == ([0], {})
