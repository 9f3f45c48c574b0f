"""A list of entries of any lengths, cut into rows of bytes: none lost, none torn."""

from __future__ import annotations

import struct
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ovs_lwt.backends.openflow import wire
from ovs_lwt.delta import Block

_LENGTHS = st.tuples(st.integers(4, 40), st.sampled_from((0, 0, 8, 24, 200, 65000 - 65000 % 8)))


def entry(number: int, match: int, rest: int) -> bytes:
    """An ofp_flow_stats that says its number wherever it can; `match` bytes of match, unpadded."""
    padded = -(-match // 8) * 8
    head = struct.pack("!HH", 1, match) + bytes(number % 251 for _ in range(match - 4))
    body = head.ljust(padded, b"\0") + bytes([(number * 7) % 251]) * rest
    counters = struct.pack("!QQ", number * 3, number * 5)
    fixed = struct.pack(
        *("!BxIIHHHHH2xQ", number % 255, number, number, number, 1, 2, 3, 4, 0x4C57 << 48 | number)
    )
    return struct.pack("!H", 2 + len(fixed) + 16 + len(body)) + fixed + counters + body


@given(st.lists(_LENGTHS, max_size=30), st.data())
def test_entries_come_out_whole_whatever_their_lengths(
    lengths: list[tuple[int, int]], data: st.DataObject
) -> None:
    entries = [entry(number, *of) for number, of in enumerate(lengths)]
    cuts = data.draw(st.lists(st.integers(0, len(entries)), max_size=4))
    edges = [0, *sorted(cuts), len(entries)]
    bodies = [b"".join(entries[a:b]) for a, b in pairwise(edges)]
    blocks = wire.flow_stats_blocks(bodies)
    rows = [row.tobytes() for block in blocks for row in block.rows]
    assert sorted(rows) == sorted(entries)
    for block in blocks:
        for row in range(len(block)):
            says_itself(block, row)


def says_itself(block: Block, row: int) -> None:
    octets = block.rows[row]
    table, priority, match = (octets[part].tobytes() for part in block.key)
    cookie, timeouts, flags, rest = (octets[part].tobytes() for part in block.value)
    number = int.from_bytes(cookie, "big") & 0xFFFF
    assert table == bytes([number % 255])
    assert int.from_bytes(priority, "big") == number
    assert timeouts == b"\0\1\0\2"
    assert flags == b"\0\3\0\4"
    assert cookie[:2] == b"LW"
    length = int.from_bytes(match[2:4], "big")
    assert len(match) == -(-length // 8) * 8
    assert set(match[4:length]) <= {number % 251}
    assert set(rest) <= {(number * 7) % 251}
    assert 48 + len(match) + len(rest) == block.rows.shape[1]


@given(st.dictionaries(st.integers(0, 2**32 - 1), st.integers(0, 5)))
def test_groups_come_out_by_number(groups: dict[int, int]) -> None:
    bodies = {
        group: struct.pack("!BxI", 0, group) + b"bucket--" * count
        for group, count in groups.items()
    }
    listed = b"".join(struct.pack("!H", len(body) + 2) + body for body in bodies.values())
    assert wire.group_desc_entries(listed) == bodies
