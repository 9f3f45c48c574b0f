"""The kernel lab without a kernel: a script in its place runs the command and says its status."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

import pytest

from ovs_lwt.lab.kernel import (
    DIED,
    Hub,
    KernelMachine,
    Plug,
    Result,
    features,
    find,
    run_in_kernel,
    settle,
)
from ovs_lwt.lab.kernel.uml import maker as uml
from ovs_lwt.lab.kernel.uml import xstate
from ovs_lwt.mistakes import Refused
from tests.support.frameworks import CHECKOUT, environment
from tests.support.ovs import eventually

# What linux.uml and init.sh do, seen from outside: the command's output is the kernel's standard
# output, what the kernel says is its standard error. A helper of its own stays behind.
STAND_IN = """#!/bin/sh
for word; do case $word in ovs_lwt_*=*) eval "${word%%=*}='${word#*=}'" ;; esac; done
echo "preloaded:$LD_PRELOAD" >&2
echo "$@" >&2
sleep 1000 &
sh "$ovs_lwt_work/command" 2>&1
echo $? >"$ovs_lwt_work/status"
"""


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where machines have their files."""
    folder = Path(mkdtemp(prefix="knl-", dir="/tmp"))
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    yield folder
    rmtree(folder)


@pytest.fixture(autouse=True)
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: Path) -> Path:
    """A user-mode Linux, extracted from its package."""
    linux = tmp_path / "uml/usr/bin/linux.uml"
    linux.parent.mkdir(parents=True)
    (tmp_path / "uml/usr/lib/uml/modules").mkdir(parents=True)
    linux.write_text(STAND_IN)
    linux.chmod(0o755)
    monkeypatch.setenv("OVS_LWT_UML", str(tmp_path / "uml"))
    return linux


def living(*words: str) -> list[str]:
    """The command lines with all of these words."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if line and all(word in line for word in words):
            found.append(line)
    return found


# Finding it


def test_a_missing_kernel_names_its_debian_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OVS_LWT_UML")
    monkeypatch.setattr(
        "shutil.which", lambda tool, path: None if tool == "linux.uml" else f"/bin/{tool}"
    )
    with pytest.raises(Refused, match="apt-get install user-mode-linux"):
        run_in_kernel(find("uml"), ["true"])


def test_a_missing_tool_names_its_debian_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda tool, path: None if tool == "modprobe" else "/x")
    with pytest.raises(Refused, match="needs modprobe: 'apt-get install kmod'"):
        uml.find()


def test_a_folder_without_a_kernel_is_named(tmp_path: Path, kernel: Path) -> None:
    kernel.unlink()
    with pytest.raises(Refused, match=f"OVS_LWT_UML names {tmp_path}/uml, which has no usr/bin/l"):
        uml.find()


def test_a_kernel_without_its_modules_is_refused(tmp_path: Path) -> None:
    (tmp_path / "uml/usr/lib/uml/modules").rmdir()
    with pytest.raises(Refused, match="lacks its modules"):
        uml.find()


def test_an_installed_kernel_is_found(kernel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OVS_LWT_UML")
    monkeypatch.setenv("PATH", f"{kernel.parent}:{os.environ['PATH']}")
    assert uml.find() == uml.UserModeLinux(kernel, kernel.parents[1] / "lib/uml/modules")


# The command


def test_a_commands_status_and_output_come_back(work: Path) -> None:
    result = run_in_kernel(find("uml"), ["sh", "-c", "echo one; echo two >&2; exit 3"], timeout=20)
    assert (result.status, result.output) == (3, "one\ntwo\n")
    assert not list(work.iterdir())


@pytest.mark.parametrize("needed", [True, False])
def test_a_processor_with_more_registers_gets_the_library(
    needed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "with a space"))
    monkeypatch.setattr(xstate, "needed", lambda: needed)
    preloaded, _, _ = run_in_kernel(find("uml"), ["true"], timeout=20).console.partition("\n")
    assert preloaded.endswith("/xstate.so") is needed
    assert preloaded.startswith("preloaded:")


def test_the_command_and_its_environment_arrive_letter_by_letter(tmp_path: Path) -> None:
    odd = """it's "$HOME" `x` \\ *\n ü"""
    code = "import os, sys; print(repr((os.environ['ODD'], sys.argv[1], os.getcwd())))"
    with KernelMachine(
        find("uml"), [sys.executable, "-c", code, odd], env={"ODD": odd}, cwd=tmp_path, timeout=20
    ) as machine:
        assert machine.wait().output.strip() == repr((odd, odd, str(tmp_path)))


