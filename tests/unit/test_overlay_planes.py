"""Which planes a tenant may lie on, and which labels and marks plane route can use."""

from __future__ import annotations

from pathlib import Path

import pytest

from ovs_lwt.mistakes import Refused
from ovs_lwt.sources.overlay_file import parse_text, planes_in
from tests.support.mistakes import mistakes

ROUTED = """\
vteps:
  host1: {address: 192.0.2.11, plane: route}
  host2: {address: 192.0.2.12, plane: route}
  host3: {address: 192.0.2.13, plane: bridge}
  host4: {address: 192.0.2.14}
tenants:
  blue:
    vni: 1010
    encapsulation: mpls
    endpoints:
      web1: {host: host1, mac: "02:00:00:00:00:01", ip: 10.0.0.11/24}
      web2: {host: host2, mac: "02:00:00:00:00:02", ip: 10.0.0.12/24}
  red:
    vni: 2020
    endpoints:
      web1: {host: host3, mac: "02:00:00:00:00:01", ip: 10.0.0.11/24}
      web2: {host: host4, mac: "02:00:00:00:00:02", ip: 10.0.0.12/24}
"""


def test_every_host_has_its_plane_and_ovs_is_the_default() -> None:
    topology = parse_text(ROUTED)
    assert topology.vteps.plane == ("route", "route", "bridge", "ovs")
    assert topology.tenants.label.tolist() == [1010, 0]


def test_a_label_of_its_own_wins_over_the_vni() -> None:
    text = ROUTED.replace("encapsulation: mpls", "encapsulation: mpls\n    label: 77")
    assert parse_text(text).tenants.label.tolist() == [77, 0]


@pytest.mark.parametrize(
    ("right", "wrong", "told"),
    [
        (
            "plane: route}\n  host3",
            "plane: bridge}\n  host3",
            (
                "overlay.yaml:7: tenants.blue: has endpoints on plane route (web1 on host1) and on"
                " another plane (web2 on host2): routes carry IP, the others Ethernet; put all"
                " hosts of"
                " the tenant on plane route, or none"
            ),
        ),
        (
            "vni: 2020",
            "vni: 2020\n    encapsulation: mpls",
            (
                "overlay.yaml:15: tenants.red.encapsulation: mpls needs plane route on every"
                " host of"
                " the tenant, and host3 is not: write 'plane: route' under vteps.host3"
            ),
        ),
        (
            "vni: 1010",
            "vni: 1010\n    mark: 254",
            (
                "overlay.yaml:9: tenants.blue.mark: mark 254 would be the number of the tenant's"
                " routing table on plane route, and 252 to 255 are the kernel's own: give the"
                " tenant"
                " another mark"
            ),
        ),
        (
            "vni: 1010",
            "vni: 3000000",
            (
                "overlay.yaml:8: tenants.blue.vni: VNI 3000000 cannot be the MPLS label too,"
                " which lies"
                " in 16..1048575: give the tenant a label"
            ),
        ),
        (
            "encapsulation: mpls",
            "encapsulation: mpls\n    label: 3",
            "overlay.yaml:10: tenants.blue.label: MPLS label 3 is outside 16..1048575",
        ),
        (
            "plane: bridge",
            "plane: brigde",
            "overlay.yaml:4: vteps.host3.plane: plane is ovs or bridge or route, not 'brigde'",
        ),
    ],
)
def test_one_slip_gives_one_message(right: str, wrong: str, told: str) -> None:
    assert ROUTED.count(right) == 1
    assert mistakes(ROUTED.replace(right, wrong)) == [told]


def test_two_tenants_cannot_have_one_label() -> None:
    green = (
        "green:\n    vni: 3030\n    encapsulation: mpls\n    label: 1010\n    endpoints: {}\n  red"
    )
    assert mistakes(ROUTED.replace("red", green, 1)) == [
        (
            "overlay.yaml:16: tenants.green.label: MPLS label 1010 is already that of tenant blue:"
            " give one of them another"
        )
    ]


def test_a_whole_overlay_can_be_put_on_another_plane() -> None:
    plain = parse_text(ROUTED.replace("    encapsulation: mpls\n", ""))
    assert set(plain.on_plane("bridge").vteps.plane) == {"bridge"}
    with pytest.raises(Refused, match="tenant blue is carried by MPLS, which plane ovs cannot do"):
        parse_text(ROUTED).on_plane("ovs")


def test_the_planes_are_known_at_a_glance(tmp_path: Path) -> None:
    path = tmp_path / "overlay.yaml"
    path.write_text(ROUTED)
    named = {"host1": "route", "host2": "route", "host3": "bridge", "host4": "ovs"}
    assert planes_in(path) == named
    for broken in ("", "vteps: [", "vteps: 7", "vteps: {host1: 3}"):
        path.write_text(broken)
        assert planes_in(path) == {}


@pytest.mark.parametrize(
    ("host", "plane", "why"),
    [
        ("host3", "bridge", "the bridge takes a tag for a VLAN of its own"),
        ("host1", "route", "routes carry IP alone"),
    ],
)
def test_vlan_tags_are_refused_where_a_plane_cannot_carry_them(
    host: str, plane: str, why: str
) -> None:
    tenant = {"bridge": "red", "route": "blue"}[plane]
    vni = {"red": "vni: 2020", "blue": "vni: 1010"}[tenant]
    (said,) = mistakes(ROUTED.replace(vni, f"{vni}\n    vlan_tagged: carry"))
    assert said.endswith(
        f"tenants.{tenant}.vlan_tagged: {host} is on plane {plane}, which cannot carry VLAN tags:"
        f" {why}; write 'vlan_tagged: drop', or put all hosts of the tenant on plane ovs"
    )


def test_allowed_pairs_are_refused_on_plane_route() -> None:
    """An address that may be at several places has no route; a bridge floods to them."""

    def paired(follower: str) -> str:
        plain = f"ip: 10.0.0.11/24}}\n      web2: {{host: {follower}"
        return ROUTED.replace(plain, plain.replace("}", ", allowed_pairs: [{ip: 10.0.0.9}]}", 1))

    assert len(parse_text(paired("host4")).whole.pairs4) == 1
    (said,) = mistakes(paired("host2"))
    assert "tenants.blue.endpoints.web1.allowed_pairs" in said
    assert said.endswith(
        "host1 is on plane route, which cannot carry allowed pairs: a route leads to one endpoint;"
        " write the address as the endpoint's own, or take another plane"
    )
