"""What the switch says in a guest's name is what the guest would say: that it is a router, that its
address is taken; and nothing while the guest's link is down.
"""

from __future__ import annotations

import copy
import json
import subprocess
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ovs_lwt.control import ask
from ovs_lwt.lab.processes import run
from tests.support.overlay_lab import OverlayLab, laboratory
from tests.support.overlays import endpoint
from tests.support.ovs import eventually
from tests.support.packets import (
    ALL_NODES,
    Advertisement,
    Wire,
    advertisement,
    arp,
    icmpv6,
    link_local,
    read_advertisement,
    read_arp,
    solicitation,
    token,
)
from tests.support.wires import Wires

GUESTS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("a", "host1", {}),
    ("b", "host2", {}),
    ("gw", "host1", {"spoofing": "allow", "router": True}),
    ("far", "host2", {"spoofing": "allow", "router": True}),
    ("none", "host2", {"spoofing": "allow", "router": False}),
    ("silent", "host2", {"spoofing": "allow"}),
    ("held", "host2", {"router": True}),
)
"""Each router says another thing of itself, and `silent` nothing."""

OVERLAY: dict[str, Any] = {
    "vteps": {"host1": {"address": "192.0.2.11"}, "host2": {"address": "192.0.2.12"}},
    "tenants": {
        "blue": {
            "vni": 1010,
            "endpoints": {
                name: {
                    "host": host,
                    "mac": f"02:00:00:00:00:{number:02x}",
                    "ip": [f"10.0.0.{number}/24", f"fd00::{number:x}/64"],
                    **more,
                }
                for number, (name, host, more) in enumerate(GUESTS, 10)
            },
        },
    },
}


@pytest.fixture(scope="module", params=["flow", "app"])
def answering(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OverlayLab]:
    """By flows, and by the app, as the kernel datapath needs it."""
    folder = tmp_path_factory.mktemp(f"answers-{request.param}")
    with laboratory(OVERLAY, folder, "--nd", request.param) as lab:
        yield lab


@pytest.fixture
def wires(answering: OverlayLab) -> Iterator[Wires]:
    with answering.listening() as wires:
        yield wires


def said_of(wires: Wires, guest: str, address: str) -> list[Advertisement]:
    found = map(read_advertisement, wires.all_heard(guest))
    return [said for said in found if said and said.about == address]


def _is_said(wires: Wires, guest: str, address: str) -> bool:
    return bool(said_of(wires, guest, address))


@pytest.mark.parametrize(
    ("asked", "router"),
    [("b", False), ("gw", True), ("far", True), ("none", False), ("held", True)],
)
def test_an_answer_says_whether_the_owner_is_a_router(
    answering: OverlayLab, wires: Wires, asked: str, router: bool
) -> None:
    for owner in ((answering.at(f"blue/{asked}", 6)), _link_local(answering, asked)):
        wires.say("blue/a", solicitation(answering.at("blue/a", 6), owner[1], token()))
        assert eventually(partial(_is_said, wires, "blue/a", owner[1]))
        [said] = said_of(wires, "blue/a", owner[1])
        assert (said.source, said.link_layer) == (owner, owner[0])
        assert (said.router, said.solicited, said.override) == (router, True, True)
        assert said.checksum_right


def _link_local(lab: OverlayLab, name: str) -> tuple[str, str]:
    mac = lab.mac(f"blue/{name}")
    return mac, link_local(mac)


def test_who_may_be_a_router_for_all_one_knows_answers_for_itself(
    answering: OverlayLab, wires: Wires
) -> None:
    mark = token()
    silent = answering.at("blue/silent", 6)
    wires.say("blue/a", solicitation(answering.at("blue/a", 6), silent[1], mark))
    assert wires.heard(mark) == answering.peers("blue/a")
    # IPv4 knows no such thing.
    mark = token()
    wires.say("blue/a", arp(answering.mac("blue/a"), answering.at("blue/a"), "10.0.0.15", mark))
    assert wires.heard(mark) == {"blue/a": 1}


