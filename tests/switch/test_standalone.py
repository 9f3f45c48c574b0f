"""`ovs-lwt run` for a host on a plane of the kernel: no OpenFlow, but the same life."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ovs_lwt.control import ask
from ovs_lwt.mistakes import Refused
from tests.support.controller import Controller, cli, started, write
from tests.support.overlays import Overlay, endpoint, two_tenants
from tests.support.ovs import eventually, in_netns, network_namespace

NETNS = f"standalone-{os.getpid()}"


@pytest.fixture
def namespace() -> Iterator[str]:
    """A host with an address for its VTEP, and blue's guest plugged in."""
    with network_namespace(NETNS) as name:
        for command in (
            "link add u0 type veth peer name u1",
            "addr add 192.0.2.11/24 dev u0",
            "link set u0 up",
            "link add tap0 type veth peer name in0",
            "link set tap0 up",
        ):
            in_netns(name, "ip", *command.split())
        in_netns(name, "ip", "link", "set", "tap0", "alias", "ovs-lwt blue/web1")
        yield name


@pytest.fixture
def overlay() -> Overlay:
    return two_tenants()


@pytest.fixture
def file(tmp_path: Path, overlay: Overlay) -> Path:
    return write(tmp_path / "overlay.yaml", overlay)


@pytest.fixture
def running(namespace: str, file: Path, tmp_path: Path) -> Iterator[Controller]:
    control = tmp_path / "lwt.ctl"
    with started(command(file, control), control, None) as here:
        assert here.in_sync("blue/web1"), here.log
        yield here


def command(file: Path, control: Path) -> list[str]:
    words = [sys.executable, "-m", "ovs_lwt.cli", "run", str(file), "--plane", "route"]
    return [*words, "--host", f"host1={NETNS}", "--control", str(control)]


def routes(table: str = "10") -> str:
    return in_netns(NETNS, "ip", "route", "show", "table", table)


def test_it_serves_the_host_and_leaves_it_serving(running: Controller) -> None:
    assert running.status()["plane"] == "route"
    assert "10.0.0.12" in routes()
    assert running.running.stop(signal.SIGTERM)[0] == 0
    assert "10.0.0.12" in routes(), "what is installed stays"
    assert not running.control.exists()
    assert "Traceback" not in running.log


def test_sighup_reads_the_overlay_again(running: Controller, overlay: Overlay, file: Path) -> None:
    endpoint(overlay, "blue/web2")["ip"] = ["10.0.0.77/24"]
    write(file, overlay)
    running.running.process.send_signal(signal.SIGHUP)
    assert eventually(lambda: "10.0.0.77" in routes())
    assert "10.0.0.12" not in routes()


def test_reload_tells_what_is_wrong_and_changes_nothing(
    running: Controller, overlay: Overlay, file: Path
) -> None:
    before = routes()
    endpoint(overlay, "blue/web2")["host"] = "host9"
    write(file, overlay)
    with pytest.raises(Refused, match="host9"):
        running.reload()
    assert routes() == before
    endpoint(overlay, "blue/web2")["host"] = "host3"
    write(file, overlay)
    assert running.reload().startswith("host1: ")
    assert "192.0.2.13" in routes()


def test_exit_ends_the_process(running: Controller) -> None:
    ask(running.control, "exit")
    assert running.running.process.wait(10) == 0


def test_a_guest_that_is_unplugged_is_gone_within_a_second(running: Controller) -> None:
    in_netns(NETNS, "ip", "link", "del", "tap0")
    assert eventually(lambda: "tap0" not in routes())
    assert running.in_sync()
    assert running.status()["ports"] == {}


def test_another_agent_is_not_disturbed(running: Controller, file: Path) -> None:
    done = cli(*command(file, running.control)[3:])
    assert done.returncode == 2
    assert "answers on" in done.stderr
    assert running.in_sync("blue/web1")


def test_a_start_that_is_refused_says_why_and_leaves_nothing(
    namespace: str, file: Path, tmp_path: Path
) -> None:
    in_netns(namespace, "ip", "link", "add", "vx-lwt", "type", "veth", "peer", "name", "other")
    control = tmp_path / "lwt.ctl"
    done = cli(*command(file, control)[3:])
    assert done.returncode == 2
    assert "there is a veth device 'vx-lwt' already that is not ours" in done.stderr
    assert "Traceback" not in done.stderr
    assert not control.exists()
