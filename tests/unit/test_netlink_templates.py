"""What numpy stamps is what pyroute2 would have encoded, row by row, for every template."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovs_lwt.backends.netlink.bytecode import Bytecode
from ovs_lwt.backends.netlink.catalogue import TEMPLATES
from ovs_lwt.backends.netlink.kinds import KINDS
from ovs_lwt.backends.netlink.program import Rows, stamp
from ovs_lwt.backends.netlink.slots import Slot
from ovs_lwt.backends.netlink.templates import DEVICES, Devices, Template
from ovs_lwt.mistakes import Refused
from ovs_lwt.stencil import Column

HOST = Devices.of({"vxlan0": 7, "br0": 0x01020304, "a1": 9, "blue-web1": 10, "gone": 0})
TUNNEL, BRIDGE, VETH, GUEST, GONE = range(5)
SLOT = re.compile(r"\{(\w+)\}")
# What fits a label is less than what fits its four bytes, and a prefix has its own bounds.
BOUNDS = {"label": 1 << 20, "length": 33, "vlan": 4095, "vni": 1 << 24}


def column(slot: str, width: int, values: list[int]) -> Column:
    """These numbers as a topology would hold them."""
    if slot in DEVICES:
        return np.array([value % GONE for value in values], np.uint32)
    if width == 16:
        octets = b"".join(value.to_bytes(16, "big") for value in values)
        return np.frombuffer(octets, np.uint8).reshape(-1, 16)
    bound = BOUNDS.get(slot, 1 << 8 * width)
    return np.array([value % bound for value in values], np.uint64 if slot == "mac" else np.uint32)


def encoded(template: Template, columns: dict[str, Column], row: int) -> bytes:
    """The message of one row as the library makes it, sequence number 0."""
    message = template.kind.message()
    message["header"] = {"type": template.kind.new, "flags": 1 | template.kind.add}
    message["header"] |= {"sequence_number": 0, "pid": 0}
    octets = {}
    for slot in template.slots:
        chosen = columns[slot.name][[row]]
        if slot.name == "iif":
            octets[slot.name] = HOST.names[int(chosen[0])].encode()
        elif slot.name in DEVICES:
            octets[slot.name] = slot.octets(HOST.index[chosen]).tobytes()
        else:
            octets[slot.name] = slot.octets(chosen).tobytes()
    everywhere = "length" in columns and columns["length"][row] == 0

    def filled(value: object) -> object:
        match value:
            case tuple():
                return {"attrs": [(name, filled(inner)) for name, inner in value]}
            case Mapping():
                return {name: filled(inner) for name, inner in value.items()}
            case Bytecode():
                return value.octets(octets)
            case Slot():
                return value.decoded(octets[value.name])
        return value

    for field, value in template.header.items():
        message[field] = filled(value)
    message["attrs"] = [
        (name, filled(value))
        for name, value in template.attributes
        if not (everywhere and name == "RTA_DST")
    ]
    message.encode()
    return bytes(message.data)


@pytest.mark.parametrize("name", TEMPLATES)
@settings(max_examples=20)
@given(numbers=st.lists(st.integers(0, (1 << 128) - 1), min_size=1, max_size=5))
def test_every_row_is_what_the_library_encodes(name: str, numbers: list[int]) -> None:
    template = TEMPLATES[name]
    columns = {slot.name: column(slot.name, slot.width, numbers) for slot in template.slots}
    found: dict[int, bytes] = {}
    for which, messages in template.stamp(len(numbers), columns, HOST):
        messages = messages.copy()
        messages[:, 8:12] = 0  # the sequence number is the transport's
        found |= dict(zip(which.tolist(), map(bytes, messages), strict=True))
    assert found == {row: encoded(template, columns, row) for row in range(len(numbers))}


@pytest.mark.parametrize("name", TEMPLATES)
def test_text_and_message_say_the_same_slots(name: str) -> None:
    template = TEMPLATES[name]
    assert set(SLOT.findall(template.text)) == {slot.name for slot in template.slots}
    assert template.why.endswith(".")


def test_every_kind_has_a_template() -> None:
    assert {template.kind.name for template in TEMPLATES.values()} == {k.name for k in KINDS}


def test_a_default_route_names_no_destination_as_the_kernel_lists_none() -> None:
    columns: dict[str, Column] = {
        "table": np.array([10]),
        "prefix": np.array([0x0A000000, 0], np.uint32),
        "length": np.array([8, 0], np.uint8),
        "vni": np.array([1010]),
        "local": np.array([0x0A010101]),
        "vtep": np.array([0x0A010102]),
        "dev": np.array([TUNNEL]),
    }
    program = stamp([Rows("route.remote_prefix", 2, columns)], HOST)
    widths = {s.line(0).split()[4]: s.entries.block.rows.shape[1] for s in program.stamped}
    assert widths == {"10.0.0.0/8": 124, "0.0.0.0/0": 116}


def test_names_of_different_lengths_make_messages_of_different_lengths() -> None:
    columns: dict[str, Column] = {
        "iif": np.array([VETH, GUEST, BRIDGE, VETH]),
        "mark": np.arange(4),
        "mask": np.array([0xFFFF]),
        "table": np.array([10]),
        "preference": np.array([100]),
    }
    program = stamp([Rows("rule.port_mark", 4, columns)], HOST)
    assert [stamped.which.tolist() for stamped in program.stamped] == [[0, 3], [2], [1]]
    assert program.stamped[2].line(0) == (
        "rule add priority 100 iif blue-web1 fwmark 1/65535 lookup 10 protocol 76"
    )
    assert b"blue-web1\0" in program.stamped[2].entries.block.rows[0].tobytes()


def test_a_device_that_does_not_exist_is_named() -> None:
    columns: dict[str, Column] = {"vni": np.array([1, 2]), "dev": np.array([TUNNEL, GONE])}
    with pytest.raises(Refused, match="there is no device gone: create it first"):
        stamp([Rows("vni.member", 2, columns)], HOST)


def test_one_value_may_serve_all_rows_of_the_text_too() -> None:
    columns: dict[str, Column] = {
        "mac": np.array([0x020000000001, 0x0200000000FF], np.uint64),
        "vtep": np.array([0xC0000201]),
        "vni": np.array([1010]),
        "dev": np.array([TUNNEL]),
    }
    text = TEMPLATES["fdb.remote_endpoint"].lines(2, columns, HOST).to_pylist()
    assert text == [
        f"fdb replace 02:00:00:00:00:{last} dev vxlan0 dst 192.0.2.1 src_vni 1010 self permanent"
        for last in ("01", "ff")
    ]


def test_no_rows_are_no_messages() -> None:
    columns: dict[str, Column] = {"vni": np.empty(0, np.uint32), "dev": np.array([TUNNEL])}
    assert stamp([Rows("vni.member", 0, columns)], HOST).stamped == ()
