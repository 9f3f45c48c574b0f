"""The limit: write a file of OpenFlow messages into a switch's socket; print the seconds until it
has answered the last one, the commit of a bundle.

    python -m bench.scale.bare SOCKET FILE
"""

from __future__ import annotations

import socket
import struct
import sys
import time
from pathlib import Path
from typing import Final

_HEADER: Final = struct.Struct("!BBHI")
_OPENFLOW_14: Final = 5
_HELLO, _ERROR, _BUNDLE_CONTROL = 0, 1, 33  # ofp_type
_COMMIT_REPLY: Final = 5  # ofp_bundle_ctrl_type


def _message(switch: socket.socket) -> tuple[int, bytes]:
    _, kind, length, _ = _HEADER.unpack(_read(switch, _HEADER.size))
    return kind, _read(switch, length - _HEADER.size)


def _read(switch: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = switch.recv(size - len(data))
        if not more:
            raise SystemExit("the switch hung up")
        data += more
    return data


def _committed(kind: int, body: bytes) -> bool:
    if kind == _ERROR:
        raise SystemExit(f"the switch refused: {body[:32].hex()}")
    return kind == _BUNDLE_CONTROL and int.from_bytes(body[4:6], "big") == _COMMIT_REPLY


def main(path: str, file: str) -> None:
    """Send it all, and wait."""
    data = Path(file).read_bytes()
    with socket.socket(socket.AF_UNIX) as switch:
        switch.connect(path)
        switch.sendall(_HEADER.pack(_OPENFLOW_14, _HELLO, _HEADER.size, 0))
        _message(switch)
        start = time.perf_counter()
        switch.sendall(data)
        while not _committed(*_message(switch)):
            pass
        print(time.perf_counter() - start)


if __name__ == "__main__":
    main(*sys.argv[1:])
