"""`ovs-lwt status`: in sync means that packets can pass; what does not is said, with the mend."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.controller import Controller, cli, controller, plug, write
from tests.support.overlays import two_tenants
from tests.support.ovs import OvsHost, eventually

HERE = "192.0.2.11"
SOON = 30.0  # a check takes a second or two, and begins at most 10 s after the kernel has told


@pytest.fixture(scope="module")
def overlay(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("status") / "overlay.yaml", two_tenants())


@pytest.fixture(scope="module")
def stage(overlay: Path) -> Iterator[tuple[OvsHost, Controller]]:
    """A host with an underlay, and its agent."""
    with OvsHost(f"status-{os.getpid()}") as host:
        host.run("ip", "link", "add", "u0", "type", "veth", "peer", "name", "u1")
        host.run("ip", "link", "set", "u0", "up")
        host.run("ip", "link", "set", "u1", "up")
        host.vsctl(
            *("add-br", "br-phy", "--", "set", "bridge", "br-phy", "datapath_type=netdev"),
            *("--", "add-port", "br-phy", "u0"),
        )
        host.run("ip", "address", "add", f"{HERE}/24", "dev", "br-phy")
        host.run("ip", "link", "set", "br-phy", "up")
        with controller(host, overlay) as running:
            plug(host, {"p1": "blue/web1"})
            assert running.in_sync("blue/web1"), running.log
            yield host, running


def asked(
    stage: tuple[OvsHost, Controller], *options: str
) -> tuple[int, subprocess.CompletedProcess[str]]:
    host, running = stage
    done = cli("status", "--control", str(running.control), *options, netns=host.netns)
    return done.returncode, done


def waited(stage: tuple[OvsHost, Controller]) -> dict[str, Any]:
    status, done = asked(stage, "--wait", "--timeout", "60", "--json")
    assert status == 0, done.stdout + done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def test_a_host_on_which_packets_pass(stage: tuple[OvsHost, Controller]) -> None:
    said = waited(stage)
    assert said["schema"] == 1
    about = said["hosts"]["host1"]
    assert (about["state"], about["sync"]) == ("in-sync", "in-sync")
    assert about["ports"] == {"p1": "blue/web1"}
    assert about["checked"] is not None
    status, done = asked(stage)
    assert status == 0
    assert "host1  in-sync  plane ovs" in done.stdout
    assert "port  p1  blue/web1" in done.stdout


def test_the_uplink_is_down(stage: tuple[OvsHost, Controller]) -> None:
    host, running = stage
    waited(stage)
    host.run("ip", "link", "set", "u1", "down")
    try:
        assert eventually(lambda: running.status()["state"] == "degraded", within=SOON), running.log
        status, done = asked(stage)
        assert status == 3
        assert "host1  degraded" in done.stdout
        assert "fail  uplink: u0 has no carrier → see to the cable" in done.stdout
        assert "u0 has no carrier: see to the cable" in running.log
    finally:
        host.run("ip", "link", "set", "u1", "up")
    assert waited(stage)
    assert eventually(lambda: "is right again: u0 has no carrier" in running.log)


def test_the_switch_is_away(stage: tuple[OvsHost, Controller]) -> None:
    host, running = stage
    host.stop_vswitchd()
    try:
        assert eventually(lambda: running.state() == "offline"), running.log
        status, done = asked(stage)
        assert status == 3
        assert "host1  offline" in done.stdout
        assert "  waiting for the switch, which has not called" in done.stdout
        assert str(running.status()["waiting"]).startswith("for the switch, which has not called")
    finally:
        host.start_vswitchd()
    assert running.in_sync("blue/web1"), running.log
    assert running.status()["waiting"] is None


def test_check_asks_the_agent_what_to_look_for(stage: tuple[OvsHost, Controller]) -> None:
    host, running = stage
    done = cli("check", "--control", str(running.control), netns=host.netns)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"vtep address  {HERE} is on br-phy" in done.stdout


def test_nobody_is_there(tmp_path: Path) -> None:
    done = cli("status", "--control", str(tmp_path / "none.ctl"))
    assert done.returncode == 4
    assert "no controller answers" in done.stderr
    done = cli("status", "--control", str(tmp_path / "none.ctl"), "--wait", "--timeout", "0.5")
    assert done.returncode == 4
