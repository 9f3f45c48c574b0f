"""A connected socket, as the frameworks use one, whatever kind it is."""

from __future__ import annotations

import select
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from ovs_lwt.backends.openflow.callers import Caller

HANDSHAKE_BYTES: Final = 1 << 24
"""What a switch may send before it is known: its ports, mostly, 72 bytes each."""


class Stream:
    """A connected socket and who is behind it. What the frameworks ask of a socket it passes on.

    caller: who it is; known: whether it has said which switch it is; until then it is read no
    further than HANDSHAKE_BYTES, and then seems closed
    """

    def __init__(self, connected: Any, caller: Caller) -> None:
        self._socket = connected
        self.caller = caller
        self.known: Callable[[], bool] = lambda: False
        self._allowed: int | None = HANDSHAKE_BYTES

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    def setsockopt(self, level: int, *option: Any) -> None:
        """Set an option. Both frameworks set TCP_NODELAY on whatever they get: a unix socket knows
        nothing of it, and needs it as little.
        """
        if level != socket.IPPROTO_TCP or self._socket.family != socket.AF_UNIX:
            self._socket.setsockopt(level, *option)

    def recv(self, size: int) -> bytes:
        """Read. Raises TimeoutError, OSError."""
        data = self._receive(size)
        if self._allowed is not None:
            self._allowed -= len(data)
            if self.known():
                self._allowed = None
            elif self._allowed < 0:
                return b""
        return data

    def hang_up(self) -> None:
        """End both directions: whoever waits for the other side wakes up."""
        with suppress(OSError):
            self.shutdown(socket.SHUT_RDWR)

    def shutdown(self, how: int) -> None:
        """End one direction, or both."""
        self._socket.shutdown(how)

    def _receive(self, size: int) -> bytes:
        data: bytes = self._socket.recv(size)
        return data


class GreenTlsStream(Stream):
    """TLS among green threads, of which one runs at a time."""

    def _receive(self, size: int) -> bytes:
        try:
            return super()._receive(size)
        except ssl.SSLError as error:
            raise _understood(error) from error


class TlsStream(Stream):
    """TLS among native threads: one reads while another writes, which OpenSSL does not allow
    (SSL_read(3) and SSL_write(3) share the connection's state). They take turns, and nobody keeps
    the other waiting while the network does.
    """

    def __init__(self, connected: ssl.SSLSocket, caller: Caller) -> None:
        super().__init__(connected, caller)
        self._turn = threading.Lock()
        self._timeout: float | None = None
        connected.setblocking(False)

    def settimeout(self, seconds: float | None) -> None:
        """Give `recv` and `sendall` so many seconds, None for any number."""
        self._timeout = seconds

    def _receive(self, size: int) -> bytes:
        deadline = self._deadline()
        while True:
            with self._turn:
                try:
                    return super()._receive(size)
                except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as want:
                    events = _events(want)
                except ssl.SSLError as error:
                    raise _understood(error) from error
            self._await(events, deadline)

    def sendall(self, data: bytes | memoryview) -> None:
        """Write all. Raises TimeoutError, OSError."""
        deadline = self._deadline()
        left = memoryview(data)
        while left:
            with self._turn:
                try:
                    left = left[self._socket.send(left) :]
                    continue
                except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as want:
                    events = _events(want)
                except ssl.SSLError as error:
                    raise _understood(error) from error
            self._await(events, deadline)

    def shutdown(self, how: int) -> None:
        """End the connection's one direction or both, of TCP: what TLS would say of it nobody
        waits for.
        """
        socket.socket.shutdown(self._socket, how)

    def _deadline(self) -> float | None:
        return None if self._timeout is None else time.monotonic() + self._timeout

    def _await(self, events: int, deadline: float | None) -> None:
        # Not select(): it knows no file beyond number 1023.
        poll = select.poll()
        poll.register(self._socket.fileno(), events)
        left = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
        if not poll.poll(left):
            raise TimeoutError("timed out")


def _events(want: ssl.SSLError) -> int:
    return select.POLLIN if isinstance(want, ssl.SSLWantReadError) else select.POLLOUT


def _understood(error: ssl.SSLError) -> OSError:
    """The frameworks take every SSLError for a time-out, and try again without end."""
    if "timed out" in str(error):
        return TimeoutError("timed out")
    return ConnectionResetError(f"TLS: {error.reason or error}")
