"""The process that a lab's machine belongs to: it hands each client a serial line of the machine.

    python -m ovs_lwt.lab.uml.holder NAME

It stays until SIGTERM, or until the machine has ended; should it be killed, the machine's leash
ends the machine. Only whole frames go to and fro, and each conversation ends with a HANGUP and the
machine's GONE: so a line is as good as new however its client left.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ovs_lwt.lab.kernel import KernelMachine
from ovs_lwt.lab.uml.frames import HEAD, Frame, Kind
from ovs_lwt.lab.uml.record import BoxedLab, find
from ovs_lwt.mistakes import Refused

# How many commands can run at the same time.
_LINES: Final = 16
_LOOK_SECONDS: Final = 0.5


class Line:
    """Our end of one of the machine's serial lines."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def ready(self) -> None:
        """Wait until the machine serves this line."""
        while (await _read(self._reader)).kind is not Kind.READY:
            pass

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry frames between a client and the machine until both have left."""
        to_machine = asyncio.create_task(self._carry(reader))
        try:
            while (frame := await _read(self._reader)).kind is not Kind.GONE:
                # The client may have left: what is for it is lost, then.
                with contextlib.suppress(ConnectionError):
                    writer.write(frame.pack())
                    await writer.drain()
        finally:
            to_machine.cancel()

    async def _carry(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                await self._send(await _read(reader))
        await self._send(Frame(Kind.HANGUP))

    async def _send(self, frame: Frame) -> None:
        self._writer.write(frame.pack())
        await self._writer.drain()


async def _read(reader: asyncio.StreamReader) -> Frame:
    kind, length = HEAD.unpack(await reader.readexactly(HEAD.size))
    return Frame(Kind(kind), await reader.readexactly(length))


class Switchboard:
    """Gives each client a line of the machine, once one is free."""

    def __init__(self) -> None:
        self._free: asyncio.Queue[Line] = asyncio.Queue()
        # The loop keeps no reference to what waits: a line whose client has left could be collected
        # while it waits for the machine's GONE.
        self._lines: list[Line] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def listen(self, path: Path, ends: Sequence[socket.socket]) -> None:
        """Listen for clients on `path`; `ends` are our ends of the lines."""
        for end in ends:
            line = Line(*await asyncio.open_connection(sock=end))
            self._lines.append(line)
            task = asyncio.create_task(self._offer(line))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        await asyncio.start_unix_server(self._serve, path)

    async def _offer(self, line: Line) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            await line.ready()
            self._free.put_nowait(line)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            line = await self._free.get()
            writer.write(Frame(Kind.READY).pack())
            # The line ends if the machine does.
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                await line.converse(reader, writer)
                self._free.put_nowait(line)


async def hold(lab: BoxedLab) -> int:
    """Hold the lab's machine to its end; return the exit status: 0 if we were asked to end it."""
    asked = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, asked.set)
    pairs = [socket.socketpair() for _ in range(_LINES)]
    machine = KernelMachine(
        [sys.executable, "-m", "ovs_lwt.lab.uml.server", str(_LINES)],
        timeout=None,
        memory=lab.memory,
        lines=[theirs for _, theirs in pairs],
        name=lab.name,
        echo=lambda said: os.write(1, said),
    )
    with machine:
        await Switchboard().listen(lab.socket, [ours for ours, _ in pairs])
        while machine.running and not asked.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asked.wait(), _LOOK_SECONDS)
        lab.socket.unlink(missing_ok=True)
        if asked.is_set():
            return 0
        said = machine.wait().console
    print(f"the machine ended by itself; its kernel's last words:\n{said}", flush=True)
    return 1


def main(name: str) -> int:
    """Hold the machine of the lab called `name`; return the exit status."""
    lab = find(name)
    try:
        return 1 if lab is None else asyncio.run(hold(lab))
    except Refused as refused:
        print(refused, flush=True)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
