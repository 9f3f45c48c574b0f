"""The tree of `ip rule`: what it looks like, how far a packet walks, and how little a change is."""

from __future__ import annotations

import numpy as np
import pytest

from ovs_lwt.backends.netlink.catalogue import TEMPLATES
from ovs_lwt.backends.netlink.program import Program, Rows, stamp
from ovs_lwt.backends.netlink.templates import Devices
from ovs_lwt.backends.netlink.transaction import between
from ovs_lwt.backends.route import tree
from ovs_lwt.mistakes import Refused
from tests.support.rules import NO_TABLE, Packet, RuleList

HOST = Devices.of({"vx-lwt": 7, "blue-web1": 8})
TUNNEL = 0
VTEP, VTEP6 = "192.0.2.11", "2001:db8::11"
MARKS = np.arange(1, 4097, dtype=np.uint32)


def column(address: str) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
    if ":" in address:
        groups = "20010db8" + "0" * 20 + "0011"
        return np.frombuffer(bytes.fromhex(groups), np.uint8).reshape(1, 16)
    return np.array([0xC000020B], np.uint32)


def u32(*numbers: int) -> np.ndarray[tuple[int], np.dtype[np.uint32]]:
    return np.array(numbers, np.uint32)


def rows(marks: np.ndarray[tuple[int], np.dtype[np.uint32]]) -> list[Rows]:
    """Tenants whose tables have the numbers of their marks."""
    return [*tree.head(column(VTEP), ""), *tree.tree(marks, marks)]


def kernel(*relations: Rows) -> RuleList:
    rules = RuleList()
    rules.run(between([], stamp(relations, HOST)))
    return rules


def lines(relations: list[Rows]) -> list[str]:
    """As `ip -batch` reads them, by priority."""
    found = [
        line.removeprefix("rule add priority ").removesuffix(" protocol 76")
        for each in relations
        for line in TEMPLATES[each.template].lines(each.count, each.columns, HOST).to_pylist()
    ]
    return sorted(found, key=lambda line: (int(line.split()[0]), line))


def said(before: Program, after: Program) -> list[str]:
    steps = between(before.entries, after).steps
    return [step.describe(row) for step in steps for row in range(len(step.rows))]


def test_few_tenants_are_one_node() -> None:
    assert lines(rows(u32(10, 20))) == [
        "1100 from 192.0.2.11 iif lo goto 31999",
        "1102 fwmark 0/4294967295 goto 31999",
        "2000 fwmark 10/4294967295 lookup 10",
        "2000 fwmark 20/4294967295 lookup 20",
        "2001 goto 31999",
        "31999 nop",
    ]


def test_where_they_are_more_the_low_bits_lead_on() -> None:
    assert lines(tree.tree(u32(1, 2, 4, 5, 8, 9), u32(11, 12, 14, 15, 18, 19))) == [
        "2000 fwmark 0/3 goto 2002",
        "2000 fwmark 1/3 goto 2004",
        "2000 fwmark 2/4294967295 lookup 12",
        "2001 goto 31999",
        "2002 fwmark 4/4294967295 lookup 14",
        "2002 fwmark 8/4294967295 lookup 18",
        "2003 goto 31999",
        "2004 fwmark 1/4294967295 lookup 11",
        "2004 fwmark 5/4294967295 lookup 15",
        "2004 fwmark 9/4294967295 lookup 19",
        "2005 goto 31999",
    ]


def test_bits_that_all_share_are_not_asked_about() -> None:
    found = lines(tree.tree(u32(*range(0x1000, 0x6001, 0x1000)), u32(*range(1, 7))))
    assert [line for line in found if line.startswith("2000 ")] == [
        "2000 fwmark 12288/4294967295 lookup 3",
        "2000 fwmark 16384/4294967295 lookup 4",
        "2000 fwmark 4096/16383 goto 2004",
        "2000 fwmark 8192/16383 goto 2006",
    ]


@pytest.mark.parametrize(
    "marks",
    [MARKS, MARKS << 8, MARKS * 2654435761, MARKS * 1000 + 7],
    ids=["as-numbered", "in-the-high-bits", "anyhow", "in-thousands"],
)
def test_a_packet_of_one_in_4096_tenants_asks_few_rules(
    marks: np.ndarray[tuple[int], np.dtype[np.uint32]],
) -> None:
    rules = kernel(*rows(marks))
    some = marks[::41].tolist()
    walks = [rules.walk(Packet(mark)) for mark in some]
    assert [table for table, _ in walks] == some
    assert np.mean([asked for _, asked in walks]) < 24
    assert max(asked for _, asked in walks) < 40


