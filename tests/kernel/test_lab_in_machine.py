"""`ovs-lwt lab … --kernel uml`: a lab in a machine of its own is used like any other, and goes
whole.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ovs_lwt.lab.uml import record
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


def machines_of(name: str) -> list[int]:
    """The processes of a lab's machine: its holder, its leash, its kernel."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
            holder = b"ovs_lwt.lab.uml.holder" in words and name.encode() in words
            work = next((word[13:] for word in words if word.startswith(b"ovs_lwt_work=")), None)
            settings = Path(os.fsdecode(work), "settings").read_text() if work else ""
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
        assert "user-mode Linux" in up.stdout
        assert f"lab down --name {name}" in up.stdout
        yield name
    finally:
        ovs_lwt("lab", "down", "--name", name, timeout=SECONDS)
    assert left_of(name) == []
    assert machines_of(name) == []


def lab(name: str, verb: str, *words: str) -> subprocess.CompletedProcess[str]:
    return ovs_lwt("lab", verb, "--name", name, *words, timeout=SECONDS)


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
    assert status["kernel"]["uml"] is True
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
    assert unknown.returncode == 1
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
        assert refused.returncode == 1
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
    assert shown.returncode == 1
    assert f"the machine of lab '{boxed}' has ended" in shown.stderr

    assert lab(boxed, "down").returncode == 0
    assert left_of(boxed) == []


def test_a_lab_that_cannot_come_up_leaves_no_machine(tmp_path: Path) -> None:
    overlay, name = tmp_path / "overlay.yaml", lab_name()
    overlay.write_text("vteps: {theirs: {address: 192.0.2.1, external: true}}\ntenants: {}\n")

    refused = ovs_lwt("lab", "up", str(overlay), "--name", name, "--kernel", "uml", timeout=SECONDS)

    assert refused.returncode == 1
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

    assert refused.returncode == 1
    assert "OVS_LWT_UML names /nowhere" in refused.stderr
    assert left_of(name) == []


def test_an_overlay_that_the_machine_would_not_see_is_refused() -> None:
    name = lab_name()
    with tempfile.NamedTemporaryFile("w", dir="/run", suffix=".yaml") as overlay:
        overlay.write(OVERLAY)
        overlay.flush()
        refused = ovs_lwt("lab", "up", overlay.name, "--name", name, "--kernel", "uml")

    assert refused.returncode == 1
    assert "a machine does not see the files below /run" in refused.stderr
    assert left_of(name) == []
