"""An encoded message with slots: encoded once by the library that owns the format, stamped N rows
at a time.

A :class:`Stencil` is found by asking the library to encode the same message twice for every slot,
with two values that differ in every byte: the bytes that changed are the slot. Nobody computes an
offset, and nobody writes an encoder. What is stamped is a matrix of bytes, one message a row, ready
for a socket.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
"""A matrix of bytes, uint8[n, width]: n messages of one size."""

Column = NDArray[np.generic]
"""The values of one slot: unsigned integers [n] (stamped big-endian) or bytes uint8[n, width]."""

Columns = Mapping[str, Column]

_PROBE, _OTHER_PROBE = 0x5A, 0xA5


@dataclass(frozen=True, slots=True)
class Stencil:
    """One encoded message and the places where its rows differ.

    message: the encoded bytes, uint8[width]
    slots: name -> (bytes per value, offsets of every place the value stands)
    """

    message: NDArray[np.uint8]
    slots: Mapping[str, tuple[int, tuple[int, ...]]]

    @classmethod
    def trace(
        cls, encode: Callable[[Mapping[str, int]], bytes], widths: Mapping[str, int]
    ) -> Stencil:
        """Find the slots of what `encode` makes.

        encode: takes a value for every slot, returns the message
        widths: name -> size of the slot's value in bytes
        Raises ValueError when a slot leaves no trace, or one that is not as wide as its value.
        """
        probe = {name: int.from_bytes([_PROBE] * width, "big") for name, width in widths.items()}
        message = np.frombuffer(encode(probe), np.uint8)
        slots = {}
        for name, width in widths.items():
            other = int.from_bytes([_OTHER_PROBE] * width, "big")
            changed = np.frombuffer(encode({**probe, name: other}), np.uint8) != message
            places = np.flatnonzero(changed)
            if not len(places) or len(places) % width:
                raise ValueError(
                    f"slot {name}: {len(places)} bytes changed, expected a multiple of {width}"
                )
            runs = places.reshape(-1, width)
            if (np.diff(runs, axis=1) != 1).any():
                raise ValueError(f"slot {name}: its bytes are not side by side in the message")
            slots[name] = (width, tuple(int(place) for place in runs[:, 0]))
        return cls(message, slots)

    @property
    def width(self) -> int:
        """Bytes per message."""
        return len(self.message)

    def stamp(self, count: int, columns: Columns, *, leave: Collection[str] = ()) -> Bytes:
        """`count` messages with the values of `columns` in the slots of those names: uint8[count,
        width].

        A column may hold one value for all rows. Columns without a slot are passed over, since one
        relation may feed several messages. leave: the slots that somebody else fills in afterwards;
        they hold what the message was traced with.

        Raises KeyError for any other slot without a column: the switch would take the value that
        the message was traced with for the real one.
        """
        rows = np.empty((count, self.width), np.uint8)
        rows[:] = self.message
        for name, (width, places) in self.slots.items():
            if name in leave:
                continue
            if name not in columns:
                raise KeyError(f"no column for slot {name}, only {', '.join(sorted(columns))}")
            value = big_endian(columns[name], width)
            for place in places:
                rows[:, place : place + width] = value
        return rows


def big_endian(column: Column, width: int) -> Bytes:
    """The low `width` bytes of every value, most significant first: uint8[n, width]."""
    if column.dtype == np.uint8 and column.ndim == 2:
        return column.astype(np.uint8, copy=False)
    octets = np.ascontiguousarray(column.astype(">u8")).view(np.uint8)
    return octets.reshape(-1, 8)[:, 8 - width :]
