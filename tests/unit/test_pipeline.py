"""The pipeline that ships: its tables, its cookies, and how its flows are written."""

from __future__ import annotations

import re

import numpy as np
import pytest

from ovs_lwt.backends.openflow import encode, framework
from ovs_lwt.backends.openflow.pipeline import (
    COOKIE_OURS,
    COOKIE_OURS_MASK,
    COOKIE_VNI_MASK,
    pipeline,
)
from ovs_lwt.backends.openflow.slots import KINDS

FLOWS = pipeline().flows
VALUES = dict.fromkeys(KINDS, 90)


def test_the_tables_stand_in_the_order_of_the_packet() -> None:
    numbers = {name: number for number, name in pipeline().tables}
    assert [name for _, name in pipeline().tables] == [
        *("classify", "peer", "security", "respond", "advertise", "forward", "bum"),
        *("replicate", "copy"),
    ]
    assert numbers["classify"] == 0, "packets begin at table 0"
    assert set(range(10)) - set(numbers.values()) == {5}, "left free for route"


def test_every_table_ends_with_a_flow_for_the_rest() -> None:
    """Nothing is dropped without a flow that counts it, save by the tenants' own tables."""
    catches = {flow.table for flow in FLOWS.values() if "priority=0 " in flow.text}
    numbers = {name: number for number, name in pipeline().tables}
    last = ("peer", "security", "respond", "forward", "copy")
    assert catches == {numbers[name] for name in last}


@pytest.mark.parametrize("flow", FLOWS.values(), ids=FLOWS)
def test_gotos_lead_ahead(flow: object) -> None:
    text = str(getattr(flow, "text", ""))
    numbers = {number for number, _ in pipeline().tables}
    (here,) = (int(number) for number in re.findall(r"^table=(\d+) ", text))
    for number in re.findall(r"goto_table:(\d+)", text):
        assert int(number) in numbers
        assert int(number) > here


def test_every_flow_and_group_is_compiled_with_all_of_its_slots() -> None:
    for flow in FLOWS.values():
        assert set(flow.message.slots) == {*flow.entry.slots, "cookie", "xid"}
        assert len(flow.message.slots["xid"][1]) == 2, "outside and inside of the bundle message"
    for group in pipeline().groups.values():
        # A group's own number is in its head.
        assert {*group.message.slots, group.entry.slots[0]} == set(group.entry.slots)


def test_a_stencil_holds_the_very_message_that_the_library_encodes() -> None:
    for flow in FLOWS.values():
        values = {name: VALUES[name] for name in flow.entry.slots}
        columns = {name: np.array([value], np.uint64) for name, value in values.items()}
        for name in values:
            if KINDS[name].width == 16:
                columns[name] = np.array([[0] * 15 + [0x5A]], np.uint8)
        columns |= {"cookie": np.array([7], np.uint64), "xid": np.array([9], np.uint32)}
        stamped = flow.message.stamp(1, columns)[0].tobytes()
        assert stamped == encode.in_bundle(encode.flow_add(flow.line(values), 7), 1, 9)


def test_cookies_say_what_a_flow_is_for_and_whose() -> None:
    bases = [flow.cookie for flow in FLOWS.values()]
    assert len(set(bases)) == len(bases)
    assert {base & COOKIE_OURS_MASK for base in bases} == {COOKIE_OURS}
    assert all(base & COOKIE_VNI_MASK == 0 for base in bases)
    remote = FLOWS["forward.remote_endpoint"]
    vnis = np.array([1010, 0xFFFFFF], np.uint32)
    assert remote.cookies({"vni": vnis}).tolist() == [
        remote.cookie | 1010,
        remote.cookie | 0xFFFFFF,
    ]
    drop = FLOWS["peer.unknown_vtep"]
    assert drop.cookies({}).tolist() == [drop.cookie]
    assert remote.cookie >> 40 & 0xFF == remote.table
    assert remote.cookie >> 32 & 0xFF == remote.entry.ordinal


def test_a_flow_is_written_as_ovs_ofctl_takes_it() -> None:
    flow = FLOWS["forward.remote_endpoint6"]
    values = {"vni": 1010, "mac": 0x0200000000FF, "vtep6": 0x20010DB8 << 96 | 0x12, "tunnel": 100}
    assert flow.line(values | {"cookie": 0x4C57 << 48}) == (
        "cookie=0x4c57000000000000 table=6 priority=200,metadata=1010,dl_dst=02:00:00:00:00:ff"
        " actions=set_field:2001:db8::12->tun_ipv6_dst,output:100"
    )


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_one_value_is_written_like_a_column_of_them(kind: object) -> None:
    slot = next(known for known in KINDS.values() if known is kind)
    most = (1 << 8 * slot.width) - 1
    numbers = [1, 0x20010DB8_0A00000B_00010000_0A00000B & most, most]
    octets = b"".join(number.to_bytes(slot.width, "big") for number in numbers)
    if slot.width == 16:
        column = np.frombuffer(octets, np.uint8).reshape(-1, 16)
    else:
        column = np.array(numbers, np.uint64)
    assert slot.words(column).to_pylist() == [slot.text(number) for number in numbers]


def test_fields_stand_in_the_order_in_which_open_vswitch_lists_them() -> None:
    """A test on a real switch holds all of `flows/` to that; this one says where to look."""
    flow = FLOWS["security.solicitation"]
    parser = framework.current().ofproto_v1_4_parser
    match = parser.OFPMatch.parser(flow.message.message.tobytes(), 16 + 48)
    assert list(dict(match.items())) == [
        *("in_port", "eth_src", "eth_type", "ipv6_src", "ip_proto"),
        *("icmpv6_type", "icmpv6_code", "ipv6_nd_sll", "metadata"),
    ]


def test_a_register_serves_either_the_checks_of_a_sender_or_the_making_of_copies() -> None:
    """A guest's frame carries what security and respond wrote into registers on to replicate."""
    used: dict[str, set[str]] = {}
    for flow in FLOWS.values():
        for register in re.findall(r"(?i)\breg\d+", flow.text):
            used.setdefault(register.lower(), set()).add(flow.entry.table)
    checks, copies = {"security", "respond", "advertise"}, {"peer", "bum", "replicate", "copy"}
    assert [name for name, tables in used.items() if tables & checks and tables & copies] == []
    assert {name for name, tables in used.items() if tables & copies} == {
        *("reg0", "reg1", "reg4", "reg5")
    }
