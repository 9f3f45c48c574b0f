"""Somebody else's hands on the switch: noticed as it happens, put right within seconds, said."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ovs_lwt.checker import GAP
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


SETTINGS = {
    "an option of the tunnel": ["set", "interface", "vx-lwt", "options:key=77"],
    "another UDP port": ["set", "interface", "vx-lwt", "options:dst_port=4799"],
    "a key that outranks ours": ["set", "interface", "vx-lwt", "options:in_key=77"],
    "another format": ["set", "interface", "vx-lwt", "options:exts=gbp"],
    "frames without Ethernet": ["set", "interface", "vx-lwt", "options:packet_type=legacy_l3"],
    "another kind of tunnel": ["set", "interface", "vx-lwt", "type=geneve"],
    "a spanning tree": ["set", "bridge", BRIDGE, "stp_enable=true"],
    "a rapid spanning tree": ["set", "bridge", BRIDGE, "rstp_enable=true"],
    "everything at once": ["emer-reset"],
    "another address": ["set", "interface", "vx-lwt", "options:local_ip=192.0.2.99"],
    "no tunnel": ["del-port", "vx-lwt"],
    "standalone": ["set-fail-mode", BRIDGE, "standalone"],
    "another datapath id": ["set", "bridge", BRIDGE, "other_config:datapath-id=00000000000000aa"],
    "one protocol": ["set", "bridge", BRIDGE, "protocols=OpenFlow10"],
    "no controller": ["del-controller", BRIDGE],
    "another controller": ["set-controller", BRIDGE, "tcp:127.0.0.1:6699"],
    "a probe that hangs up": ["set", "controller", "OURS", "inactivity_probe=1000"],
    "tables without names": ["clear", "bridge", BRIDGE, "flow_tables"],
}


def prepared(host: OvsHost, running: Controller) -> bool:
    """Whether the tunnel's port works, and the agent knows that."""
    works = host.vsctl("get", "interface", "vx-lwt", "ofport").isdecimal()
    said = running.log
    return works and said.rfind("is not prepared:") <= said.rfind("is prepared after all")


@pytest.mark.parametrize("what", SETTINGS)
def test_what_was_prepared_is_kept(
    stage: tuple[OvsHost, Controller], overlay: Path, what: str
) -> None:
    """The bridge, its port, its controller: reconciled like flows, and said with a count."""
    host, running = stage
    before, counted = flows(host), running.status()["repaired"]
    ours = host.vsctl("get", "bridge", BRIDGE, "controller").strip("[]").split(", ")
    agents = [row for row in ours if "ovs-lwt" in host.vsctl("list", "controller", row)]
    host.vsctl(*(agents[0] if word == "OURS" else word for word in SETTINGS[what]))
    assert eventually(lambda: running.status().get("repaired", 0) > counted, 15), running.log
    # Open vSwitch may refuse the port for a moment, and is then asked again.
    assert eventually(lambda: prepared(host, running), 40), running.log
    assert running.in_sync("blue/web1"), running.log
    assert eventually(lambda: set(flows(host)) == set(before), 15), difference(host, overlay)
    assert eventually(lambda: difference(host, overlay) == "", 10)
    assert "settings of the switch" in running.log


def test_the_bridge_is_deleted_and_comes_back(
    stage: tuple[OvsHost, Controller], overlay: Path
) -> None:
    """With its flows; its guests' ports are who made them to bring back."""
    host, running = stage
    host.vsctl("del-br", BRIDGE)
    assert eventually(lambda: f"there was no bridge {BRIDGE}" in running.log, 15), running.log
    assert running.in_sync(), running.log
    assert running.status()["portless"] == ["blue/web1", "red/web1"]
    plug(host, {"p1": "blue/web1"})
    assert running.in_sync("blue/web1"), running.log
    assert eventually(lambda: difference(host, overlay) == "", 10)


def test_the_bridge_gets_another_datapath(stage: tuple[OvsHost, Controller], overlay: Path) -> None:
    """Which this machine may not have: then the switch has no such bridge any more. Ports come back
    with numbers of their own.
    """
    host, running = stage
    host.vsctl("set", "bridge", BRIDGE, "datapath_type=system")
    said = f"{BRIDGE} had datapath system, not netdev"
    assert eventually(lambda: said in running.log, 15), running.log
    assert eventually(lambda: difference(host, overlay) == "", 15), running.log
    assert running.in_sync("blue/web1"), running.log
    assert host.vsctl("get", "bridge", BRIDGE, "datapath_type") == "netdev"


def failing(running: Controller) -> set[str]:
    """Subjects of the findings by which packets do not pass."""
    findings = running.status()["findings"]
    return {each["subject"] for each in findings if each["level"] == "fail"}


def test_a_switch_that_does_not_call_is_missed(stage: tuple[OvsHost, Controller]) -> None:
    """ovs-ctl was killed in the middle of a restart: the switch waits for flows to be restored, and
    is not said to be merely offline.
    """
    host, running = stage
    waiting = ("open_vswitch", ".", "other_config")
    host.vsctl("set", *waiting[:2], f"{waiting[2]}:flow-restore-wait=true")
    host.stop_vswitchd()
    host.start_vswitchd()
    try:
        assert eventually(lambda: {"switch", "open vswitch"} <= failing(running), 90), running.log
        assert running.state() == "offline"
        assert "WARNING ovs_lwt: host1: its switch does not call" in running.log
        mends = " ".join(each["mend"] for each in running.status()["findings"])
        assert "ovs-vsctl --no-wait remove Open_vSwitch . other_config flow-restore-wait" in mends
    finally:
        host.vsctl("--no-wait", "remove", *waiting, "flow-restore-wait")
    assert running.in_sync("blue/web1"), running.log
    assert "switch" not in failing(running)


def test_the_database_dies(stage: tuple[OvsHost, Controller]) -> None:
    host, running = stage
    host.stop_ovsdb()
    try:
        assert eventually(lambda: running.status()["state"] == "degraded", 15), running.log
        told = [finding["text"] for finding in running.status()["findings"]]
        assert any("does not answer" in text for text in told), told
    finally:
        host.start_ovsdb()
    # A check that ran meanwhile is believed until the next, which comes soon.
    assert eventually(
        lambda: not any(f["subject"] == "ovsdb" for f in running.status()["findings"]), GAP + 20
    ), running.status()["findings"]


def test_ports_that_must_not_forward(stage: tuple[OvsHost, Controller]) -> None:
    host, running = stage
    for port in ("vx-lwt", "p1"):
        host.ofctl(*OF14, "mod-port", BRIDGE, port, "no-forward")
        assert eventually(
            lambda port=port: "NO_FWD" not in host.ofctl(*OF14, "dump-ports-desc", BRIDGE, port),  # type: ignore[misc]
            SECONDS,
        )
        assert f"repaired: port {port} was set no-forward" in running.log
