"""Who answers "who has this address?": the guest's own host where it knows, else the guest meant.

The tenants blue and red have their neighbours answered; green leaves it to the guests.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.discovery import NONCE, soliciting
from tests.support.overlay_lab import OverlayLab, laboratory
from tests.support.ovs import eventually
from tests.support.packets import (
    ALL_NODES,
    BROADCAST,
    REPLY,
    Advertisement,
    Arp,
    advertisement,
    arp,
    link_local,
    read_advertisement,
    read_arp,
    solicitation,
    token,
)
from tests.support.wires import Wires

UNKNOWN, UNKNOWN6 = "10.0.0.77", "fd00::77"


# ARP, answered


def test_the_host_answers_arp_and_nobody_else_hears_it(stage: OverlayLab, wires: Wires) -> None:
    web1, web2 = stage.at("blue/web1"), stage.at("blue/web2")
    mark = token()
    wires.say("blue/web1", arp(web1[0], web1, web2[1], mark))
    assert wires.heard(mark) == {"blue/web1": 1}
    assert read_arp(wires.copies("blue/web1", mark)[0]) == Arp(
        source=web2[0], target=web1[0], op=REPLY, sender=web2, about=web1
    )
    assert not wires.on_underlay(mark)


@pytest.mark.parametrize(
    ("asking", "owner"), [("blue/web1", "blue/web3"), ("red/web1", "red/other3")]
)
def test_each_tenant_gets_its_own_answer(
    stage: OverlayLab, wires: Wires, asking: str, owner: str
) -> None:
    """Blue and red have 10.0.0.13 both, on different MACs."""
    mark = token()
    wires.say(asking, arp(stage.mac(asking), stage.at(asking), "10.0.0.13", mark))
    assert wires.heard(mark) == {asking: 1}
    reply = read_arp(wires.copies(asking, mark)[0])
    assert reply is not None
    assert reply.sender == stage.at(owner)


def test_arp_for_an_endpoint_on_somebody_elses_machine_is_answered(
    stage: OverlayLab, wires: Wires
) -> None:
    web1, mark = stage.at("blue/web1"), token()
    wires.say("blue/web1", arp(web1[0], web1, "10.0.0.19", mark))
    reply = read_arp(wires.copies("blue/web1", mark)[0])
    assert reply is not None
    assert reply.sender == ("02:00:00:00:00:09", "10.0.0.19")


def test_an_arp_probe_for_a_taken_address_is_answered(stage: OverlayLab, wires: Wires) -> None:
    """RFC 5227, 2.1.1: whoever probes has no address yet, and is to learn that this one is gone."""
    web1, web2, mark = stage.at("blue/web1"), stage.at("blue/web2"), token()
    wires.say("blue/web1", arp(web1[0], (web1[0], "0.0.0.0"), web2[1], mark))
    assert wires.heard(mark) == {"blue/web1": 1}
    reply = read_arp(wires.copies("blue/web1", mark)[0])
    assert reply is not None
    assert (reply.sender, reply.about) == (web2, (web1[0], "0.0.0.0"))


# ARP, heard


def test_arp_for_an_address_that_nobody_has_is_asked_around(
    stage: OverlayLab, wires: Wires
) -> None:
    web1, mark = stage.at("blue/web1"), token()
    wires.say("blue/web1", arp(web1[0], web1, UNKNOWN, mark))
    assert wires.heard(mark) == stage.peers("blue/web1")


@pytest.mark.parametrize("sender", ["10.0.0.11", "0.0.0.0"], ids=["gratuitous", "probe"])
def test_a_guest_that_asks_for_its_own_address_is_heard_and_not_answered(
    stage: OverlayLab, wires: Wires, sender: str
) -> None:
    mac, own = stage.at("blue/web1")
    mark = token()
    wires.say("blue/web1", arp(mac, (mac, sender), own, mark))
    assert wires.heard(mark) == stage.peers("blue/web1")


def test_a_gratuitous_reply_is_heard(stage: OverlayLab, wires: Wires) -> None:
    web1, mark = stage.at("blue/web1"), token()
    wires.say("blue/web1", arp(web1[0], web1, web1[1], mark, op=REPLY, target_mac=BROADCAST))
    assert wires.heard(mark) == stage.peers("blue/web1")


def test_a_unicast_probe_is_the_endpoints_own_to_answer(stage: OverlayLab, wires: Wires) -> None:
    """RFC 1122, 2.3.2.1: a probe asks whether somebody is still alive. Only he knows."""
    web1, web2, mark = stage.at("blue/web1"), stage.at("blue/web2"), token()
    wires.say("blue/web1", arp(web1[0], web1, web2[1], mark, to=web2[0]))
    assert wires.heard(mark) == {"blue/web2": 1}
    assert eventually(lambda: _replies(wires.all_heard("blue/web1")) == [web2])


def test_where_neighbours_flood_the_endpoint_answers(stage: OverlayLab, wires: Wires) -> None:
    web1, web2, mark = stage.at("green/web1"), stage.at("green/web2"), token()
    wires.say("green/web1", arp(web1[0], web1, web2[1], mark))
    assert wires.heard(mark) == stage.peers("green/web1")
    assert eventually(lambda: _replies(wires.all_heard("green/web1")) == [web2])


def _replies(frames: Sequence[bytes]) -> list[tuple[str, str]]:
    """Who has answered by ARP."""
    found = [reply for frame in frames if (reply := read_arp(frame))]
    return [reply.sender for reply in found if reply.op == REPLY]


# Neighbour discovery, answered


@pytest.mark.parametrize("asked", ["global", "link-local"])
@pytest.mark.parametrize("asking", ["global", "link-local"])
def test_the_host_answers_solicitations_and_nobody_else_hears_them(
    stage: OverlayLab, wires: Wires, asking: str, asked: str
) -> None:
    source = _address(stage, "blue/web1", asking)
    target = _address(stage, "blue/web2", asked)
    mark = token()
    wires.say("blue/web1", solicitation(source, target[1], mark))
    assert wires.heard(mark) == {"blue/web1": 1}
    assert read_advertisement(wires.copies("blue/web1", mark)[0]) == _solicited(target, source)
    assert not wires.on_underlay(mark)


def _address(stage: OverlayLab, guest: str, kind: str) -> tuple[str, str]:
    mac = stage.mac(guest)
    return (mac, stage.ip(guest, 6) if kind == "global" else link_local(mac))


def _solicited(source: tuple[str, str], target: tuple[str, str]) -> Advertisement:
    """The answer to a solicitation (RFC 4861, 7.2.4), from a machine that is no router."""
    return Advertisement(
        source=source,
        target=target,
        about=source[1],
        link_layer=source[0],
        router=False,
        solicited=True,
        override=True,
        hop_limit=255,
        checksum_right=True,
    )


# Neighbour discovery, heard


def test_a_solicitation_for_an_address_that_nobody_has_is_asked_around(
    stage: OverlayLab, wires: Wires
) -> None:
    mark = token()
    wires.say("blue/web1", solicitation(stage.at("blue/web1", 6), UNKNOWN6, mark))
    assert wires.heard(mark) == stage.peers("blue/web1")


@pytest.mark.parametrize("kind", ["global", "link-local"])
def test_duplicate_detection_of_ones_own_address_is_heard_and_not_answered(
    stage: OverlayLab, wires: Wires, kind: str
) -> None:
    mac, own = _address(stage, "blue/web1", kind)
    mark = token()
    wires.say("blue/web1", solicitation((mac, "::"), own, mark, link_layer=None))
    assert wires.heard(mark) == stage.peers("blue/web1")


@pytest.mark.parametrize("kind", ["global", "link-local"])
def test_a_solicitation_of_ones_own_address_is_heard_and_not_answered(
    stage: OverlayLab, wires: Wires, kind: str
) -> None:
    own, mark = _address(stage, "blue/web1", kind), token()
    wires.say("blue/web1", solicitation(own, own[1], mark))
    assert wires.heard(mark) == stage.peers("blue/web1")


def test_duplicate_detection_with_an_option_is_not_answered(
    stage: OverlayLab, wires: Wires
) -> None:
    """RFC 4861, 7.1.1, forbids the option; an answer would go to no address. No guest may send it
    that is held to the rules.
    """
    nowhere, mark = (stage.mac("blue/router"), "::"), token()
    wires.say("blue/router", solicitation(nowhere, stage.ip("blue/web2", 6), mark))
    assert wires.heard(mark) == stage.peers("blue/router")


@pytest.mark.parametrize("kind", ["global", "link-local"])
@pytest.mark.parametrize("asking", ["blue/web1", "blue/bare", "blue/router"])
@pytest.mark.parametrize("options", [b"", NONCE], ids=["plain", "nonce"])
def test_who_looks_for_a_duplicate_is_told_and_the_owner_hears_nothing(
    stage: OverlayLab, wires: Wires, asking: str, kind: str, options: bytes
) -> None:
    """RFC 4862, 5.4.3: an owner that hears of it before it is sure of its address gives it up."""
    mac, web2 = stage.mac(asking), _address(stage, "blue/web2", kind)
    mark = token()
    wires.say(asking, soliciting((mac, "::"), web2[1], options, mark))
    assert wires.heard(mark) == {asking: 1}
    assert read_advertisement(wires.copies(asking, mark)[0]) == Advertisement(
        source=web2,
        target=ALL_NODES,
        about=web2[1],
        # There is no room for it. Who learns that an address is taken needs none.
        link_layer=None,
        router=False,
        solicited=False,
        override=True,
        hop_limit=255,
        checksum_right=True,
    )
    assert not wires.on_underlay(mark)


@pytest.mark.parametrize("asking", ["blue/web1", "blue/bare"])
def test_nobody_is_probed_alone(stage: OverlayLab, wires: Wires, asking: str) -> None:
    """A probe in a frame to the owner would be heard by the owner, and by nobody who may answer."""
    mac, web2 = stage.mac(asking), stage.mac("blue/web2")
    for target, probe in (
        (stage.ip("blue/web2"), arp(mac, (mac, "0.0.0.0"), stage.ip("blue/web2"), b"", to=web2)),
        (
            stage.ip("blue/web2", 6),
            soliciting(
                (mac, "::"), stage.ip("blue/web2", 6), b"", b"", to=(web2, "ff02::1:ff00:12")
            ),
        ),
    ):
        mark = token()
        wires.say(asking, probe + mark)
        assert "blue/web2" not in wires.heard(mark), target


@pytest.mark.parametrize("own", [True, False], ids=["its own", "another's"])
def test_where_neighbours_flood_a_guest_probes_for_its_own_addresses_alone(
    stage: OverlayLab, wires: Wires, own: bool
) -> None:
    """Nobody is asked for it, and the guest could not use another."""
    mac, meant = stage.mac("green/web1"), "green/web1" if own else "green/web2"
    for probe in (
        arp(mac, (mac, "0.0.0.0"), stage.ip(meant), b""),
        solicitation((mac, "::"), stage.ip(meant, 6), b"", link_layer=None),
    ):
        mark = token()
        wires.say("green/web1", probe + mark)
        assert wires.heard(mark) == (stage.peers("green/web1") if own else {})


@pytest.mark.parametrize("asking", ["blue/web1", "blue/router"])
def test_a_solicitation_without_an_option_is_left_to_the_owner(
    stage: OverlayLab, wires: Wires, asking: str
) -> None:
    """There is no room in it for the link-layer address that an answer must bear."""
    mark = token()
    question = solicitation(stage.at(asking, 6), stage.ip("blue/web2", 6), mark, link_layer=None)
    wires.say(asking, question)
    assert wires.heard(mark) == stage.peers(asking)


def test_a_unicast_solicitation_is_the_endpoints_own_to_answer(
    stage: OverlayLab, wires: Wires
) -> None:
    """RFC 4861, 7.3.1: neighbour unreachability detection asks the neighbour itself."""
    web1, web2, mark = stage.at("blue/web1", 6), stage.at("blue/web2", 6), token()
    wires.say("blue/web1", solicitation(web1, web2[1], mark, to=web2))
    assert wires.heard(mark) == {"blue/web2": 1}
    assert eventually(lambda: bool(_advertised(wires.all_heard("blue/web1"), web2[1])))
    (said,) = _advertised(wires.all_heard("blue/web1"), web2[1])
    assert (said.source, said.target, said.solicited) == (web2, web1, True)


def test_an_unsolicited_advertisement_is_heard(stage: OverlayLab, wires: Wires) -> None:
    web1, mark = stage.at("blue/web1", 6), token()
    wires.say("blue/web1", advertisement(web1, web1[1], mark))
    assert wires.heard(mark) == stage.peers("blue/web1")


def test_where_neighbours_flood_the_endpoint_answers_solicitations(
    stage: OverlayLab, wires: Wires
) -> None:
    web1, web2, mark = stage.at("green/web1", 6), stage.at("green/web2", 6), token()
    wires.say("green/web1", solicitation(web1, web2[1], mark))
    assert wires.heard(mark) == stage.peers("green/web1")
    assert eventually(lambda: bool(_advertised(wires.all_heard("green/web1"), web2[1])))


def _advertised(frames: Sequence[bytes], target: str) -> list[Advertisement]:
    """What was advertised of an address."""
    found = [said for frame in frames if (said := read_advertisement(frame))]
    return [said for said in found if said.about == target]


# Where the datapath cannot


def test_the_app_answers_solicitations_where_flows_cannot(tmp_path: Path) -> None:
    """`--nd app`: what the kernel datapath needs. The app's answer is the one a flow would give."""
    overlay = {
        "vteps": {"host1": {"address": "192.0.2.11"}},
        "tenants": {
            tenant: {
                "vni": vni,
                "endpoints": {
                    "web1": {"host": "host1", "mac": "02:00:00:00:00:01", "ip": "fd00::11/64"},
                    "web2": {"host": "host1", "mac": mac, "ip": "fd00::12/64"},
                },
            }
            for tenant, vni, mac in (
                ("blue", 1010, "02:00:00:00:00:02"),
                ("red", 2020, "02:00:00:00:00:22"),
            )
        },
    }
    with laboratory(overlay, tmp_path, "--nd", "app") as lab, lab.listening() as wires:
        assert any("CONTROLLER" in flow for flow in lab.flows("host1", "table=3"))
        for tenant in ("blue", "red"):
            for kind in ("global", "link-local"):
                _ask(lab, wires, f"{tenant}/web1", _address(lab, f"{tenant}/web2", kind))


def _ask(lab: OverlayLab, wires: Wires, asking: str, target: tuple[str, str]) -> None:
    wires.forget()
    source, mark = lab.at(asking, 6), token()
    wires.say(asking, solicitation(source, target[1], mark))
    assert not wires.heard(mark)
    assert eventually(lambda: bool(_advertised(wires.all_heard(asking), target[1])))
    said = _advertised(wires.all_heard(asking), target[1])
    assert said == [_solicited(target, source)]
