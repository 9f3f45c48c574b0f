"""What is right, though it may not look so: spellings that an overlay may use."""

from __future__ import annotations

import pytest

from ovs_lwt.sources.overlay_file import parse_text
from tests.support.mistakes import GOOD, mistakes


@pytest.mark.parametrize(
    ("mac", "number"),
    [
        ("02:00:00:00:00:03", 0x020000000003),
        # YAML 1.1 reads this one, without quotes, as a number to the base of sixty.
        ("12:34:56:12:34:56", 0x123456123456),
        ('"AA:bb:CC:dd:EE:0f"', 0xAABBCCDDEE0F),
    ],
)
def test_a_mac_is_a_mac_with_quotes_and_without(mac: str, number: int) -> None:
    topology = parse_text(GOOD.replace('"02:00:00:00:00:02"', mac))
    assert number == topology.endpoints.mac[topology.endpoint_index("blue/web2")]


def test_names_that_look_like_something_else_are_names() -> None:
    topology = parse_text(
        "vteps: {1: {address: 192.0.2.1}, no: {address: 192.0.2.2}}\n"
        "tenants: {0x10: {vni: 1}, null: {vni: 2}, 1e3: {vni: 0x10}}\n"
    )
    assert topology.vteps.name == ("1", "no")
    assert topology.tenants.name == ("0x10", "null", "1e3")
    assert topology.tenants.vni.tolist() == [1, 2, 16]


def test_parts_that_are_empty_are_empty() -> None:
    topology = parse_text(
        "underlay:\nvteps:\n  host1: {address: 192.0.2.1}\ntenants:\n  blue:\n"
        "    vni: 1\n    mark:\n    endpoints:\n      # web1: {}\n"
    )
    assert topology.underlay.mtu == 1500
    assert topology.tenants.mark.tolist() == [1]
    assert len(topology.endpoints) == 0
    assert len(parse_text("vteps: {host1: {address: 192.0.2.1}}\ntenants: {}\n").tenants) == 0


def test_an_overlay_without_hosts_is_no_overlay() -> None:
    assert mistakes("vteps: {}\ntenants: {}\n") == [
        "overlay.yaml:1: vteps: is empty: an overlay needs at least one host"
    ]
    assert mistakes("underlay: {}\n") == [
        "overlay.yaml:1: vteps: is required, but missing",
        "overlay.yaml:1: tenants: is required, but missing",
    ]
