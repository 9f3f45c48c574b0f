"""Tenants that carry VLAN tags inside (`vlan_tagged: carry`), beside one that does not."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from ovs_lwt.lab.processes import run
from tests.support.overlay_lab import OverlayLab, laboratory
from tests.support.packets import (
    BROADCAST,
    ETH_SERVICE_VLAN,
    arp,
    ethernet,
    ip,
    read_advertisement,
    read_arp,
    solicitation,
    token,
    vlan_tagged,
)
from tests.support.wires import Wires
from tests.switch.test_security import OWN, SPOOFED, Frame


def _guest(number: int, host: str, **more: Any) -> dict[str, Any]:
    addresses = [f"10.0.0.{number}/24", f"fd00::{number:x}/64"]
    return {"host": host, "mac": f"02:00:00:00:00:{number:02x}", "ip": addresses, **more}


GUESTS = {
    "a": _guest(11, "host1"),
    "b": _guest(12, "host2"),
    "c": _guest(13, "host1"),
    "free": _guest(14, "host2", spoofing="allow"),
}
OVERLAY: dict[str, Any] = {
    "vteps": {"host1": {"address": "192.0.2.11"}, "host2": {"address": "192.0.2.12"}},
    "tenants": {
        "blue": {"vni": 1010, "mark": 10, "vlan_tagged": "carry", "endpoints": GUESTS},
        "red": {"vni": 2020, "endpoints": copy.deepcopy(GUESTS)},
    },
}

Tag = Callable[[bytes], bytes]
TAGS: dict[str, Tag] = {
    "a tag": vlan_tagged,
    "VLAN 0, a priority": lambda frame: vlan_tagged(frame, vlan=0xE000),
    "a service tag": lambda frame: vlan_tagged(frame, ethertype=ETH_SERVICE_VLAN),
    "two tags": lambda frame: vlan_tagged(vlan_tagged(frame, vlan=8), 9, ETH_SERVICE_VLAN),
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OverlayLab]:
    with laboratory(copy.deepcopy(OVERLAY), tmp_path_factory.mktemp("tags")) as lab:
        yield lab


@pytest.fixture
def wires(lab: OverlayLab) -> Iterator[Wires]:
    with lab.listening() as wires:
        yield wires


@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize("tenant", ["blue", "red"])
def test_a_tagged_broadcast_is_heard_where_the_tenant_carries_it(
    lab: OverlayLab, wires: Wires, tenant: str, tag: str
) -> None:
    mark, sender = token(), f"{tenant}/a"
    frame = TAGS[tag](ethernet(lab.mac(sender), BROADCAST, mark))
    wires.say(sender, frame)
    assert wires.heard(mark) == (lab.peers(sender) if tenant == "blue" else {})
    # As it was; the outer tag of what a guest hears its kernel takes off.
    assert all(packet.inner == frame for packet in wires.on_underlay(mark))
    for guest in wires.heard(mark):
        assert wires.copies(guest, mark) == [frame[:12] + frame[16:]]


@pytest.mark.parametrize("owner", ["b", "c"])
def test_a_tagged_frame_to_one_reaches_it_alone(lab: OverlayLab, wires: Wires, owner: str) -> None:
    mark = token()
    wires.say("blue/a", vlan_tagged(ethernet(lab.mac("blue/a"), lab.mac(f"blue/{owner}"), mark)))
    assert wires.heard(mark) == {f"blue/{owner}": 1}


@pytest.mark.parametrize("tag", TAGS)
def test_a_tag_does_not_hide_a_false_mac(lab: OverlayLab, wires: Wires, tag: str) -> None:
    for guest, heard in (("blue/a", {}), ("blue/free", lab.peers("blue/free"))):
        mark = token()
        wires.say(guest, TAGS[tag](ethernet(lab.mac("blue/c"), BROADCAST, mark)))
        assert wires.heard(mark) == heard


def test_vlan_0_hides_nothing_for_it_is_no_vlan(lab: OverlayLab, wires: Wires) -> None:
    """Whoever receives such a frame takes it for one without a tag, however often there is one."""
    mac, (_, v4), (_, v6) = lab.mac("blue/a"), lab.at("blue/a"), lab.at("blue/a", 6)

    def said(frames: Mapping[str, Frame], tag: Tag) -> dict[str, dict[str, int]]:
        tokens = {name: token() for name in frames}
        for name, mark in tokens.items():
            wires.send("blue/a", tag(frames[name](mac, v4, v6, mark)))
        wires.settle("blue/a")
        return {name: wires.heard(mark) for name, mark in tokens.items()}

    def priority(frame: bytes) -> bytes:
        return vlan_tagged(frame, vlan=0xE000)

    def twice(frame: bytes) -> bytes:
        return vlan_tagged(priority(frame), vlan=0, ethertype=ETH_SERVICE_VLAN)

    for tag in (priority, twice):
        assert not [lie for lie, heard in said(SPOOFED, tag).items() if heard]
    assert said(OWN, priority) == dict.fromkeys(OWN, lab.peers("blue/a"))


def test_a_question_in_vlan_0_is_answered_in_it(lab: OverlayLab, wires: Wires) -> None:
    mark = token()
    (mac, v4), (_, v6) = lab.at("blue/a"), lab.at("blue/a", 6)
    asked = lab.at("blue/c"), lab.at("blue/c", 6)
    wires.say("blue/a", vlan_tagged(arp(mac, (mac, v4), asked[0][1], b"") + mark, vlan=0))
    wires.say("blue/a", vlan_tagged(solicitation((mac, v6), asked[1][1], b"") + mark, vlan=0))
    assert wires.heard(mark) == {"blue/a": 2}
    said, advertised = wires.copies("blue/a", mark)
    answer, advertisement = read_arp(said), read_advertisement(advertised)
    assert answer is not None
    assert answer.sender == asked[0]
    assert advertisement is not None
    assert (advertisement.about, advertisement.link_layer) == (asked[1][1], asked[1][0])


@pytest.mark.parametrize("sender", ["blue/a", "blue/free"])
def test_nobody_answers_what_is_asked_behind_a_tag(
    lab: OverlayLab, wires: Wires, sender: str
) -> None:
    """It is another network: the same address may be somebody else's there."""
    mac, mark = lab.mac(sender), token()
    asked = lab.at("blue/c")[1], lab.at("blue/c", 6)[1]
    wires.say(sender, vlan_tagged(arp(mac, lab.at(sender), asked[0], b"") + mark))
    wires.say(sender, vlan_tagged(solicitation(lab.at(sender, 6), asked[1], b"") + mark))
    assert wires.heard(mark) == dict.fromkeys(lab.peers(sender), 2)