def test_a_mark_that_is_nobodys_leaves_the_tree_where_it_is_known() -> None:
    rules = kernel(*rows(MARKS))
    assert rules.walk(Packet(4097))[0] == NO_TABLE
    assert rules.walk(Packet(4097))[1] < 40


def test_a_tenant_that_comes_or_goes_touches_its_own_node() -> None:
    there, gone = (stamp(rows(marks), HOST) for marks in (MARKS, MARKS[:-1]))
    assert said(gone, there) == [
        "rule add priority 2682 fwmark 4096/4294967295 lookup 4096 protocol 76"
    ]
    assert said(there, gone) == ["rule del priority 2682 fwmark 4096 lookup 4096"]


def test_where_a_node_is_full_another_grows_below_it() -> None:
    one_more = np.arange(1, 4098, dtype=np.uint32)
    there, more = (stamp(rows(marks), HOST) for marks in (MARKS, one_more))
    assert said(there, more) == [
        "rule add priority 4732 fwmark 1/4294967295 lookup 1 protocol 76",
        "rule add priority 4732 fwmark 4097/4294967295 lookup 4097 protocol 76",
        "rule add priority 4733 goto 31999 protocol 76",
        "rule add priority 2684 fwmark 1/4095 goto 4732 protocol 76",
        "rule del priority 2684 fwmark 1 lookup 1",
    ]


def test_outer_packets_keep_out_of_the_tree() -> None:
    """They keep the mark of the packet in them, whose tenant may have a route to the VTEP."""
    rules = kernel(*rows(u32(10, 20)))
    assert rules.walk(Packet(10, iif="lo", source=VTEP)) == (NO_TABLE, 2)
    # What the host says to a guest, as that a packet was too large, is the tenant's.
    assert rules.walk(Packet(10, iif="lo", source="169.254.0.1"))[0] == 10


def test_the_hosts_own_traffic_keeps_out_of_the_tree() -> None:
    assert kernel(*rows(MARKS)).walk(Packet(0)) == (NO_TABLE, 3)


@pytest.mark.parametrize(("over", "suffix"), [("", "6"), ("6", ""), ("6", "6")])
def test_outer_packets_are_of_the_underlays_family(over: str, suffix: str) -> None:
    vtep = column(VTEP6 if over else VTEP)
    outer = [line for line in lines(tree.head(vtep, over, suffix)) if "from" in line]
    expected = ["1100 from 2001:db8::11 iif lo goto 31999"] if over == suffix else []
    assert outer == expected


def test_packets_from_the_tunnel_without_marks_are_known_by_their_vni() -> None:
    vnis, marks = u32(1010, 1020), u32(10, 20)
    aside = tree.from_tunnel(vnis, marks, TUNNEL)
    assert lines(aside) == [
        "1101 iif vx-lwt fwmark 0/4294967295 goto 31998",
        "31998 tun_id 1010 lookup 10",
        "31998 tun_id 1020 lookup 20",
    ]
    rules = kernel(*rows(marks), *aside)
    assert rules.walk(Packet(iif="vx-lwt", vni=1020))[0] == 20
    assert rules.walk(Packet(iif="vx-lwt", vni=1030))[0] == NO_TABLE
    assert rules.walk(Packet(iif="blue-web1", vni=1020))[0] == NO_TABLE
    assert rules.walk(Packet(10))[0] == 10


def test_rules_for_ipv6_are_the_same() -> None:
    four, six = (tree.tree(MARKS, MARKS, suffix) for suffix in ("", "6"))
    assert [each.template + "6" for each in four] == [each.template for each in six]
    assert lines(four) == lines(six)


def test_no_tenants_are_no_rules() -> None:
    assert tree.tree(u32(), u32()) == []


def test_two_tenants_of_one_mark_are_refused() -> None:
    with pytest.raises(
        Refused, match=r"two tenants have the mark 10: give each its own \('mark'\)"
    ):
        tree.tree(u32(10, 20, 10), u32(1, 2, 3))


def test_20000_tenants_fit() -> None:
    marks = np.arange(1, 20001, dtype=np.uint32)
    assert sum(each.count for each in tree.tree(marks, marks)) > 20000


def test_more_nodes_than_priorities_are_refused() -> None:
    marks = np.arange(1, 60001, dtype=np.uint32)
    with pytest.raises(Refused, match=r"the marks of 60000 tenants make a tree of \d+ nodes"):
        tree.tree(marks, marks)
