"""Addresses that move: what an endpoint may have beside its own, as others may."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.discovery import soliciting
from tests.support.overlay_lab import OverlayLab, laboratory
from tests.support.overlays import endpoint
from tests.support.packets import (
    ALL_NODES,
    BROADCAST,
    REPLY,
    advertisement,
    arp,
    ethernet,
    ip,
    link_local,
    solicitation,
    token,
)
from tests.support.wires import Wires

VMAC, VMAC6 = "00:00:5e:00:01:01", "00:00:5e:00:02:01"
VIP, VIP6, FLOATING = "10.0.0.100", "fd00::100", "10.0.0.101"
ONE = "00:00:5e:00:01:07"


def pairs() -> list[dict[str, str]]:
    """What each router may have: a virtual MAC for either family, and an address on its own MAC."""
    return [{"mac": VMAC, "ip": VIP}, {"mac": VMAC6, "ip": VIP6}, {"ip": FLOATING}]


def _guest(number: int, host: str, **more: Any) -> dict[str, Any]:
    return {
        "host": host,
        "mac": f"02:00:00:00:00:{number:02x}",
        "ip": [f"10.0.0.{number}/24", f"fd00::{number:x}/64"],
        **more,
    }


# Three routers on two hosts share two virtual MACs; `alone` has one to itself.
OVERLAY: dict[str, Any] = {
    "vteps": {f"host{n}": {"address": f"192.0.2.{10 + n}"} for n in (1, 2, 3)},
    "tenants": {
        "blue": {
            "vni": 1010,
            "mark": 10,
            "endpoints": {
                "r1": _guest(11, "host1", allowed_pairs=pairs()),
                "r2": _guest(12, "host2", allowed_pairs=pairs()),
                "r3": _guest(13, "host2", allowed_pairs=pairs()),
                "alone": _guest(14, "host1", allowed_pairs=[{"mac": ONE, "ip": "10.0.0.107"}]),
                "a": _guest(21, "host1"),
                "b": _guest(22, "host2"),
                "c": _guest(23, "host3"),
                "bare": {"host": "host3", "mac": "02:00:00:00:00:44"},
            },
        },
        # The same addresses, and nobody who may have them.
        "red": {
            "vni": 2020,
            "endpoints": {
                "r1": _guest(11, "host1"),
                "r2": _guest(12, "host2"),
            },
        },
    },
}
ROUTERS = ("blue/r1", "blue/r2", "blue/r3")

Frame = Callable[[str, str, bytes], bytes]
"""A frame of the guest with this MAC and IPv6 address, with this token in it."""

# What keepalived and its like say while they have the virtual MAC and address.
SAID: dict[str, Frame] = {
    "Ethernet": lambda mac, v6, mark: ethernet(VMAC, BROADCAST, mark),
    "IPv4": lambda mac, v6, mark: ip((VMAC, VIP), (BROADCAST, "10.0.0.255"), mark),
    # VRRP itself comes from the virtual MAC and the port's own address (RFC 9568, 7.2).
    "IPv4 from its own address": lambda mac, v6, mark: ip(
        (VMAC, f"10.0.0.{int(mac[-2:], 16)}"), ("01:00:5e:00:00:12", "224.0.0.18"), mark
    ),
    "IPv4 from its own MAC": lambda mac, v6, mark: ip((mac, VIP), (BROADCAST, "10.0.0.255"), mark),
    "IPv6": lambda mac, v6, mark: ip((VMAC6, VIP6), ALL_NODES, mark),
    "IPv6 from its link-local address": lambda mac, v6, mark: ip(
        (VMAC6, link_local(mac)), ALL_NODES, mark
    ),
    "gratuitous ARP": lambda mac, v6, mark: arp(VMAC, (VMAC, VIP), VIP, mark),
    "gratuitous reply": lambda mac, v6, mark: arp(
        VMAC, (VMAC, VIP), VIP, mark, op=REPLY, target_mac=BROADCAST
    ),
    "gratuitous ARP, own MAC": lambda mac, v6, mark: arp(mac, (mac, FLOATING), FLOATING, mark),
    "ARP probe": lambda mac, v6, mark: arp(VMAC, (VMAC, "0.0.0.0"), VIP, mark),
    "advertisement": lambda mac, v6, mark: advertisement((VMAC6, VIP6), VIP6, mark),
    "advertisement from its link-local address": lambda mac, v6, mark: advertisement(
        (VMAC6, link_local(mac)), VIP6, mark
    ),
    "solicitation": lambda mac, v6, mark: solicitation((VMAC6, VIP6), "fd00::77", mark),
    "duplicate detection": lambda mac, v6, mark: solicitation(
        (VMAC6, "::"), VIP6, mark, link_layer=None
    ),
}

# Combinations that no pair says, and what is not theirs at all.
LIES: dict[str, Frame] = {
    "ARP, own address at the virtual MAC": lambda mac, v6, mark: arp(
        VMAC, (VMAC, f"10.0.0.{int(mac[-2:], 16)}"), "10.0.0.77", mark
    ),
    "ARP, virtual address at the own MAC": lambda mac, v6, mark: arp(
        mac, (mac, VIP), "10.0.0.77", mark
    ),
    "ARP, the other family's MAC": lambda mac, v6, mark: arp(
        VMAC6, (VMAC6, VIP), "10.0.0.77", mark
    ),
    "advertisement, virtual address at the own MAC": lambda mac, v6, mark: advertisement(
        (mac, v6), VIP6, mark
    ),
    "MAC of another pair": lambda mac, v6, mark: ethernet(ONE, BROADCAST, mark),
    "address of another pair": lambda mac, v6, mark: ip(
        (VMAC, "10.0.0.107"), (BROADCAST, "10.0.0.255"), mark
    ),
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OverlayLab]:
    with laboratory(copy.deepcopy(OVERLAY), tmp_path_factory.mktemp("pairs")) as lab:
        yield lab


@pytest.fixture
def wires(lab: OverlayLab) -> Iterator[Wires]:
    with lab.listening() as wires:
        yield wires


def _says(lab: OverlayLab, wires: Wires, guest: str, frame: Frame) -> dict[str, int]:
    mark = token()
    wires.say(guest, frame(lab.mac(guest), lab.ip(guest, 6), mark))
    return wires.heard(mark)


@pytest.mark.parametrize("frame", SAID)
@pytest.mark.parametrize("guest", ["blue/r1", "blue/r3"])
def test_each_that_may_have_the_pair_is_heard_with_it(
    lab: OverlayLab, wires: Wires, guest: str, frame: str
) -> None:
    assert _says(lab, wires, guest, SAID[frame]) == lab.peers(guest)


@pytest.mark.parametrize("frame", LIES)
def test_what_no_pair_says_is_dropped(lab: OverlayLab, wires: Wires, frame: str) -> None:
    assert _says(lab, wires, "blue/r1", LIES[frame]) == {}


@pytest.mark.parametrize("frame", SAID)
@pytest.mark.parametrize("guest", ["blue/a", "red/r1"])
def test_nobody_else_is_heard_with_it(
    lab: OverlayLab, wires: Wires, guest: str, frame: str
) -> None:
    assert _says(lab, wires, guest, SAID[frame]) == {}


def test_a_guest_without_addresses_does_not_speak_for_it(lab: OverlayLab, wires: Wires) -> None:
    mac, mark = lab.mac("blue/bare"), token()
    for said in (
        ip((mac, VIP), (BROADCAST, "10.0.0.255"), mark),
        ip((mac, VIP6), ALL_NODES, mark),
        arp(mac, (mac, FLOATING), FLOATING, mark),
        advertisement((mac, VIP6), VIP6, mark),
    ):
        wires.say("blue/bare", said)
    assert wires.heard(mark) == {}


@pytest.mark.parametrize("sender", ["blue/a", "blue/b", "blue/c", "blue/r1", "blue/r2"])
@pytest.mark.parametrize("mac", [VMAC, VMAC6])
def test_a_frame_to_the_shared_mac_reaches_each_of_them_once(
    lab: OverlayLab, wires: Wires, sender: str, mac: str
) -> None:
    """Also from another host: there to the guests on it alone, and back to nobody."""
    mark = token()
    wires.say(sender, ethernet(lab.mac(sender), mac, mark))
    assert wires.heard(mark) == {router: 1 for router in ROUTERS if router != sender}
    hosts = {lab.guests[router].host for router in ROUTERS} - {lab.guests[sender].host}
    tunnels = wires.tunnels(mark)
    assert {(name, count) for (name, _, _), count in tunnels.items()} == {
        (lab.guests[sender].host, 1) for _ in hosts
    }
    assert len(tunnels) == len(hosts)


@pytest.mark.parametrize("sender", ["blue/a", "blue/b"])
def test_a_mac_of_one_endpoint_alone_reaches_it(lab: OverlayLab, wires: Wires, sender: str) -> None:
    mark = token()
    wires.say(sender, ethernet(lab.mac(sender), ONE, mark))
    assert wires.heard(mark) == {"blue/alone": 1}


def test_the_guest_sees_its_tenants_mark(lab: OverlayLab) -> None:
    found = lab.trace("host1", f"in_port=blue-a,dl_src={lab.mac('blue/a')},dl_dst={VMAC}").copies
    assert ("blue-r1", 10) in found
    assert [mark for port, mark in found if port == "tunnel"] == [0]


def test_arp_and_discovery_for_it_are_left_to_those_that_may_have_it(
    lab: OverlayLab, wires: Wires
) -> None:
    asking, mark = lab.mac("blue/a"), token()
    for question in (
        arp(asking, lab.at("blue/a"), VIP, mark),
        arp(asking, lab.at("blue/a"), FLOATING, mark),
        solicitation(lab.at("blue/a", 6), VIP6, mark),
    ):
        wires.say("blue/a", question)
    assert wires.heard(mark) == dict.fromkeys(lab.peers("blue/a"), 3)


@pytest.mark.parametrize("guest", ["blue/a", "blue/c", "blue/bare"])
def test_who_may_not_have_it_does_not_probe_for_it(
    lab: OverlayLab, wires: Wires, guest: str
) -> None:
    mac, mark = lab.mac(guest), token()
    wires.say(guest, arp(mac, (mac, "0.0.0.0"), VIP, mark))
    wires.say(guest, soliciting((mac, "::"), VIP6, b"", mark))
    assert wires.heard(mark) == {}


def test_pairs_come_and_go_with_the_overlay(tmp_path: Path) -> None:
    """After each change the switches hold what export says, and packets go where it says."""
    with laboratory(copy.deepcopy(OVERLAY), tmp_path) as lab:

        def reached(wires: Wires) -> set[str]:
            mark = token()
            wires.say("blue/a", ethernet(lab.mac("blue/a"), VMAC, mark))
            heard = wires.heard(mark)
            assert set(heard.values()) <= {1}
            return set(heard)

        with lab.listening() as wires:
            assert reached(wires) == set(ROUTERS)
            lab.change(lambda overlay: endpoint(overlay, "blue/r3").pop("allowed_pairs"))
            assert reached(wires) == {"blue/r1", "blue/r2"}
            lab.change(lambda overlay: endpoint(overlay, "blue/r2").pop("allowed_pairs"))
            assert reached(wires) == {"blue/r1"}
            pair = pairs()[:1]
            lab.change(lambda overlay: endpoint(overlay, "blue/c").update(allowed_pairs=pair))
            assert reached(wires) == {"blue/r1", "blue/c"}
            lab.change(lambda overlay: endpoint(overlay, "blue/r1").pop("allowed_pairs"))
            assert reached(wires) == {"blue/c"}
            # Nobody: an unknown MAC like any other.
            lab.change(lambda overlay: endpoint(overlay, "blue/c").pop("allowed_pairs"))
            assert reached(wires) == set(lab.peers("blue/a"))
        lab.change(lambda overlay: endpoint(overlay, "blue/r1").update(allowed_pairs=pairs()))
        lab.change(lambda overlay: endpoint(overlay, "blue/a").update(allowed_pairs=pairs()))
        lab.detach("blue/r1")
        lab.attach("blue/r1", "host1")
        with lab.listening() as wires:
            assert reached(wires) == {"blue/r1"}
