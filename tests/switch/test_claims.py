"""Ports come and go, and claim endpoints: rightly, and wrongly. Flows follow without a restart."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.controller import (
    BRIDGE,
    Controller,
    Ear,
    controller,
    difference,
    plug,
    switch,
    unplug,
    write,
)
from tests.support.overlays import two_tenants
from tests.support.ovs import OvsHost, eventually


@pytest.fixture(scope="module")
def host() -> Iterator[OvsHost]:
    with OvsHost(f"claims-{os.getpid()}") as host:
        yield host


@pytest.fixture(scope="module")
def overlay(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("claims") / "overlay.yaml", two_tenants())


@pytest.fixture(scope="module")
def empty(host: OvsHost, overlay: Path) -> Iterator[Controller]:
    """A controller on a host without guests."""
    with controller(host, overlay) as running:
        yield running


@pytest.fixture
def running(host: OvsHost, empty: Controller) -> Iterator[Controller]:
    """The same for every test: whatever it plugs in is unplugged."""
    yield empty
    if ports := set(host.vsctl("list-ports", BRIDGE).split()) - {"vx-lwt"}:
        unplug(host, *sorted(ports))
    assert eventually(lambda: empty.status()["ports"] == {}), empty.log
    assert empty.in_sync()


def claim(host: OvsHost, port: str, endpoint: str, key: str = "ovs-lwt-endpoint") -> None:
    host.vsctl("set", "interface", port, f"external_ids:{key}={endpoint}")


def error(host: OvsHost, port: str) -> str:
    """What the switch's database says is wrong with a port."""
    return host.vsctl("--if-exists", "get", "interface", port, "external_ids:ovs-lwt-error").strip(
        '"'
    )


def refused(host: OvsHost, running: Controller, port: str, said: str) -> None:
    """The port's claim is refused with these words: in the database, in the log, in the status."""
    assert eventually(lambda: said in error(host, port)), (error(host, port), running.log)
    assert running.running.says(f"port {port}: "), running.log
    assert said in running.log
    assert said in running.status()["errors"][port]
    assert port not in running.status()["ports"]


@pytest.mark.parametrize("key", ["ovs-lwt-endpoint", "iface-id"])
def test_flows_follow_a_port_that_comes_and_goes(
    host: OvsHost, running: Controller, overlay: Path, key: str
) -> None:
    before = switch(host)
    plug(host, {"p1": "blue/web1"}, key)
    assert running.in_sync("blue/web1"), running.log
    assert running.status()["ports"] == {"p1": "blue/web1"}
    assert switch(host) != before
    assert difference(host, overlay) == ""
    unplug(host, "p1")
    assert eventually(lambda: switch(host) == before), running.log
    assert difference(host, overlay) == ""


@pytest.mark.parametrize("key", ["ovs-lwt-endpoint", "iface-id"])
def test_a_claim_that_is_taken_back_releases_the_endpoint(
    host: OvsHost, running: Controller, overlay: Path, key: str
) -> None:
    before = switch(host)
    plug(host, {"p1": "blue/web1"}, key)
    assert running.in_sync("blue/web1"), running.log
    host.vsctl("remove", "interface", "p1", "external_ids", key)
    assert eventually(lambda: switch(host) == before), running.log
    claim(host, "p1", "red/web1", key)
    assert running.in_sync("red/web1"), running.log
    assert difference(host, overlay) == ""


def test_a_guest_moves_to_another_port(host: OvsHost, running: Controller, overlay: Path) -> None:
    plug(host, {"p1": "blue/web1"})
    assert running.in_sync("blue/web1"), running.log
    ear = Ear(host)
    host.vsctl(
        *("remove", "interface", "p1", "external_ids", "ovs-lwt-endpoint", "--"),
        *("add-port", BRIDGE, "p9", "--", "set", "interface", "p9", "type=internal"),
        "external_ids:ovs-lwt-endpoint=blue/web1",
    )
    assert eventually(lambda: running.status()["ports"] == {"p9": "blue/web1"}), running.log
    assert running.in_sync("blue/web1"), running.log
    assert difference(host, overlay) == ""
    assert not any("0x7e4" in change for change in ear.changes()), "red has nothing to do with it"


