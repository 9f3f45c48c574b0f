"""The lab on real Open vSwitch: it is what the overlay says, shows what is not, and goes whole."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ovs_lwt.lab import controllers, lifecycle, processes
from ovs_lwt.lab.show import WIDTH
from ovs_lwt.mistakes import Refused
from tests.support.lab import CHECKOUT, Lab, lab, lab_name, lab_up, left_of, ovs_lwt
from tests.support.ovs import eventually, in_netns, network_namespace

__all__ = ["lab"]

# Blue and red have the same addresses; green has none at all.
OVERLAY = """\
vteps:
  host1: {address: 192.0.2.11}
  host2: {address: 192.0.2.12}
tenants:
  blue:
    vni: 1010
    endpoints:
      web1: {host: host1, mac: "02:00:00:00:00:01", ip: [10.0.0.11/24, "fd00::11/64"]}
      web2: {host: host2, mac: "02:00:00:00:00:02", ip: [10.0.0.12/24, "fd00::12/64"]}
  red:
    vni: 2020
    endpoints:
      web1: {host: host1, mac: "02:00:00:00:00:01", ip: [10.0.0.11/24, "fd00::11/64"]}
      web2: {host: host2, mac: "02:00:00:00:00:02", ip: [10.0.0.12/24, "fd00::12/64"]}
  green:
    vni: 3030
    endpoints:
      raw1: {host: host1, mac: "02:00:00:00:00:01"}
      raw2: {host: host2, mac: "02:00:00:00:00:02"}
"""

PAIR = """\
vteps:
  host1: {{address: "{one}"}}
  host2: {{address: "{other}"}}
tenants:
  blue:
    vni: 1010
    endpoints:
      web1: {{host: host1, mac: "02:00:00:00:00:01", ip: [10.0.0.11/24]}}
      web2: {{host: host2, mac: "02:00:00:00:00:02", ip: [10.0.0.12/24]}}
"""


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Three tenants on two hosts, shared by the tests that leave it as it was."""
    with lab_up(OVERLAY, tmp_path_factory.mktemp("lab")) as up:
        yield up


def wrong(lab: Lab) -> set[tuple[str, str]]:
    return {(cell.source, cell.target) for cell in lab.ping().wrong}


# What is up


def test_who_reaches_whom_is_what_the_overlay_says(three: Lab) -> None:
    matrix = three.ping()

    cells = {(cell.source, cell.target): cell for cell in matrix.cells}
    assert len(cells) == 6 * 5
    assert matrix.wrong == ()
    reached = {pair: cell.kinds for pair, cell in cells.items() if cell.verdict == "reached"}
    assert reached == {
        ("blue/web1", "blue/web2"): ("ipv4", "ipv6"),
        ("blue/web2", "blue/web1"): ("ipv4", "ipv6"),
        ("red/web1", "red/web2"): ("ipv4", "ipv6"),
        ("red/web2", "red/web1"): ("ipv4", "ipv6"),
        ("green/raw1", "green/raw2"): ("ethernet",),
        ("green/raw2", "green/raw1"): ("ethernet",),
    }


def test_the_matrix_is_printed_and_its_verdict_is_the_exit_status(three: Lab) -> None:
    printed = ovs_lwt("lab", "ping", "--name", three.name)

    assert printed.returncode == 0, printed.stdout + printed.stderr
    assert "✓46" in printed.stdout
    assert "every cell is what the overlay says" in printed.stdout
    assert max(map(len, printed.stdout.splitlines())) <= 100

    answer = json.loads(ovs_lwt("lab", "ping", "--name", three.name, "--json").stdout)
    assert answer["right"] is True
    assert len(answer["cells"]) == 30


