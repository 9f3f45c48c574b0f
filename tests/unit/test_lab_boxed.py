"""A command in a lab's machine, as if it ran here: client, switchboard and server, but no machine.

The server serves the other ends of the switchboard's lines, in a process of its own, and instead of
`ovs-lwt` it runs whatever it is told.
"""

from __future__ import annotations

import asyncio
import fcntl
import gc
import os
import pty
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovs_lwt.lab.boxed import client, record
from ovs_lwt.lab.boxed.frames import PIECE, Decoder, Frame, Kind, Request
from ovs_lwt.lab.boxed.holder import Switchboard
from ovs_lwt.lab.processes import alive
from ovs_lwt.mistakes import Refused
from tests.support import forked
from tests.support.ovs import eventually

LOOP = "while :; do sleep 0.05; done"

# Under nohup all that the tests start ignores SIGHUP: a client and its command must not.
_SERVER = """
import os, signal, sys
from ovs_lwt.lab.boxed import command, server

signal.signal(signal.SIGHUP, signal.SIG_DFL)

class Program:
    def main():
        os.execvp(sys.argv[1], sys.argv[1:])

command._PROGRAM = Program
server.serve([server.Line(int(fd)) for fd in sys.argv[1:]])
"""


class Running:
    """A client, forked: an interpreter of its own would take a second to start.

    `give` is its standard input, `out` and `err` are ours to read.
    """

    def __init__(self, box: Box, words: Sequence[str], stdin: int, **changed: Any) -> None:
        out, to_out = os.pipe()
        err, to_err = os.pipe()
        self.process = box.start_client(words, (stdin, to_out, to_err), **changed)
        os.close(to_out)
        os.close(to_err)
        self.out, self.err = os.fdopen(out, "rb"), os.fdopen(err, "rb")

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self.out.close()
        self.err.close()

    def wait(self) -> int:
        return forked.status(self.process)


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended."""

    status: int
    out: bytes
    err: bytes


class Box:
    """Two lines to a server, behind a lab's socket."""

    def __init__(self, labs: Path) -> None:
        self.labs = labs
        self.lab = record.BoxedLab("box", Path("overlay.yaml"), 512, "uml")
        pairs = [socket.socketpair() for _ in range(2)]
        theirs = [end.fileno() for _, end in pairs]
        self.server = subprocess.Popen(
            [sys.executable, "-c", _SERVER, *map(str, theirs)], pass_fds=theirs
        )
        for _, end in pairs:
            end.close()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        listening = Switchboard().listen(self.lab.socket, [ours for ours, _ in pairs])
        asyncio.run_coroutine_threadsafe(listening, self._loop).result(10)

    def close(self) -> None:
        self.server.kill()
        self.server.wait()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.run_until_complete(_cancel_all())
        self._loop.close()

    def start_client(
        self, words: Sequence[str], stdio: Sequence[int], terminal: bool = False, **changed: Any
    ) -> BaseProcess:
        """In a process of its own: `ovs-lwt lab …`."""
        what = (self.labs, self.lab, words, changed.get("env", {}), changed.get("cwd", "/"))
        return forked.start(be_client, *what, stdio=stdio, terminal=terminal)

    def start(self, *words: str, stdin: int | None = None, **changed: Any) -> Running:
        """Start a client; without `stdin` its input has ended."""
        if stdin is not None:
            return Running(self, words, stdin, **changed)
        with Path(os.devnull).open() as nothing:
            return Running(self, words, nothing.fileno(), **changed)

    def run(self, *words: str, given: bytes = b"", **changed: Any) -> Done:
        """Run a command to its end."""
        with tempfile.TemporaryFile() as file:
            file.write(given)
            file.seek(0)
            with Running(self, words, file.fileno(), **changed) as running:
                out = running.out.read()
                return Done(status=running.wait(), out=out, err=running.err.read())


def be_client(
    labs: Path, lab: record.BoxedLab, words: Sequence[str], env: Mapping[str, str], cwd: str
) -> int:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    pytest.MonkeyPatch().setattr(record, "LABS", labs)
    os.environ.update(env)
    os.chdir(cwd)
    return client.run(lab, words, reads=True)


async def _cancel_all() -> None:
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


@pytest.fixture(scope="module")
def box() -> Iterator[Box]:
    # Not pytest's folder: a socket's path is short.
    labs = Path(tempfile.mkdtemp(prefix="box-", dir="/tmp"))
    (labs / "box").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record, "LABS", labs)
        there = Box(labs)
        yield there
        there.close()
    shutil.rmtree(labs)


