"""The process that a lab's machine belongs to: it hands each client a serial line of the machine.

    python -m ovs_lwt.lab.boxed.holder NAME

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
import time
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Final

from ovs_lwt.lab.boxed.frames import HEAD, Frame, Kind
from ovs_lwt.lab.boxed.record import BoxedLab, find
from ovs_lwt.lab.kernel import KernelMachine, Result, slowness
from ovs_lwt.lab.kernel import find as find_maker
from ovs_lwt.mistakes import Refused
from ovs_lwt.programs import program

# How many commands can run at the same time.
_LINES: Final = 16
_LOOK_SECONDS: Final = 0.5
# A machine on a kernel as quick as ours boots in a few seconds.
_UP_SECONDS: Final = 60.0


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
        # The machine may end meanwhile: whoever listens to it notices that.
        with contextlib.suppress(ConnectionError):
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while True:
                    await self._send(await _read(reader))
            await self._send(Frame(Kind.HANGUP))

    async def _send(self, frame: Frame) -> None:
        self._writer.write(frame.pack())
        await self._writer.drain()

    def close(self) -> None:
        """Hang up for good."""
        self._writer.close()


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
        self._server: asyncio.Server | None = None
        # Set once the machine serves a line: it is up.
        self.serves = asyncio.Event()

    async def listen(self, path: Path, ends: Sequence[socket.socket]) -> None:
        """Listen for clients on `path`; `ends` are our ends of the lines."""
        for end in ends:
            line = Line(*await asyncio.open_connection(sock=end))
            self._lines.append(line)
            self._begin(self._offer(line))
        # A function, not a coroutine: tasks of the streams' own would complain at the end.
        self._server = await asyncio.start_unix_server(
            lambda reader, writer: self._begin(self._serve(reader, writer)), path
        )

    async def close(self) -> None:
        """Hang up on every client and line; nothing of ours is left in the loop."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for line in self._lines:
            line.close()

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _offer(self, line: Line) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await line.ready()
            self.serves.set()
            self._free.put_nowait(line)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            line = await self._free.get()
            # The line ends if the machine does.
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                writer.write(Frame(Kind.READY).pack())
                await line.converse(reader, writer)
                self._free.put_nowait(line)


async def hold(lab: BoxedLab) -> int:
    """Hold the lab's machine to its end; return the exit status: 0 if we were asked to end it.

    Its last words, if it ended by itself or never came up, are the last lines that we print.
    """
    asked = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, asked.set)
    pairs = [socket.socketpair() for _ in range(_LINES)]
    maker = find_maker(lab.kind, lambda line: print(line, flush=True))
    up_until = time.monotonic() + _UP_SECONDS * slowness(maker.how)
    machine = KernelMachine(
        maker,
        [*program("ovs_lwt.lab.boxed.server"), str(_LINES)],
        timeout=None,
        memory=lab.memory,
        lines=[theirs for _, theirs in pairs],
        name=lab.name,
        echo=lambda said: os.write(1, said),
    )
    board = Switchboard()
    with machine:
        await board.listen(lab.socket, [ours for ours, _ in pairs])
        too_late = False
        while machine.running and not asked.is_set() and not too_late:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asked.wait(), _LOOK_SECONDS)
            too_late = not board.serves.is_set() and time.monotonic() > up_until
        lab.socket.unlink(missing_ok=True)
        if asked.is_set():
            await board.close()
            return 0
        result = machine.end()
        lab.console.write_text(result.console)
        _explain(lab, result, booted=board.serves.is_set(), too_late=too_late)
        # Only now: a client that hears of the end looks for the words.
        await board.close()
    return 1


def _explain(lab: BoxedLab, result: Result, *, booted: bool, too_late: bool) -> None:
    if too_late:
        print("the machine did not come up in time; it was ended")
    elif not booted:
        print("the machine did not come up")
    else:
        print("the machine ended by itself")
    words = result.last_words()
    said = f"its last words (all of them: {lab.console}):\n{words}"
    print(said if words else "its kernel said nothing", flush=True)


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
