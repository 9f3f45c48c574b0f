"""Send many small UDP packets with few system calls, and say how long each took on its way.

Between network namespaces joined by veths, the kernel takes a packet all the way to its receiver
before the sender's `sendmmsg` goes on to the next: the time it takes is that of the whole path.
"""

from __future__ import annotations

import ctypes
import math
import os
import socket
import time
from types import TracebackType
from typing import Final, Self

from pyroute2.netns import create_socket

from bench import results

_BURST: Final = 500  # below net.core.netdev_max_backlog
_PAYLOAD: Final = 64
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


class _Iovec(ctypes.Structure):
    """struct iovec."""

    _fields_ = (("base", ctypes.c_char_p), ("length", ctypes.c_size_t))


class _Header(ctypes.Structure):
    """struct msghdr."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint),
        ("vectors", ctypes.POINTER(_Iovec)),
        ("vector_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Message(ctypes.Structure):
    """struct mmsghdr."""

    _fields_ = (("header", _Header), ("sent", ctypes.c_uint))


class Sender:
    """A UDP socket in a network namespace, connected to an address that nobody answers from.

    sent: packets, so far
    """

    def __init__(self, netns: str, address: str) -> None:
        self._socket = create_socket(netns, socket.AF_INET, socket.SOCK_DGRAM, flags=0)
        self._socket.connect((address, 9))
        self._vector = _Iovec(bytes(_PAYLOAD), _PAYLOAD)
        self._burst = (_Message * _BURST)()
        self.sent = 0
        for message in self._burst:
            message.header.vectors = ctypes.pointer(self._vector)
            message.header.vector_count = 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        self._socket.close()

    def microseconds(self, count: int, turns: int, limit: float = 0.5) -> float:
        """What one of `count` packets takes. The quickest of some turns: whatever else the machine
        does meanwhile only adds to it. limit: s, after which no other turn begins
        """
        bursts = -(-count // _BURST)
        least, end = math.inf, time.perf_counter() + limit
        for _ in range(turns):
            least = min(least, results.timed(lambda: self._send(bursts)))
            if time.perf_counter() > end:
                break
        return least / (bursts * _BURST) * 1e6

    def _send(self, bursts: int) -> None:
        descriptor = self._socket.fileno()
        for _ in range(bursts):
            done = _LIBC.sendmmsg(descriptor, self._burst, _BURST, 0)
            if done != _BURST:
                code = ctypes.get_errno()
                raise OSError(code, f"{done} of {_BURST} packets sent: {os.strerror(code)}")
            self.sent += done