def test_a_leak_is_seen_although_the_addresses_are_the_same(three: Lab) -> None:
    # Somebody's flow copies blue's frames to red: each guest in red believes it is asked itself.
    leak = f"priority=65000,in_port={three.guest('blue/web1').port}"
    red = three.guest("red/web1").port
    controller = three.status().hosts["host1"].controller
    assert controller is not None
    assert controller.pid is not None
    # The controller would take it away as it comes.
    os.kill(controller.pid, signal.SIGSTOP)
    try:
        flow = f"{leak},actions=output:{red}"
        three.run("host1", "ovs-ofctl", "--names", "add-flow", "br-lwt", flow)
        found = {(cell.source, cell.target): cell for cell in three.ping().wrong}
        shown = ovs_lwt("lab", "ping", "--name", three.name)
    finally:
        three.run("host1", "ovs-ofctl", "--names", "--strict", "del-flows", "br-lwt", leak)
        os.kill(controller.pid, signal.SIGCONT)

    assert any("leak" in why for why in found["blue/web1", "red/web1"].why)
    # What went to red did not get where it should.
    assert any("loss" in why for why in found["blue/web1", "blue/web2"].why)
    assert shown.returncode == 1
    assert "✗ blue/web1 → red/web1, expected isolated: leak:" in shown.stdout
    assert wrong(three) == set()


def test_status_names_everything_there_is(three: Lab) -> None:
    shown = ovs_lwt("lab", "status", "--name", three.name, "--json")

    status = json.loads(shown.stdout)
    assert status["state"] == "up"
    underlay, host = status["underlay"], status["hosts"]["host1"]
    cables = in_netns(underlay["namespace"], "bridge", "link")
    assert all(f"master {underlay['bridge']}" in line for line in cables.splitlines())
    assert len(cables.splitlines()) == 2
    assert host["addresses"] == ["192.0.2.11"]
    assert "192.0.2.11" in in_netns(host["namespace"], "ip", "address")
    environment = os.environ | {"OVS_RUNDIR": host["ovs_rundir"]}
    ports = subprocess.check_output(
        ["ovs-vsctl", "list-ports", host["bridge"]], env=environment, text=True
    ).split()
    assert host["tunnel_port"] in ports
    controller = host["controller"]
    command = Path(f"/proc/{controller['pid']}/cmdline").read_bytes().split(b"\0")
    assert b"run" in command
    assert f"host1={host['ovsdb']}".encode() in command
    assert "in sync" in Path(controller["log"]).read_text()
    answer = subprocess.check_output(["ovs-appctl", "-t", controller["control"], "status"])
    assert json.loads(answer)["hosts"]["host1"]["sync"] == "in-sync"

    endpoint = status["endpoints"]["blue/web1"]
    assert endpoint["host"] == "host1"
    assert endpoint["port"] in ports
    link = in_netns(endpoint["namespace"], "ip", "address", "show", endpoint["interface"])
    assert endpoint["mac"] in link
    assert all(address in link for address in ("10.0.0.11/24", "fd00::11/64"))
    assert endpoint["addresses"] == ["10.0.0.11/24", "fd00::11/64"]


def test_exec_is_in_the_guest_and_passes_its_exit_status_on(three: Lab) -> None:
    inside = ovs_lwt(
        "lab", "exec", "blue/web1", "--name", three.name, "--", "sh", "-c", "ip a; exit 7"
    )

    assert inside.returncode == 7
    assert "10.0.0.11/24" in inside.stdout


def test_exec_on_a_host_speaks_to_that_host_s_switch(three: Lab) -> None:
    shown = ovs_lwt(
        "lab", "exec", "host2", "--name", three.name, "--", "ovs-vsctl", "list-ports", "br-lwt"
    )
    traced = ovs_lwt(
        *("lab", "exec", "host2", "--name", three.name, "--"),
        *("ovs-appctl", "ofproto/trace", "br-lwt", "in_port=blue-web2,dl_dst=02:00:00:00:00:01"),
    )

    assert set(shown.stdout.split()) == {"blue-web2", "green-raw2", "red-web2", "vx-lwt"}
    assert "Datapath actions" in traced.stdout


