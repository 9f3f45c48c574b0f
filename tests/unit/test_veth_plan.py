"""How a guest should be attached, as the overlay and its host's plane say."""

from __future__ import annotations

import pytest

from ovs_lwt.mistakes import Refused
from ovs_lwt.model import Plane
from ovs_lwt.sources.overlay_file import parse_text
from ovs_lwt.topology import Topology
from ovs_lwt.veth import plan_attach

OVERLAY = """
underlay: {mtu: 1500}
vteps:
  host1: {address: 192.0.2.11, plane: route}
  host2: {address: "2001:db8::12", plane: route}
tenants:
  blue:
    vni: 1010
    mark: 10
    endpoints:
      web1: {host: host1, mac: "02:00:00:00:00:01", ip: [10.0.0.11/24, "fd00::11/64"]}
  red:
    vni: 2020
    endpoints:
      web2: {host: host2, mac: "02:00:00:00:00:02", ip: [10.0.0.12/24]}
"""
BY_LABEL = OVERLAY.replace("    endpoints", "    encapsulation: mpls\n    endpoints")


def overlay(text: str = OVERLAY) -> Topology:
    return parse_text(text)


def test_on_plane_route_no_other_address_is_on_the_link() -> None:
    plan = plan_attach(overlay(), "blue/web1", "g1")
    assert plan.plane == "route"
    assert plan.addresses == ("10.0.0.11/32", "fd00::11/128")
    assert plan.mark == 10


@pytest.mark.parametrize("plane", ["ovs", "bridge"])
def test_on_the_others_its_network_is(plane: Plane) -> None:
    plan = plan_attach(overlay().on_plane(plane), "blue/web1", "g1")
    assert plan.plane == plane
    assert plan.addresses == ("10.0.0.11/24", "fd00::11/64")


@pytest.mark.parametrize(
    ("text", "endpoint", "mtu"),
    [
        (OVERLAY, "blue/web1", 1450),
        (OVERLAY, "red/web2", 1430),
        (BY_LABEL, "blue/web1", 1496),
        (BY_LABEL, "red/web2", 1496),
    ],
    ids=["VXLAN over IPv4", "VXLAN over IPv6", "MPLS", "MPLS, with IPv6 VTEPs"],
)
def test_the_mtu_leaves_room_for_what_carries_the_tenant(
    text: str, endpoint: str, mtu: int
) -> None:
    assert plan_attach(overlay(text), endpoint, "g1").mtu == mtu


def test_an_underlay_too_small_for_ipv6_behind_a_label() -> None:
    text = BY_LABEL.replace("mtu: 1500", "mtu: 1283")
    with pytest.raises(Refused, match=r"MTU of 1279.*underlay.mtu to 1284"):
        plan_attach(overlay(text), "blue/web1", "g1")
