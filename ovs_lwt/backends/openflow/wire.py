"""Where things stand in OpenFlow 1.4 messages, and how a list of entries is cut into rows.

The numbers are those of the specification's C structures (OpenFlow 1.4.1, 7.3.4.1, 7.3.5.2,
7.3.6.1, 7.3.9.6). The framework encodes and decodes; this module only says which bytes of what it
made are compared or stamped.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

import numpy as np

from ovs_lwt.backends import chains
from ovs_lwt.delta import Block
from ovs_lwt.stencil import Bytes

HEADER = struct.Struct("!BBHI")
"""ofp_header: version, type, length, xid."""

# ofp_bundle_add_msg: header 8, bundle_id 4, pad 2, flags 2; then the whole inner message.
INNER = 16
# ofp_flow_mod, as the inner message.
ADD_COOKIE = slice(INNER + 8, INNER + 16)
ADD_TABLE = slice(INNER + 24, INNER + 25)
ADD_TIMEOUTS = slice(INNER + 26, INNER + 30)
ADD_PRIORITY = slice(INNER + 30, INNER + 32)
ADD_FLAGS = slice(INNER + 44, INNER + 48)
ADD_MATCH = INNER + 48
# Lengths and transaction ids stand twice: outside and inside.
LENGTHS = (2, INNER + 2)
XIDS = (4, INNER + 4)
# ofp_flow_stats, an entry of a multipart reply.
STATS_TABLE = slice(2, 3)
STATS_PRIORITY = slice(12, 14)
STATS_TIMEOUTS = slice(14, 18)
STATS_FLAGS = slice(18, 22)
STATS_COOKIE = slice(24, 32)
STATS_MATCH = 48
# ofp_multipart_reply: header 8, type 2, flags 2, pad 4.
MULTIPART_BODY = 16
MULTIPART_MORE = 1
# ofp_group_mod: header 8, command 2, then what ofp_group_desc_stats has after its length (2).
GROUP_MOD_BODY = 10
GROUP_DESC_BODY = 2
# Of that: type, padding, number.
GROUP_HEAD = 6


def multipart_type(message: bytes) -> int:
    """What a whole OFPT_MULTIPART_REPLY is a list of (ofp_multipart_type)."""
    return int.from_bytes(message[8:10], "big")


def flow_mod_block(rows: Bytes) -> Block:
    """Rows of bundled flow mods of one template, as a block to compare."""
    end = (
        ADD_MATCH + padded(int.from_bytes(rows[0, ADD_MATCH + 2 : ADD_MATCH + 4].tobytes(), "big"))
        if len(rows)
        else 0
    )
    return Block(
        rows,
        (ADD_TABLE, ADD_PRIORITY, slice(ADD_MATCH, end)),
        (ADD_COOKIE, ADD_TIMEOUTS, ADD_FLAGS, slice(end, rows.shape[1])),
    )


def flow_stats_blocks(bodies: Iterable[bytes]) -> list[Block]:
    """The entries of flow stats replies (their bodies), as blocks of equal length and equal match
    length.
    """
    found: dict[tuple[int, int], list[Bytes]] = {}
    for body in bodies:
        for rows in _rows_by_length(body):
            match_length = rows[:, STATS_MATCH + 2].astype(np.intp) << 8 | rows[:, STATS_MATCH + 3]
            for length in np.unique(match_length):
                chosen = match_length == length
                # All of them: no copy.
                part = rows if chosen.all() else rows[chosen]
                found.setdefault((rows.shape[1], int(length)), []).append(part)
    return [
        _flow_stats_block(np.concatenate(parts), length) for (_, length), parts in found.items()
    ]


def _flow_stats_block(rows: Bytes, match_length: int) -> Block:
    end = STATS_MATCH + padded(match_length)
    return Block(
        rows,
        (STATS_TABLE, STATS_PRIORITY, slice(STATS_MATCH, end)),
        (STATS_COOKIE, STATS_TIMEOUTS, STATS_FLAGS, slice(end, rows.shape[1])),
    )


def _rows_by_length(body: bytes) -> Iterable[Bytes]:
    """Entries that begin with their length in 2 bytes and are multiples of 8 bytes, gathered by
    length.
    """
    octets = np.frombuffer(body, np.uint8)
    if not len(octets):
        return
    first = int.from_bytes(body[:2], "big")
    if len(octets) % first == 0:
        rows = octets.reshape(-1, first)
        if (rows[:, 0] == body[0]).all() and (rows[:, 1] == body[1]).all():
            yield rows
            return
    starts = chains.starts(np.frombuffer(body, ">u2")[::4].astype(np.intp) // 8) * 8
    lengths = octets[starts].astype(np.intp) << 8 | octets[starts + 1]
    for length in np.unique(lengths):
        yield octets[starts[lengths == length][:, None] + np.arange(length)]


def group_desc_entries(body: bytes) -> dict[int, bytes]:
    """The groups of a group description reply: group id -> all of an entry but its length."""
    groups = {}
    at = 0
    while at < len(body):
        length = int.from_bytes(body[at : at + 2], "big")
        entry = body[at + GROUP_DESC_BODY : at + length]
        groups[int.from_bytes(entry[2:6], "big")] = entry
        at += length
    return groups


def padded(length: int) -> int:
    """The length of a match with its padding: a multiple of 8."""
    return -(-length // 8) * 8