def test_somebody_elses_iface_id_is_no_claim(host: OvsHost, running: Controller) -> None:
    before = switch(host)
    plug(host, {"p1": "0f8fad5b-d9cb-469f-a165-70867728950e"}, "iface-id")
    plug(host, {"p2": "red/web1"})
    assert running.in_sync("red/web1"), running.log
    assert running.status()["errors"] == {}
    assert error(host, "p1") == ""
    assert switch(host) != before


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("blu/web1", "did you mean 'blue'?"),
        ("blue/web7", "did you mean 'web"),
        ("green/x", "no tenant 'green'"),
        ("blue/web2", "blue/web2 lives on host2, says the overlay, and this is host1"),
        ("web1", "TENANT/NAME"),
    ],
    ids=["misspelt tenant", "misspelt endpoint", "unknown tenant", "elsewhere", "no tenant"],
)
def test_a_wrong_claim_is_told_and_forgotten_once_mended(
    host: OvsHost, running: Controller, overlay: Path, wrong: str, said: str
) -> None:
    before = switch(host)
    plug(host, {"p1": wrong})
    refused(host, running, "p1", said)
    assert switch(host) == before
    assert difference(host, overlay) == ""
    claim(host, "p1", "blue/web1")
    assert running.in_sync("blue/web1"), running.log
    assert eventually(lambda: error(host, "p1") == ""), error(host, "p1")
    assert running.status()["errors"] == {}
    assert difference(host, overlay) == ""


def test_an_overlay_that_catches_up_with_a_claim(
    host: OvsHost, running: Controller, overlay: Path
) -> None:
    plug(host, {"p1": "blue/web7"})
    refused(host, running, "p1", "web7")
    grown = two_tenants()
    grown["tenants"]["blue"]["endpoints"]["web7"] = {"host": "host1", "mac": "02:00:00:00:00:07"}
    write(overlay, grown)
    running.reload()
    assert running.in_sync("blue/web7"), running.log
    assert eventually(lambda: error(host, "p1") == "")
    assert difference(host, overlay) == ""
    write(overlay, two_tenants())
    running.reload()
    refused(host, running, "p1", "web7")
    assert difference(host, overlay) == ""


def test_two_ports_claim_one_endpoint(host: OvsHost, running: Controller, overlay: Path) -> None:
    """The first has it, until it goes; then the second is the only one."""
    plug(host, {"p1": "blue/web1"})
    assert running.in_sync("blue/web1"), running.log
    first = switch(host)
    plug(host, {"p2": "blue/web1"})
    refused(host, running, "p2", "blue/web1 is behind port 'p1' already")
    assert running.status()["ports"] == {"p1": "blue/web1"}
    assert switch(host) == first
    unplug(host, "p1")
    assert eventually(lambda: running.status()["ports"] == {"p2": "blue/web1"}), running.log
    assert eventually(lambda: error(host, "p2") == ""), error(host, "p2")
    assert running.in_sync("blue/web1")
    assert difference(host, overlay) == ""


def test_errors_that_nobody_took_away_go_with_their_cause(
    host: OvsHost, running: Controller
) -> None:
    """Written by a controller that died: the next one finds nothing wrong any more."""
    plug(host, {"p1": "blue/web1"})
    host.vsctl("set", "interface", "p1", "external_ids:ovs-lwt-error=old")
    assert eventually(lambda: error(host, "p1") == ""), error(host, "p1")
    assert running.in_sync("blue/web1")


def test_a_claim_cannot_forge_lines_of_the_log(host: OvsHost, running: Controller) -> None:
    forged = "2026-01-01 00:00:00,000 INFO    ovs_lwt: host1: in sync"
    plug(host, {"p1": f'"blue/web1\\n{forged}\\u001b[2J"'})
    assert eventually(lambda: "no endpoint" in error(host, "p1")), running.log
    assert running.running.says("port p1: "), running.log
    assert forged in running.log, "it was told of"
    assert not [line for line in running.log.splitlines() if line.startswith(forged)]
    assert "\x1b" not in running.log