@pytest.fixture(autouse=True)
def in_time() -> Iterator[None]:
    """A conversation that has stuck fails."""

    def stuck(*_: object) -> None:
        raise TimeoutError("this has taken two minutes")

    before = signal.signal(signal.SIGALRM, stuck)
    signal.alarm(120)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


# Frames


@given(st.lists(st.binary(max_size=300), max_size=6), st.integers(1, 50))
def test_frames_come_out_whole_however_they_arrive(payloads: list[bytes], piece: int) -> None:
    sent = [Frame(Kind.STDOUT, payload) for payload in payloads]
    stream = b"".join(frame.pack() for frame in sent)
    decoder = Decoder()

    found = [
        frame
        for start in range(0, len(stream), piece)
        for frame in decoder.feed(stream[start : start + piece])
    ]

    assert found == sent


@pytest.mark.parametrize("terminal", [None, (24, 80)])
def test_a_request_of_any_length_goes_in_pieces(terminal: tuple[int, int] | None) -> None:
    request = Request(["exec", "ä" * 5000], "/tmp", {"A": "b" * PIECE}, terminal)

    frames = list(request.frames())

    assert [frame.kind for frame in frames[:-1]] == [Kind.PART] * (len(frames) - 1)
    assert frames[-1].kind is Kind.RUN
    assert all(0 < len(frame.payload) <= PIECE for frame in frames)
    assert Request.read(b"".join(frame.payload for frame in frames)) == request


# As if it ran here


def test_output_errors_and_status_are_the_commands(box: Box) -> None:
    assert box.run("sh", "-c", "echo out; echo err >&2; exit 7") == Done(7, b"out\n", b"err\n")


def test_the_status_of_a_command_that_was_killed_is_the_shells(box: Box) -> None:
    assert box.run("sh", "-c", "kill -9 $$").status == 128 + signal.SIGKILL


def test_it_runs_where_it_was_typed_with_our_environment(box: Box, tmp_path: Path) -> None:
    done = box.run("sh", "-c", "pwd; echo $COLOUR", cwd=tmp_path, env={"COLOUR": "blue"})

    assert done.out.decode().split() == [str(tmp_path), "blue"]


def test_much_goes_in_and_out_whole(box: Box) -> None:
    much = os.urandom(300_000)

    assert box.run("cat", given=much).out == much


def test_input_that_nobody_reads_is_no_hindrance(box: Box) -> None:
    assert box.run("true", given=b"x" * 300_000).status == 0


def test_output_comes_as_it_is_made_and_input_as_it_is_given(box: Box) -> None:
    ours, theirs = socket.socketpair()
    script = "echo first; read line; echo second $line; cat"
    with ours, box.start("sh", "-c", script, stdin=theirs.fileno()) as running:
        theirs.close()
        assert running.out.readline() == b"first\n"
        ours.sendall(b"go\n")
        assert running.out.readline() == b"second go\n"
        ours.shutdown(socket.SHUT_WR)
        assert running.wait() == 0


