"""How commands end: one status for one kind of reason, a sentence, and no traceback unasked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ovs_lwt import cli as commands
from ovs_lwt import manager, reloads
from ovs_lwt.ending import ended
from ovs_lwt.mistakes import NotNow, Refused
from ovs_lwt.vswitch.database import Database


def raising(error: BaseException) -> Callable[[], int]:
    def work() -> int:
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        ("Refused('no host')", 2, "ovs-lwt: no host\n"),
        ("NotNow('no controller answers')", 1, "ovs-lwt: no controller answers\n"),
        ("OverlayInvalid([Mistake('a:3', 'vteps', 'is odd')])", 2, "a:3: vteps: is odd\n"),
        ("BrokenPipeError()", 141, ""),
        ("KeyboardInterrupt()", 130, ""),
    ],
)
def test_each_kind_of_reason_has_its_status(error: str, status: int, said: str) -> None:
    assert process(f"ended('ovs-lwt', raising({error}))") == (status, "", said)


def process(code: str, encoding: str = "utf-8") -> tuple[int, str, str]:
    """Run this in a process of its own, since `ended` may give up its standard output."""
    names = "from ovs_lwt.ending import ended"
    odd = "from ovs_lwt.mistakes import Mistake, NotNow, OverlayInvalid, Refused"
    raised = "def raising(error):\n    def work():\n        raise error\n    return work"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{names}\n{odd}\n{raised}\nsys.exit({code})"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONIOENCODING": encoding},
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("status", [None, 0, 3])
def test_what_ends_well_ends_as_it_says(status: int | None) -> None:
    assert ended("ovs-lwt", lambda: status) == (status or 0)


def test_what_nobody_foresaw_is_one_line_and_all_of_it_on_request(
    capfd: pytest.CaptureFixture[str],
) -> None:
    work = raising(ValueError("odd\n\x1b[2J"))
    assert ended("ovs-lwt", work) == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("ovs-lwt: unexpected: ValueError: odd\\n\\x1b[2J")
    assert "--verbose shows the traceback" in line

    assert ended("ovs-lwt", work, verbose=True) == 1
    assert "Traceback (most recent call last)" in capfd.readouterr().err


@pytest.mark.parametrize("umask", [0o000, 0o002, 0o077])
def test_what_is_made_nobody_else_may_write(tmp_path: Path, umask: int) -> None:
    """Whatever shell or container we are started from: who writes to a control socket gives orders,
    and who writes to its folder takes its place.
    """
    script = f"""
import os, pathlib
from ovs_lwt.control import ControlSocket
from ovs_lwt.ending import ended

def work():
    ControlSocket(pathlib.Path({str(tmp_path / "run" / "host1.ctl")!r}))
    pathlib.Path({str(tmp_path / "overlay.yaml")!r}).touch()
    os._exit(0)  # the socket stays

os.umask({umask})
ended("ovs-lwt", work)
"""
    subprocess.run([sys.executable, "-c", script], check=True)
    found = [tmp_path / "run", tmp_path / "run" / "host1.ctl", tmp_path / "overlay.yaml"]
    assert [path.stat().st_mode & 0o022 for path in found] == [0, 0, 0]


def test_a_database_that_is_away_may_come_back_and_a_wrong_word_may_not(tmp_path: Path) -> None:
    with pytest.raises(NotNow, match="no ovsdb-server at"):
        Database(f"unix:{tmp_path}/db.sock", 1)
    with pytest.raises(Refused, match="write it like unix:") as refused:
        Database(f"{tmp_path}/db.sock", 1)
    assert refused.type is Refused


@dataclass
class Host:
    """As much of a host as a start looks at."""

    name: str
    trouble: Refused | None
    preparing: bool = False


def started(*troubles: Refused) -> type[Refused]:
    hosts: Any = [Host(f"host{number}", trouble) for number, trouble in enumerate(troubles)]
    with pytest.raises(Refused) as refused:
        reloads.await_first(hosts)
    return refused.type


def test_a_start_that_fails_may_pass_if_all_its_reasons_may(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reloads, "Switched", Host)
    assert started(NotNow("away")) is NotNow
    assert started(NotNow("away"), NotNow("away")) is NotNow
    assert started(NotNow("away"), Refused("another's")) is Refused


def test_a_terminal_without_unicode_gets_every_sign_in_its_own_letters() -> None:
    code = r"ended('x', lambda: print('✓4 a → b … é \udcff'))"
    assert process(code, "ascii") == (0, "+4 a -> b ... \\xe9 \\udcff\n", "")


def test_a_file_s_name_that_is_not_utf_8_can_be_said() -> None:
    assert process(r"ended('x', lambda: print('\udcff'))") == (0, "\\udcff\n", "")


def cli(*words: str, encoding: str = "utf-8", out: Any = subprocess.PIPE) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "ovs_lwt.cli", *words],
        stdout=out,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONIOENCODING": encoding},
        check=False,
    )
    return done.returncode, done.stdout or "", done.stderr


def test_help_lists_the_manager_and_ascii_is_enough() -> None:
    status, shown, said = cli("--help", encoding="ascii")
    assert (status, said) == (0, "")
    assert " manager " in shown
    status, shown, said = cli("manager", "--help")
    assert status == 0, said
    assert "--ofp-listen-host" in shown


def test_the_last_word_may_be_an_option_and_there_may_be_none() -> None:
    assert manager._framework_named([]) is None
    assert manager._framework_named(["--framework"]) == ""
    assert manager._framework_named(["x", "--framework", "ryu"]) == "ryu"


def test_a_full_disk_is_a_sentence() -> None:
    with Path("/dev/full").open("w") as full:
        status, _, said = cli("schema", out=full)
    assert status == 1
    assert said.startswith("ovs-lwt: what it prints cannot be written: No space left on device")
    assert said.count("\n") == 1


def test_a_reader_that_has_enough_is_no_mistake() -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as gone:
        assert cli("schema", out=gone) == (141, "", "")


@pytest.mark.parametrize(
    ("refused", "status"), [(["overlay.yaml:3: tenants.blue.vni: is 0"], 2), ([], 1)]
)
def test_a_reload_that_a_person_must_mend_is_told_from_one_that_may_pass(
    monkeypatch: pytest.MonkeyPatch, refused: list[str], status: int
) -> None:
    """The agent answers in words: whether they are about the overlay, its status says."""

    def ask(path: Path, command: str) -> str:
        if command == "status":
            return json.dumps({"overlay": {"refused": refused}})
        raise NotNow("host2: its switch is away")

    monkeypatch.setattr(commands, "ask", ask)
    done = CliRunner().invoke(commands.app, ["reload", "--control", "/nowhere"])
    assert isinstance(done.exception, Refused)
    assert done.exception.exit_status == status
