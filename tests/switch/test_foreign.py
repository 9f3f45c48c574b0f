"""What others do to the bridge by hand: found, removed and reported; or kept, if that is wanted."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.controller import (
    BRIDGE,
    OF14,
    Controller,
    Ear,
    controller,
    difference,
    flows,
    plug,
    started,
    switch,
    untouched,
    write,
)
from tests.support.frameworks import CHECKOUT, interpreter
from tests.support.overlays import two_tenants
from tests.support.ovs import OvsHost, eventually

MINE = "cookie=0xbeef,table=6,priority=999,dl_dst=02:00:00:00:00:fe actions=drop"
MINE_ELSEWHERE = "cookie=0xbeef,table=77,priority=1 actions=drop"
TINY_APP = CHECKOUT / "tests/support/tiny_app.py"
GROUP = "group_id=777777777,type=all,bucket=actions=drop"


@pytest.fixture(scope="module")
def overlay(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("foreign") / "overlay.yaml", two_tenants())


@pytest.fixture(scope="module")
def host(overlay: Path) -> Iterator[OvsHost]:
    with OvsHost(f"foreign-{os.getpid()}") as host:
        with controller(host, overlay) as first:
            plug(host, {"p1": "blue/web1", "p2": "red/web1"})
            assert first.in_sync("blue/web1", "red/web1"), first.log
        yield host


def meddle(host: OvsHost) -> None:
    """Somebody adds two flows and a group of their own."""
    host.ofctl(*OF14, "add-group", BRIDGE, GROUP)
    for flow in (MINE, MINE_ELSEWHERE):
        host.ofctl(*OF14, "add-flow", BRIDGE, flow)


def reported(running: Controller, times: int = 1) -> None:
    """All of it is in the log, so that its owner finds out."""
    told = "removed 3 flows or groups that are not ours"
    assert running.running.says(told, times), running.log
    assert running.running.says("group_id=777777777"), running.log
    assert "cookie=0xbeef table=forward priority=999,eth_dst=02:00:00:00:00:fe" in running.log
    assert "cookie=0xbeef table=77 priority=1" in running.log


@pytest.fixture(scope="class")
def running(host: OvsHost, overlay: Path) -> Iterator[Controller]:
    with controller(host, overlay) as running:
        yield running


class TestAtAReload:
    def test_what_is_not_ours_goes(self, host: OvsHost, running: Controller) -> None:
        before, ages = switch(host), flows(host)
        meddle(host)
        assert running.reload().startswith("host1: 0 flows written, 2 deleted, ")
        assert switch(host) == before
        reported(running)
        assert untouched(ages, flows(host))

    def test_also_while_something_else_changes(
        self, host: OvsHost, running: Controller, overlay: Path
    ) -> None:
        before = switch(host)
        meddle(host)
        changed = two_tenants()
        del changed["tenants"]["red"]["endpoints"]["web2"]
        write(overlay, changed)
        running.reload()
        # Answered as soon as the change is there: it is read again right after.
        reported(running, times=2)
        assert difference(host, overlay) == ""
        write(overlay, two_tenants())
        running.reload()
        assert switch(host) == before

    @pytest.mark.parametrize(
        "command",
        [
            ("del-flows", BRIDGE, "cookie=0x3f2/0xffffff"),
            ("mod-flows", BRIDGE, "table=6,metadata=0x7e4 actions=drop"),
            ("mod-group", BRIDGE, "group_id=1010,type=all"),
            ("del-groups", BRIDGE, "group_id=2020"),
            ("del-flows", BRIDGE),
        ],
        ids=lambda command: command[0],
    )
    def test_what_was_ours_comes_back(
        self, host: OvsHost, running: Controller, overlay: Path, command: tuple[str, ...]
    ) -> None:
        before, told = switch(host), running.log.count("not ours")
        host.ofctl(*OF14, *command)
        assert switch(host) != before
        running.reload()
        assert switch(host) == before
        assert difference(host, overlay) == ""
        assert running.log.count("not ours") == told

    @pytest.mark.parametrize("words", ["cookie=0x4c570603000003f2,idle_timeout=3600", "cookie=0"])
    def test_what_looks_like_ours_is_put_right(
        self, host: OvsHost, running: Controller, words: str
    ) -> None:
        """The same match and actions, but it would expire, or nobody could tell whose it is."""
        before, ear = switch(host), Ear(host)
        flow = "table=6,priority=200,metadata=0x3f2,dl_dst=02:00:00:00:00:02"
        actions = "actions=set_field:192.0.2.12->tun_dst,output:4789"
        host.ofctl(*OF14, "add-flow", BRIDGE, f"{words},{flow} {actions}")
        assert switch(host) != before
        running.reload()
        assert switch(host) == before
        assert len(ear.changes()) == 1


class TestAtARestart:
    def test_what_is_not_ours_goes(self, host: OvsHost, overlay: Path) -> None:
        before, ages = switch(host), flows(host)
        meddle(host)
        with controller(host, overlay) as running:
            reported(running)
            assert switch(host) == before
        assert untouched(ages, flows(host))

    def test_or_stays_if_so_wanted(self, host: OvsHost, overlay: Path) -> None:
        """Other cookies, other group numbers; not what an older pipeline of ours left behind."""
        before = switch(host)
        meddle(host)
        kept = switch(host)
        ours = "cookie=0x4c57060300000001,table=6,priority=7,metadata=0x1 actions=drop"
        host.ofctl(*OF14, "add-flow", BRIDGE, ours)
        host.ofctl(*OF14, "add-group", BRIDGE, "group_id=1,type=all")
        with controller(host, overlay, "--keep-foreign") as running:
            assert switch(host) == kept
            assert running.reload().startswith("host1: 0 flows written, 0 deleted, ")
            assert switch(host) == kept
            assert "removed" not in running.log
            named = "cookie=0xbeef table=forward priority=999,eth_dst=02:00:00:00:00:fe"
            assert running.status()["foreign"] == {"count": 1, "passing": 0, "flows": [named]}
        host.ofctl(*OF14, "del-flows", BRIDGE, "cookie=0xbeef/-1")
        host.ofctl(*OF14, "del-groups", BRIDGE, "group_id=777777777")
        assert switch(host) == before


def test_a_kept_flow_by_which_tenants_may_meet_makes_the_host_degraded(
    host: OvsHost, overlay: Path
) -> None:
    """Named when it comes and when the switch is read; over when it goes."""
    passes = "cookie=0xbeef,table=0,priority=65535,in_port=p1 actions=output:p2"

    with controller(host, overlay, "--keep-foreign") as running:

        def told() -> list[dict[str, str]]:
            findings: list[dict[str, str]] = running.status()["findings"]
            return [each for each in findings if each["subject"] == "foreign flows"]

        host.ofctl(*OF14, "--names", "add-flow", BRIDGE, passes)
        assert eventually(lambda: bool(told()), 10), running.log
        (finding,) = told()
        assert finding["level"] == "fail"
        assert "1 in ovs-lwt's tables not of its own that do more than drop" in finding["text"]
        assert "cookie=0xbeef table=classify priority=65535" in finding["text"]
        assert running.status()["state"] == "degraded"
        running.reload()
        assert told() == [finding]
        assert "keeps 1 flows in tables of ours that are not ours:" in running.log
        host.ofctl(*OF14, "del-flows", BRIDGE, "cookie=0xbeef/-1")
        assert eventually(lambda: not told(), 10), running.log


def test_beside_another_app_foreign_flows_stay(host: OvsHost, overlay: Path) -> None:
    """Nobody says --keep-foreign there: whose flows they are is known to the other app."""
    before = switch(host)
    meddle(host)
    kept = switch(host)
    control = host.rundir / "lwt.ctl"
    command = interpreter("os-ken").manager(
        *("ovs_lwt.app", str(TINY_APP), "--overlay", str(overlay)),
        *("--overlay-host", f"host1={host.remote}", "--overlay-control", str(control)),
    )
    with started(command, control, host.netns) as running:
        assert running.in_sync(), running.log
        assert running.status()["foreign"]["count"] == 1
        assert switch(host) == kept
        assert running.running.stop()[0] == 0, running.log
    host.ofctl(*OF14, "del-flows", BRIDGE, "cookie=0xbeef/-1")
    host.ofctl(*OF14, "del-groups", BRIDGE, "group_id=777777777")
    assert switch(host) == before
