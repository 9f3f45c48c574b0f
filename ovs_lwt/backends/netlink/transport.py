"""One raw rtnetlink socket: batches of messages with one acknowledgement each, and dumps.

The kernel works through a whole batch within `send`, and answers only what failed and what asked
for an answer: the last message. Every message has a sequence number, so an answer names its row.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from dataclasses import dataclass
from types import TracebackType
from typing import Final

import numpy as np
from pyroute2.netlink import NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE
from pyroute2.netns import create_socket

from ovs_lwt.backends.netlink import wire
from ovs_lwt.backends.netlink.transaction import Transaction
from ovs_lwt.mistakes import NotNow
from ovs_lwt.stencil import Bytes

BATCH: Final = 256
"""Messages to one acknowledgement. More is slower: for every FDB entry the kernel takes per-CPU
memory from a small reserve (dst_cache_init), and what refills that runs when `send` returns.
300,000 entries: 2.1 to 2.9 s by 256, 4.3 to 5.1 s by 1,024, 10 to 19 s by 2,048."""

NAMED: Final = 20
"""Failures that are put into words; the others are counted."""

# include/uapi/linux/netlink.h, include/uapi/asm-generic/socket.h
_SOL_NETLINK: Final = 270
_NETLINK_CAP_ACK, _NETLINK_EXT_ACK, _NETLINK_GET_STRICT_CHK = 10, 11, 12
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33
_NLMSGHDR: Final = struct.Struct("=IHHII")
_CODE: Final = slice(16, 20)  # struct nlmsgerr begins with it; so does the body of NLMSG_DONE
_ANSWER: Final = 36  # nlmsghdr, error, the header that it is about; what follows are attributes
_ATTRIBUTE: Final = struct.Struct("=HH")
_NLMSGERR_ATTR_MSG: Final = 1

_BUFFER: Final = 8 << 20  # a batch of which every message fails takes less than 2 MB
_CHUNK: Final = 1 << 20  # the kernel fills 32 KB at most
_DUMP_TRIES: Final = 5


@dataclass(frozen=True, slots=True)
class Failure:
    """A message that the kernel refused: what it was to do, errno, and the kernel's own words."""

    what: str
    code: int
    said: str

    def __str__(self) -> str:
        return f"{self.what}: {os.strerror(self.code)}{self.said and f' ({self.said})'}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a transaction went. failures: the first NAMED of the `failed`; the rest has been done."""

    sent: int = 0
    failed: int = 0
    failures: tuple[Failure, ...] = ()


@dataclass(frozen=True, slots=True)
class _Refusals:
    """What was refused of a batch. first: (row, errno, the kernel's words), NAMED at most."""

    count: int = 0
    first: tuple[tuple[int, int, str], ...] = ()


