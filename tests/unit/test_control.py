"""The control socket: whose it is, what may stand in its way, and askers who get no answer."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ovs_lwt import control, unixsockets
from ovs_lwt.control import ControlSocket, Request, ask
from ovs_lwt.mistakes import Refused


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short path."""
    with tempfile.TemporaryDirectory(prefix="ctl-", dir="/tmp") as name:
        yield Path(name)


@contextmanager
def served(path: Path) -> Iterator[ControlSocket]:
    """A control socket that answers `status`."""
    listening = ControlSocket(path)
    listening.offer({"status": lambda request: request.reply("fine"), "reload": _refuse})
    over = threading.Event()

    def serve() -> None:
        while not over.wait(0.01):
            listening.run()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listening
    finally:
        over.set()
        thread.join()
        listening.close()


def _refuse(request: Request) -> None:
    request.error("the overlay is wrong")


@contextmanager
def mute(path: Path, queue: int = 5) -> Iterator[socket.socket]:
    """Somebody who listens there, and never says a word."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen(queue)
        yield server


def test_it_answers_and_is_gone_when_closed(folder: Path) -> None:
    path = folder / "made" / "for" / "it" / "host1.ctl"
    with served(path):
        assert ask(path, "status") == "fine"
        with pytest.raises(Refused, match="the overlay is wrong"):
            ask(path, "reload")
    assert not path.exists()
    with pytest.raises(Refused, match="no controller answers"):
        ask(path, "status")


@pytest.mark.parametrize("what", ["file", "folder", "fifo", "link to a file", "dangling link"])
def test_what_is_no_socket_stays(folder: Path, what: str) -> None:
    path, file = folder / "precious", folder / "file"
    file.write_text("precious")
    match what:
        case "file":
            path.write_text("precious")
        case "folder":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)
        case "link to a file":
            path.symlink_to(file)
        case "dangling link":
            path.symlink_to(folder / "nowhere")
    before = unixsockets.identity(path)
    with pytest.raises(Refused, match=r"precious is there already, and is not a socket: it stays"):
        ControlSocket(path)
    assert unixsockets.identity(path) == before
    assert file.read_text() == "precious"


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/proc/nowhere/host1.ctl", r"folder of the control socket .* cannot be made \(No such"),
        ("/dev/null/x/host1.ctl", r"cannot be made \(Not a directory\): choose another with"),
        ("/proc/host1.ctl", r"cannot listen on /proc/host1.ctl|cannot be made"),
        ("/tmp/" + 120 * "x" + ".ctl", r"has a path of 129 bytes, and a socket's has 107 at most"),
        ("/tmp/" + 52 * "ü" + ".ctl", r"has a path of 113 bytes"),
    ],
)
def test_where_no_socket_can_be(path: str, said: str) -> None:
    with pytest.raises(Refused, match=said):
        ControlSocket(Path(path))


def test_a_socket_of_the_dead_is_taken_over(folder: Path) -> None:
    path = folder / "host1.ctl"
    with mute(path):
        pass
    assert path.is_socket()
    with served(path):
        assert ask(path, "status") == "fine"


def test_another_controller_keeps_its_socket(folder: Path) -> None:
    path = folder / "host1.ctl"
    with served(path):
        name = rf"another controller \(process {os.getpid()} \(.*\) of uid \d+\) answers on"
        with pytest.raises(Refused, match=name):
            ControlSocket(path)
        assert ask(path, "status") == "fine"


@pytest.mark.parametrize("queue", [5, 0])
def test_one_that_is_stuck_is_waited_for_with_an_end(
    folder: Path, queue: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes connections and answers nothing; or its queue of callers is full."""
    path = folder / "host1.ctl"
    with mute(path, queue), socket.socket(socket.AF_UNIX) as caller:
        caller.connect(str(path))
        began = time.monotonic()
        with pytest.raises(Refused, match=r"did not answer `status` within 0.5 s: it is busy, or"):
            ask(path, "status", 0.5)
        assert time.monotonic() - began < 2
        monkeypatch.setattr(control, "ask", lambda *_: ask(path, "version", 0.2))
        with pytest.raises(Refused, match=r"listens, and does not answer, on .*host1.ctl: stop it"):
            ControlSocket(path)
        assert path.is_socket()


def test_one_that_hangs_up_says_so(folder: Path) -> None:
    path = folder / "host1.ctl"
    with mute(path) as server:

        def hang_up() -> None:
            caller, _ = server.accept()
            caller.recv(1000)
            caller.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        with pytest.raises(Refused, match="hung up"):
            ask(path, "status")
        thread.join()


def test_a_socket_made_since_is_not_removed(folder: Path) -> None:
    path = folder / "host1.ctl"
    ours = ControlSocket(path)
    path.unlink()
    with mute(path):
        ours.close()
        assert path.is_socket()


def test_who_may_not_ask_is_told_so(folder: Path) -> None:
    folder.chmod(0o755)
    path = folder / "host1.ctl"
    with served(path):
        program = (
            "import os, sys\nfrom pathlib import Path\n"
            "from ovs_lwt.control import ask\nfrom ovs_lwt.mistakes import Refused\n"
            "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
            "try: ask(Path(sys.argv[1]), 'status')\n"
            "except Refused as refused: print(refused)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True
        )
    assert done.stdout == (
        f"not permitted to ask the controller behind {path}: do it as root (sudo)\n"
    )
