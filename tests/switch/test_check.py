"""`ovs-lwt check`: whatever keeps tunnel packets from passing is named, with the mend, before a
guest complains of it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.controller import cli, write
from tests.support.overlays import two_tenants
from tests.support.ovs import OvsHost

HERE, UPLINK = "192.0.2.11", "u0"


@pytest.fixture(scope="module")
def overlay(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("check") / "overlay.yaml", two_tenants())


@pytest.fixture(scope="module")
def host() -> Iterator[OvsHost]:
    """A host of the userspace datapath as README and facts have it, with a cable to a neighbour."""
    with OvsHost(f"check-{os.getpid()}") as host:
        host.run("ip", "link", "add", UPLINK, "type", "veth", "peer", "name", "u1")
        host.run("ip", "link", "set", UPLINK, "up")
        host.run("ip", "link", "set", "u1", "up")
        host.vsctl(
            *("add-br", "br-phy", "--", "set", "bridge", "br-phy", "datapath_type=netdev"),
            *("--", "add-port", "br-phy", UPLINK),
        )
        host.run("ip", "address", "add", f"{HERE}/24", "dev", "br-phy")
        host.run("ip", "link", "set", "br-phy", "up")
        host.vsctl(
            *("add-br", "br-lwt", "--", "set", "bridge", "br-lwt", "datapath_type=netdev"),
            *("fail_mode=secure", "--", "add-port", "br-lwt", "vx-lwt", "--"),
            *("set", "interface", "vx-lwt", "type=vxlan", "options:key=flow"),
            *("options:remote_ip=flow", f"options:local_ip={HERE}", "options:dst_port=4789"),
        )
        yield host


Findings = dict[str, list[Mapping[str, str]]]


def checked(host: OvsHost, overlay: Path, *options: str, status: int) -> Findings:
    """What `ovs-lwt check` finds, by subject."""
    words = ["check", str(overlay), "--host", "host1", "--ovsdb", host.remote, "--json", *options]
    done = cli(*words, netns=host.netns)
    assert done.returncode == status, done.stdout + done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    assert said["schema"] == 1
    (findings,) = said["hosts"].values()
    found: Findings = {}
    for finding in findings:
        found.setdefault(finding["subject"], []).append(finding)
    return found


def failures(found: Findings) -> dict[str, str]:
    return {
        subject: f"{each['text']} → {each['mend']}"
        for subject, every in found.items()
        for each in every
        if each["level"] == "fail"
    }


def test_a_host_on_which_packets_can_pass(host: OvsHost, overlay: Path) -> None:
    found = checked(host, overlay, status=0)
    assert found["vtep address"][0]["text"] == f"{HERE} is on br-phy"
    assert found["uplink"][0]["text"] == "u0 is up"
    assert found["path mtu"][0]["text"].startswith("1500 bytes to all")
    assert {each["level"] for every in found.values() for each in every} <= {"ok", "warn"}
    # No agent runs here, and that is said.
    assert found["controllers"][0]["level"] == "warn"
    done = cli(
        *("check", str(overlay), "--host", "host1", "--ovsdb", host.remote), netns=host.netns
    )
    assert f"ok    vtep address  {HERE} is on br-phy" in done.stdout


MIRROR = (
    "ovs-vsctl {} -- --id=@m create mirror name=spy select_all=true {}"
    " -- set bridge br-lwt mirrors=@m"
)

# What an operator may have got wrong: how, how it is undone, what is said of what.
FAULTS = {
    "the address is nowhere": (
        ["ip address del 192.0.2.11/24 dev br-phy"],
        ["ip address add 192.0.2.11/24 dev br-phy"],
        "vtep address",
        "192.0.2.11 is on no interface of this machine",
    ),
    "this machine is another host": (
        ["ip address del 192.0.2.11/24 dev br-phy", "ip address add 192.0.2.12/24 dev br-phy"],
        ["ip address flush dev br-phy", "ip address add 192.0.2.11/24 dev br-phy"],
        "vtep address",
        "which has 192.0.2.12: that is host2, says the overlay, not host1 → say --host host2",
    ),
    "the address is on the card": (
        ["ip address flush dev br-phy", "ip address add 192.0.2.11/24 dev u0"],
        ["ip address flush dev u0", "ip address add 192.0.2.11/24 dev br-phy"],
        "vtep address",
        "native tunnel routing failed",
    ),
    "the card is narrow": (
        ["ip link set u0 mtu 1400"],
        ["ip link set u0 mtu 1500"],
        "path mtu",
        "may have 1400 bytes by u0, and the overlay says 1500: guests' largest packets are lost",
    ),
    "a route is narrow": (
        ["ip route add 192.0.2.12/32 dev br-phy mtu 1420"],
        ["ip route del 192.0.2.12/32 dev br-phy"],
        "path mtu",
        "packets to host2 (192.0.2.12) may have 1420 bytes by br-phy",
    ),
    "the card is down": (["ip link set u0 down"], ["ip link set u0 up"], "uplink", "u0 is down"),
    "the cable is out": (
        ["ip link set u1 down"],
        ["ip link set u1 up"],
        "uplink",
        "u0 has no carrier",
    ),
    "the bridge is down": (
        ["ip link set br-phy down"],
        ["ip link set br-phy up"],
        "uplink",
        "br-phy is down → set it up (ip link set br-phy up)",
    ),
    "no way there": (
        ["ip route add unreachable 192.0.2.12/32"],
        ["ip route del unreachable 192.0.2.12/32"],
        "way to peers",
        "there is no route to host2 (192.0.2.12)",
    ),
    "a way round the bridge": (
        ["ip route add 192.0.2.12/32 dev u0"],
        ["ip route del 192.0.2.12/32 dev u0"],
        "way to peers",
        "leads out of u0, which is no bridge of the userspace datapath",
    ),
    "no uplink": (
        ["ovs-vsctl del-port u0"],
        ["ovs-vsctl add-port br-phy u0"],
        "uplink",
        "bridge br-phy has no port that leads to the underlay",
    ),
    "an option of the tunnel": (
        ["ovs-vsctl set interface vx-lwt options:key=77"],
        ["ovs-vsctl set interface vx-lwt options:key=flow"],
        "tunnel port",
        "vx-lwt has key=77, not flow",
    ),
    "no tunnel": (
        ["ovs-vsctl del-port vx-lwt"],
        [
            "ovs-vsctl add-port br-lwt vx-lwt",
            "ovs-vsctl set interface vx-lwt type=vxlan options:key=flow options:remote_ip=flow",
            "ovs-vsctl set interface vx-lwt options:local_ip=192.0.2.11 options:dst_port=4789",
        ],
        "tunnel port",
        "br-lwt has no port vx-lwt",
    ),
    "a key that outranks ours": (
        ["ovs-vsctl set interface vx-lwt options:in_key=77"],
        ["ovs-vsctl remove interface vx-lwt options in_key"],
        "tunnel port",
        "vx-lwt has in_key=77, not nothing",
    ),
    "another kind of tunnel": (
        ["ovs-vsctl set interface vx-lwt type=geneve"],
        ["ovs-vsctl set interface vx-lwt type=vxlan"],
        "tunnel port",
        "vx-lwt has type geneve, not vxlan",
    ),
    "a spanning tree": (
        ["ovs-vsctl set bridge br-lwt stp_enable=true"],
        ["ovs-vsctl set bridge br-lwt stp_enable=false"],
        "bridge",
        "br-lwt has stp_enable=true",
    ),
    "a restart of the switch that was not finished": (
        ["ovs-vsctl set Open_vSwitch . other_config:flow-restore-wait=true"],
        ["ovs-vsctl remove Open_vSwitch . other_config flow-restore-wait"],
        "open vswitch",
        "flow-restore-wait is set: once restarted, ovs-vswitchd forwards nothing",
    ),
    "a mirror to all": (
        [MIRROR.format("", "output_vlan=7")],
        ["ovs-vsctl clear bridge br-lwt mirrors"],
        "mirrors",
        "mirror 'spy' of br-lwt copies what guests say to every port, so that tenants hear",
    ),
    "a mirror to a guest": (
        [
            "ovs-vsctl add-port br-lwt spy -- set interface spy type=internal",
            "ovs-vsctl set interface spy external_ids:iface-id=blue/web1",
            MIRROR.format("-- --id=@p get port spy", "output_port=@p"),
        ],
        ["ovs-vsctl clear bridge br-lwt mirrors", "ovs-vsctl del-port spy"],
        "mirrors",
        "mirror 'spy' of br-lwt copies what guests say to port spy, so that tenants hear",
    ),
    "standalone": (
        ["ovs-vsctl set-fail-mode br-lwt standalone"],
        ["ovs-vsctl set-fail-mode br-lwt secure"],
        "bridge",
        "becomes an ordinary switch, and tenants meet",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named(host: OvsHost, overlay: Path, fault: str) -> None:
    done, undone, subject, said = FAULTS[fault]

    def type_(lines: list[str]) -> None:
        for line in lines:
            program, *words = line.split()
            host.run(program, *([f"--db={host.remote}"] * (program == "ovs-vsctl")), *words)

    type_(done)
    try:
        found = failures(checked(host, overlay, status=1))
    finally:
        type_(undone)
    assert said in found.get(subject, ""), found
    assert not failures(checked(host, overlay, status=0)), "and is gone when it is mended"


def test_others_on_the_udp_port(host: OvsHost, overlay: Path) -> None:
    host.run("ip", "link", "add", "theirs", "type", "vxlan", "id", "7", "dstport", "4789")
    try:
        (found,) = checked(host, overlay, status=0)["udp port"]
    finally:
        host.run("ip", "link", "del", "theirs")
    # The userspace datapath takes the packets before the kernel's stack has them.
    assert (found["level"], found["text"]) == (
        "warn",
        "VXLAN device theirs has UDP port 4789 as well",
    )


def test_a_program_on_the_udp_port(host: OvsHost, overlay: Path) -> None:
    listening = (
        "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM);"
        "s.bind(('', 4789)); print('there', flush=True); input()"
    )
    command = ["ip", "netns", "exec", str(host.netns), sys.executable, "-c", listening]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "there\n"
        (found,) = checked(host, overlay, status=0)["udp port"]
        program.communicate("\n")
    assert found["level"] == "warn"
    assert "listens on UDP port 4789" in found["text"]
    assert f"{program.pid}" in found["text"] or "python" in found["text"]


def test_others_at_the_bridge(host: OvsHost, overlay: Path) -> None:
    """A controller and a meter that somebody else has put there."""
    host.vsctl("set-controller", "br-lwt", "tcp:127.0.0.1:6699")
    host.ofctl("-O", "OpenFlow14", "add-meter", "br-lwt", "meter=7,kbps,band=type=drop,rate=1000")
    try:
        found = checked(host, overlay, status=0)
    finally:
        host.vsctl("del-controller", "br-lwt")
        host.ofctl("-O", "OpenFlow14", "del-meters", "br-lwt")
    (controllers,), (meters,) = found["controllers"], found["meters"]
    assert controllers["level"] == meters["level"] == "warn"
    assert "tcp:127.0.0.1:6699 controls br-lwt as well" in controllers["text"]
    assert meters["text"] == "meter=7 on br-lwt: none of them is ovs-lwt's"


def test_the_version_of_daemons_that_were_started_by_hand(host: OvsHost, overlay: Path) -> None:
    """Only Open vSwitch's own scripts write it into the database."""
    assert host.vsctl("get", "open_vswitch", ".", "ovs_version") == "[]"
    (found,) = checked(host, overlay, status=0)["open vswitch"]
    assert (found["level"], found["text"]) == (
        "ok",
        f"version {host.appctl('version').split()[-1]}",
    )


