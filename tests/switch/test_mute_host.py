"""The host hears nothing of its guests: the userspace datapath and plane route, on this kernel."""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Iterator

import pytest

from ovs_lwt.model import Plane
from tests.support import mute_stories
from tests.support.conformance_fabric import Fabric, fabric_up, overlay_of
from tests.support.guests import made
from tests.support.host_ears import Guest, Host, attack, attempts, listening
from tests.support.ovs import in_netns

# A stack forwards no broadcast; neighbour discovery keeps nothing of a frame's padding.
_NEVER_SHOWN = {
    "VXLAN of another tenant, by broadcast",
    "VXLAN of another tenant, by control",
    "a solicitation of its link-local address",
    "a router advertisement",
}
DRIFT = [
    "nft flush ruleset",
    "nft delete table inet ovs-lwt",
    "nft flush set inet ovs-lwt ports",
    "nft flush chain inet ovs-lwt delivered",
    "nft insert rule inet ovs-lwt arriving accept",
    "nft add table inet ovs-lwt '{{ flags dormant; }}'",
    "nft delete element inet ovs-lwt ports '{{ \"{port}\" }}'",
    "sysctl -qw net.ipv6.conf.{port}.accept_ra=2",
    "ip link set {port} arp on",
]


@pytest.fixture(scope="module", params=["ovs", "route"])
def fabric(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fabric]:
    plane: Plane = request.param
    overlay = overlay_of((plane, plane))
    # On both hosts the two tenants have the same guests, as far as addresses say.
    blue, red = (overlay["tenants"][tenant]["endpoints"] for tenant in ("blue", "red"))
    red["web2"] = copy.deepcopy(blue["web2"])
    with fabric_up(overlay, tmp_path_factory.mktemp("mute"), "netdev") as fabric:
        yield fabric


def test_what_a_host_would_hear_at_a_cable_of_its_own() -> None:
    """The attempts work: without walls each of them is heard that a stack can hear."""
    host, guest, far = (f"mut-{os.getpid()}-{name}" for name in ("h", "g", "f"))
    with made(host, guest, far):
        for setting in ("ip_forward=1", "conf.all.rp_filter=0", "conf.default.rp_filter=0"):
            in_netns(host, "sysctl", "-qw", f"net.ipv4.{setting}")
        for device, peer, where in (("u0", "u1", far), ("p0", "eth0", guest)):
            pair = ("type", "veth", "peer", "name", peer, "netns", where)
            in_netns(host, "ip", "link", "add", device, "up", *pair)
            in_netns(where, "ip", "link", "set", peer, "up")
        in_netns(host, "ip", "address", "add", "192.0.2.11/24", "dev", "u0")
        neighbour = ("192.0.2.12", "lladdr", "02:00:00:00:00:99", "dev", "u0", "nud", "permanent")
        in_netns(host, "ip", "neigh", "replace", *neighbour)
        there = Host(host, "192.0.2.11", "192.0.2.12", "p0", (far, "u1"))
        mac = "02:00:00:00:00:01"
        enemy = Guest(guest, (mac, "10.0.0.11"), (mac, "fd00::11"))
        time.sleep(1)  # until its link-local address is there
        with listening(there) as ears:
            attack(ears, enemy)
            heard = ears.heard()
    names = {name for name, _ in attempts(there, enemy, "02:00:00:00:00:02")}
    assert names - {name.removesuffix(", sent on") for name in heard} == _NEVER_SHOWN
    assert "VXLAN of another tenant, by its end, sent on" in heard
    assert "ping for another host, by its end, sent on" in heard
    assert {"a default route by a guest", "an address by a guest"} <= set(heard)


def test_nothing_is_heard(fabric: Fabric) -> None:
    mute_stories.nothing_is_heard(fabric)


def test_nothing_is_heard_while_a_guest_comes_and_goes(fabric: Fabric) -> None:
    mute_stories.nothing_is_heard_while_a_guest_comes_and_goes(fabric)


def test_nothing_is_heard_while_the_agent_is_away(fabric: Fabric) -> None:
    mute_stories.nothing_is_heard_while_the_agent_is_away(fabric)


def test_a_port_that_is_claimed_by_hand(fabric: Fabric) -> None:
    mute_stories.a_port_that_is_claimed_by_hand(fabric)


@pytest.mark.parametrize("change", DRIFT)
def test_what_somebody_changed_is_mended(fabric: Fabric, change: str) -> None:
    mute_stories.what_somebody_changed_is_mended(fabric, change)


def test_tenants_are_kept_apart_where_the_host_tracks_connections(fabric: Fabric) -> None:
    mute_stories.tenants_are_kept_apart_where_the_host_tracks_connections(fabric)


def test_nothing_stays_behind(fabric: Fabric) -> None:
    mute_stories.nothing_stays_behind(fabric)


def test_guests_still_reach_each_other(fabric: Fabric) -> None:
    assert not fabric.reach().wrong
