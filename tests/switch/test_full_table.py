"""A table that can hold no more: the switch refuses, keeps all it had, and the user learns why."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ovs_lwt.mistakes import Refused
from tests.support.controller import (
    Controller,
    cli,
    controller,
    difference,
    flows,
    plug,
    switch,
    write,
)
from tests.support.overlays import two_tenants
from tests.support.ovs import OvsHost

WEB9 = {"host": "host2", "mac": "02:00:00:00:00:09", "ip": ["10.0.0.19/24"]}
REFUSED_FLOW = "table=6 priority=200,metadata=1010,dl_dst=02:00:00:00:00:09"
REASON = "OFPFMFC_TABLE_FULL"


@pytest.fixture(scope="module")
def host() -> Iterator[OvsHost]:
    with OvsHost(f"full-{os.getpid()}") as host:
        yield host


@pytest.fixture
def overlay(tmp_path: Path) -> Path:
    return write(tmp_path / "overlay.yaml", two_tenants())


@pytest.fixture
def running(host: OvsHost, overlay: Path) -> Iterator[Controller]:
    """In sync, and table forward has no room left."""
    with controller(host, overlay) as running:
        if not running.status()["ports"]:
            plug(host, {"p1": "blue/web1", "p2": "red/web1"})
        assert running.in_sync("blue/web1", "red/web1"), running.log
        held = sum("table=6," in flow for flow in flows(host))
        host.vsctl("set", "flow_table", table(host), f"flow_limit={held}", "overflow_policy=refuse")
        yield running
        lift(host)


def table(host: OvsHost) -> str:
    return host.vsctl("--bare", "--columns=_uuid", "find", "flow_table", "name=forward")


def lift(host: OvsHost) -> None:
    host.vsctl("clear", "flow_table", table(host), "flow_limit")


def grow(overlay: Path) -> None:
    grown = two_tenants()
    grown["tenants"]["blue"]["endpoints"]["web9"] = WEB9
    write(overlay, grown)


def test_the_old_state_is_whole_and_the_flow_is_named(
    host: OvsHost, running: Controller, overlay: Path
) -> None:
    before = switch(host)
    grow(overlay)
    done = cli("reload", "--control", str(running.control))
    assert (done.returncode, done.stdout) == (1, "")
    for told in (done.stderr, running.log, "\n".join(running.status()["refused"])):
        assert REFUSED_FLOW in told
        assert REASON in told
    assert running.state() == "refused"
    assert switch(host) == before
    lift(host)
    assert running.reload().startswith("host1: 2 flows written, 0 deleted, ")
    assert running.state() == "in-sync"
    assert running.status()["refused"] == []
    assert difference(host, overlay) == ""


def test_an_overlay_that_fits_again_is_taken_at_once(
    host: OvsHost, running: Controller, overlay: Path
) -> None:
    before = switch(host)
    grow(overlay)
    with pytest.raises(Refused, match=REASON):
        running.reload()
    write(overlay, two_tenants())
    running.reload()
    assert running.in_sync("blue/web1", "red/web1")
    assert switch(host) == before
