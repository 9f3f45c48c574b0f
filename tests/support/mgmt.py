"""Drive a session against a real bridge without a controller: OVS listens on BRIDGE.mgmt.

with SwitchSocket(host.rundir / "br0.mgmt") as switch:
    switch.drive(session)
"""

from __future__ import annotations

import socket
import struct
import time
from pathlib import Path
from typing import Self

from ovs_lwt.backends.openflow.session import Session, State

_HEADER = struct.Struct("!BBHI")
_HELLO, _ECHO_REQUEST, _ECHO_REPLY = 0, 2, 3
_OPENFLOW_14 = 5


class SwitchSocket:
    """An OpenFlow 1.4 connection; `sent` counts the bytes that the session had to send."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(30)
        self._socket.connect(str(path))
        self._buffer = b""
        self.sent = 0
        self._socket.sendall(_HEADER.pack(_OPENFLOW_14, _HELLO, 8, 0))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def drive(self, session: Session) -> None:
        """Pass messages to and fro until the session agrees with the switch, or is refused."""
        if session.state is State.OFFLINE:
            session.connected(time.monotonic())
        while True:
            for data in session.outbox:
                self._socket.sendall(data)
                self.sent += len(data)
            session.outbox.clear()
            if session.produce(0.0):
                continue
            if session.state in (State.IN_SYNC, State.REFUSED):
                return
            session.receive(self._message(), time.monotonic())

    def _message(self) -> bytes:
        while True:
            head = self._read(_HEADER.size)
            _, kind, length, xid = _HEADER.unpack(head)
            body = self._read(length - _HEADER.size)
            if kind == _ECHO_REQUEST:
                self._socket.sendall(_HEADER.pack(_OPENFLOW_14, _ECHO_REPLY, length, xid) + body)
            elif kind != _HELLO:
                return head + body

    def _read(self, size: int) -> bytes:
        while len(self._buffer) < size:
            more = self._socket.recv(1 << 20)
            assert more, "the switch hung up"
            self._buffer += more
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data
