"""What a device of a host sends with one mark: the mark is gone once a packet is elsewhere.

A packet socket sees a packet as the device is about to send it, after tc; its filter sees the mark.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Sequence
from typing import Final

from ovs_lwt.lab.namespaces import entered

_ETH_P_ALL: Final = 3
_SO_ATTACH_FILTER: Final = 26
# <linux/filter.h>: A = the packet's mark; A == k?; return k bytes of it.
_LOAD_MARK: Final = (0x20, 0, 0, 0xFFFFF000 + 20)
_ALL, _NOTHING = (0x06, 0, 0, 0xFFFFFFFF), (0x06, 0, 0, 0)


class Departures:
    """The packets of this mark (0: of none) that a device sends."""

    def __init__(self, namespace: str, device: str, mark: int) -> None:
        with entered(namespace):
            # No protocol yet: unbound and without its filter, it would hear what is not meant.
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        equals = (0x15, 0, 1, mark)
        program = b"".join(
            struct.pack("=HBBI", *step) for step in (_LOAD_MARK, equals, _ALL, _NOTHING)
        )
        steps = ctypes.create_string_buffer(program)
        head = struct.pack("@HP", len(program) // 8, ctypes.addressof(steps))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, head)
        self._socket.setblocking(False)
        self._socket.bind((device, _ETH_P_ALL))
        self._sent: list[bytes] = []

    def sent(self) -> Sequence[bytes]:
        """Those it has sent so far."""
        while True:
            try:
                frame, address = self._socket.recvfrom(65535)
            except BlockingIOError:
                return self._sent
            if address[2] == socket.PACKET_OUTGOING:
                self._sent.append(frame)

    def close(self) -> None:
        """Look no more."""
        self._socket.close()