def test_a_kernel_may_open_as_many_files_as_this_machine_allows() -> None:
    """User-mode Linux keeps open whatever was read in it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(1000, hard), hard))
    try:
        result = run_in_kernel(find("uml"), ["sh", "-c", "ulimit -n"], timeout=20)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert result.output == f"{hard}\n"


def test_a_machine_that_is_ended_before_it_starts_has_said_nothing() -> None:
    with KernelMachine(find("uml"), ["true"]) as machine:
        assert machine.end() == Result(DIED, "", "")


def test_output_is_heard_as_it_comes() -> None:
    heard: list[bytes] = []
    command = ["sh", "-c", "echo first; sleep 100"]
    with KernelMachine(find("uml"), command, timeout=20, echo=heard.append) as machine:
        assert eventually(lambda: b"".join(heard) == b"first\n")
        assert machine.running


def test_the_kernel_is_told_what_was_asked_for() -> None:
    with (
        Hub() as hub,
        KernelMachine(
            find("uml"),
            ["true"],
            memory=640,
            timeout=20,
            plugs=[hub.plug("02:00:00:00:00:07", mtu=9000)],
        ) as machine,
    ):
        result = machine.wait()
    words = result.console.split()
    assert "mem=640M" in words
    assert [word for word in words if word.startswith("vec0:transport=fd,fd=")]
    assert [word for word in words if word.endswith(",mtu=9000,mac=02:00:00:00:00:07")]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"memory": 16}, "a machine of 16 MB does not boot"),
        ({"out": Path("/nowhere")}, "the output folder /nowhere does not exist"),
    ],
)
def test_what_cannot_be_is_refused_at_once(options: dict[str, object], complaint: str) -> None:
    with pytest.raises(Refused, match=complaint):
        KernelMachine(find("uml"), ["true"], **options)  # type: ignore[arg-type]


# The end


def test_a_slow_machine_is_stopped(work: Path) -> None:
    started = time.monotonic()
    result = run_in_kernel(find("uml"), ["sh", "-c", "echo begun; sleep 1001"], timeout=1)
    assert (result.status, result.timed_out, result.output) == (124, True, "begun\n")
    assert time.monotonic() - started < 10
    assert not living(str(work))
    assert not list(work.iterdir())


def test_a_machine_that_dies_says_what_its_kernel_said(kernel: Path) -> None:
    kernel.write_text("#!/bin/sh\necho half a sent\necho 'Kernel panic' >&2\n")
    assert run_in_kernel(find("uml"), ["true"], timeout=20) == Result(
        DIED, "half a sent\n", "Kernel panic\n"
    )


def test_a_machine_that_is_no_longer_wanted_is_killed(work: Path) -> None:
    with KernelMachine(find("uml"), ["sh", "-c", "sleep 1002"], timeout=100) as machine:
        assert eventually(lambda: bool(living("sleep", "1002")))
    assert not machine.running
    assert not living("sleep", "1002")
    assert not list(work.iterdir())
    machine.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_whatever_ends_its_starter_ends_a_machine(work: Path, number: int) -> None:
    starter = subprocess.Popen(
        [sys.executable, "-m", "ovs_lwt.lab.kernel", "--", "sh", "-c", "echo up; sleep 1003"],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert starter.stdout is not None
    assert starter.stdout.readline() == b"up\n"
    starter.send_signal(number)
    said = starter.communicate(timeout=20)[1]

    assert b"Traceback" not in said
    assert eventually(lambda: not living(str(work)) and not list(work.iterdir()))


# The command line


@pytest.mark.parametrize(
    ("options", "script", "status", "said"),
    [
        ([], "echo hello; exit 5", 5, ""),
        (["--timeout", "1"], "echo hello; sleep 1004", 124, "was stopped after 1 s"),
        (["--memory", "1"], "", 1, "a machine of 1 MB does not boot"),
    ],
)
def test_the_command_line_passes_on_how_it_ended(
    options: list[str], script: str, status: int, said: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ovs_lwt.lab.kernel", *options, "--", "sh", "-c", script],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stderr
    assert said in done.stderr
    assert not script or done.stdout == "hello\n"


# The wire


def frames(plug: Plug) -> list[bytes]:
    """What has come out of a wire by now."""
    found = []
    plug.socket.settimeout(0.2)
    try:
        while True:
            found.append(plug.socket.recv(65536))
    except TimeoutError:
        return found


def plugs(hub: Hub, count: int) -> list[Plug]:
    return [hub.plug(f"02:00:00:00:00:{number:02x}") for number in range(count)]


def test_a_frame_goes_to_all_others() -> None:
    with Hub() as hub:
        first, second, third = plugs(hub, 3)
        first.socket.send(b"a frame")
        assert [frames(plug) for plug in (first, second, third)] == [[], [b"a frame"], [b"a frame"]]
        for plug in (first, second, third):
            plug.socket.close()


def test_a_machine_that_is_off_or_does_not_listen_holds_up_nobody() -> None:
    with Hub() as hub:
        first, off, deaf, last = plugs(hub, 4)
        off.socket.close()
        for number in range(100_000):
            first.socket.send(number.to_bytes(4, "big") * 300)
            assert last.socket.recv(65536)[:4] == number.to_bytes(4, "big")
            if hub.lost:
                break
        assert hub.lost, "what the deaf one did not take"
        for plug in (first, deaf, last):
            plug.socket.close()


def test_a_hub_that_is_gone_is_heard_no_more() -> None:
    with Hub() as hub:
        (plug,) = plugs(hub, 1)
    with closing(plug.socket) as far, pytest.raises(OSError, match="refused"):
        far.send(b"to nobody", socket.MSG_DONTWAIT)


# What a kernel has


def test_what_a_kernel_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    here = features.Feature("a loopback", "ip link show lo")
    gone = features.Feature("a flying carpet", "echo 'no carpet' >&2; false")
    assert features.missing_features([here, gone]) == (gone,)
    assert features.failure(gone) == "no carpet"


def test_a_machine_that_has_been_up_for_long_needs_no_wait() -> None:
    started = time.monotonic()
    settle()
    assert time.monotonic() - started < 1


# The tests in it


SUITE = """
import os
import pytest

