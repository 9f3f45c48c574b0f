"""`ovs-lwt lab … --kernel uml|vm`: a lab in a machine of its own is used like any other, and goes
whole.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ovs_lwt.lab.boxed import record
from ovs_lwt.lab.kernel import missing_features
from tests.support.lab import lab_name, left_of, ovs_lwt
from tests.support.ovs import eventually

pytestmark = pytest.mark.outside

# Blue and red have the same addresses; green's host has no Open vSwitch.
OVERLAY = """\
vteps:
  host1: {address: 192.0.2.11}
  host2: {address: 192.0.2.12, plane: bridge}
tenants:
  blue:
    vni: 1010
    endpoints:
      web1: {host: host1, mac: "02:00:00:00:00:01", ip: [10.0.0.11/24, "fd00::11/64"]}
      web2: {host: host2, mac: "02:00:00:00:00:02", ip: [10.0.0.12/24, "fd00::12/64"]}
  red:
    vni: 2020
    endpoints:
      web1: {host: host1, mac: "02:00:00:00:00:01", ip: [10.0.0.11/24]}
"""
SECONDS = 300.0
# Emulated, on a machine that runs other tests beside it.
EMULATED_SECONDS = 1500.0


def machines_of(name: str) -> list[int]:
    """The processes of a lab's machine: its holder, its leash, its kernel."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            holder = f"ovs_lwt.lab.boxed.holder {name} " in line
            work = re.search(r"ovs_lwt_work=(\S+)", line)
            settings = Path(work[1], "settings").read_text() if work else ""
        except OSError:
            continue
        if holder or f"name={name}\n" in settings:
            found.append(int(process.name))
    return found


