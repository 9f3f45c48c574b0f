"""One process drives the switches of several hosts, told apart by their datapath ids."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from ovs_lwt.mistakes import Refused
from tests.support.controller import (
    BRIDGE,
    OF14,
    Controller,
    Ear,
    difference,
    flows,
    plug,
    started,
    switch,
    write,
)
from tests.support.overlays import two_tenants
from tests.support.ovs import OvsHost, eventually

STRANGER = "00000000deadbeef"


@dataclass(frozen=True, slots=True)
class Site:
    """Two hosts, and the controller of both. Each host has namespaces of its own: sockets in the
    file system are all that they share with it."""

    host1: OvsHost
    host2: OvsHost
    overlay: Path
    controller: Controller

    def as_exported(self) -> bool:
        """Whether both switches hold what `ovs-lwt export` says."""
        return all(
            difference(host, self.overlay, name=name) == ""
            for name, host in (("host1", self.host1), ("host2", self.host2))
        )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    overlay = write(tmp_path_factory.mktemp("several") / "overlay.yaml", two_tenants())
    with ExitStack() as stack:
        host1, host2 = (stack.enter_context(OvsHost(f"several-{os.getpid()}-h{n}")) for n in (1, 2))
        control = host1.rundir / "lwt.ctl"
        command = [sys.executable, "-m", "ovs_lwt.cli", "run", str(overlay)]
        command += ["--host", f"host1={host1.remote}", "--host", f"host2={host2.remote}"]
        command += ["--datapath", "netdev", "--control", str(control)]
        here = stack.enter_context(started(command, control, host1.netns))
        for name, host in (("host1", host1), ("host2", host2)):
            assert here.in_sync(host=name), here.log
            own = {"p1": "blue/web1", "p2": "red/web1"}
            plug(host, own if name == "host1" else {"q1": "blue/web2", "q2": "red/web2"})
        yield Site(host1, host2, overlay, here)
        assert here.running.stop()[0] == 0, here.log
        assert "Traceback" not in here.log


@pytest.fixture(autouse=True)
def afresh(site: Site) -> None:
    """Every test begins with the two tenants, all guests attached, on both hosts."""
    write(site.overlay, two_tenants())
    site.controller.reload()
    for host, guests in (
        ("host1", ("blue/web1", "red/web1")),
        ("host2", ("blue/web2", "red/web2")),
    ):
        assert site.controller.in_sync(*guests, host=host), site.controller.log


def test_each_switch_gets_its_own_hosts_flows(site: Site) -> None:
    assert site.as_exported()
    assert switch(site.host1) != switch(site.host2)
    remote = "set_field:192.0.2.{}->tun_dst"
    for host, own, other in ((site.host1, 11, 12), (site.host2, 12, 11)):
        text = "\n".join(flows(host))
        assert remote.format(other) in text
        assert remote.format(own) not in text


def test_a_change_reaches_both(site: Site) -> None:
    """web1 moves: where it lived it is remote now, and where it was remote nobody claims it yet."""
    moved = two_tenants()
    moved["tenants"]["blue"]["endpoints"]["web1"]["host"] = "host2"
    write(site.overlay, moved)
    told = site.controller.reload().splitlines()
    assert [line.split(":")[0] for line in told] == ["host1", "host2"]
    assert not any(": 0 flows written, 0 deleted" in line for line in told)
    assert site.as_exported()
    assert site.controller.status("host1")["ports"] == {"p2": "red/web1"}
    plug(site.host2, {"q3": "blue/web1"})
    assert site.controller.in_sync("blue/web1", "blue/web2", "red/web2", host="host2")
    assert site.as_exported()
    site.host2.vsctl("del-port", "q3")


def test_a_change_of_one_is_no_news_to_the_other(site: Site) -> None:
    ear = Ear(site.host2)
    site.host1.vsctl("remove", "interface", "p2", "external_ids", "ovs-lwt-endpoint")
    assert site.controller.in_sync("blue/web1", host="host1")
    assert ear.changes() == []
    assert site.as_exported()
    site.host1.vsctl("set", "interface", "p2", "external_ids:ovs-lwt-endpoint=red/web1")


def test_one_that_is_away_learns_of_the_change_when_it_is_back(site: Site) -> None:
    site.host2.stop_vswitchd()
    assert eventually(lambda: site.controller.state("host2") == "offline")
    changed = two_tenants()
    changed["tenants"]["blue"]["unknown_unicast"] = "drop"
    write(site.overlay, changed)
    with pytest.raises(Refused) as refused:
        site.controller.reload()
    assert str(refused.value).splitlines() == [
        "host2: offline: its switch has it once it is back",
        "the others have it: host1",
    ]
    assert difference(site.host1, site.overlay) == ""
    site.host2.start_vswitchd()
    assert site.controller.in_sync("blue/web2", "red/web2", host="host2"), site.controller.log
    assert eventually(site.as_exported)


def test_a_switch_that_is_nobodys_is_left_alone(site: Site) -> None:
    """It found its way here, and is told nothing: its flows are its own business."""
    target = site.host1.vsctl("get-controller", BRIDGE)
    site.host1.vsctl(
        *("add-br", "br-other", "--", "set", "bridge", "br-other", "datapath_type=netdev"),
        *("fail-mode=secure", f"other_config:datapath-id={STRANGER}", "--"),
        *("set-controller", "br-other", target),
    )
    assert site.controller.running.says(f"switch {STRANGER} is none of our hosts: left alone")
    site.host1.ofctl(*OF14, "add-flow", "br-other", "table=9,priority=9 actions=drop")
    before = flows(site.host1, "br-other").keys()
    ear = Ear(site.host1)
    site.controller.reload()
    assert ear.changes() == []
    assert flows(site.host1, "br-other").keys() == before
    assert len(before) == 1
    site.host1.vsctl("del-br", "br-other")
    assert site.controller.in_sync("blue/web1", "red/web1")


def test_what_one_host_cannot_do_neither_does(site: Site) -> None:
    """Another UDP port, which is taken on the second host: the first keeps the old one, too."""
    before = [switch(host) for host in (site.host1, site.host2)]
    site.host2.vsctl(
        *("add-br", "br-other", "--", "set", "bridge", "br-other", "datapath_type=netdev", "--"),
        *("add-port", "br-other", "vx-other", "--", "set", "interface", "vx-other"),
        *("type=vxlan", "options:remote_ip=192.0.2.99", "options:dst_port=4790"),
    )
    write(site.overlay, two_tenants() | {"underlay": {"udp_port": 4790}})
    with pytest.raises(Refused, match="'vx-other' of bridge 'br-other' already uses UDP port 4790"):
        site.controller.reload()
    for host, held in zip((site.host1, site.host2), before, strict=True):
        assert host.vsctl("get", "interface", "vx-lwt", "options:dst_port") == '"4789"'
        assert eventually(lambda host=host, held=held: switch(host) == held)  # type: ignore[misc]
    site.host2.vsctl("del-br", "br-other")
    site.controller.reload()
    assert eventually(site.as_exported)
    assert site.host1.vsctl("get", "interface", "vx-lwt", "options:dst_port") == '"4790"'
    assert BRIDGE in site.host2.vsctl("list-br")
