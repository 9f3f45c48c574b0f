"""Plane bridge: what it says in a guest's name, and MACs that several guests may have.

Of blue, whose unknown unicast is dropped, `one`, `two` (here) and `three` (elsewhere) share a
virtual router's MAC; `plain` and `gw` do not.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import yaml

from tests.support.conformance_fabric import Fabric, fabric_up
from tests.support.overlays import Overlay, endpoint
from tests.support.packets import (
    Advertisement,
    arp,
    ethernet,
    ip,
    read_advertisement,
    read_arp,
    solicitation,
    token,
)

VIRTUAL, VIP = "00:00:5e:00:01:01", "10.0.0.100"
ALONE = "00:00:5e:00:01:02"
NOBODYS_MAC = "02:00:00:00:00:77"
HOLDERS = ("blue/one", "blue/two", "blue/three")


def overlay() -> Overlay:
    def guest(host: str, number: int, **more: object) -> dict[str, object]:
        addresses = [f"10.0.0.{number}/24", f"fd00::{number}/64"]
        return {"host": host, "mac": f"02:00:00:00:00:{number}", "ip": addresses, **more}

    def sharing(host: str, number: int) -> dict[str, object]:
        pairs = [{"mac": VIRTUAL, "ip": VIP}, {"mac": VIRTUAL, "ip": "fd00::100"}]
        return guest(host, number, allowed_pairs=pairs)

    return {
        "vteps": {
            "host1": {"address": "192.0.2.11", "plane": "bridge"},
            "host2": {"address": "192.0.2.12", "plane": "bridge"},
        },
        "tenants": {
            "blue": {
                "vni": 1010,
                "mark": 10,
                "unknown_unicast": "drop",
                "endpoints": {
                    "one": sharing("host1", 11),
                    "two": sharing("host1", 12),
                    "three": sharing("host2", 13),
                    "plain": guest("host1", 14),
                    "gw": guest("host2", 15, router=True),
                    "free": guest("host2", 16, spoofing="allow"),
                    "alone": guest("host2", 17, allowed_pairs=[{"mac": ALONE, "ip": "10.0.0.9"}]),
                },
            },
            "red": {
                "vni": 2020,
                "endpoints": {"one": guest("host1", 11), "three": guest("host2", 13)},
            },
        },
    }


@pytest.fixture(scope="module")
def fabric(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fabric]:
    with fabric_up(overlay(), tmp_path_factory.mktemp("neighbours")) as fabric:
        yield fabric


def heard(fabric: Fabric, sender: str, source: str, target: str) -> dict[str, int]:
    mark = token()
    fabric.wires.say(sender, ethernet(source, target, mark))
    return fabric.wires.heard(mark)


@pytest.mark.parametrize("sender", HOLDERS)
def test_who_shares_a_mac_sends_from_it_and_from_its_own_and_from_no_other(
    fabric: Fabric, sender: str
) -> None:
    there = fabric.mac("blue/plain")
    for source in (fabric.mac(sender), VIRTUAL):
        assert heard(fabric, sender, source, there) == {"blue/plain": 1}
    for source in (NOBODYS_MAC, fabric.mac("blue/plain"), ALONE):
        assert heard(fabric, sender, source, "ff:ff:ff:ff:ff:ff") == {}
    assert heard(fabric, "blue/plain", VIRTUAL, there) == {}


@pytest.mark.parametrize("sender", ["blue/plain", "blue/gw", "blue/one"])
def test_a_frame_to_a_shared_mac_reaches_each_that_has_it(fabric: Fabric, sender: str) -> None:
    expected = dict.fromkeys(HOLDERS, 1)
    expected.pop(sender, None)
    assert heard(fabric, sender, fabric.mac(sender), VIRTUAL) == expected


def test_a_mac_that_one_guest_has_besides_its_own_is_that_guests(fabric: Fabric) -> None:
    assert heard(fabric, "blue/plain", fabric.mac("blue/plain"), ALONE) == {"blue/alone": 1}
    there = fabric.mac("blue/plain")
    assert heard(fabric, "blue/alone", ALONE, there) == {"blue/plain": 1}
    assert heard(fabric, "blue/gw", ALONE, there) == {}


def test_an_address_that_moves_is_announced_from_its_mac_and_answered_by_who_has_it(
    fabric: Fabric,
) -> None:
    mark, sender = token(), "blue/one"
    fabric.wires.say(sender, arp(VIRTUAL, (VIRTUAL, VIP), VIP, mark))
    assert fabric.wires.heard(mark) == fabric.peers(sender)
    mark, asker = token(), "blue/plain"
    fabric.wires.say(asker, arp(fabric.mac(asker), fabric.at(asker), VIP, mark))
    assert fabric.wires.heard(mark) == fabric.peers(asker)


def answers(fabric: Fabric, asker: str, target: str) -> list[Advertisement]:
    mark, about = token(), fabric.ip(target, 6)
    fabric.wires.forget()
    fabric.wires.say(asker, solicitation(fabric.at(asker, 6), about, mark))
    assert not fabric.wires.on_underlay(mark)
    said = map(read_advertisement, fabric.wires.all_heard(asker))
    return [answer for answer in said if answer is not None and answer.about == about]


def test_a_router_is_said_to_be_one(fabric: Fabric) -> None:
    """Else who asks takes its default route away (RFC 4861, 7.2.5)."""
    (gateway,) = answers(fabric, "blue/plain", "blue/gw")
    (other,) = answers(fabric, "blue/plain", "blue/alone")
    assert (gateway.router, other.router) == (True, False)
    assert gateway.link_layer == fabric.mac("blue/gw")
    assert gateway.checksum_right


def test_who_may_be_a_router_without_our_knowing_is_asked_itself(fabric: Fabric) -> None:
    mark, asker = token(), "blue/plain"
    about = fabric.ip("blue/free", 6)
    fabric.wires.say(asker, solicitation(fabric.at(asker, 6), about, mark))
    assert fabric.wires.heard(mark) == fabric.peers(asker)


def test_for_a_guest_here_whose_port_is_down_nobody_answers(fabric: Fabric) -> None:
    fabric.wires.forget()
    asker, target = "blue/plain", "blue/two"
    port = fabric.guests[target].port
    fabric.run("host1", "ip", "link", "set", port, "down")
    try:
        mark = token()
        fabric.wires.send(asker, arp(fabric.mac(asker), fabric.at(asker), fabric.ip(target), mark))
        follow, peer = token(), "blue/gw"
        fabric.wires.send(asker, ip(fabric.at(asker), fabric.at(peer), follow))
        while fabric.wires.heard(follow) != {peer: 1}:
            pass
        said = map(read_arp, fabric.wires.all_heard(asker))
        assert fabric.ip(target) not in [answer.sender[1] for answer in said if answer]
    finally:
        fabric.run("host1", "ip", "link", "set", port, "up")
        fabric.in_sync("host1")


def test_a_restart_changes_nothing(fabric: Fabric) -> None:
    fabric.stop("host1")
    assert fabric.start("host1").startswith("0 written, 0 deleted")


def test_a_port_is_locked_again_when_its_mac_is_its_alone(fabric: Fabric) -> None:
    def locked() -> bool:
        shown = fabric.run("host1", "ip", "-d", "link", "show", fabric.guests["blue/one"].port)
        return "locked on" in shown

    assert not locked()
    pairs = endpoint(fabric.overlay, "blue/one")["allowed_pairs"]
    fabric.change(lambda overlay: endpoint(overlay, "blue/one").pop("allowed_pairs"))
    fabric.in_sync("host1")
    assert locked()
    there = fabric.mac("blue/plain")
    assert heard(fabric, "blue/one", VIRTUAL, there) == {}
    assert heard(fabric, "blue/one", fabric.mac("blue/one"), there) == {"blue/plain": 1}
    fabric.change(lambda overlay: endpoint(overlay, "blue/one").update(allowed_pairs=pairs))
    fabric.in_sync("host1")
    assert not locked()
    assert heard(fabric, "blue/one", VIRTUAL, there) == {"blue/plain": 1}


def test_a_guest_that_left_the_overlay_while_nobody_looked_is_cut_off(fabric: Fabric) -> None:
    """Its VLAN may be another tenant's soon: so it is in none, nor are its announcements."""
    gone = "blue/two"
    port = fabric.guests[gone].port

    def filters() -> str:
        return fabric.run("host1", "tc", "filter", "show", "dev", port, "ingress")

    assert "mirred" in filters()
    guest = fabric.guests.pop(gone)
    fabric.stop("host1")
    described = fabric.overlay["tenants"]["blue"]["endpoints"].pop("two")
    fabric.plan.overlay.write_text(yaml.safe_dump(fabric.overlay, sort_keys=False), "utf-8")
    try:
        fabric.start("host1")
        # It stays a port of the bridge, which keeps the host's stack from hearing it (ADR 23).
        vlans = fabric.run("host1", "bridge", "-j", "vlan", "show", "dev", port)
        assert vlans.strip() in ("", "[]")
        # One of `flower` may stay: it keeps control frames from the host's stack (ADR 23).
        assert not [word for word in ("bpf", "mirred") if word in filters()]
    finally:
        fabric.guests[gone] = guest
        fabric.change(lambda overlay: overlay["tenants"]["blue"]["endpoints"].update(two=described))
        fabric.in_sync("host1")
    assert heard(fabric, gone, VIRTUAL, fabric.mac("blue/plain")) == {"blue/plain": 1}
