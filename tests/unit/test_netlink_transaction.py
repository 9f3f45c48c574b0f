"""From installed to desired: what is sent, what is left alone, and that it leads there."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovs_lwt.backends.netlink import wire
from ovs_lwt.backends.netlink.kinds import FDB, NEIGHBOUR, ROUTE, RULE
from ovs_lwt.backends.netlink.program import Program, Rows, stamp
from ovs_lwt.backends.netlink.templates import Devices
from ovs_lwt.backends.netlink.transaction import Transaction, between
from ovs_lwt.mistakes import Refused
from ovs_lwt.stencil import Column

HOST = Devices.of({"vxlan0": 7, "br0": 8, "a1": 9})
NOTHING = stamp([], HOST)
MAC = 0x020000000000


def u32(*numbers: int) -> Column:
    return np.array(numbers, np.uint32)


def fdb(*endpoints: tuple[int, int, int]) -> Rows:
    """(VNI, MAC's last byte, VTEP's last byte)"""
    vni, mac, vtep = np.array(endpoints).reshape(-1, 3).T
    columns: dict[str, Column] = {
        "vni": vni.astype(np.uint32),
        "mac": (MAC + mac).astype(np.uint64),
        "vtep": (0xC0000200 + vtep).astype(np.uint32),
        "dev": u32(0),
    }
    return Rows("fdb.remote_endpoint", len(endpoints), columns)


def flood(*members: tuple[int, int]) -> Rows:
    vni, vtep = np.array(members).reshape(-1, 2).T
    columns = {"vni": vni, "vtep": 0xC0000200 + vtep, "dev": u32(0)}
    return Rows("fdb.flood", len(members), columns)


def routes(*prefixes: tuple[int, int, int]) -> Rows:
    """(table, prefix's third byte, VTEP's last byte)"""
    table, prefix, vtep = np.array(prefixes).reshape(-1, 3).T
    columns = {
        "table": table,
        "prefix": 0x14000000 + prefix * 256,
        "length": np.array([24], np.uint8),
        "vni": table,
        "local": u32(0xC0000200),
        "vtep": 0xC0000200 + vtep,
        "dev": u32(0),
    }
    return Rows("route.remote_prefix", len(prefixes), columns)


def rules(*tenants: tuple[int, int]) -> Rows:
    vni, table = np.array(tenants).reshape(-1, 2).T
    columns = {"vni": vni, "table": table, "preference": 100 + vni}
    return Rows("rule.tunnel", len(tenants), columns)


def neighbours(*addresses: int) -> Rows:
    ip = np.array(addresses)
    columns = {"ip": 0x0A000000 + ip, "mac": (MAC + ip).astype(np.uint64), "dev": u32(1)}
    return Rows("neighbour.permanent", len(addresses), columns)


def vlans(*tenants: tuple[int, int]) -> list[Rows]:
    """(VLAN, VNI)"""
    vlan, vni = np.array(tenants).reshape(-1, 2).T
    columns: dict[str, Column] = {"vlan": vlan, "vni": vni, "dev": u32(0)}
    return [Rows(name, len(tenants), columns) for name in ("vlan.tunnel", "vlan.vni")]


def program(*relations: Rows) -> Program:
    return stamp(relations, HOST)


def said(transaction: Transaction) -> list[str]:
    return [step.describe(row) for step in transaction.steps for row in range(len(step.rows))]


def test_a_cold_start_writes_everything() -> None:
    found = between([], program(fdb((1010, 1, 1), (1010, 2, 1)), flood((1010, 1))))
    assert str(found.counts) == "3 written, 0 deleted, 0 as they were"
    assert found.counts.changes == len(found) == 3


def test_a_restart_sends_nothing() -> None:
    there = program(fdb((1010, 1, 1)), flood((1010, 1)), routes((10, 1, 1)), rules((10, 10)))
    found = between(there.entries, program(*(stamped.rows for stamped in there.stamped)))
    assert (found.steps, found.counts.unchanged, len(found)) == ([], 4, 0)


def test_an_endpoint_that_moves_is_replaced_and_nothing_else_is_sent() -> None:
    before = program(fdb((1010, 1, 1), (1010, 2, 1), (1020, 1, 1)))
    found = between(before.entries, program(fdb((1010, 1, 1), (1010, 2, 2), (1020, 1, 1))))
    assert said(found) == [
        "fdb replace 02:00:00:00:00:02 dev vxlan0 dst 192.0.2.2 src_vni 1010 self permanent"
    ]


def test_a_vtep_that_leaves_a_flood_list_takes_only_itself_along() -> None:
    before = program(flood((1010, 1), (1010, 2), (1020, 1)))
    found = between(before.entries, program(flood((1010, 2), (1020, 1), (1020, 3))))
    assert said(found) == [
        "fdb append 00:00:00:00:00:00 dev vxlan0 dst 192.0.2.3 src_vni 1020 self permanent",
        "fdb del 00:00:00:00:00:00 dev vxlan0 dst 192.0.2.1 src_vni 1010 self",
    ]


def test_a_rule_that_changes_is_another_rule() -> None:
    found = between(program(rules((10, 10))).entries, program(rules((10, 11))))
    assert said(found) == [
        "rule add priority 110 tun_id 10 lookup 11 protocol 76",
        "rule del priority 110 tun_id 10 lookup 10",
    ]


def test_deletes_come_last_and_in_the_reverse_order() -> None:
    before = program(fdb((1010, 1, 1)), neighbours(1), routes((10, 1, 1)), rules((10, 10)))
    after = program(fdb((1010, 2, 1)), neighbours(2), routes((10, 2, 1)), rules((20, 20)))
    assert [line.split()[:2] for line in said(between(before.entries, after))] == [
        ["fdb", "replace"],
        ["neigh", "replace"],
        ["route", "replace"],
        ["rule", "add"],
        ["rule", "del"],
        ["route", "del"],
        ["neigh", "del"],
        ["fdb", "del"],
    ]


def test_every_kind_is_deleted_in_words_that_name_it() -> None:
    there = program(
        Rows("vni.member", 1, {"vni": u32(1010), "dev": u32(0)}),
        *vlans((10, 1010)),
        Rows(
            "fdb.bridge_endpoint",
            1,
            {"mac": np.array([MAC], np.uint64), "vlan": u32(10), "dev": u32(0)},
        ),
        neighbours(1),
        routes((10, 1, 1)),
        rules((10, 10)),
    )
    assert said(between(there.entries, NOTHING)) == [
        "vlan del dev vxlan0 vid 10 tunnel_info id 1010",
        "fdb del 02:00:00:00:00:00 dev vxlan0 vlan 10 master",
        "rule del priority 110 tun_id 10 lookup 10",
        "route del 20.0.1.0/24 table 10 via 192.0.2.1 dev vxlan0",
        "neigh del 10.0.0.1 dev br0",
        "vlan del dev vxlan0 vid 10",
        "vni delete vni 1010 dev vxlan0",
    ]


def test_what_the_kernel_would_not_replace_is_deleted_first() -> None:
    """It takes neither a VLAN's second VNI nor a VNI's second VLAN: here two change places."""
    before, after = program(*vlans((10, 1), (20, 2), (30, 3))), program(*vlans((10, 2), (20, 1)))
    assert said(between(before.entries, after)) == [
        "vlan del dev vxlan0 vid 30 tunnel_info id 3",
        "vlan del dev vxlan0 vid 10 tunnel_info id 1",
        "vlan del dev vxlan0 vid 20 tunnel_info id 2",
        "vlan add dev vxlan0 vid 10 tunnel_info id 2",
        "vlan add dev vxlan0 vid 20 tunnel_info id 1",
        "vlan del dev vxlan0 vid 30",
    ]


def with_protocol(there: Program, protocol: int) -> list[wire.Listed]:
    """The same neighbours, another's."""
    (listed,) = there.entries
    rows = listed.block.rows.copy()
    rows[:, listed.shape[12].stop - 1] = protocol
    return list(wire.entries(NEIGHBOUR, rows))