def test_what_a_command_leaves_running_holds_nobody_up(box: Box) -> None:
    done = box.run("sh", "-c", "sleep 100 & echo $!")

    assert done.status == 0
    os.kill(int(done.out), signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_goes_to_the_command(box: Box, number: signal.Signals) -> None:
    caught = f"trap 'echo caught; exit 3' {number.name[3:]}"
    with box.start("sh", "-c", f"{caught}; echo ready; {LOOP}") as running:
        assert running.out.readline() == b"ready\n"
        os.kill(running.process.pid or 0, number)
        assert running.out.readline() == b"caught\n"
        assert running.wait() == 3


def test_a_reader_that_leaves_ends_the_command(box: Box) -> None:
    with box.start("sh", "-c", "echo $$; exec yes") as running:
        pid = int(running.out.readline())
        running.out.close()

        assert running.wait() == 128 + signal.SIGPIPE
    assert eventually(lambda: not alive(pid))


@pytest.mark.parametrize("stubborn", [False, True])
def test_a_client_that_is_killed_takes_its_command_along(box: Box, stubborn: bool) -> None:
    script = f"{'trap : HUP;' * stubborn} echo $$; {LOOP}"
    with box.start("sh", "-c", script) as running:
        pid = int(running.out.readline())
        running.process.kill()
        running.wait()

    assert eventually(lambda: not alive(pid))
    # Its line is free again: there are two.
    assert [box.run("true").status for _ in range(3)] == [0, 0, 0]


def test_a_client_that_stops_in_the_middle_of_a_word_spoils_no_line(box: Box) -> None:
    for _ in range(3):
        with socket.socket(socket.AF_UNIX) as broken:
            broken.connect(str(box.lab.socket))
            assert [frame.kind for frame in Decoder().feed(broken.recv(100))] == [Kind.READY]
            broken.sendall(Frame(Kind.PART, b'{"words": ["rm').pack()[:-5])

    assert box.run("echo", "well").out == b"well\n"


def test_a_line_waits_for_a_slow_machine_whatever_is_collected_meanwhile(tmp_path: Path) -> None:
    """The machine takes its time to say GONE, and nobody but the line waits for it."""

    async def machine(end: socket.socket) -> None:
        loop, decoder = asyncio.get_running_loop(), Decoder()
        await loop.sock_sendall(end, Frame(Kind.READY).pack())
        while True:
            for frame in decoder.feed(await loop.sock_recv(end, 100)):
                assert frame.kind is Kind.HANGUP
                await asyncio.sleep(0.02)
                gc.collect()
                await loop.sock_sendall(end, Frame(Kind.GONE).pack())

    async def clients() -> None:
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        with theirs:
            switchboard, path = Switchboard(), tmp_path / "lab.sock"
            await switchboard.listen(path, [ours])
            serving = asyncio.create_task(machine(theirs))
            for _ in range(2):
                reader, writer = await asyncio.open_unix_connection(path)
                assert await asyncio.wait_for(reader.read(100), 10) == Frame(Kind.READY).pack()
                writer.close()
            serving.cancel()

    asyncio.run(clients())


def test_commands_run_at_the_same_time(box: Box, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with box.start("cat", str(fifo)) as reading:
        assert box.run("sh", "-c", f"echo well >{fifo}").status == 0
        assert reading.out.read() == b"well\n"
        assert reading.wait() == 0


# A terminal


def in_terminal(box: Box, script: str, *steps: tuple[str, bytes | tuple[int, int]]) -> int:
    """Run `script` in a terminal; its status.

    Each step is what to wait for in the output, and what to type then, or the terminal's new size.
    """
    terminal, theirs = pty.openpty()
    process = box.start_client(["sh", "-c", script], (theirs, theirs, theirs), terminal=True)
    os.close(theirs)
    heard = b""
    for wanted, answer in steps:
        while wanted.encode() not in heard:
            assert select.select([terminal], [], [], 30)[0], heard
            heard += os.read(terminal, 1000)
        if isinstance(answer, bytes):
            os.write(terminal, answer)
        else:
            fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", *answer, 0, 0))
    status = forked.status(process)
    os.close(terminal)
    return status


def test_in_a_terminal_the_command_has_one_of_its_own(box: Box) -> None:
    script = "tty; read line; echo typed $line; exit 5"
    assert in_terminal(box, script, ("/dev/pts/", b"go\r"), ("typed go", b"")) == 5


def test_the_commands_terminal_is_as_large_as_ours(box: Box) -> None:
    script = f"trap 'stty size; exit 6' WINCH; echo ready; {LOOP}"
    assert in_terminal(box, script, ("ready", (33, 77)), ("33 77", b"")) == 6


def test_in_a_terminal_ctrl_c_is_a_key(box: Box) -> None:
    script = f"trap 'echo caught; exit 3' INT; echo ready; {LOOP}"
    assert in_terminal(box, script, ("ready", b"\x03"), ("caught", b"")) == 3


# Without a machine


def test_a_lab_whose_machine_is_gone_says_so_and_shows_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "LABS", tmp_path)
    lab = record.BoxedLab("box", Path("/overlay.yaml"), 512, "uml")
    record.record(lab)
    lab.log.write_text("Kernel panic - not syncing: Out of memory\n")

    assert record.find("box") == lab
    with pytest.raises(Refused, match=r"has ended: 'ovs-lwt lab down --name box'[^$]*panic"):
        record.connect(lab)
    with pytest.raises(record.MachineEnded, match="lab down --name box"):
        record.record(lab)

    record.end(lab)
    assert record.find("box") is None
    assert list(tmp_path.iterdir()) == []
