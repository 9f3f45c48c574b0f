"""Plane bridge: what a guest tells everybody about its addresses, and what else must not get out.

Three hosts, two of them bridges; blue is answered for, green is not, red has blue's addresses.
"""

from __future__ import annotations

import contextlib
import shlex
import socket
from collections.abc import Callable, Iterator

import pytest

from ovs_lwt.lab.plan import BRIDGE
from ovs_lwt.netns import entered
from tests.support.conformance_fabric import Fabric, fabric_up
from tests.support.overlays import Overlay
from tests.support.ovs import eventually
from tests.support.packets import (
    REPLY,
    Wire,
    advertisement,
    arp,
    dhcp,
    ethernet,
    read_arp,
    solicitation,
    token,
    vlan_tagged,
)

NOBODYS_MAC, NOBODYS, NOBODYS6 = "02:00:00:00:00:77", "10.0.0.77", "fd00::77"
BLUE_VLAN, RED_VLAN = 10, 2020


def overlay() -> Overlay:
    def guest(host: str, number: int, spoofing: str = "deny") -> dict[str, object]:
        return {
            "host": host,
            "mac": f"02:00:00:00:00:{number}",
            "ip": [f"10.0.0.{number}/24", f"fd00::{number}/64"],
            "spoofing": spoofing,
        }

    return {
        "vteps": {
            "host1": {"address": "192.0.2.11", "plane": "bridge"},
            "host2": {"address": "192.0.2.12", "plane": "bridge"},
            "host3": {"address": "192.0.2.13", "plane": "ovs"},
        },
        "tenants": {
            "blue": {
                "vni": 1010,
                "mark": BLUE_VLAN,
                "endpoints": {
                    "held": guest("host1", 11),
                    "free": guest("host1", 12, "allow"),
                    "far": guest("host2", 13),
                    "switched": guest("host3", 14),
                },
            },
            "green": {
                "vni": 3030,
                "neighbours": "flood",
                "endpoints": {
                    "near": guest("host1", 11),
                    "beside": guest("host1", 12),
                    "far": guest("host2", 13),
                },
            },
            "red": {
                "vni": RED_VLAN,
                "endpoints": {"near": guest("host1", 11), "far": guest("host2", 13)},
            },
        },
    }


@pytest.fixture(scope="module")
def fabric(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fabric]:
    with fabric_up(overlay(), tmp_path_factory.mktemp("announcements")) as fabric:
        yield fabric


@contextlib.contextmanager
def host_hearing(fabric: Fabric) -> Iterator[Wire]:
    """What comes up to host1 itself by its bridge."""
    wire = Wire(fabric.host("host1").namespace, BRIDGE)
    with contextlib.closing(wire):
        yield wire


Speech = Callable[[str, str, str, bytes], bytes]

ANNOUNCEMENTS: dict[str, Speech] = {
    "gratuitous request": lambda mac, ip, _, mark: arp(mac, (mac, ip), ip, mark),
    "gratuitous reply": lambda mac, ip, _, mark: arp(mac, (mac, ip), ip, mark, op=REPLY),
    "probe": lambda mac, _, __, mark: arp(mac, (mac, "0.0.0.0"), NOBODYS, mark),
    "unsolicited advertisement": lambda mac, _, ip6, mark: advertisement((mac, ip6), ip6, mark),
    "duplicate detection": lambda mac, _, __, mark: solicitation(
        (mac, "::"), NOBODYS6, mark, link_layer=None
    ),
}


@pytest.mark.parametrize("what", ANNOUNCEMENTS)
@pytest.mark.parametrize("sender", ["blue/held", "blue/free", "green/near", "red/near"])
def test_an_announcement_is_heard_by_all_others_of_the_tenant_once(
    fabric: Fabric, sender: str, what: str
) -> None:
    mark = token()
    mac, ip, ip6 = fabric.mac(sender), fabric.ip(sender), fabric.ip(sender, 6)
    with host_hearing(fabric) as host:
        fabric.wires.say(sender, ANNOUNCEMENTS[what](mac, ip, ip6, mark))
        assert fabric.wires.heard(mark) == fabric.peers(sender)
        assert not any(mark in frame for frame in host.heard())


@pytest.mark.parametrize("what", ["gratuitous request", "gratuitous reply", "probe"])
def test_an_address_that_the_overlay_has_elsewhere_is_announced_unanswered(
    fabric: Fabric, what: str
) -> None:
    """It moves here: its next owner says so before the overlay does."""
    mark, sender = token(), "blue/free"
    taken = fabric.ip("blue/far")
    if what == "probe":
        frame = arp(fabric.mac(sender), (fabric.mac(sender), "0.0.0.0"), taken, mark)
    else:
        frame = ANNOUNCEMENTS[what](fabric.mac(sender), taken, "", mark)
    fabric.wires.say(sender, frame)
    assert fabric.wires.heard(mark) == fabric.peers(sender)


def test_from_a_false_mac_nobody_hears_it(fabric: Fabric) -> None:
    for what, speech in ANNOUNCEMENTS.items():
        mark = token()
        own = fabric.ip("blue/held"), fabric.ip("blue/held", 6)
        fabric.wires.say("blue/held", speech(NOBODYS_MAC, *own, mark))
        assert fabric.wires.heard(mark) == {}, what