def test_what_is_not_ours_is_left_alone() -> None:
    installed = with_protocol(program(neighbours(1, 2)), 11)
    assert said(between(installed, NOTHING)) == []


def test_what_stands_in_the_place_of_ours_is_replaced() -> None:
    installed = with_protocol(program(neighbours(1, 2)), 11)
    assert said(between(installed, program(neighbours(2)))) == [
        "neigh replace 10.0.0.2 lladdr 02:00:00:00:00:02 dev br0 nud permanent proto 76"
    ]


def test_an_entry_of_another_shape_is_replaced_too() -> None:
    """A route to the same prefix that does not encapsulate."""
    bare = Rows(
        "route.local_prefix",
        1,
        {"table": u32(10), "prefix": u32(0x14000100), "length": u32(24), "dev": u32(2)},
    )
    found = between(program(bare).entries, program(routes((10, 1, 1))))
    assert [line.split()[1] for line in said(found)] == ["replace"]


def test_routes_of_one_prefix_and_several_next_hops_are_cleared_first() -> None:
    """Somebody appended: which of them a replacing would meet is the kernel's choice."""
    one, other = program(routes((10, 1, 1), (10, 2, 1))), program(routes((10, 1, 2)))
    found = between([*one.entries, *other.entries], one)
    assert [line.split()[1:6:4] for line in said(found)] == [
        ["del", "via"],
        ["del", "via"],
        ["replace", "encap"],
    ]
    assert str(found.counts) == "1 written, 2 deleted, 1 as they were"