@pytest.mark.parametrize(
    ("asked", "router"), [("b", False), ("gw", True), ("far", True), ("silent", False)]
)
def test_who_looks_for_a_duplicate_is_told_alone(
    answering: OverlayLab, wires: Wires, asked: str, router: bool
) -> None:
    mark, owner = token(), answering.at(f"blue/{asked}", 6)
    nobody = (answering.mac("blue/a"), "::")
    wires.say("blue/a", solicitation(nobody, owner[1], mark, link_layer=None))
    assert eventually(lambda: bool(said_of(wires, "blue/a", owner[1])))
    [said] = said_of(wires, "blue/a", owner[1])
    assert (said.source, said.target) == (owner, ALL_NODES)
    assert (said.router, said.solicited, said.hop_limit) == (router, False, 255)
    assert said.checksum_right
    assert set(wires.heard(mark)) <= {"blue/a"}


def test_a_guests_kernel_gives_up_an_address_that_is_anothers(answering: OverlayLab) -> None:
    there, taken = answering.guests["blue/a"].namespace, answering.at("blue/b", 6)[1]
    ip = ("ip", "netns", "exec", there, "ip")
    run(["ip", "netns", "exec", there, "sysctl", "-qw", "net.ipv6.conf.eth0.accept_dad=1"])
    try:
        run([*ip, "addr", "add", f"{taken}/64", "dev", "eth0"])
        show = [*ip, "-6", "addr", "show", "dev", "eth0"]
        assert eventually(lambda: "dadfailed" in run(show))
    finally:
        run([*ip, "addr", "del", f"{taken}/64", "dev", "eth0"])
        run(["ip", "netns", "exec", there, "sysctl", "-qw", "net.ipv6.conf.eth0.accept_dad=0"])


# A link-local address that the guest has made up


def test_a_guest_with_a_link_local_address_of_its_own_is_named(answering: OverlayLab) -> None:
    """Its kernel has made one up that does not follow from its MAC (RFC 7217)."""
    made_up, guest = "fe80::7217", answering.guests["blue/b"]
    there, host = ("ip", "netns", "exec", guest.namespace), answering.host(guest.host)
    kept = copy.deepcopy(answering.overlay)

    def said() -> list[str]:
        findings = json.loads(ask(host.control, "status"))["hosts"]["host2"]["findings"]
        return [f["text"] for f in findings if f["subject"] == "guest addresses"]

    def reaches() -> bool:
        ping = [*there, "ping", "-c1", "-W1", "-I", f"{made_up}%eth0", f"{link_local(router)}%eth0"]
        return subprocess.run(ping, capture_output=True, check=False).returncode == 0

    router = answering.mac("blue/gw")
    run([*there, "ip", "addr", "add", f"{made_up}/64", "dev", "eth0", "nodad"])
    try:
        assert not reaches()
        assert eventually(lambda: said() != []), host.log.read_text()
        assert "what comes from blue/b (fe80::7217)" in said()[0]
        assert not reaches()
        assert host.log.read_text().count("blue/b (fe80::7217)") == 1
        assert json.loads(ask(host.control, "status"))["hosts"]["host2"]["sync"] == "in-sync"

        answering.change(lambda all: endpoint(all, "blue/b")["ip"].append(f"{made_up}/64"))
        assert said() == []
        assert eventually(reaches)
    finally:
        run([*there, "ip", "addr", "del", f"{made_up}/64", "dev", "eth0"])
        answering.restore(kept)


# An address that moves


@pytest.mark.parametrize("sender", ["gw", "silent"])
def test_whoever_may_take_an_address_over_is_heard_and_not_answered(
    answering: OverlayLab, wires: Wires, sender: str
) -> None:
    """Gratuitous ARP for an address that the overlay lists elsewhere."""
    mac, mark = answering.mac(f"blue/{sender}"), token()
    taken = "10.0.0.11"
    wires.say(f"blue/{sender}", arp(mac, (mac, taken), taken, mark))
    assert wires.heard(mark) == answering.peers(f"blue/{sender}")
    mark = token()
    wires.say(f"blue/{sender}", advertisement((mac, "fd00::b"), "fd00::b", mark))
    assert wires.heard(mark) == answering.peers(f"blue/{sender}")


def test_a_host_without_such_a_guest_has_no_flows_for_it(tmp_path: Path) -> None:
    overlay = {
        **OVERLAY,
        "tenants": {
            "blue": {"vni": 1010, "endpoints": dict(OVERLAY["tenants"]["blue"]["endpoints"])}
        },
    }
    for name in ("gw",):
        overlay["tenants"]["blue"]["endpoints"].pop(name)
    with laboratory(overlay, tmp_path) as lab:
        assert not [flow for flow in lab.flows("host1", "table=3,arp") if "arp_spa=10" in flow]
        assert [flow for flow in lab.flows("host2", "table=3,arp") if "arp_spa=10" in flow]
        # The guest becomes one that may.
        lab.change(lambda overlay: endpoint(overlay, "blue/a").update(spoofing="allow"))
        assert [flow for flow in lab.flows("host1", "table=3,arp") if "arp_spa=10" in flow]
        lab.change(lambda overlay: endpoint(overlay, "blue/a").pop("spoofing"))
        assert not [flow for flow in lab.flows("host1", "table=3,arp") if "arp_spa=10" in flow]


