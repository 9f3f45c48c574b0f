"""Somebody who calls the controller and claims to be a host's switch, as any user he likes.

    python impostor.py UID ADDRESS DATAPATH-ID MANNER

ADDRESS is a unix socket's path or HOST:PORT. MANNER says how it goes on after the handshake:
"mute" (never a word), "obliging" (answers whatever it is asked, as an empty switch would) or
"endless" (lists flows without end). "idle" does not even say hello. It prints what comes of it:
"refused", "hung up", and how many messages of bundles it was given.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator

HEADER = struct.Struct("!BBHI")
HELLO, ECHO, ECHO_REPLY, FEATURES, FEATURES_REPLY = 0, 2, 3, 5, 6
MULTIPART, MULTIPART_REPLY, BARRIER, BARRIER_REPLY, BUNDLE, BUNDLE_ADD = 18, 19, 20, 21, 33, 34
FLOWS, PORTS = 1, 13


def message(kind: int, xid: int, body: bytes = b"") -> bytes:
    return HEADER.pack(5, kind, HEADER.size + len(body), xid) + body


class Impostor:
    """One connection."""

    def __init__(self, connected: socket.socket, datapath_id: int, manner: str) -> None:
        self.connected, self.datapath_id, self.manner = connected, datapath_id, manner
        self.bundled = 0

    def run(self) -> None:
        if self.manner != "idle":
            self.connected.sendall(message(HELLO, 1))
        for kind, xid, body in self.messages():
            self.answer(kind, xid, body)

    def messages(self) -> Iterator[tuple[int, int, bytes]]:
        pending = b""
        while data := self.connected.recv(1 << 16):
            pending += data
            while len(pending) >= HEADER.size:
                _, kind, length, xid = HEADER.unpack_from(pending)
                if len(pending) < length:
                    break
                yield kind, xid, pending[HEADER.size : length]
                pending = pending[length:]

    def answer(self, kind: int, xid: int, body: bytes) -> None:
        if self.manner == "idle":
            return
        if kind == FEATURES:
            facts = struct.pack("!QIBB2xII", self.datapath_id, 0, 254, 0, 0x4F, 0)
            self.connected.sendall(message(FEATURES_REPLY, xid, facts))
        elif kind == MULTIPART and int.from_bytes(body[:2], "big") == PORTS:
            self.connected.sendall(message(MULTIPART_REPLY, xid, struct.pack("!HH4x", PORTS, 0)))
            print("known", flush=True)
        elif self.manner == "mute":
            return
        elif kind == MULTIPART:
            self.listing(int.from_bytes(body[:2], "big"), xid)
        elif kind == ECHO:
            self.connected.sendall(message(ECHO_REPLY, xid, body))
        elif kind == BARRIER:
            self.connected.sendall(message(BARRIER_REPLY, xid))
        elif kind == BUNDLE_ADD:
            self.bundled += 1
        elif kind == BUNDLE:
            bundle, what, flags = struct.unpack("!IHH", body[:8])
            self.connected.sendall(
                message(BUNDLE, xid, struct.pack("!IHH", bundle, what + 1, flags))
            )

    def listing(self, what: int, xid: int) -> None:
        if self.manner == "endless" and what == FLOWS:
            entry = struct.pack("!HBxIIHHHHH2xQQQ", 56, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0)
            entry += struct.pack("!HH4x", 1, 4)
            part = message(MULTIPART_REPLY, xid, struct.pack("!HH4x", what, 1) + 1000 * entry)
            while True:
                self.connected.sendall(part)
        self.connected.sendall(message(MULTIPART_REPLY, xid, struct.pack("!HH4x", what, 0)))


def main() -> None:
    uid, address, datapath_id, manner = sys.argv[1:]
    "".encode("idna")  # what a name takes to be looked up, some users may not read
    os.setgroups([])
    os.setresgid(int(uid), int(uid), int(uid))
    os.setresuid(int(uid), int(uid), int(uid))
    try:
        if "/" in address:
            connected = socket.socket(socket.AF_UNIX)
            connected.connect(address)
        else:
            host, _, port = address.rpartition(":")
            connected = socket.create_connection((host.strip("[]"), int(port)))
    except OSError as error:
        print(f"refused: {error.strerror}", flush=True)
        return
    print("connected", flush=True)
    impostor = Impostor(connected, int(datapath_id, 16), manner)
    with contextlib.suppress(OSError):
        impostor.run()
    print(f"hung up, {impostor.bundled} messages", flush=True)


class Caller:
    """A running impostor."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def says(self) -> str:
        """The next thing that it prints; nothing, if it has ended."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


@contextlib.contextmanager
def calling(
    address: str, datapath_id: int, manner: str, uid: int = 0, netns: str | None = None
) -> Iterator[Caller]:
    """An impostor calls, and goes on until the end of the block."""
    prefix = ("ip", "netns", "exec", netns) if netns else ()
    program = (sys.executable, "-S", __file__, str(uid), address, f"{datapath_id:x}", manner)
    with subprocess.Popen([*prefix, *program], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Caller(process)
        finally:
            process.kill()


if __name__ == "__main__":
    main()