@pytest.mark.parametrize(
    ("sender", "target"), [("blue/held", "blue/far"), ("blue/held", "blue/free")]
)
def test_a_question_about_a_known_address_still_does_not_leave_the_host(
    fabric: Fabric, sender: str, target: str
) -> None:
    mark = token()
    fabric.wires.say(sender, arp(fabric.mac(sender), fabric.at(sender), fabric.ip(target), mark))
    assert not fabric.wires.on_underlay(mark)
    answers = [read_arp(frame) for frame in fabric.wires.all_heard(sender)]
    assert fabric.at(target) in [answer.sender for answer in answers if answer and answer.op == 2]


def test_where_neighbours_flood_a_question_is_heard_by_all(fabric: Fabric) -> None:
    for target in ("green/far", "green/beside"):
        mark, sender = token(), "green/near"
        frame = arp(fabric.mac(sender), fabric.at(sender), fabric.ip(target), mark)
        fabric.wires.say(sender, frame)
        assert fabric.wires.heard(mark) == fabric.peers(sender)
        there = fabric.ip(target, 6)
        mark = token()
        fabric.wires.say(sender, solicitation(fabric.at(sender, 6), there, mark))
        assert fabric.wires.heard(mark) == fabric.peers(sender)


def test_nobody_gets_into_another_tenant_by_a_vlan_tag(fabric: Fabric) -> None:
    """Of two tags the bridge takes the first for its own, and the tunnel's end the second."""
    for outer in (0, BLUE_VLAN):
        for to in ("ff:ff:ff:ff:ff:ff", fabric.mac("red/far")):
            mark = token()
            frame = vlan_tagged(ethernet(fabric.mac("blue/free"), to, mark), RED_VLAN)
            fabric.wires.say("blue/free", vlan_tagged(frame, outer))
            assert fabric.wires.heard(mark) == {}


def test_who_listens_on_the_bridge_lets_nobody_in(fabric: Fabric) -> None:
    """tcpdump makes the bridge promiscuous: then it takes up what all tenants say."""
    mark, sender = token(), "blue/free"
    with entered(fabric.host("host1").namespace):
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with server:
        server.bind(("0.0.0.0", 0))
        server.setblocking(False)
        fabric.run("host1", "ip", "link", "set", BRIDGE, "promisc", "on")
        try:
            with host_hearing(fabric) as overheard:
                frame = dhcp(fabric.mac(sender), mark, (68, server.getsockname()[1]))
                fabric.wires.say(sender, frame)
                assert any(mark in frame for frame in overheard.heard())
            with pytest.raises(BlockingIOError):
                server.recv(2048)
        finally:
            fabric.run("host1", "ip", "link", "set", BRIDGE, "promisc", "off")


def neighbours(fabric: Fabric) -> set[str]:
    shown = fabric.run("host1", "ip", "neigh", "show", "dev", f"{BRIDGE}.10", "nud", "permanent")
    return {line.split()[0] for line in shown.splitlines()}


def test_a_port_with_a_lower_mac_makes_nobody_forgotten(fabric: Fabric) -> None:
    before = neighbours(fabric)
    assert "10.0.0.13" in before
    low = ("add", "low", "address", "02:00:00:00:00:00", "type", "dummy")
    fabric.run("host1", "ip", "link", *low)
    try:
        fabric.run("host1", "ip", "link", "set", "low", "master", BRIDGE)
        fabric.run("host1", "ip", "link", "set", "low", "up")
        assert neighbours(fabric) == before
        assert "02:4c:c0:00:02:0b" in fabric.run("host1", "ip", "link", "show", BRIDGE)
    finally:
        fabric.run("host1", "ip", "link", "del", "low")


def test_a_mac_that_was_changed_by_hand_is_put_right_and_so_is_what_that_made_forgotten(
    fabric: Fabric,
) -> None:
    before = neighbours(fabric)
    fabric.run("host1", "ip", "link", "set", BRIDGE, "address", "02:66:66:66:66:66")
    assert eventually(
        lambda: "02:4c:c0:00:02:0b" in fabric.run("host1", "ip", "link", "show", BRIDGE), 20
    )
    assert eventually(lambda: neighbours(fabric) == before, 20)


@pytest.mark.parametrize(
    "broken",
    [
        "tc filter del dev blue-held ingress pref 332",
        "tc filter del dev blue-free egress pref 76",
        "tc filter replace dev blue-held ingress protocol all pref 332 bpf bytecode '1,6 0 0 0'",
        "bridge vlan del dev an-lwt vid 10",
        "bridge link set dev an-lwt neigh_suppress off",
        "ip link set an-lwt down",
        "ip link del an-lwt",
    ],
)
def test_what_carries_announcements_is_put_right(fabric: Fabric, broken: str) -> None:
    fabric.run("host1", *shlex.split(broken))
    fabric.reload()
    fabric.in_sync("host1")
    for sender in ("blue/held", "blue/free"):
        mark = token()
        fabric.wires.say(
            sender, arp(fabric.mac(sender), fabric.at(sender), fabric.ip(sender), mark)
        )
        assert fabric.wires.heard(mark) == fabric.peers(sender)
