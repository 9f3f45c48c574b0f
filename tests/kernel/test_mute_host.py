"""The host hears nothing of its guests: every plane and datapath, on a kernel that has the modules.

That of user-mode Linux has no nft. There a port's place in a bridge or in the kernel's Open vSwitch
is the wall, and tc's filters where that is none.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import Final

import pytest

from ovs_lwt.lab.plan import Datapath
from ovs_lwt.model import Plane
from tests.support import mute_stories
from tests.support.conformance_fabric import Fabric, fabric_up, overlay_of

WALLS: Final[dict[str, tuple[Plane, Datapath]]] = {
    "userspace": ("ovs", "netdev"),
    "system": ("ovs", "system"),
    "bridge": ("bridge", "system"),
    "route": ("route", "system"),
}
DRIFT: Final = [
    "tc qdisc del dev {port} clsact",
    "sysctl -qw net.ipv6.conf.{port}.accept_ra=2",
    "ip link set {port} arp on",
]


@pytest.fixture(scope="module", params=WALLS)
def fabric(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fabric]:
    plane, datapath = WALLS[request.param]
    if datapath == "netdev":
        subprocess.run(["modprobe", "tun"], check=True)
    folder = tmp_path_factory.mktemp("mute")
    with fabric_up(overlay_of((plane, plane)), folder, datapath) as fabric:
        yield fabric


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


def test_guests_still_reach_each_other(fabric: Fabric) -> None:
    assert not fabric.reach().wrong


def test_nothing_is_heard_when_what_forwards_is_deleted(fabric: Fabric) -> None:
    if fabric.host(mute_stories.HOST).plane != "route":
        mute_stories.nothing_is_heard_when_what_forwards_is_deleted(fabric)
