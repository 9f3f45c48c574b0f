# ruff: noqa: E501 - what the user is told stands as the user sees it
"""MAC prefixes of hosts in the overlay: how they are written, and what is told of wrong ones."""

from __future__ import annotations

import pytest

from ovs_lwt.sources.overlay_file import parse_text
from ovs_lwt.topology import VtepColumns
from tests.support.mistakes import GOOD, mistakes


def planned(*prefixes: str) -> str:
    """The overlay without a mistake, its hosts with these prefixes, as they would be typed."""
    text = GOOD
    for number, prefix in enumerate(prefixes, 11):
        address = f"address: 192.0.2.{number}"
        text = text.replace(address, f"{address}, mac_prefix: {prefix}")
    return text


def vteps(*prefixes: str) -> VtepColumns:
    return parse_text(planned(*prefixes)).vteps


@pytest.mark.parametrize(
    ("written", "prefix", "mask"),
    [
        ("02:00:01:00:00:00/24", 0x020001000000, 0xFFFFFF000000),
        ('"0A:BC:DE:F0:00:00/28"', 0x0ABCDEF00000, 0xFFFFFFF00000),
        ("52:00:00:00:00:00/8", 0x520000000000, 0xFF0000000000),
        ("02:00:00:00:00:fe/47", 0x0200000000FE, 0xFFFFFFFFFFFE),
        # Without its length YAML 1.1 reads this as a number to the base of sixty.
        ("12:34:56:00:00:00/24", 0x123456000000, 0xFFFFFF000000),
    ],
)
def test_a_prefix_is_a_mac_and_how_much_of_it_counts(written: str, prefix: int, mask: int) -> None:
    found = vteps(written)
    assert (int(found.mac_prefix[0]), int(found.mac_mask[0])) == (prefix, mask)
    assert found.mac_prefix[1:].tolist() == found.mac_mask[1:].tolist() == [0, 0]


def test_a_host_that_says_nothing_has_none() -> None:
    assert vteps("", "null").mac_mask.tolist() == [0, 0, 0]


def test_prefixes_of_different_lengths_may_stand_side_by_side() -> None:
    found = vteps("02:00:00:00:00:00/23", "02:00:02:00:00:00/40")
    assert found.mac_mask[:2].tolist() == [0xFFFFFE000000, 0xFFFFFFFFFF00]


PLACE = "overlay.yaml:3: vteps.host1.mac_prefix: "


@pytest.mark.parametrize(
    ("written", "told"),
    [
        (
            "02:00:01/24",
            "MAC prefix '02:00:01/24' is malformed: write it like 02:00:01:00:00:00/24",
        ),
        (
            "02:00:01:00:00:00/ff:ff:ff:00:00:00",
            "MAC prefix '02:00:01:00:00:00/ff:ff:ff:00:00:00' is malformed: write it like 02:00:01:00:00:00/24",
        ),
        (
            "02:00:01:00:00:00/024",
            "MAC prefix '02:00:01:00:00:00/024' is malformed: write it like 02:00:01:00:00:00/24",
        ),
        (
            "02:00:01:00:00:00",
            "MAC prefix '02:00:01:00:00:00' has no length: write it like 02:00:01:00:00:00/24",
        ),
        ("02:00:00:00:00:00/7", "MAC prefix 02:00:00:00:00:00/7 is 7 bits long: take 8 to 47"),
        ("02:00:00:00:00:01/48", "MAC prefix 02:00:00:00:00:01/48 is 48 bits long: take 8 to 47"),
        (
            "02:00:01:00:00:09/24",
            "MAC prefix 02:00:01:00:00:09/24 has bits set behind its 24: write 02:00:01:00:00:00/24",
        ),
        (
            "02:00:ff:00:00:00/20",
            "MAC prefix 02:00:ff:00:00:00/20 has bits set behind its 20: write 02:00:f0:00:00:00/20",
        ),
        (
            "03:00:01:00:00:00/24",
            "MAC prefix 03:00:01:00:00:00/24 is multicast: endpoints' MACs are not (second digit even)",
        ),
        ("24", "MAC prefix '24' is malformed: write it like 02:00:01:00:00:00/24"),
        ("[]", "a MAC prefix is text, like 02:00:01:00:00:00/24, not a list"),
    ],
)
def test_a_wrong_prefix_is_told_with_its_place_and_the_mend(written: str, told: str) -> None:
    assert mistakes(planned(written)) == [PLACE + told]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("02:00:01:00:00:00/24", "02:00:01:00:00:00/24"),
        ("02:00:00:00:00:00/16", "02:00:01:00:00:00/24"),
        ("02:00:01:00:00:00/24", "02:00:00:00:00:00/16"),
        ("02:00:00:00:00:fe/47", "02:00:00:00:00:00/8"),
    ],
)
def test_a_mac_lies_under_one_prefix_at_most(one: str, other: str) -> None:
    assert mistakes(planned(one, other)) == [
        f"overlay.yaml:4: vteps.host2.mac_prefix: MAC prefix {other} overlaps that of host host1, {one} (overlay.yaml:3): give each host a prefix of its own"
    ]


def test_each_host_that_is_in_anothers_way_is_told() -> None:
    text = planned("02:00:01:00:00:00/24", "02:00:02:00:00:00/24").replace(
        'address: "2001:db8::6"', 'address: "2001:db8::6", mac_prefix: 02:00:00:00:00:00/16'
    )
    assert [mistake.split(" (")[0] for mistake in mistakes(text)] == [
        f"overlay.yaml:5: vteps.host6.mac_prefix: MAC prefix 02:00:00:00:00:00/16 overlaps that of host host{number}, 02:00:0{number}:00:00:00/24"
        for number in (1, 2)
    ]


def test_a_prefix_that_is_wrong_by_itself_overlaps_nothing() -> None:
    assert len(mistakes(planned("02:00:01:00:00:01/24", "02:00:01:00:00:00/24"))) == 1


def test_a_wrong_overlay_does_not_hide_prefixes_that_overlap() -> None:
    text = planned("02:00:01:00:00:00/24", "02:00:01:00:00:00/24").replace("1020", "0")
    assert len(mistakes(text)) == 2