def test_addresses_behind_a_tag_are_the_guests_affair(lab: OverlayLab, wires: Wires) -> None:
    mark = token()
    wires.say(
        "blue/a",
        vlan_tagged(ip((lab.mac("blue/a"), "10.9.9.9"), (BROADCAST, "10.9.9.255"), mark)),
    )
    assert wires.heard(mark) == lab.peers("blue/a")


@pytest.mark.parametrize("sender", ["blue/a", "blue/free"])
def test_a_link_keeps_its_own_frames_behind_a_tag_too(
    lab: OverlayLab, wires: Wires, sender: str
) -> None:
    mark = token()
    wires.say(sender, vlan_tagged(ethernet(lab.mac(sender), "01:80:c2:00:00:00", mark, 0x0026)))
    assert wires.heard(mark) == {}


def test_a_mark_on_the_underlays_packets_says_nothing_of_a_tagged_frame(lab: OverlayLab) -> None:
    """Red's VNI and blue's mark: it is red's, which carries no tags."""
    frame = "dl_vlan=7,dl_src=02:00:00:00:00:0c,dl_dst=ff:ff:ff:ff:ff:ff"
    tunnel = "in_port=vx-lwt,tun_src=192.0.2.12,tun_dst=192.0.2.11"
    assert not lab.trace("host1", f"{tunnel},tun_id=2020,pkt_mark=10,{frame}").copies
    assert len(lab.trace("host1", f"{tunnel},tun_id=1010,pkt_mark=10,{frame}").copies) == 2


def test_a_guest_whose_veth_the_kernel_marks_is_known_by_its_mark(lab: OverlayLab) -> None:
    frame = "dl_vlan=7,dl_src=02:00:00:00:00:0b,dl_dst=ff:ff:ff:ff:ff:ff"
    found = lab.trace("host1", f"in_port=LOCAL,pkt_mark=10,{frame}")
    assert int(found.final["metadata"], 0) == 1010
    found = lab.trace("host1", f"in_port=LOCAL,pkt_mark=2020,{frame}")
    assert "metadata" not in found.final


def test_the_largest_packet_of_a_guest_crosses_the_underlay_whole_with_a_tag(
    lab: OverlayLab, wires: Wires
) -> None:
    """A guest's interface for a VLAN takes over the MTU of its own: the tag must fit beside."""
    there = ["ip", "netns", "exec", lab.guests["blue/a"].namespace]
    mtu = int(run([*there, "cat", "/sys/class/net/eth0/mtu"]))
    assert mtu == 1500 - 50 - 4
    mark = token()
    payload = bytes(mtu - len(mark)) + mark
    frame = vlan_tagged(ethernet(lab.mac("blue/a"), lab.mac("blue/b"), b"")[:14] + payload)
    wires.say("blue/a", frame)
    assert wires.heard(mark) == {"blue/b": 1}
    [packet] = wires.on_underlay(mark)
    assert (packet.inner, packet.length, packet.fragment) == (frame, 1500, False)


def test_tags_come_and_go_with_the_overlay(lab: OverlayLab) -> None:
    """After each change the switches hold what export says."""

    def heard(tenant: str) -> dict[str, int]:
        with lab.listening() as wires:
            mark = token()
            wires.say(f"{tenant}/a", vlan_tagged(ethernet(lab.mac("blue/a"), BROADCAST, mark)))
            return wires.heard(mark)

    try:
        lab.change(lambda overlay: overlay["tenants"]["red"].update(vlan_tagged="carry"))
        lab.change(lambda overlay: overlay["tenants"]["blue"].update(vlan_tagged="drop"))
        assert (heard("blue"), heard("red")) == ({}, lab.peers("red/a"))
    finally:
        lab.restore(copy.deepcopy(OVERLAY))
    assert (heard("blue"), heard("red")) == (lab.peers("blue/a"), {})