@pytest.fixture(scope="module")
def boxed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The name of a lab that is up in a machine."""
    name = lab_name()
    overlay = tmp_path_factory.mktemp("boxed") / "overlay.yaml"
    overlay.write_text(OVERLAY)
    try:
        up = ovs_lwt(
            *("lab", "up", str(overlay), "--name", name, "--kernel", "uml"),
            *("--controllers", "one"),
            timeout=SECONDS,
        )
        assert up.returncode == 0, up.stdout + up.stderr
        assert "user-mode Linux, a machine of the lab's own)" in up.stdout
        assert f"lab down --name {name}" in up.stdout
        yield name
    finally:
        ovs_lwt("lab", "down", "--name", name, timeout=SECONDS)
    assert left_of(name) == []
    assert machines_of(name) == []


def lab(
    name: str, verb: str, *words: str, timeout: float = SECONDS
) -> subprocess.CompletedProcess[str]:
    return ovs_lwt("lab", verb, "--name", name, *words, timeout=timeout)


def test_a_lab_in_a_virtual_machine_is_used_like_any_other(tmp_path: Path) -> None:
    """From up to down, once: what the commands are is tried below, and emulation is slow."""
    overlay, name = tmp_path / "overlay.yaml", lab_name()
    overlay.write_text(OVERLAY)

    def here(verb: str, *words: str) -> subprocess.CompletedProcess[str]:
        return lab(name, verb, *words, timeout=EMULATED_SECONDS)

    try:
        up = here("up", str(overlay), "--kernel", "vm", "--controllers", "one")
        assert up.returncode == 0, up.stdout + up.stderr
        assert re.search(r"kernel: \S+ \(a virtual machine \(\w+\), a machine of", up.stdout)

        status = json.loads(here("status", "--json").stdout)
        assert (status["state"], status["kernel"]["machine"] in {"kvm", "tcg"}) == ("up", True)
        datapaths = {name: host["datapath"] for name, host in status["hosts"].items()}
        assert datapaths == {"host1": "system", "host2": None}

        assert json.loads(here("ping", "--json").stdout)["right"] is True

        # Input, output, errors and the exit status are the command's; so are signals.
        words = [sys.executable, "-m", "ovs_lwt.cli", "lab", "exec", "--name", name, "blue/web1"]
        with subprocess.Popen(
            [*words, "--", "sh", "-c", "cat; trap 'echo caught >&2; exit 7' INT; kill -INT $$"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as command:
            said = command.communicate(b"x" * 100_000, timeout=EMULATED_SECONDS)
        assert (command.returncode, *said) == (7, b"x" * 100_000, b"caught\n")
        with subprocess.Popen(
            [*words, "--", "sh", "-c", "trap 'exit 8' TERM; echo up; while :; do sleep 0.1; done"],
            stdout=subprocess.PIPE,
        ) as command:
            assert command.stdout is not None
            assert command.stdout.readline() == b"up\n"
            command.terminate()
            assert command.wait(EMULATED_SECONDS) == 8

        overlay.write_text(OVERLAY.replace("vni: 2020", "vni: 3030"))
        assert "vni: 3030" in here("exec", "blue/web1", "--", "cat", str(overlay)).stdout
    finally:
        here("down")
    assert left_of(name) == []
    assert machines_of(name) == []


def test_who_reaches_whom_is_what_the_overlay_says(boxed: str) -> None:
    shown = lab(boxed, "ping", "--json")

    assert shown.returncode == 0, shown.stdout + shown.stderr
    answer = json.loads(shown.stdout)
    assert answer["right"] is True
    reached = {(c["source"], c["target"]) for c in answer["cells"] if c["verdict"] == "reached"}
    assert reached == {("blue/web1", "blue/web2"), ("blue/web2", "blue/web1")}


def test_status_says_what_is_there(boxed: str) -> None:
    status = json.loads(lab(boxed, "status", "--json").stdout)

    assert status["state"] == "up"
    assert status["kernel"]["machine"] == "uml"
    assert status["kernel"]["release"] != os.uname().release
    hosts = status["hosts"]
    assert {name: (h["plane"], h["datapath"]) for name, h in hosts.items()} == {
        "host1": ("ovs", "system"),
        "host2": ("bridge", None),
    }
    assert status["endpoints"]["blue/web1"]["marking"] == "tc"


def test_exec_is_in_a_guest_or_on_a_host(boxed: str) -> None:
    guest = lab(boxed, "exec", "blue/web2", "--", "sh", "-c", "ip a show eth0; exit 7")
    assert guest.returncode == 7
    assert "10.0.0.12/24" in guest.stdout

    host = lab(boxed, "exec", "host1", "--", "ovs-appctl", "dpif/show")
    assert host.stdout.startswith("system@ovs-system")

    unknown = lab(boxed, "exec", "blue/web11", "--", "true")
    assert unknown.returncode == 2
    assert "did you mean 'blue/web1'" in unknown.stderr


def test_a_changed_overlay_is_seen_in_there(boxed: str) -> None:
    status = json.loads(lab(boxed, "status", "--json").stdout)
    overlay = Path(status["overlay"])
    control = status["hosts"]["host1"]["controller"]["control"]
    overlay.write_text(OVERLAY.replace("vni: 2020", "vni: 3030"))

    told = lab(
        *(boxed, "exec", "host1", "--"),
        *(sys.executable, "-m", "ovs_lwt.cli", "reload", "--control", control),
    )

    assert told.returncode == 0, told.stdout + told.stderr
    flows = lab(
        boxed, "exec", "host1", "--", "ovs-ofctl", "dump-flows", "br-lwt", "cookie=3030/0xffffff"
    )
    assert "n_packets" in flows.stdout, flows.stdout + flows.stderr


def test_its_name_is_taken(boxed: str, tmp_path: Path) -> None:
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text(OVERLAY)
    for kernel in ("uml", "here"):
        refused = ovs_lwt(
            *("lab", "up", str(overlay), "--name", boxed, "--kernel", kernel, "--plane", "ovs")
        )
        assert refused.returncode == 2
        assert f"a lab called '{boxed}' is up already" in refused.stderr


def test_a_machine_whose_holder_is_killed_is_gone_and_down_removes_the_rest(boxed: str) -> None:
    found = record.find(boxed)
    assert found is not None
    with record.connect(found) as connection:
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    assert len(machines_of(boxed)) > 1
    os.kill(struct.unpack("3i", credentials)[0], signal.SIGKILL)
    assert eventually(lambda: machines_of(boxed) == [])

    shown = lab(boxed, "ping")
    assert shown.returncode == 2
    assert f"the machine of lab '{boxed}' has ended" in shown.stderr

    assert lab(boxed, "down").returncode == 0
    assert left_of(boxed) == []


def test_a_lab_that_cannot_come_up_leaves_no_machine(tmp_path: Path) -> None:
    overlay, name = tmp_path / "overlay.yaml", lab_name()
    overlay.write_text("vteps: {theirs: {address: 192.0.2.1, external: true}}\ntenants: {}\n")

    refused = ovs_lwt("lab", "up", str(overlay), "--name", name, "--kernel", "uml", timeout=SECONDS)

    assert refused.returncode == 2
    assert "every host of the overlay is external" in refused.stderr
    assert left_of(name) == []
    assert machines_of(name) == []


def test_without_user_mode_linux_nothing_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overlay, name = tmp_path / "overlay.yaml", lab_name()
    overlay.write_text(OVERLAY)
    monkeypatch.setenv("OVS_LWT_UML", "/nowhere")

    refused = ovs_lwt("lab", "up", str(overlay), "--name", name, "--kernel", "uml")

    assert refused.returncode == 2
    assert "OVS_LWT_UML names /nowhere" in refused.stderr
    assert left_of(name) == []


def test_an_overlay_that_the_machine_would_not_see_is_refused() -> None:
    name = lab_name()
    with tempfile.NamedTemporaryFile("w", dir="/run", suffix=".yaml") as overlay:
        overlay.write(OVERLAY)
        overlay.flush()
        refused = ovs_lwt("lab", "up", overlay.name, "--name", name, "--kernel", "uml")

    assert refused.returncode == 2
    assert "a machine does not see the files below /run" in refused.stderr
    assert left_of(name) == []


def test_a_kernel_that_panics_says_so_and_down_removes_the_rest(tmp_path: Path) -> None:
    """Whoever was running a command hears it, and so does whoever comes later."""
    overlay, name = tmp_path / "overlay.yaml", lab_name()
    overlay.write_text(OVERLAY)
    up = ovs_lwt("lab", "up", str(overlay), "--name", name, "--kernel", "uml", timeout=SECONDS)
    assert up.returncode == 0, up.stderr
    try:
        panic = "echo c >/proc/sysrq-trigger; sleep 100"
        for words in (("exec", "blue/web1", "--", "sh", "-c", panic), ("status",), ("ping",)):
            told = lab(name, *words)
            assert told.returncode == 2
            assert f"the machine of lab '{name}' has ended" in told.stderr
            assert "sysrq: Trigger a crash" in told.stderr
            assert "Kernel panic - not syncing: sysrq triggered crash" in told.stderr
            assert "Traceback" not in told.stderr
    finally:
        down = lab(name, "down")
    assert down.returncode == 0
    assert left_of(name) == []
    assert machines_of(name) == []


PANIC = """\
echo '[    0.1] Kernel panic - not syncing: no init found' >&2
for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do
    echo " [<00000000606944ba>] ? f$n+0x0/0x94" >&2
