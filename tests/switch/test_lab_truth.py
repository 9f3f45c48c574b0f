"""`lab status` tells how the lab is now, and no closed pipe takes a lab down."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ovs_lwt.lab import controllers, lifecycle
from ovs_lwt.lab.processes import alive, inside
from tests.support.lab import Lab, lab_name, left_of, ovs_lwt
from tests.support.ovs import eventually, in_netns

OVERLAY = """\
vteps:
  host1: {address: 192.0.2.11}
  host2: {address: 192.0.2.12}
tenants:
  blue:
    vni: 1010
    endpoints:
      web1: {host: host1, mac: "02:00:00:00:00:01", ip: [10.0.0.11/24]}
      web2: {host: host2, mac: "02:00:00:00:00:02", ip: [10.0.0.12/24]}
"""
SIGPIPE = 128 + signal.SIGPIPE


@pytest.fixture
def overlay(tmp_path: Path) -> Path:
    path = tmp_path / "overlay.yaml"
    path.write_text(OVERLAY)
    return path


@pytest.fixture
def lab(overlay: Path) -> Iterator[Lab]:
    name = lab_name()
    try:
        yield Lab(lifecycle.up(overlay, name=name))
    finally:
        lifecycle.down(name)
    assert left_of(name) == []


def cli(lab: Lab, host: str, *words: str) -> str:
    """Run ovs-lwt on a host of the lab."""
    return lab.run(host, sys.executable, "-m", "ovs_lwt.cli", *words)


def unread(*words: str) -> int:
    """Run ovs-lwt, read its first line and no more; return its exit status."""
    with subprocess.Popen(
        [sys.executable, "-m", "ovs_lwt.cli", *words], stdout=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout is not None
        program.stdout.readline()
        program.stdout.close()
        return program.wait(120)


def test_a_controller_that_was_restarted_by_hand_is_seen(lab: Lab) -> None:
    host = lab.host("host1")
    first = controllers.running(host)
    assert first is not None
    os.kill(first, signal.SIGKILL)
    assert eventually(lambda: not alive(first))
    gone = lab.status()
    assert gone.hosts["host1"].controller is not None
    assert (gone.state, gone.hosts["host1"].controller.pid) == ("damaged", None)

    again = subprocess.Popen(
        inside(host.namespace, controllers.arguments(lab.plan, [host])),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert eventually(lambda: lab.status().state == "up", within=30, every=0.5)
        about = lab.status().hosts["host1"].controller
        assert about is not None
        assert about.pid == again.pid
    finally:
        again.kill()
        again.wait()


def test_a_guest_that_has_moved_is_where_it_is(lab: Lab, overlay: Path) -> None:
    guest = lab.guest("blue/web1")
    assert lab.status().endpoints["blue/web1"].host == "host1"

    where = "--ovsdb", lab.host("host1").ovsdb
    cli(lab, "host1", "detach", "blue/web1", *where)
    moved = lab.status()
    assert (moved.state, moved.endpoints["blue/web1"].port) == ("damaged", None)
    assert moved.endpoints["blue/web1"].up is False

    overlay.write_text(OVERLAY.replace("web1: {host: host1", "web1: {host: host2"))
    for host in ("host1", "host2"):
        cli(lab, host, "reload", "--control", str(lab.host(host).control))
    where = "--ovsdb", lab.host("host2").ovsdb
    cli(
        *(lab, "host2", "attach", str(overlay), "blue/web1", "--netns", guest.namespace),
        *(*where, "--marking", "flow"),
    )

    assert eventually(lambda: lab.status().state == "up", within=20, every=0.5), lab.status()
    found = lab.status().endpoints["blue/web1"]
    assert (found.host, found.port, found.marking, found.up) == ("host2", guest.port, "flow", True)


def test_a_guest_without_its_interface_is_no_guest(lab: Lab) -> None:
    guest = lab.guest("blue/web2")
    in_netns(guest.namespace, "ip", "link", "set", "eth0", "down")
    found = lab.status()
    assert (found.state, found.endpoints["blue/web2"].up) == ("damaged", False)
    in_netns(guest.namespace, "ip", "link", "set", "eth0", "up")
    # Its host looks after its port by and by.
    assert eventually(lambda: lab.status().state == "up", within=90, every=1), lab.status()

    shown = ovs_lwt("lab", "status", "--name", lab.name).stdout
    assert f"{guest.namespace} " in shown
    assert "down" not in shown


def test_a_lab_comes_up_also_if_nobody_reads_on(overlay: Path) -> None:
    name = lab_name()
    try:
        assert unread("lab", "up", str(overlay), "--name", name) == SIGPIPE
        shown = ovs_lwt("lab", "ping", "--name", name)
        assert shown.returncode == 0, shown.stdout + shown.stderr
    finally:
        assert unread("lab", "down", "--name", name) in {0, SIGPIPE}
    assert left_of(name) == []


def test_what_only_prints_ends_like_other_programs(lab: Lab, overlay: Path) -> None:
    done = subprocess.run(
        f"'{sys.executable}' -m ovs_lwt.cli export '{overlay}' --host host1 | true;"
        ' echo "${PIPESTATUS[0]}"',
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == (f"{SIGPIPE}\n", "")
