"""What goes over a serial line: frames, each a kind, a length and a payload. Pure.

A serial line of user-mode Linux (seen with 6.1) hears nothing any more once its 4 kB of buffer
have been full. So what goes to the machine goes in frames of at most `PIECE` bytes, and the next
one that asks for an ACK waits for the last one's.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from enum import IntEnum
from typing import Any, Final

HEAD: Final = struct.Struct("!BH")
STATUS: Final = struct.Struct("!i")
WINDOW: Final = struct.Struct("!HH")
PIECE: Final = 2048
OUTPUT: Final = 16384


class Kind(IntEnum):
    """What a frame is.

    To the machine: PART and RUN are a `Request`, in pieces; STDIN is input, empty at its end (these
    three ask for an ACK); SIGNAL is one byte; SIZE is the terminal's rows and columns; HANGUP ends
    the command, if it still runs. From it: READY is a line that can be used, once; ACK; STDOUT and
    STDERR are output; EXIT is the status as `subprocess` has it; GONE is the answer to HANGUP.
    """

    PART = 1
    RUN = 2
    STDIN = 3
    SIGNAL = 4
    SIZE = 5
    HANGUP = 6
    READY = 16
    ACK = 17
    STDOUT = 18
    STDERR = 19
    EXIT = 20
    GONE = 21


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame."""

    kind: Kind
    payload: bytes = b""

    def pack(self) -> bytes:
        """Return its bytes."""
        return HEAD.pack(self.kind, len(self.payload)) + self.payload


@dataclass(slots=True)
class Decoder:
    """Bytes in, whole frames out."""

    _rest: bytearray = field(default_factory=bytearray)

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Take what has arrived; yield the frames that are complete with it."""
        self._rest += data
        while len(self._rest) >= HEAD.size:
            kind, length = HEAD.unpack_from(self._rest)
            end = HEAD.size + length
            if len(self._rest) < end:
                return
            payload = bytes(self._rest[HEAD.size : end])
            del self._rest[:end]
            yield Frame(Kind(kind), payload)


@dataclass(frozen=True, slots=True)
class Request:
    """A command of `ovs-lwt` to be run in the machine: its words, and where it was typed.

    `terminal` is the rows and columns of the terminal it is to have, if it is to have one.
    """

    words: list[str]
    folder: str
    environment: dict[str, str]
    terminal: tuple[int, int] | None

    def frames(self) -> Iterator[Frame]:
        """Yield it in pieces."""
        text = json.dumps(asdict(self)).encode()
        last = (len(text) - 1) // PIECE * PIECE
        for start in range(0, last, PIECE):
            yield Frame(Kind.PART, text[start : start + PIECE])
        yield Frame(Kind.RUN, text[last:])

    @classmethod
    def read(cls, text: bytes) -> Request:
        """Return the request that `frames` made pieces of."""
        found: dict[str, Any] = json.loads(text)
        size = found.pop("terminal")
        return cls(**found, terminal=(size[0], size[1]) if size else None)
