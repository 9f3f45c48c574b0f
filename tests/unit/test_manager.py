"""Launching without a launch: which words are apps, which framework runs, how a process stops."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ovs_lwt import appfiles, manager, stopping
from ovs_lwt.backends.openflow import framework
from ovs_lwt.mistakes import Refused
from tests.support.frameworks import environment


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder to stand in and to import from; it leaves no module behind."""
    before = set(sys.modules)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write_app(folder: Path, name: str, text: str = "") -> str:
    (folder / f"{name}.py").write_text(f"print('{name} is here')\n{text}", "utf-8")
    return name


def imported(words: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    appfiles.import_candidates(words.split())
    return [line.removesuffix(" is here") for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize(
    ("words", "apps"),
    [
        ("lwt_one", ["lwt_one"]),
        ("lwt_one lwt_two --verbose", ["lwt_one", "lwt_two"]),
        ("--verbose lwt_one", ["lwt_one"]),
        ("lwt_one,lwt_two", ["lwt_one", "lwt_two"]),
        ("--app-lists=lwt_one,lwt_two", ["lwt_one", "lwt_two"]),
        ("--app-lists lwt_one", ["lwt_one"]),
        ("./lwt_one.py", ["lwt_one"]),
        ("lwt_one --ofp-listen-host 127.0.0.1 --overlay overlay.yaml", ["lwt_one"]),
        # A host may well be called like one of Python's modules: these are never apps.
        ("lwt_one --overlay-host this", ["lwt_one"]),
    ],
)
def test_the_apps_among_the_words_are_imported(
    folder: Path, capsys: pytest.CaptureFixture[str], words: str, apps: list[str]
) -> None:
    write_app(folder, "lwt_one")
    write_app(folder, "lwt_two")
    assert imported(words, capsys) == apps


def test_a_file_is_imported_once_with_its_neighbours(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    away = folder / "away"
    away.mkdir()
    write_app(away, "lwt_helper")
    write_app(away, "lwt_main", "import lwt_helper\n")
    path = str(away / "lwt_main.py")
    assert appfiles.import_app(path) == appfiles.import_app(path) == "lwt_main"
    assert capsys.readouterr().out == "lwt_main is here\nlwt_helper is here\n"
    assert str(away) not in sys.path


def test_two_files_of_one_name_are_refused(folder: Path) -> None:
    (folder / "away").mkdir()
    write_app(folder, "lwt_main")
    write_app(folder / "away", "lwt_main")
    appfiles.import_app("./lwt_main.py")
    with pytest.raises(Refused, match="a module 'lwt_main' is already there; rename it"):
        appfiles.import_app("away/lwt_main.py")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import lwt_absent\n", "lwt_app.py cannot be loaded: No module named 'lwt_absent'"),
        ("import ryu.no_such\n", "it is written for ryu: --framework ryu"),
        ("import os_ken.no_such\n", "it is written for os-ken: --framework os-ken"),
    ],
)
def test_an_app_that_cannot_be_imported_says_why(folder: Path, text: str, message: str) -> None:
    write_app(folder, "lwt_app", text)
    with pytest.raises(Refused, match=message):
        appfiles.import_app("lwt_app.py")
    assert "lwt_app" not in sys.modules


def test_a_forgotten_ending_is_pointed_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_app(tmp_path, "lwt_forgotten")
    with pytest.raises(Refused, match=r"for the file here, write lwt_forgotten\.py"):
        appfiles.import_app("lwt_forgotten")


@pytest.mark.parametrize("words", [["--framework", "ryu", "app"], ["app", "--framework=ryu"]])
def test_the_framework_is_read_first(words: list[str]) -> None:
    assert manager._framework_named(words) == "ryu"
    assert manager._framework_named(["app"]) is None


def test_only_one_framework_runs_in_a_process(capsys: pytest.CaptureFixture[str]) -> None:
    running = framework.choose("os-ken")
    assert (running.name, running.App.__name__) == ("os-ken", "OSKenApp")
    assert framework.current() is running
    assert manager.main(["--framework", "ryu"]) == 2
    assert "os-ken already runs in this process, so ryu cannot" in capsys.readouterr().err
    assert manager.main(["--framework", "trema"]) == 2
    assert "there is no framework 'trema': use --framework os-ken" in capsys.readouterr().err


def test_without_a_framework_the_install_line_is_given() -> None:
    """In a fresh Python that sees neither, whatever this one has."""
    script = (
        "import importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name in ('os_ken', 'ryu') else find(name, *a)\n"
        "from ovs_lwt.backends.openflow import framework\n"
        "for name in (None, 'ryu'):\n"
        "    try: framework.choose(name)\n"
        "    except framework.Refused as refused: print(refused)\n"
    )
    shown = subprocess.run(
        [sys.executable, "-c", script],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert shown[0] == "neither os-ken nor Ryu is installed here: pip install 'os-ken>=4,<5'"
    assert shown[1].startswith(f"ryu is not installed for {sys.executable}: ")
    assert shown[1].endswith("pip install 'ovs-lwt[ryu]'")


def test_a_guarded_handler_logs_and_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    """Declared for two events, it is guarded once and serves both."""
    fw = framework.current()
    seen: list[object] = []

    class Shim(framework.App):
        @fw.handles("EventOFPErrorMsg", "main")
        @fw.handles("EventOFPBarrierReply", "main")
        def handler(self, event: object) -> None:
            seen.append(event)
            raise ZeroDivisionError

    shim = Shim()
    events = [fw.ofp_event.EventOFPErrorMsg(None), fw.ofp_event.EventOFPBarrierReply(None)]
    for event in events:
        shim.handler(event)
    assert seen == events
    for event in events:
        assert f"Shim.handler failed on {type(event).__name__}; going on" in caplog.text
    assert caplog.text.count("Traceback") == 2
    assert set(Shim.handler.callers) == {type(event) for event in events}  # type: ignore[attr-defined]


def test_options_may_come_after_the_command_line_was_read() -> None:
    """As under ryu-manager, which imports apps late: a configuration file still reaches them."""
    fw = framework.current()
    fw.CONF(args=[], project="test", default_config_files=[])
    try:
        fw.register_options([fw.cfg.StrOpt("late-option", default="as it is")])
        assert fw.CONF.late_option == "as it is"
    finally:
        fw.CONF.reset()


def test_a_signal_ends_the_wait_and_is_given_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with stopping.on_signal() as stop:
        assert not stop.wait(0)
        assert not stop.wait(0.01)
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM)).start()
        stop.wait()
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("script", "status", "message"),
    [
        ("with stopping.deadline(0.1): time.sleep(5)", 1, "not stopped after 0.1 s"),
        ("with stopping.deadline(0.1): pass\ntime.sleep(0.2)", 0, ""),
        # A second signal does not wait for anything.
        (
            "with stopping.on_signal():\n for _ in 'ab': os.kill(os.getpid(), signal.SIGINT)",
            130,
            "",
        ),
    ],
)
def test_what_hangs_is_left(script: str, status: int, message: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", f"import os, signal, time\nfrom ovs_lwt import stopping\n{script}"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=4,
        check=False,
    )
    assert ended.returncode == status
    assert message in ended.stderr
