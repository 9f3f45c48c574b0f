"""How a dump's bytes are cut into rows of one shape, and which bytes of a row are its key.

Nothing is decoded and nothing loops over entries: messages are gathered by length, then by the
types and lengths of their attributes, level by level.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ovs_lwt.backends import chains
from ovs_lwt.backends.netlink.kinds import HEADER, Kind, Part, Within
from ovs_lwt.columns import U32, Flags, Indices
from ovs_lwt.delta import Block
from ovs_lwt.stencil import Bytes

LENGTH, TYPE, FLAGS, SEQUENCE = slice(0, 4), slice(4, 6), slice(6, 8), slice(8, 12)
"""The fields of struct nlmsghdr (include/uapi/linux/netlink.h)."""

_ALIGN = 4  # NLMSG_ALIGNTO, NLA_ALIGNTO
_ATTRIBUTE = 4  # struct nlattr: length 2, type 2
_TYPE_MASK = 0x3FFF  # NLA_TYPE_MASK
_NOTHING = slice(0, 0)

Shape = Mapping[int | tuple[int, ...], slice]
"""Attribute type, or the way to a nested one -> where it stands in a row, header included, padding
not."""


@dataclass(frozen=True, slots=True, eq=False)
class Listed:
    """Entries of one kind whose messages have one shape, as a block to compare."""

    kind: Kind
    block: Block
    shape: Shape

    @classmethod
    def of(cls, kind: Kind, rows: Bytes, shape: Shape) -> Listed:
        """Rows of one shape. An attribute that they lack is an empty part."""
        key, value = (
            tuple(_place(part, shape) for part in parts) for parts in (kind.key, kind.value)
        )
        return cls(kind, Block(rows, key, value), shape)

    def __len__(self) -> int:
        return len(self.block)

    @property
    def mine(self) -> Flags:
        """bool[n]: which of the entries are ours."""
        mine = self.kind.mine
        if mine is None:
            return np.ones(len(self), np.bool_)
        place = _place(mine.part, self.shape)
        if place == _NOTHING:
            return np.zeros(len(self), np.bool_)
        ours: Flags = self.block.rows[:, place.stop - 1] & mine.mask == mine.value
        return ours

    def places(self, rows: Indices) -> U32:
        """Where these entries stand in the order of their kind: uint32[n], 0 where nothing says."""
        part = _NOTHING if self.kind.order is None else _place(self.kind.order, self.shape)
        if part == _NOTHING:
            return np.zeros(len(rows), np.uint32)
        return numbers(self.block.rows[rows], slice(part.stop - 4, part.stop)).astype(np.uint32)


def entries(kind: Kind, rows: Bytes) -> Iterator[Listed]:
    """Messages of one length that a dump has listed, shape by shape.

    What the kernel adds to their headers is taken off, in `rows` itself.
    """
    if kind.listed and len(rows):
        byte, kept, added = kind.listed
        rows[:, byte] = rows[:, byte] & kept | added
    for which, shape in shapes(rows, kind.body, kind.nested):
        yield Listed.of(kind, rows if len(which) == len(rows) else rows[which], shape)


def sent(kind: Kind, rows: Bytes) -> Listed:
    """Messages of one template (they have one shape), seen as the entries they make."""
    ((_, shape),) = shapes(rows[:1], kind.body, kind.nested)
    return Listed.of(kind, rows, shape)


def shapes(
    rows: Bytes, start: int, nested: frozenset[tuple[int, ...]] = frozenset()
) -> Iterator[tuple[Indices, Shape]]:
    """The shapes of messages of one length whose attributes begin at `start`: (rows, shape).

    nested: the ways to attributes whose own attributes are told apart as well
    """
    if not len(rows):
        return
    yield from _deeper(rows, np.arange(len(rows)), start, (), {}, nested)


def _deeper(
    rows: Bytes,
    which: Indices,
    at: int,
    inside: tuple[tuple[int, int], ...],
    found: dict[int | tuple[int, ...], slice],
    nested: frozenset[tuple[int, ...]],
) -> Iterator[tuple[Indices, Shape]]:
    """Follow the attributes of these rows, which are alike as far as byte `at`.

    inside: the types of the attributes around it, and where each ends
    """
    while at + _ATTRIBUTE <= rows.shape[1]:
        if inside and at >= inside[-1][1]:
            inside = inside[:-1]
            continue
        column = rows[:, at : at + _ATTRIBUTE]
        chosen = column if len(which) == len(rows) else column[which]
        heads = np.ascontiguousarray(chosen).view("=u2")
        if (heads != heads[0]).any():
            codes = np.ascontiguousarray(chosen).view("=u4").ravel()
            for code in np.unique(codes):
                yield from _deeper(rows, which[codes == code], at, inside, dict(found), nested)
            return
        length, kind = int(heads[0, 0]), int(heads[0, 1]) & _TYPE_MASK
        if length < _ATTRIBUTE:
            break
        way = (*(outer for outer, _ in inside), kind)
        found[way if inside else kind] = slice(at, at + length)
        if way in nested:
            inside = (*inside, (kind, at + length))
            at += _ATTRIBUTE
        else:
            at += -(-length // _ALIGN) * _ALIGN
    yield which, found


def attributes(rows: Bytes) -> Iterator[tuple[Indices, Bytes]]:
    """Attributes that stand one behind the other in these bytes and fill them, gathered by length:
    (which row each is from, uint8[n, length]).
    """
    if not rows.size:
        return
    octets = np.ascontiguousarray(rows).reshape(-1)
    words = -(-octets.view("=u2")[::2].astype(np.intp) // _ALIGN)
    starts = chains.starts(words)
    for length in np.unique(words[starts]).tolist():
        chosen = starts[words[starts] == length] * _ALIGN
        yield chosen // rows.shape[1], octets[chosen[:, None] + np.arange(length * _ALIGN)]


def cut(chunk: bytes) -> Iterator[Bytes]:
    """Messages as they came from a socket, gathered by length (padded): uint8[n, length] each.

    Within a length they keep their order.
    """
    octets = np.frombuffer(chunk, np.uint8)
    octets = octets[: len(octets) // _ALIGN * _ALIGN]
    if len(octets) < HEADER:
        return
    words = octets.view("=u4")
    first = -(-int(words[0]) // _ALIGN) * _ALIGN
    if first and len(octets) % first == 0 and (words[:: first // _ALIGN] == words[0]).all():
        yield octets.reshape(-1, first)
        return
    starts = chains.starts(-(-words.astype(np.intp) // _ALIGN))
    lengths = -(-words[starts].astype(np.intp) // _ALIGN) * _ALIGN
    for length in np.unique(lengths):
        yield octets[starts[lengths == length][:, None] * _ALIGN + np.arange(length)]


def numbers(rows: Bytes, part: slice, kind: str = "u") -> NDArray[np.integer[Any]]:
    """The numbers that stand in these bytes of every row, in the host's order."""
    octets = np.ascontiguousarray(rows[:, part])
    found: NDArray[np.integer[Any]] = octets.view(f"={kind}{octets.shape[1]}").ravel()
    return found


def octets(number: int, width: int) -> Bytes:
    """A number in the host's order: uint8[width]."""
    return np.frombuffer(number.to_bytes(width, sys.byteorder), np.uint8)


def _place(part: Part, shape: Shape) -> slice:
    if isinstance(part, slice):
        return part
    if not isinstance(part, Within):
        return shape.get(part, _NOTHING)
    place = shape.get(part.way, _NOTHING)
    first = place.start + _ATTRIBUTE
    start, stop = first + part.octets.start, min(first + part.octets.stop, place.stop)
    return slice(start, stop) if start < stop else _NOTHING