done
"""


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user-mode Linux, to be written, which is not one."""
    linux = tmp_path / "uml/usr/bin/linux.uml"
    linux.parent.mkdir(parents=True)
    (tmp_path / "uml/usr/lib/uml/modules").mkdir(parents=True)
    linux.touch()
    linux.chmod(0o755)
    monkeypatch.setenv("OVS_LWT_UML", str(tmp_path / "uml"))
    return linux


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (PANIC, "Kernel panic - not syncing: no init found"),
        ("exec no-such-program", "no-such-program: not found"),
        ("exit 1", "its kernel said nothing"),
    ],
    ids=["panic", "cannot start", "no word"],
)
def test_a_machine_that_does_not_come_up_says_why(
    script: str, said: str, broken: Path, tmp_path: Path
) -> None:
    broken.write_text(f"#!/bin/sh\n{script}\n")
    overlay, name = tmp_path / "overlay.yaml", lab_name()
    overlay.write_text(OVERLAY)
    try:
        up = ovs_lwt("lab", "up", str(overlay), "--name", name, "--kernel", "uml")
        assert up.returncode == 2
        assert "the machine did not come up" in up.stderr
        assert said in up.stderr
        assert "606944ba" not in up.stderr, "traces are in the log, not among the last words"
        assert "Traceback" not in up.stderr
        # Its log stays, and its name is its own, until it is taken down.
        log = Path(f"/run/ovs-lwt/labs/{name}/machine.log")
        assert str(log) in up.stderr
        assert said in log.read_text()
        console = log.with_name("console.log").read_text()
        assert console.count("606944ba") == script.count("15; do") * 15
        again = ovs_lwt("lab", "up", str(overlay), "--name", name, "--kernel", "uml")
        assert again.returncode == 2
        assert f"'ovs-lwt lab down --name {name}' removes what is left" in again.stderr
    finally:
        down = lab(name, "down")
    assert (down.returncode, down.stderr) == (0, "")
    assert left_of(name) == []
    assert machines_of(name) == []


def test_a_lab_in_a_machine_comes_up_also_if_nobody_reads_on(tmp_path: Path) -> None:
    overlay, name = tmp_path / "overlay.yaml", lab_name()
    overlay.write_text(OVERLAY)
    program = [sys.executable, "-m", "ovs_lwt.cli", "lab", "up", str(overlay), "--name", name]
    try:
        with subprocess.Popen([*program, "--kernel", "uml"], stdout=subprocess.PIPE) as up:
            assert up.stdout is not None
            up.stdout.close()
            assert up.wait(SECONDS) == 128 + signal.SIGPIPE
        assert json.loads(lab(name, "status", "--json").stdout)["state"] == "up"
    finally:
        lab(name, "down")
    assert left_of(name) == []


def test_auto_takes_the_machine_that_has_what_the_overlay_needs(tmp_path: Path) -> None:
    overlay, name = tmp_path / "overlay.yaml", lab_name()
    overlay.write_text(OVERLAY)
    lacking = missing_features()
    try:
        up = ovs_lwt("lab", "up", str(overlay), "--name", name, timeout=SECONDS)
        assert up.returncode == 0, up.stderr
        taken, _, why = up.stdout.splitlines()[0].removeprefix("kernel: ").partition(": ")
        if "VLAN to VNI" in {feature.name for feature in lacking}:
            assert taken in {"user-mode Linux", "a virtual machine (KVM)"}
            assert why.startswith("this machine's lacks 'VLAN to VNI'")
        else:
            assert (taken, why) == ("this machine's", "it has all that is needed")
    finally:
        lab(name, "down")
    assert left_of(name) == []


def test_auto_takes_this_kernel_where_the_switches_need_none(tmp_path: Path) -> None:
    overlay, name = tmp_path / "overlay.yaml", lab_name()
    overlay.write_text(OVERLAY)
    try:
        up = ovs_lwt("lab", "up", str(overlay), "--name", name, "--plane", "ovs", timeout=SECONDS)
        assert up.returncode == 0, up.stderr
        assert up.stdout.startswith("kernel: this machine's: it has all that is needed\n")
    finally:
        lab(name, "down")
    assert left_of(name) == []
