"""In systemd's place: a socket that a service tells how it is (sd_notify(3))."""

from __future__ import annotations

import socket
from pathlib import Path


class Listener:
    """Hears what is sent to the socket at `path`."""

    def __init__(self, path: Path) -> None:
        self.address = str(path)
        self.all: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        self._socket.setblocking(False)

    def heard(self) -> list[str]:
        """What has come since the last time, line by line."""
        lines: list[str] = []
        while True:
            try:
                lines += self._socket.recv(1 << 16).decode().splitlines()
            except BlockingIOError:
                self.all += lines
                return lines

    def hears(self, line: str) -> bool:
        """Whether that has come since the last time."""
        return line in self.heard()

    def close(self) -> None:
        """Listen no more."""
        self._socket.close()
