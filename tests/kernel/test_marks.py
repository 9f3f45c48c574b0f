"""Marks by tc, where the kernel has what that takes: set, kept against drift, moved with a port."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyroute2.netlink import NETLINK_ROUTE
from pyroute2.netlink.rtnl import RTNLGRP_TC

from ovs_lwt.lab.kernel import settle
from ovs_lwt.mistakes import Refused
from ovs_lwt.veth import Attached, AttachPlan, MarkKeeper, Notices, attach
from ovs_lwt.veth.marking import tc
from ovs_lwt.veth.netlink import inside
from ovs_lwt.vswitch import SwitchPlan
from ovs_lwt.vswitch.switch import LocalSwitch
from tests.support import guests
from tests.support.guests import link, ping, routed
from tests.support.ovs import OvsHost, eventually, in_netns

HOST, GUEST1, GUEST2 = "kmk-h", "kmk-g1", "kmk-g2"
WEB1 = dataclasses.replace(guests.WEB1, netns=GUEST1)
WEB2 = dataclasses.replace(guests.WEB2, netns=GUEST2)
PORT = "blue-web1"
MARKS = {PORT: 10}
BOTH = (["10 continue"], ["10 continue"])
ARRIVING: tuple[list[str], list[str]] = (["10 continue"], [])
PORT_MARKED_99 = f"filter add dev {PORT} ingress prio 1 matchall action skbedit mark 99"


@pytest.fixture(autouse=True)
def host() -> Iterator[None]:
    with guests.made(HOST, GUEST1, GUEST2):
        yield


@pytest.fixture
def keeper() -> Iterator[MarkKeeper]:
    """One that has found all as it should be on blue/web1's port."""
    assert attach(WEB1, None, host_netns=HOST) == Attached(PORT, "tc")
    keeper = MarkKeeper(HOST, egress=True)
    keeper.want(MARKS)
    assert keeper.run() == []
    yield keeper
    keeper.close()


def both_ways(netns: str | None = HOST) -> tuple[list[str], list[str]]:
    """The marks and verdicts that tc says are set on blue/web1's port: arriving, leaving."""
    show = f"tc filter show dev {PORT}"
    text = in_netns(netns, "sh", "-ec", f"{show} ingress; echo leaving; {show} egress")
    arriving, leaving = (re.findall(r"mark (\d+ \w+)", part) for part in text.split("leaving"))
    return arriving, leaving


def tell(keeper: MarkKeeper, sentence: str) -> bool:
    """Poll as an agent does, until the keeper has told of this and of nothing else."""
    told: list[str] = []

    def tells() -> bool:
        told.extend(keeper.run())
        return bool(told)

    assert eventually(tells, within=10)
    return all(re.search(sentence, text) for text in told)


def test_tc_is_what_auto_takes_and_filters_of_others_see_the_mark() -> None:
    assert attach(WEB1, None, host_netns=HOST).marking == "tc"
    assert both_ways() == BOTH
    in_netns(HOST, "ip", "address", "add", "10.0.0.1/24", "dev", PORT)
    # No agent is here that puts the port into the bridge and sets it up: somebody else does.
    in_netns(HOST, "ip", "link", "set", PORT, "arp", "on", "up")
    for way in ("ingress", "egress"):
        add = f"tc filter add dev {PORT} {way} pref 10 protocol all handle 10 fw action ok"
        in_netns(HOST, *add.split())
    assert eventually(lambda: ping(GUEST1, "10.0.0.1"))
    for way in ("ingress", "egress"):
        counted = in_netns(HOST, "tc", "-s", "filter", "show", "dev", PORT, way, "pref", "10")
        packets = re.findall(r"(\d+) pkt", counted)
        assert [int(text) > 1 for text in packets] == [True], "ARP as well as IP"


def test_attaching_again_mends_and_otherwise_leaves_alone() -> None:
    attach(WEB1, None, host_netns=HOST)
    changes = Notices(NETLINK_ROUTE, [RTNLGRP_TC], HOST)
    attach(WEB1, None, host_netns=HOST)
    assert not changes.poll()
    changes.close()
    attach(dataclasses.replace(WEB1, mark=4_000_000_000), None, host_netns=HOST)
    assert both_ways() == (["4000000000 continue"], ["4000000000 continue"])


@pytest.mark.parametrize(
    "drift",
    [
        f"filter del dev {PORT} ingress",
        f"filter del dev {PORT} egress",
        f"qdisc del dev {PORT} clsact",
        f"actions change action skbedit mark 99 continue index {0x6000_0000} + INDEX",
        f"actions change action skbedit mark 10 pipe index {0x6000_0000} + INDEX",
        f"filter del dev {PORT} ingress\n{PORT_MARKED_99}",
    ],
    ids=["ingress", "egress", "qdisc", "another mark", "another verdict", "another filter"],
)
def test_what_somebody_changed_is_mended(keeper: MarkKeeper, drift: str) -> None:
    end = link(HOST, PORT)
    assert end is not None
    drift = drift.replace(f"{0x6000_0000} + INDEX", str(0x6000_0000 + end["ifindex"]))
    in_netns(HOST, "sh", "-ec", f"tc -batch - <<'END'\n{drift}\nEND")

    assert tell(keeper, f"port {PORT} gets its tenant's mark 10 from tc again: it had")
    assert both_ways() == BOTH
    assert keeper.marking() == {PORT: "tc"}