# A link that goes down


def _link(lab: OverlayLab, guest: str, state: str) -> None:
    there = lab.guests[guest].namespace
    run(["ip", "netns", "exec", there, "ip", "link", "set", "eth0", state])


def _answered(lab: OverlayLab, owner: str) -> tuple[bool, bool]:
    """Whether the host answers for this guest: by ARP, by neighbour discovery."""
    four, six, sure = lab.at(owner), lab.at(owner, 6), lab.at("blue/b", 6)[1]
    with closing(Wire(lab.guests["blue/a"].namespace, "eth0")) as wire:
        wire.send(arp(lab.mac("blue/a"), lab.at("blue/a"), four[1], token()))
        # The other host's guest is answered for in any case: then the others have been dealt with.
        for target in (six[1], sure):
            wire.send(solicitation(lab.at("blue/a", 6), target, token()))

        def advertised() -> list[str]:
            return [said.about for frame in wire.heard() if (said := read_advertisement(frame))]

        assert eventually(lambda: sure in advertised())
        replies = [reply.sender for frame in wire.heard() if (reply := read_arp(frame))]
        return four in replies, six[1] in advertised()


def test_nothing_is_answered_for_a_guest_whose_link_is_down(answering: OverlayLab) -> None:
    assert _answered(answering, "blue/gw") == (True, True)
    _link(answering, "blue/gw", "down")
    try:
        assert eventually(lambda: _answered(answering, "blue/gw") == (False, False))
    finally:
        _link(answering, "blue/gw", "up")
    assert eventually(lambda: _answered(answering, "blue/gw") == (True, True))
    answering.follows()


@pytest.mark.parametrize("router", [True, False])
def test_a_guest_keeps_its_default_route_while_its_routers_link_is_down(
    answering: OverlayLab, router: bool
) -> None:
    """It would lose it if the answer said that the router is none: that is what the other case
    shows.
    """
    lab = answering
    there, gateway = lab.guests["blue/a"].namespace, link_local(lab.mac("blue/gw"))
    if not router:
        lab.change(lambda overlay: endpoint(overlay, "blue/gw").update(router=False))
    ip = ["ip", "netns", "exec", there, "ip", "-6"]
    run(["ip", "netns", "exec", there, "sysctl", "-qw", "net.ipv6.conf.eth0.accept_ra=2"])
    # What the router's own kernel says of itself, if the question reaches it.
    forwards = f"net.ipv6.conf.eth0.forwarding={int(router)}"
    run(["ip", "netns", "exec", lab.guests["blue/gw"].namespace, "sysctl", "-qw", forwards])
    try:
        with lab.listening() as wires:
            wires.send(
                "blue/gw", icmpv6("router-advertisement", (lab.mac("blue/gw"), gateway), token())
            )

            def has_route() -> bool:
                return f"via {gateway}" in run([*ip, "route", "show", "default"])

            assert eventually(has_route)
            # It was resolved as a router, and is asked for again, of all.
            run([*ip, "neigh", "replace", gateway, "lladdr", lab.mac("blue/gw"), "dev", "eth0",
                 "nud", "stale", "router"])  # fmt: skip
            _link(lab, "blue/gw", "down")
            run([*ip, "neigh", "change", gateway, "dev", "eth0", "nud", "failed"])
            assert has_route()
            _link(lab, "blue/gw", "up")
            ping = ["ip", "netns", "exec", there, "sh", "-c",
                    f"ping -6 -c1 -W1 {gateway}%eth0 >/dev/null; true"]  # fmt: skip

            def known() -> bool:
                run(ping)
                return "lladdr" in run([*ip, "neigh", "show", gateway])

            assert eventually(known)
            assert has_route() == router
    finally:
        _link(lab, "blue/gw", "up")
        run([*ip, "route", "flush", "default"])
        if not router:
            lab.change(lambda overlay: endpoint(overlay, "blue/gw").update(router=True))