def test_the_run_directory_is_open_vswitchs_own(
    host: OvsHost, overlay: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OVS_RUNDIR, as Open vSwitch's tools have it.

    (OVS_DBDIR is where the database's file is; who asks its server needs no file.)
    """
    monkeypatch.setenv("OVS_RUNDIR", str(host.rundir))
    monkeypatch.setenv("OVS_DBDIR", "/nowhere")
    done = cli("check", str(overlay), "--host", "host1", netns=host.netns)
    assert done.returncode == 0, done.stdout
    assert f"unix:{host.rundir}/db.sock answers" in done.stdout


def test_no_database(overlay: Path, tmp_path: Path) -> None:
    words = ["check", str(overlay), "--host", "host1", "--ovsdb", f"unix:{tmp_path}/db.sock"]
    done = cli(*words)
    assert done.returncode == 1
    assert "fail  ovsdb" in done.stdout
    assert "start Open vSwitch" in done.stdout


def test_of_a_database_that_is_dead_nothing_is_made_up(host: OvsHost, overlay: Path) -> None:
    """Whose datapath it is nobody knows then: the kernel's would have its half of the tunnel."""
    host.stop_ovsdb()
    try:
        found = checked(host, overlay, status=1)
    finally:
        host.start_ovsdb()
    assert failures(found).keys() == {"ovsdb"}
    assert found["uplink"], "what does not depend on it is looked at"


def test_which_host_is_this(host: OvsHost, overlay: Path) -> None:
    """Without --host it is the machine's name, and a wrong one is no riddle."""
    done = cli("check", str(overlay), "--ovsdb", host.remote, netns=host.netns)
    assert "which is this machine's name" in done.stderr
    assert "say --host; it has: host1, host2" in done.stderr
