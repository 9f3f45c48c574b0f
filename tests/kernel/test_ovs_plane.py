"""What only plane ovs has, on the kernel datapath: its flows, its counters, the app's answers.

What all planes have is in test_conformance.py.
"""

from __future__ import annotations

import re

import pytest

from ovs_lwt.lab.plan import BRIDGE
from tests.support.conformance_fabric import BLUE_MARK, Fabric
from tests.support.ovs import eventually
from tests.support.roundtrip import OPENFLOW, difference

pytestmark = pytest.mark.parametrize("fabric", ["ovs"], indirect=True, scope="session")


def flow_packets(fabric: Fabric, pattern: str) -> int:
    """How many packets the flows of host1 whose text matches `pattern` have seen; one is there."""
    shown = fabric.run("host1", "ovs-ofctl", *OPENFLOW, "dump-flows", BRIDGE)
    flows = [line for line in shown.splitlines() if re.search(pattern, line)]
    assert flows, f"no flow has {pattern}"
    return sum(int(re.findall(r"n_packets=(\d+)", flow)[0]) for flow in flows)


def appctl(fabric: Fabric, *words: str) -> str:
    return fabric.run("host1", "ovs-appctl", *words)


def test_the_bridge_is_the_kernels_and_holds_what_export_says(fabric: Fabric) -> None:
    assert appctl(fabric, "dpif/show").startswith("system@ovs-system")
    for host in fabric.plan.own_hosts:
        assert difference(fabric.plan.overlay, host) == ""


def test_the_kernel_says_whose_packet_it_is(fabric: Fabric) -> None:
    """Blue's packets are classified by the mark that tc gave them, ARP as well as IP."""
    classified = rf"pkt_mark={BLUE_MARK:#x}\b"
    before = flow_packets(fabric, classified)
    fabric.forget_neighbours("blue/web1")
    assert not fabric.reach("blue/web1", "blue/web2").wrong

    # The kernel's counters reach ovs-vswitchd's every half second.
    assert eventually(lambda: flow_packets(fabric, classified) >= before + 2)
    marks = re.findall(r"skb_mark\((\w+)\)", appctl(fabric, "dpctl/dump-flows", "-m"))
    assert hex(BLUE_MARK) in marks


def test_the_app_answers_solicitations_that_this_datapath_cannot(fabric: Fabric) -> None:
    to_app = r"nd_target=fd00::12 .*actions=CONTROLLER"
    before = flow_packets(fabric, to_app)
    fabric.forget_neighbours("blue/web1")
    assert not fabric.reach("blue/web1", "blue/web2").wrong
    assert eventually(lambda: flow_packets(fabric, to_app) > before)


def test_a_port_claimed_by_hand_is_marked_and_that_is_put_on_record(fabric: Fabric) -> None:
    """As of a tap device: somebody has set the claim, and nobody has said who marks."""
    port = fabric.guests["blue/web1"].port
    record = "external_ids:ovs-lwt-marking"
    by_port = ("ovs-ofctl", "--names", "dump-flows", BRIDGE, f"table=classify,in_port={port}")
    by_hand = f"ovs-vsctl remove interface {port} external_ids ovs-lwt-marking"
    fabric.run("host1", "sh", "-ec", f"tc filter del dev {port} ingress; {by_hand}")

    def marking() -> str:
        return fabric.run("host1", "ovs-vsctl", "--if-exists", "get", "interface", port, record)

    assert eventually(lambda: marking().strip() == "tc", within=20)
    shown = fabric.run("host1", "tc", "filter", "show", "dev", port, "ingress")
    assert f"skbedit  mark {BLUE_MARK} " in shown
    assert eventually(lambda: "in_port" not in fabric.run("host1", *by_port))
    assert not fabric.reach("blue/web1", "blue/web2").wrong


def test_the_datapath_refused_nothing(fabric: Fabric) -> None:
    """Last: what ovs-vswitchd had to say about all of the above, and the conformance suite."""
    # That it called the controller before this one listened, and that this machine is slow.
    expected = r"\|(rconn|timeval|ovs_rcu)\b"
    for host in fabric.plan.own_hosts:
        log = (host.rundir / "ovs-vswitchd.log").read_text(errors="replace")
        warnings = re.findall(r"^.*\|(?:WARN|ERR|EMER)\|.*$", log, re.MULTILINE)
        assert [line for line in warnings if not re.search(expected, line)] == []