def test_a_filter_whose_action_the_kernel_still_lists(
    keeper: MarkKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An action outlives its filter for a moment, as long as the kernel likes."""
    lists = tc.marks
    with inside(HOST) as host:
        before = lists(host)
    shown = iter([before])
    monkeypatch.setattr(tc, "marks", lambda host: next(shown, None) or lists(host))
    in_netns(HOST, "tc", "filter", "del", "dev", PORT, "ingress")

    assert tell(keeper, f"port {PORT} gets its tenant's mark 10 from tc again: it had")
    assert next(shown, None) is None, "it has been told what is no longer so"
    assert both_ways() == BOTH


def test_a_port_that_is_no_longer_wanted_loses_its_mark_only(keeper: MarkKeeper) -> None:
    theirs = f"tc filter add dev {PORT} ingress pref 10 matchall action skbedit mark 77"
    in_netns(HOST, *theirs.split())
    keeper.want({})
    assert eventually(lambda: keeper.run() == [] and both_ways() == (["77 pipe"], []))


def test_a_filter_of_somebody_else_where_ours_belongs(keeper: MarkKeeper) -> None:
    gone = f"tc filter del dev {PORT} ingress"
    theirs = f"tc filter add dev {PORT} ingress pref 1 protocol ip flower action ok"
    in_netns(HOST, "sh", "-ec", f"{gone}; {theirs}")
    sentence = rf"a filter of kind flower stands where the mark of '{PORT}'.*than 1 \(tc filter"

    assert tell(keeper, sentence)
    assert re.search(sentence, keeper.errors()[PORT])
    assert keeper.marking() == {}
    with pytest.raises(Refused, match=sentence):
        attach(WEB1, None, host_netns=HOST)

    in_netns(HOST, *gone.split())
    assert tell(keeper, f"port {PORT} gets its tenant's mark 10 from tc")
    assert keeper.errors() == {}


def test_many_ports_at_one_look() -> None:
    """More than one message of the kernel's lists."""
    ports = {f"tap{number}": 100 + number for number in range(70)}
    links = "".join(f"link add {name} type veth peer p{name}\n" for name in ports)
    in_netns(HOST, "sh", "-ec", f"ip -batch - <<'END'\n{links}END")
    keeper = MarkKeeper(HOST)
    keeper.want(ports)
    assert len(keeper.run()) == len(ports)
    assert keeper.marking() == dict.fromkeys(ports, "tc")

    again = MarkKeeper(HOST)
    again.want(ports)
    assert again.run() == []
    assert again.marking() == dict.fromkeys(ports, "tc")
    again.close()
    keeper.close()


@pytest.mark.parametrize("plan", [WEB1, routed(WEB1)], ids=["bridge", "route"])
def test_nft_where_the_kernel_lacks_it(plan: AttachPlan) -> None:
    """As user-mode Linux does. A kernel that has it does as it is told."""
    plan = dataclasses.replace(plan, marking="nft")
    supported = "add table netdev t"
    script = f"nft '{supported}' 2>/dev/null && echo yes || echo no"
    if in_netns(GUEST2, "sh", "-c", script).strip() == "yes":
        assert attach(plan, None, host_netns=HOST).marking == "nft"
        assert both_ways() == ([], [])
        return
    with pytest.raises(Refused, match=r"cannot mark .* blue/web1: nft says .*nf_tables"):
        attach(plan, None, host_netns=HOST)
    assert link(HOST, PORT) is None


def test_a_host_that_moves_from_ovs_to_the_bridge_and_back(tmp_path: Path) -> None:
    """The marks of what guests are handed come and go with the plane."""
    settle()
    on_ovs = dataclasses.replace(WEB1, plane="ovs")
    with OvsHost("kmk-ovs", tmp_path / "h") as host, LocalSwitch(host.remote) as switch:
        plan = SwitchPlan(
            local_vtep="192.0.2.11", udp_port=4789, datapath_id=1, datapath_type="system"
        )
        switch.prepare(plan)
        assert attach(on_ovs, switch, host_netns=host.netns) == Attached(PORT, "tc")
        assert both_ways(host.netns) == ARRIVING

        with pytest.raises(Refused, match=f"still a port of Open vSwitch.*del-port {PORT}"):
            attach(WEB1, None, host_netns=host.netns)
        host.vsctl("del-port", PORT)
        attach(WEB1, None, host_netns=host.netns)
        assert both_ways(host.netns) == BOTH

        host.run("ip", "link", "add", "br0", "type", "bridge")
        host.run("ip", "link", "set", PORT, "master", "br0")
        attach(on_ovs, switch, host_netns=host.netns)
        assert both_ways(host.netns) == ARRIVING
        assert host.vsctl("get", "interface", PORT, "external_ids:ovs-lwt-marking") == "tc"

        attach(dataclasses.replace(on_ovs, marking="flow"), switch, host_netns=host.netns)
        assert both_ways(host.netns) == ([], [])
        assert host.vsctl("get", "interface", PORT, "external_ids:ovs-lwt-marking") == "flow"
