"""Somebody else's hands on the switch: noticed as it happens, put right within seconds, said."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.controller import (
    BRIDGE,
    OF14,
    Controller,
    controller,
    difference,
    flows,
    groups,
    plug,
    untouched,
    write,
)
from tests.support.overlays import two_tenants
from tests.support.ovs import OvsHost, eventually

SECONDS = 5.0  # of a machine with neighbours; what is measured is in docs/performance.md


@pytest.fixture(scope="module")
def overlay(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("drift") / "overlay.yaml", two_tenants())


@pytest.fixture(scope="module")
def stage(overlay: Path) -> Iterator[tuple[OvsHost, Controller]]:
    with OvsHost(f"drift-{os.getpid()}") as host, controller(host, overlay) as running:
        plug(host, {"p1": "blue/web1"})
        assert running.in_sync("blue/web1"), running.log
        yield host, running


MEDDLING = {
    "a flow is deleted": ["--strict", "del-flows", BRIDGE, "table=1,priority=0"],
    "all flows of a tenant are deleted": ["del-flows", BRIDGE, "metadata=1010"],
    "all flows are deleted": ["del-flows", BRIDGE],
    "a flow is rewritten": ["mod-flows", BRIDGE, "table=6,metadata=1010,actions=drop"],
    "a way round everything": ["add-flow", BRIDGE, "table=0,priority=65535,actions=NORMAL"],
    "a flow takes the place of ours": [
        *("add-flow", BRIDGE, "table=1,priority=0,cookie=0x77,actions=goto_table:6"),
    ],
    "a group is deleted": ["del-groups", BRIDGE, "group_id=1010"],
    "a group is emptied": ["mod-group", BRIDGE, "group_id=1010,type=all"],
    "a group is added": ["add-group", BRIDGE, "group_id=77,type=all"],
}


@pytest.mark.parametrize("what", MEDDLING)
def test_it_is_put_right(stage: tuple[OvsHost, Controller], overlay: Path, what: str) -> None:
    host, running = stage
    before, groups_before = flows(host), groups(host)
    counted = running.status()["repaired"]
    host.ofctl(*OF14, *MEDDLING[what])
    assert (set(flows(host)), groups(host)) != (set(before), groups_before)
    assert eventually(
        lambda: (set(flows(host)), groups(host)) == (set(before), groups_before), SECONDS
    ), difference(host, overlay)
    assert difference(host, overlay) == ""
    assert eventually(lambda: running.status()["repaired"] > counted), running.log
    assert "repaired" in running.log
    if "all flows" not in what:
        # Those that nobody has touched have counted on. (A group takes its flows along.)
        kept = {flow: held for flow, held in before.items() if "table=0" in flow}
        after = flows(host)
        assert untouched(kept, after) or "takes the place" in what or "round" in what


def test_ports_that_must_not_forward(stage: tuple[OvsHost, Controller]) -> None:
    host, running = stage
    for port in ("vx-lwt", "p1"):
        host.ofctl(*OF14, "mod-port", BRIDGE, port, "no-forward")
        assert eventually(
            lambda port=port: "NO_FWD" not in host.ofctl(*OF14, "dump-ports-desc", BRIDGE, port),  # type: ignore[misc]
            SECONDS,
        )
        assert f"repaired: port {port} was set no-forward" in running.log