def test_exec_of_somebody_unknown_names_the_nearest(three: Lab) -> None:
    refused = ovs_lwt("lab", "exec", "blue/web11", "--name", three.name, "--", "true")

    assert refused.returncode == 2
    assert "did you mean 'blue/web1'" in refused.stderr
    assert "red/web2" in refused.stderr


def test_the_guests_mtu_is_what_vxlan_leaves_of_the_underlay_s(three: Lab) -> None:
    whole = ("ping", "-M", "do", "-c", "1", "-W", "2", "-s", str(1450 - 28), "10.0.0.12")

    assert three.execute("blue/web1", *whole).returncode == 0
    assert "mtu 1450" in three.run("blue/web1", "ip", "link", "show", "eth0")


def test_a_lab_that_is_up_is_not_brought_up_again(three: Lab) -> None:
    refused = ovs_lwt("lab", "up", str(three.plan.overlay), "--name", three.name)

    assert refused.returncode == 2
    assert f"ovs-lwt lab down --name {three.name}" in refused.stderr
    assert wrong(three) == set()


def test_two_labs_of_one_overlay_do_not_know_of_each_other(three: Lab, tmp_path: Path) -> None:
    with lab_up(OVERLAY, tmp_path) as second:
        assert wrong(second) == set()
        assert wrong(three) == set()
    # The second is gone, the first as it was.
    assert wrong(three) == set()


# Underlays


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param("10.1.2.3", "198.51.100.7", id="IPv4 addresses with nothing in common"),
        pytest.param("fd00:1::1", "2001:db8::7", id="IPv6 addresses with little in common"),
    ],
)
def test_one_controller_drives_all_hosts_of_any_underlay(
    lab: Callable[..., Lab], one: str, other: str
) -> None:
    up = lab(PAIR.format(one=one, other=other), controllers="one")

    assert wrong(up) == set()
    pids = {host.controller.pid for host in up.status().hosts.values() if host.controller}
    assert len(pids) == 1
    assert None not in pids


def test_a_foreign_vtep_is_plugged_into_the_underlay(lab: Callable[..., Lab]) -> None:
    up = lab(
        """\
vteps:
  host1: {address: 192.0.2.11}
  router: {address: 192.0.2.99, external: true}
tenants:
  blue:
    vni: 1010
    endpoints:
      web1: {host: host1, mac: "02:00:00:00:00:01", ip: [10.0.0.11/24, "fd00::11/64"]}
      gateway: {host: router, mac: "02:00:00:00:00:99", ip: [10.0.0.99/24, "fd00::99/64"]}
"""
    )
    shown = ovs_lwt("lab", "status", "--name", up.name).stdout
    recipe = [line.strip() for line in shown.splitlines() if line.startswith("  ip -n ")]
    assert len(recipe) == 3
    assert set(up.status().endpoints) == {"blue/web1"}
    assert ovs_lwt("lab", "exec", "router", "--name", up.name, "--", "true").returncode == 2

    with network_namespace(f"{up.name}x") as router:
        # As `lab status` says, and then a VXLAN device of the kernel, which knows nothing of us.
        for line in recipe:
            subprocess.run(["sh", "-ec", line.replace("NS", router)], check=True)
        for line in (
            "link add vx0 type vxlan id 1010 dstport 4789 local 192.0.2.99 remote 192.0.2.11",
            "link set vx0 address 02:00:00:00:00:99 up",
            "address add 10.0.0.99/24 dev vx0",
            "address add fd00::99/64 dev vx0 nodad",
        ):
            in_netns(router, "ip", *line.split())
        ping = ("ping", "-c", "1", "-W", "1")
        assert eventually(lambda: up.execute("blue/web1", *ping, "10.0.0.99").returncode == 0)
        assert eventually(lambda: up.execute("blue/web1", *ping, "fd00::99").returncode == 0)
        in_netns(router, *ping, "10.0.0.11")