def test_two_rows_about_one_entry_are_named() -> None:
    with pytest.raises(Refused, match=r"two rows are about one entry: 'fdb .*' and 'fdb .*'"):
        between([], program(fdb((1010, 1, 1)), fdb((1010, 2, 1), (1010, 1, 2))))


def applied(kernel: Mapping[bytes, bytes], transaction: Transaction) -> dict[bytes, bytes]:
    """A kernel that does what it is told: key -> what it would list."""
    after = dict(kernel)
    kinds = {kind.new: kind for kind in (FDB, ROUTE, RULE)}
    kinds |= {kind.delete: kind for kind in (FDB, ROUTE, RULE)}
    for step in transaction.steps:
        for row in step.rows:
            number = int(wire.numbers(row[None], wire.TYPE)[0])
            listed = wire.sent(kinds[number], row[None])
            key, body = key_of(listed, 0)
            if number == listed.kind.new:
                after[key] = body
            else:
                del after[key]
    return after


def key_of(listed: wire.Listed, row: int) -> tuple[bytes, bytes]:
    octets = listed.block.rows[row]
    key = listed.kind.name.encode() + b"".join(octets[part].tobytes() for part in listed.block.key)
    return key, octets[16:].tobytes()


def held(there: Program) -> dict[bytes, bytes]:
    return dict(key_of(listed, row) for listed in there.entries for row in range(len(listed)))


small = st.integers(1, 4)
tenants = st.builds(
    lambda found, paths, members: program(
        fdb(*((*key, vtep) for key, vtep in found.items())),
        routes(*((*key, vtep) for key, vtep in paths.items())),
        rules(*members.items()),
    ),
    st.dictionaries(st.tuples(small, small), small),
    st.dictionaries(st.tuples(small, small), small),
    st.dictionaries(small, small),
)


@given(tenants, tenants)
def test_any_program_leads_to_any_other(before: Program, after: Program) -> None:
    kernel = applied({}, between([], before))
    assert kernel == held(before)
    found = between(before.entries, after)
    assert applied(kernel, found) == held(after)
    assert len(between(after.entries, after)) == 0
    # Only what differs is sent.
    there, wanted = held(before), held(after)
    differing = sum(wanted[key] != there.get(key) for key in wanted)
    assert len(found) == differing + len(there.keys() - wanted.keys())
