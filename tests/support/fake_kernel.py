"""A kernel's end of an rtnetlink socket: takes messages, answers, and fails on demand."""

from __future__ import annotations

import errno
import struct
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

HEADER = struct.Struct("=IHHII")
NLM_F_ACK, NLM_F_MULTI, NLM_F_DUMP_INTR, NLM_F_ACK_TLVS = 4, 2, 0x10, 0x200
NLMSG_ERROR, NLMSG_DONE = 2, 3


@dataclass
class FakeKernel:
    """Stands where a socket would.

    refuse: message -> errno, and the kernel's own words; room: how many answers the socket holds;
    dumps: what each dump in turn lists, the last one again and again
    """

    refuse: Callable[[bytes], tuple[int, str]] = lambda _: (0, "")
    room: int = 1_000_000
    dumps: deque[Sequence[bytes]] = field(default_factory=deque)
    dump_error: int = 0
    batches: list[list[bytes]] = field(default_factory=list)
    options: dict[tuple[int, int], int] = field(default_factory=dict)
    closed: bool = False
    _answers: deque[bytes] = field(default_factory=deque)
    _overrun: bool = False

    def setsockopt(self, level: int, option: int, value: int) -> None:
        self.options[level, option] = value

    def close(self) -> None:
        self.closed = True

    def send(self, data: bytes) -> int:
        messages = list(split(bytes(data)))
        if HEADER.unpack_from(messages[0])[2] & 0x300 == 0x300 and not self._is_add(messages[0]):
            self._list(HEADER.unpack_from(messages[0])[3])
            return len(data)
        self.batches.append(messages)
        for message in messages:
            code, said = self.refuse(message)
            if code or HEADER.unpack_from(message)[2] & NLM_F_ACK:
                self._answer(message, code, said)
        return len(data)

    def recv_into(self, buffer: memoryview, size: int = 0, flags: int = 0) -> int:
        if self._overrun:
            self._overrun = False
            raise OSError(errno.ENOBUFS, "No buffer space available")
        if not self._answers:
            raise BlockingIOError
        answer = self._answers.popleft()
        buffer[: len(answer)] = answer
        return len(answer)

    @property
    def taken(self) -> list[bytes]:
        """Every message, in the order in which it came."""
        return [message for batch in self.batches for message in batch]

    @staticmethod
    def _is_add(message: bytes) -> bool:
        return int(HEADER.unpack_from(message)[1]) % 4 != 2  # RTM_GET… are 2 (mod 4)

    def _answer(self, about: bytes, code: int, said: str) -> None:
        if len(self._answers) >= self.room:
            self._overrun = True
            return
        words = said.encode() + b"\0"
        text = struct.pack("=HH", 4 + len(words), 1) + words if said else b""
        text += b"\0" * (-len(text) % 4)
        body = struct.pack("=i", -code) + about[: HEADER.size] + text
        number = HEADER.unpack_from(about)[3]
        flags = NLM_F_ACK_TLVS if said else 0
        head = HEADER.pack(HEADER.size + len(body), NLMSG_ERROR, flags, number, 0)
        self._answers.append(head + body)

    def _list(self, number: int) -> None:
        listed = self.dumps.popleft() if len(self.dumps) > 1 else self.dumps[0]
        for message in listed:
            self._answers.append(message[:8] + struct.pack("=I", number) + message[12:])
        head = HEADER.pack(HEADER.size + 4, NLMSG_DONE, NLM_F_MULTI, number, 0)
        self._answers.append(head + struct.pack("=i", -self.dump_error))


def split(data: bytes) -> list[bytes]:
    """The messages of a batch, padding included."""
    found = []
    while data:
        width = -(-int(HEADER.unpack_from(data)[0]) // 4) * 4
        found.append(data[:width])
        data = data[width:]
    return found