class Kernel:
    """rtnetlink of a network namespace: ours, or the one of this name or path.

    buffer: bytes that answers may take before they are lost
    """

    def __init__(self, netns: str | None = None, *, buffer: int = _BUFFER) -> None:
        self._socket = create_socket(
            netns, socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE, flags=0
        )
        for option in (_NETLINK_CAP_ACK, _NETLINK_EXT_ACK, _NETLINK_GET_STRICT_CHK):
            self._socket.setsockopt(_SOL_NETLINK, option, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _BUFFER)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, buffer)
        self._chunk = memoryview(bytearray(_CHUNK))
        self._next = 1

    def __enter__(self) -> Kernel:
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def run(self, transaction: Transaction) -> Outcome:
        """Send all steps. What fails does not keep the rest from being done."""
        failed = 0
        failures: list[Failure] = []
        for step in transaction.steps:
            for start in range(0, len(step.rows), BATCH):
                refused = self._batch(step.rows[start : start + BATCH], step.done)
                failed += refused.count
                for row, code, said in refused.first[: NAMED - len(failures)]:
                    failures.append(Failure(step.describe(start + row), code, said))
        return Outcome(len(transaction), failed, tuple(failures))

    def dump(self, kind: int, request: bytes) -> dict[int, Bytes]:
        """All that the kernel lists in answer to a request: length -> messages uint8[n, length].

        kind: RTM_GET…; request: its fixed header and attributes
        Raises OSError with the kernel's answer, and Refused if its tables never hold still.
        """
        interrupted = wire.octets(NLM_F_DUMP_INTR, 2)
        for _ in range(_DUMP_TRIES):
            found = self._dump(kind, request)
            if not any((rows[:, wire.FLAGS] & interrupted).any() for rows in found.values()):
                return found
        raise NotNow(
            "the kernel's tables change faster than they can be read: see who writes them"
            " (ip monitor all)"
        )

    def _dump(self, kind: int, request: bytes) -> dict[int, Bytes]:
        number = self._numbers(1)
        flags = NLM_F_REQUEST | NLM_F_DUMP
        head = _NLMSGHDR.pack(_NLMSGHDR.size + len(request), kind, flags, number, 0)
        self._socket.send(head + request)
        found: dict[int, list[Bytes]] = {}
        ended = False
        while not ended:
            for rows in wire.cut(self._receive()):
                rows = rows[wire.numbers(rows, wire.SEQUENCE) == number]
                last = wire.numbers(rows, wire.TYPE) <= NLMSG_DONE  # or NLMSG_ERROR
                for code in wire.numbers(rows[last], _CODE, "i").tolist():
                    ended = True
                    if code:
                        raise OSError(-code, os.strerror(-code))
                if not last.all():
                    found.setdefault(rows.shape[1], []).append(rows[~last])
        return {length: np.concatenate(parts) for length, parts in found.items()}

    def _batch(self, rows: Bytes, done: frozenset[int]) -> _Refusals:
        """Send messages and learn which were refused. done: errors that are none.

        Where answers were lost the messages are sent again, in halves: doing one twice is
        harmless, that is what adding and deleting mean here.
        """
        first = self._numbers(len(rows))
        numbers = np.arange(first, first + len(rows), dtype="=u4")
        rows[:, wire.SEQUENCE] = numbers.view(np.uint8).reshape(-1, 4)
        rows[-1, wire.FLAGS] |= wire.octets(NLM_F_ACK, 2)
        try:
            self._socket.send(rows.reshape(-1).data)
        finally:
            rows[-1, wire.FLAGS] &= ~wire.octets(NLM_F_ACK, 2)
        answers, complete = self._answers(first + len(rows) - 1)
        if complete:
            return _refusals(answers, first, len(rows), done)
        if len(rows) == 1:
            raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))
        half = len(rows) // 2
        one, other = self._batch(rows[:half], done), self._batch(rows[half:], done)
        later = tuple((half + row, code, said) for row, code, said in other.first)
        return _Refusals(one.count + other.count, (one.first + later)[:NAMED])

    def _answers(self, last: int) -> tuple[list[Bytes], bool]:
        """All that the kernel has answered, and whether that is all: nothing was lost, and message
        `last` is among them.
        """
        chunks = []
        lost = False
        while True:
            try:
                chunks.append(self._receive(socket.MSG_DONTWAIT))
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                lost = True
        answers = list(wire.cut(b"".join(chunks)))
        acknowledged = any((wire.numbers(rows, wire.SEQUENCE) == last).any() for rows in answers)
        return answers, acknowledged and not lost

    def _receive(self, flags: int = 0) -> bytes:
        size = self._socket.recv_into(self._chunk, 0, flags)
        return bytes(self._chunk[:size])

    def _numbers(self, count: int) -> int:
        """The first of `count` sequence numbers not in use."""
        if self._next + count > 0xFFFFFFFF:
            self._next = 1
        first = self._next
        self._next += count
        return first


def _refusals(answers: list[Bytes], first: int, count: int, done: frozenset[int]) -> _Refusals:
    """What the answers to `count` messages, numbered from `first`, refuse."""
    refused = 0
    named: list[tuple[int, int, str]] = []
    for rows in answers:
        place = wire.numbers(rows, wire.SEQUENCE).astype(np.int64) - first
        code = -wire.numbers(rows, _CODE, "i")
        mine = (place >= 0) & (place < count) & ~np.isin(code, [0, *done])
        refused += int(mine.sum())
        chosen = np.flatnonzero(mine)[:NAMED]
        named += [(int(place[row]), int(code[row]), _said(rows[row].tobytes())) for row in chosen]
    return _Refusals(refused, tuple(sorted(named)[:NAMED]))


def _said(answer: bytes) -> str:
    """The kernel's own words in an answer, if it has any."""
    at = _ANSWER
    while at + _ATTRIBUTE.size <= len(answer):
        length, kind = _ATTRIBUTE.unpack_from(answer, at)
        if length < _ATTRIBUTE.size:
            break
        if kind == _NLMSGERR_ATTR_MSG:
            return answer[at + _ATTRIBUTE.size : at + length].rstrip(b"\0").decode()
        at += -(-length // 4) * 4
    return ""
