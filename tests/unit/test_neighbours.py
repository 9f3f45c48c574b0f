"""Neighbour advertisements from the app, for datapaths that cannot make them by themselves."""

from __future__ import annotations

import struct
from ipaddress import IPv6Address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovs_lwt.backends.openflow import encode, framework, neighbours
from ovs_lwt.view import View
from tests.support.overlays import two_tenants, view
from tests.support.solicitations import PORT, frame_of, packet_in, solicitation

FW = framework.current()
XID = 0x1234


def answering(nd_by_flow: bool = False) -> View:
    overlay = two_tenants()
    overlay["tenants"]["red"]["endpoints"]["web2"]["ip"] = ["fd00::11/64"]
    return view(overlay, nd_by_flow=nd_by_flow)


def checksum(source: bytes, target: bytes, payload: bytes) -> int:
    """Of ICMPv6 over its pseudo header (RFC 8200, 8.1); 0 when the checksum inside is right."""
    data = source + target + struct.pack("!I3xB", len(payload), 58) + payload
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def test_the_answer_is_an_advertisement_byte_for_byte() -> None:
    answer = neighbours.answer(answering(), packet_in(solicitation("fd00::11")), XID)
    assert answer is not None
    port, frame = frame_of(answer)
    assert port == PORT
    assert int.from_bytes(answer[4:8], "big") == XID
    me, you = IPv6Address("fd00::11").packed, IPv6Address("fd00::12").packed
    mac = bytes.fromhex("020000000001")
    # Version 6, 32 bytes of ICMPv6, hop limit 255 (RFC 4861, 7.1.2).
    ip = bytes.fromhex("6000000000203aff") + me + you
    # Type 136; solicited and override, no router; the target and its link-layer address.
    body = bytes.fromhex("60000000") + me + b"\x02\x01" + mac
    sum_at = slice(56, 58)
    assert frame == (
        bytes.fromhex("020000000002") + mac + b"\x86\xdd" + ip + b"\x88\0" + frame[sum_at] + body
    )
    assert checksum(me, you, frame[54:]) == 0

    packet = FW.packet.Packet(frame)
    advertisement: Any = packet.get_protocol(FW.icmpv6.icmpv6)
    assert advertisement.type_ == FW.icmpv6.ND_NEIGHBOR_ADVERT
    assert advertisement.data.dst == "fd00::11"
    assert advertisement.data.res == 0b011
    assert advertisement.data.option.hw_src == "02:00:00:00:00:01"


def test_the_tenant_decides_whose_mac_it_is() -> None:
    """Both tenants have fd00::11, each on an endpoint of its own."""
    answer = neighbours.answer(answering(), packet_in(solicitation("fd00::11"), 2020), XID)
    assert answer is not None
    assert frame_of(answer)[1][6:12] == bytes.fromhex("020000000002")


def test_link_local_addresses_are_answered_too() -> None:
    answer = neighbours.answer(answering(), packet_in(solicitation("fe80::ff:fe00:1")), XID)
    assert answer is not None
    assert frame_of(answer)[1][6:12] == bytes.fromhex("020000000001")


@pytest.mark.parametrize(
    ("target", "vni"),
    [("fd00::99", 1010), ("fd00::11", 4040), ("fd00::11", None), ("fe80::ff:fe00:2", 1010)],
    ids=["unknown address", "unknown tenant", "no tenant", "an endpoint without IPv6"],
)
def test_what_is_not_known_is_not_answered(target: str, vni: int | None) -> None:
    assert neighbours.answer(answering(), packet_in(solicitation(target), vni), XID) is None


def test_other_packets_are_not_answered() -> None:
    ask = solicitation("fd00::11")
    advertisement = ask[:54] + b"\x88" + ask[55:]
    arp = ask[:12] + b"\x08\x06" + bytes(28)
    for frame in (advertisement, arp, b"", ask[:14], ask[:40], ask[:54], ask[:58], ask[:70]):
        assert neighbours.answer(answering(), packet_in(frame), XID) is None


def test_a_frame_that_the_framework_cannot_read_is_not_answered() -> None:
    """An unknown routing header makes os-ken and Ryu raise TypeError."""
    ask = solicitation("fd00::11")
    routed = ask[:20] + b"\x2b" + ask[21:54] + bytes.fromhex("3a00ff0000000000") + ask[54:]
    assert neighbours.answer(answering(), packet_in(routed), XID) is None


def test_a_solicitation_behind_an_option_header_gets_a_plain_answer() -> None:
    ask = solicitation("fd00::11")
    option = bytes.fromhex("3a00010400000000")
    optional = ask[:18] + b"\0\x28" + b"\0" + ask[21:54] + option + ask[54:]
    answer = neighbours.answer(answering(), packet_in(optional), XID)
    assert answer is not None
    frame = frame_of(answer)[1]
    assert frame[20] == 58
    assert checksum(frame[22:38], frame[38:54], frame[54:]) == 0


def test_a_solicitation_in_vlan_0_gets_an_answer_without_a_tag() -> None:
    frame = solicitation("fd00::11")
    tagged = frame[:12] + bytes.fromhex("8100e000") + frame[12:]
    answers = [neighbours.answer(answering(), packet_in(asked), XID) for asked in (frame, tagged)]
    assert answers[0] is not None
    assert answers[0] == answers[1]


@given(st.data())
def test_no_frame_of_a_guest_breaks_it(data: st.DataObject) -> None:
    """Guests write these frames: whatever stands in them, the worst is no answer."""
    frame = bytearray(solicitation("fd00::11"))
    # Where protocols, types and lengths stand, rather than anywhere.
    telling = st.sampled_from((12, 13, 20, 20, 54, 55, 78, 79, *range(54, 70)))
    headers = st.sampled_from((0, 43, 44, 50, 51, 58, 60, 135, 136, 255))
    for _ in range(data.draw(st.integers(1, 4))):
        frame[data.draw(telling)] = data.draw(headers | st.integers(0, 255))
    end = data.draw(st.integers(0, len(frame)))
    neighbours.answer(answering_once, packet_in(bytes(frame[:end])), XID)


answering_once = answering()


def test_a_new_view_answers_anew() -> None:
    overlay = two_tenants()
    overlay["tenants"]["blue"]["endpoints"]["web1"]["mac"] = "02:00:00:00:00:77"
    for mac, of in (("01", two_tenants()), ("77", overlay)):
        answer = neighbours.answer(view(of), packet_in(solicitation("fd00::11")), XID)
        assert answer is not None
        assert frame_of(answer)[1][6:12] == bytes.fromhex("0200000000" + mac)


def test_the_packet_in_reads_as_the_framework_reads_it() -> None:
    read = encode.decoded(packet_in(solicitation("fd00::11")))
    assert read.match["in_port"] == PORT
    assert read.match["metadata"] == 1010
    assert bytes(read.data) == solicitation("fd00::11")
