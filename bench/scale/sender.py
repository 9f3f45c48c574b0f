"""Send frames into a switch's ports as fast as it goes, and print how many a second it has looked
up.

    python -m bench.scale.sender SECONDS VARIED PORT... < DESTINATIONS

Runs on the switch's host; PORT are internal ports. DESTINATIONS: a line of MACs for each port.
VARIED: 1 if every frame is to be a new flow, 0 if all are the same.
"""

from __future__ import annotations

import itertools
import socket
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Final

from bench.scale.overlays import address_of, mac_of

_IPV4, _UDP = 0x0800, 17
_PORTS: Final = 60_000
_BURST: Final = 256


def frames(destinations: Sequence[str], varied: bool) -> Iterator[bytes]:
    """Small UDP packets of the port's endpoint."""
    source = bytes.fromhex(mac_of(0).replace(":", ""))
    address = socket.inet_aton(address_of(0))
    for number, to in enumerate(itertools.cycle(destinations)):
        udp = struct.pack("!HHHH", 1024 + number % _PORTS, 9, 26, 0) + bytes(18)
        ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 46, 0, 0, 64, _UDP, 0, address, address)
        head = bytes.fromhex(to.replace(":", "")) + source + struct.pack("!H", _IPV4)
        yield head + ip + udp
        if not varied:
            yield from itertools.repeat(head + ip + udp)


def main(seconds: float, varied: bool, ports: Sequence[str]) -> None:
    """Send in turns, a burst by each port."""
    wires = []
    for port, line in zip(ports, sys.stdin, strict=False):
        wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        wire.bind((port, 0))
        wires.append((wire, frames(line.split(), varied)))
    end, sent = time.perf_counter() + seconds, 0
    for wire, made in itertools.cycle(wires):
        for frame in itertools.islice(made, _BURST):
            wire.send(frame)
        sent += _BURST
        if time.perf_counter() > end:
            break
    print(sent)


if __name__ == "__main__":
    main(float(sys.argv[1]), sys.argv[2] == "1", sys.argv[3:])
