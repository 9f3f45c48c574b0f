"""Which frames of a guest's are announcements: the program that tc runs, run here."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest

from ovs_lwt.backends.netlink.bytecode import assemble, equals, has, load
from ovs_lwt.backends.netlink.catalogue import TEMPLATES
from tests.support.packets import (
    EXPERIMENT,
    REPLY,
    advertisement,
    arp,
    behind_extension,
    ethernet,
    icmpv6,
    ip,
    solicitation,
    token,
)

MAC, OTHER = "02:00:00:00:01:01", "02:00:00:00:01:02"
IP, IP6, LOCAL6 = "10.0.0.1", "fd00::1", "fe80::1"
MARK = token()
REVERSE_REQUEST = 3


def means(frame: bytes, *, held: bool = False, tagged: bool = False) -> bool:
    """Whether the program of a guest's port (MAC, if it is held to that) means this frame."""
    text = TEMPLATES["filter.announcement_held" if held else "filter.announcement"].text
    number = int(MAC.replace(":", ""), 16)
    octets = {"mac_high": number >> 16, "mac_low": number & 0xFFFF}
    return run(text, octets, frame, tagged)


def run(text: str, slots: Mapping[str, int], frame: bytes, tagged: bool) -> bool:
    """What the kernel's interpreter says (net/core/filter.c)."""
    found = re.search(r'"\d+,(.*?)"', text)
    assert found
    filled = found[1].replace("{", "").replace("}", "")
    for name, value in slots.items():
        filled = filled.replace(name, str(value))
    program = [tuple(map(int, line.split())) for line in filled.split(",")]
    at = taken = kept = 0
    while True:
        code, yes, no, number = program[at]
        at += 1
        match code:
            case 0x30 | 0x28 | 0x20 if number == 0xFFFFF000 + 48:
                taken = int(tagged)
            case 0x30 | 0x28 | 0x20:
                width = {0x30: 1, 0x28: 2, 0x20: 4}[code]
                if number + width > len(frame):
                    return False
                taken = int.from_bytes(frame[number : number + width], "big")
            case 0x07:
                kept = taken
            case 0x54:
                taken &= number
            case 0x15:
                at += yes if taken == number else no
            case 0x1D:
                at += yes if taken == kept else no
            case 0x45:
                at += yes if taken & number else no
            case 0x06:
                return bool(number)
            case _:
                raise AssertionError(f"no such instruction: {code}")


def announcing(sender: str, target: str, *, op: int = 1, to: str = "ff:ff:ff:ff:ff:ff") -> bytes:
    return arp(MAC, (MAC, sender), target, MARK, op=op, to=to)


def solicited(frame: bytes) -> bytes:
    """The advertisement as an answer to somebody."""
    return frame[:58] + bytes([frame[58] | 0x40]) + frame[59:]


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize(
    "frame",
    [
        announcing(IP, IP),
        announcing(IP, IP, op=REPLY),
        announcing("0.0.0.0", IP),
        announcing("0.0.0.0", "10.0.0.9"),
        advertisement((MAC, LOCAL6), IP6, MARK),
        advertisement((MAC, LOCAL6), IP6, MARK, link_layer=None),
        solicitation((MAC, "::"), IP6, MARK, link_layer=None),
        solicitation((MAC, IP6), IP6, MARK, to=("33:33:ff:00:00:01", IP6)),
    ],
    ids=["request", "reply", "probe", "probe2", "NA", "bare-NA", "DAD", "to-itself"],
)
def test_what_is_for_everybody_is_meant(frame: bytes, held: bool) -> None:
    assert means(frame, held=held)
    assert not means(frame, held=held, tagged=True), "its VLAN would be another tenant's"
    for short in range(42 if frame[12:14] == b"\x08\x06" else 78):
        assert not means(frame[:short], held=held), "the kernel does not look at half of it"


@pytest.mark.parametrize(
    "frame",
    [
        announcing(IP, "10.0.0.9"),
        announcing(IP, "10.0.0.9", op=REPLY),
        announcing(IP, IP, op=REVERSE_REQUEST),
        announcing("0.0.0.0", "127.0.0.1"),
        announcing("224.0.0.1", "224.0.0.1"),
        announcing(IP, IP, to=OTHER),
        solicited(advertisement((MAC, LOCAL6), IP6, MARK)),
        solicitation((MAC, LOCAL6), IP6, MARK),
        icmpv6("router-solicitation", (MAC, "::"), MARK),
        icmpv6("listener-report", (MAC, "::"), MARK),
        behind_extension(advertisement((MAC, LOCAL6), IP6, MARK)),
        ip((MAC, IP6), ("33:33:00:00:00:01", "ff02::1"), MARK),
        ethernet(MAC, "ff:ff:ff:ff:ff:ff", MARK),
        ethernet(MAC, "ff:ff:ff:ff:ff:ff", MARK, EXPERIMENT + 1),
    ],
    ids=[
        *("request", "reply", "reverse-request", "probe-of-loopback", "multicast", "to-one"),
        *("NA-to-one", "NS", "RS", "MLD", "NA-behind-extension", "echo", "EXPERIMENT", "other"),
    ],
)
def test_what_the_bridge_floods_or_answers_by_itself_is_not(frame: bytes) -> None:
    """A copy of it would come to the other hosts a second time."""
    assert not means(frame)


def test_a_guest_that_is_held_to_its_mac_announces_with_no_other() -> None:
    for frame in (
        arp(OTHER, (MAC, IP), IP, MARK),
        advertisement((OTHER, LOCAL6), IP6, MARK),
    ):
        assert means(frame)
        assert not means(frame, held=True)


def test_a_program_jumps_to_its_labels() -> None:
    program = assemble(
        [
            *(load(0, 2), equals(7, yes="seven")),
            *(has(8, yes="yes"), equals(0, no="no")),
            *("seven", load(2, 4), has(0xF0, no="no")),
        ]
    )
    for frame, meant in (
        (b"\0\7\0\0\0\x10", True),
        (b"\0\7\0\0\0\x01", False),
        (b"\0\x08", True),
        (b"\0\x01", False),
        (b"\0\0\0\0\0\x10", True),
    ):
        assert run(f"bytecode {program.text}", {}, frame, False) == meant
    assert len(program.octets({})) == 8 * len(program)
