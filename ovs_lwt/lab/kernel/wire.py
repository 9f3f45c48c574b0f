"""Wires between machines: a hub of socketpairs, without any network of the host."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from dataclasses import dataclass, field
from typing import Self

_LONGEST_FRAME = 65536
_BATCH = 64
# How much may wait for one machine: a burst, not a second of traffic.
_BUFFER = 1 << 20


@dataclass(slots=True)
class Plug:
    """One end of a wire: what a machine's interface is plugged into.

    `mac` is the interface's, `mtu` its MTU. `socket` (SOCK_DGRAM, one frame a datagram) is the
    machine's end; `KernelMachine` takes it over, and closes it once the machine has its own.
    """

    socket: socket.socket
    mac: str
    mtu: int


@dataclass(slots=True)
class Hub:
    """A hub: each frame from one plug goes to all the others, by a thread of this process.

        with Hub() as hub:
            machines = [KernelMachine(…, plugs=[hub.plug("02:00:00:00:00:01")]), …]

    Like a wire, it loses what a receiver is too slow to take; `lost` counts these frames.
    """

    lost: int = 0
    _ends: list[socket.socket] = field(default_factory=list)
    _selector: selectors.DefaultSelector = field(default_factory=selectors.DefaultSelector)
    _wake: tuple[socket.socket, socket.socket] = field(default_factory=socket.socketpair)
    _thread: threading.Thread | None = None

    def plug(self, mac: str, mtu: int = 1600) -> Plug:
        """Return a new plug; before or while the hub runs.

        The MTU leaves room for an underlay's 1500 bytes with a VLAN tag or MPLS labels.
        """
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        for end in (near, far):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
        near.setblocking(False)
        self._ends.append(near)
        self._selector.register(near, selectors.EVENT_READ)
        return Plug(far, mac, mtu)

    def __enter__(self) -> Self:
        self._selector.register(self._wake[0], selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._carry, name="hub", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._wake[1].close()
        if self._thread is not None:
            self._thread.join()
        self._selector.close()
        for end in (*self._ends, self._wake[0]):
            end.close()

    def _carry(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._wake[0]:
                    return
                if isinstance(key.fileobj, socket.socket):
                    self._forward(key.fileobj)

    def _forward(self, source: socket.socket) -> None:
        for _ in range(_BATCH):
            try:
                frame = source.recv(_LONGEST_FRAME)
            except BlockingIOError:
                return
            except ConnectionError:
                self._unplug(source)
                return
            for end in list(self._ends):
                if end is not source:
                    self._send(end, frame)

    def _send(self, end: socket.socket, frame: bytes) -> None:
        try:
            end.send(frame)
        except BlockingIOError:
            self.lost += 1
        except OSError:
            # The machine is off.
            self._unplug(end)

    def _unplug(self, end: socket.socket) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(end)
        if end in self._ends:
            self._ends.remove(end)
            end.close()
