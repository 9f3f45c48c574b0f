"""Columns as words, and words as lines: how every backend prints what it would send.

Whole columns become words at once (pyarrow), so that a million lines take seconds.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from typing import TextIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ovs_lwt.stencil import Column, big_endian

SLOT = re.compile(r"\{(\w+)\}")
"""A slot in a text."""

_STEP = 1 << 16  # lines written at a time


def numbers(column: Column) -> pa.StringArray:
    """Decimal numbers."""
    return pc.cast(pa.array(column), pa.string())


def hexes(column: Column) -> pa.StringArray:
    """Hexadecimal numbers, as Python's `hex` writes them."""
    words = big_endian(column, 8).tobytes().hex("\n", 8).split("\n")
    digits = pc.utf8_ltrim(pa.array(words, pa.string()), "0")
    return pc.binary_join_element_wise("0x", digits, "")


def macs(column: Column) -> pa.StringArray:
    """MACs, with colons."""
    octets = big_endian(column, 6)
    text = np.frombuffer((octets.tobytes().hex(":") + ":").encode(), "S18")
    return pc.utf8_rtrim(pa.array(text, pa.binary()).cast(pa.string()), ":")


def ipv4s(column: Column) -> pa.StringArray:
    """IPv4 addresses."""
    octets = big_endian(column, 4)
    parts = [numbers(np.ascontiguousarray(octets[:, place])) for place in range(4)]
    return pc.binary_join_element_wise(*parts, ".")


def ipv6s(column: Column) -> pa.StringArray:
    """IPv6 addresses, given as bytes uint8[n, 16]."""
    octets: NDArray[np.void] = np.ascontiguousarray(column).view("V16").ravel()
    different, which = np.unique(octets, return_inverse=True)
    words = [socket.inet_ntop(socket.AF_INET6, octet.tobytes()) for octet in different]
    return pa.array(words, pa.string()).take(pa.array(which))


def fill(text: str, count: int, words: Callable[[str], pa.StringArray]) -> pa.StringArray:
    """`count` lines of text with words in its slots.

    words: slot -> `count` words, or one for all lines
    """
    if not count:
        return pa.array([], pa.string())
    pieces = []
    for position, piece in enumerate(SLOT.split(text)):
        if position % 2:
            found = words(piece)
            pieces.append(found[0] if len(found) == 1 and count != 1 else found)
        else:
            pieces.append(pa.scalar(piece))
    if all(isinstance(piece, pa.StringScalar) for piece in pieces):
        return pa.array(["".join(piece.as_py() for piece in pieces)] * count)
    return pc.binary_join_element_wise(*pieces, "")


def write(lines: pa.StringArray, out: TextIO) -> None:
    """Print lines."""
    for start in range(0, len(lines), _STEP):
        out.write("\n".join(lines[start : start + _STEP].to_pylist()) + "\n")