# The end


def test_down_ends_what_was_started_inside(lab: Callable[..., Lab]) -> None:
    up = lab(PAIR.format(one="192.0.2.11", other="192.0.2.12"))
    command = [sys.executable, "-m", "ovs_lwt.cli", "lab", "exec", "blue/web1"]
    sleeper = subprocess.Popen(
        [*command, "--name", up.name, "--", "sleep", "600"], cwd=CHECKOUT, start_new_session=True
    )
    assert eventually(lambda: sleeper.pid in processes.living_in(up.plan.namespaces))

    down = ovs_lwt("lab", "down", "--name", up.name)

    assert down.returncode == 0
    assert sleeper.wait(5) == -signal.SIGTERM
    assert left_of(up.name) == []
    assert processes.living_in(up.plan.namespaces) == []


def test_down_of_a_lab_that_is_not_there_is_no_mistake() -> None:
    down = ovs_lwt("lab", "down", "--name", "nobodys")

    assert down.returncode == 0
    assert "no lab called 'nobodys' is up" in down.stdout


def test_a_controller_that_ends_takes_the_lab_with_it_and_its_log_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overlay, name = tmp_path / "overlay.yaml", lab_name()
    overlay.write_text(PAIR.format(one="192.0.2.11", other="192.0.2.12"))
    monkeypatch.setattr(controllers, "_PROGRAM", "ovs_lwt.no_such_module")

    with pytest.raises(Refused) as refused:
        lifecycle.up(overlay, name=name)

    assert "the controller of host" in str(refused.value)
    assert "No module named ovs_lwt.no_such_module" in str(refused.value)
    assert left_of(name) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_up_leaves_nothing_behind(tmp_path: Path, number: signal.Signals) -> None:
    overlay, name = tmp_path / "overlay.yaml", lab_name()
    overlay.write_text(OVERLAY)
    starting = subprocess.Popen(
        [sys.executable, "-m", "ovs_lwt.cli", "lab", "up", str(overlay), "--name", name],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        # Once the first controller has been started, with guests on their way.
        assert eventually(lambda: any(Path("/run/ovs-lwt/labs", name).glob("*/controller.pid")))

        os.killpg(starting.pid, number)
        said, _ = starting.communicate(timeout=30)

        assert starting.returncode == 128 + number, said
        assert b"removed again" in said
        assert left_of(name) == []
    finally:
        starting.kill()
        starting.wait()
        lifecycle.down(name)


def test_a_namespace_of_somebody_else_s_is_left_alone(tmp_path: Path) -> None:
    overlay, name = tmp_path / "overlay.yaml", lab_name()
    overlay.write_text(PAIR.format(one="192.0.2.11", other="192.0.2.12"))

    with network_namespace(f"{name}-host1") as theirs:
        refused = ovs_lwt("lab", "up", str(overlay), "--name", name)
        assert refused.returncode == 2
        assert f"a network namespace '{theirs}' exists" in refused.stderr
        assert left_of(name) == [f"/run/netns/{theirs}"]


def test_the_demo_ends_well_and_leaves_nothing_behind() -> None:
    name = lab_name()
    shown = ovs_lwt("demo", "--name", name)

    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert "every cell is what the overlay says" in shown.stdout
    assert "table=forward" in shown.stdout
    # Into a file, a flow is whole, and a rule no longer than a page is wide.
    assert max(len(line) for line in shown.stdout.splitlines() if "─" in line) == WIDTH
    assert left_of(name) == []


def test_the_demo_stays_up_if_it_is_kept() -> None:
    name = lab_name()
    try:
        shown = ovs_lwt("demo", "--keep", "--name", name)
        assert shown.returncode == 0, shown.stdout + shown.stderr
        assert f"lab down --name {name}" in shown.stdout
        assert ovs_lwt("lab", "ping", "--name", name).returncode == 0
    finally:
        lifecycle.down(name)
    assert left_of(name) == []