@pytest.mark.outside
def test_machine():
    assert "OVS_LWT_KERNEL_REPORTS" not in os.environ

def test_fine():
    print("heard")

def test_wrong():
    print("said before")
    assert 1 + 1 == 3

def test_fatal():
    os._exit(9)

def test_never_reached():
    pass
"""


LONG_SUITE = """
import time
import pytest

def test_long():
    time.sleep(60)

@pytest.mark.outside
def test_wrong_elsewhere():
    assert not "right"
"""


def suite(folder: Path, *arguments: str, tests: str = SUITE) -> subprocess.CompletedProcess[str]:
    (folder / "pytest.ini").touch()
    (folder / "conftest.py").write_text(
        "from pathlib import Path\npytest_plugins = ['tests.support.kernel']\n"
        "def pytest_configure(config):\n    from tests.support import kernel\n"
        "    kernel.join(config, Path(__file__).parent)\n"
    )
    (folder / "test_suite.py").write_text(tests)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-v", "--kernel=uml", *arguments],
        cwd=folder,
        env=environment() | {"PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_each_test_in_a_machine_is_reported_as_itself(tmp_path: Path) -> None:
    done = suite(tmp_path)
    assert done.returncode == 1, done.stdout
    assert "4 of these run in user-mode Linux" in done.stdout
    for line in (
        "test_suite.py::test_fine PASSED",
        "test_suite.py::test_wrong FAILED",
        "assert (1 + 1) == 3",
        "said before",
        "test_suite.py::test_fatal FAILED",
        "test_suite.py::test_never_reached FAILED",
        "no result came from the kernel lab: the kernel tests' machine ended: 9",
        "test_suite.py::test_machine PASSED",
        "3 failed, 2 passed",
    ):
        assert line in done.stdout


def test_processes_side_by_side_share_one_machine(tmp_path: Path, kernel: Path) -> None:
    kernel.write_text(STAND_IN.replace("sleep 1000", f"echo on >>{tmp_path}/machines; sleep 1000"))
    done = suite(tmp_path, "-n2", "--dist=load")
    assert done.returncode == 1, done.stdout
    for line in (
        "PASSED test_suite.py::test_fine",
        "PASSED test_suite.py::test_machine",
        "assert (1 + 1) == 3",
        "no result came from the kernel lab: the kernel tests' machine ended: 9",
        "3 failed, 2 passed",
    ):
        assert line in done.stdout
    assert (tmp_path / "machines").read_text() == "on\n"


def test_a_run_that_stops_early_waits_for_no_machine(tmp_path: Path) -> None:
    started = time.monotonic()
    done = suite(tmp_path, "-x", "-n2", "--dist=load", tests=LONG_SUITE)
    assert "FAILED test_suite.py::test_wrong_elsewhere" in done.stdout
    assert "= 1 failed in " in done.stdout
    assert done.returncode == pytest.ExitCode.INTERRUPTED
    assert time.monotonic() - started < 40, "test_long takes a minute"


def test_only_what_was_chosen_runs_in_the_machine(tmp_path: Path) -> None:
    done = suite(tmp_path, "-k", "fine or reached")
    assert done.returncode == 0, done.stdout
    assert "2 passed, 3 deselected" in done.stdout


def test_a_machine_that_fails_after_its_last_test_is_not_overlooked(
    tmp_path: Path, kernel: Path
) -> None:
    kernel.write_text(STAND_IN.replace("echo $? ", "echo 70 "))
    done = suite(tmp_path, "-k", "fine")
    assert "1 passed" in done.stdout
    assert done.returncode == pytest.ExitCode.INTERNAL_ERROR
    assert "the kernel tests' machine ended: 70" in done.stderr


def test_the_junit_report_has_the_machines_results(tmp_path: Path) -> None:
    suite(tmp_path, "-k", "fine or wrong", "--junitxml=junit.xml")
    report = (tmp_path / "junit.xml").read_text()
    assert 'failures="1" skipped="0" tests="2"' in report
    assert "assert (1 + 1) == 3" in report


def test_on_this_kernel_only_tests_about_machines_are_left_out(tmp_path: Path) -> None:
    done = suite(tmp_path, "--kernel=host", "-k", "fine or machine")
    assert done.returncode == 0, done.stdout
    assert "1 passed, 4 deselected" in done.stdout


def test_without_the_kernel_every_test_fails_and_says_why(tmp_path: Path, kernel: Path) -> None:
    kernel.unlink()
    done = suite(tmp_path)
    assert done.returncode == 1
    assert "4 failed, 1 passed" in done.stdout
    assert "extract Debian's package user-mode-linux there" in done.stdout
