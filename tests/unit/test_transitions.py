"""What one change may not do, although the overlay before and the one after are both right."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest

from ovs_lwt.sources.overlay_file import from_dict
from ovs_lwt.transitions import REST, Released, judge
from tests.support.overlays import Overlay, two_tenants

Change = Callable[[Overlay], object]


def swap(overlay: Overlay) -> None:
    blue, red = overlay["tenants"]["blue"], overlay["tenants"]["red"]
    blue["vni"], red["vni"] = red["vni"], blue["vni"]


def exchange_names(overlay: Overlay) -> None:
    tenants = overlay["tenants"]
    tenants["blue"], tenants["red"] = tenants["red"], tenants["blue"]


def remove_and_add(overlay: Overlay) -> None:
    tenants = overlay["tenants"]
    tenants["green"] = {**tenants.pop("blue"), "endpoints": {}}
    tenants["green"]["endpoints"]["g"] = {"host": "host1", "mac": "02:00:00:00:00:77"}


def rotate(overlay: Overlay) -> None:
    tenants = overlay["tenants"]
    tenants["green"] = {"vni": tenants["blue"]["vni"], "endpoints": {}}
    tenants["blue"]["vni"] = 4711


def swap_marks(overlay: Overlay) -> None:
    blue, red = overlay["tenants"]["blue"], overlay["tenants"]["red"]
    blue["mark"], red["mark"] = 2020, 1010


def a_mark_that_was_a_vni(overlay: Overlay) -> None:
    """Blue's mark is its VNI until now."""
    overlay["tenants"]["blue"].pop("mark", None)
    overlay["tenants"]["blue"]["vni"] = 4711
    overlay["tenants"]["red"]["mark"] = 1010


def rename_and_more(overlay: Overlay) -> None:
    tenants = overlay["tenants"]
    tenants["azure"] = tenants.pop("blue")
    next(iter(tenants["azure"]["endpoints"].values()))["mac"] = "02:00:00:00:00:78"


@pytest.fixture
def overlay() -> Overlay:
    found = two_tenants()
    for tenant in found["tenants"].values():
        tenant.pop("mark", None)
    return found


def test_a_number_rests_before_it_is_anothers(overlay: Overlay) -> None:
    """Packets that bear it may be under way: blue's would be red's."""
    first, second, third = overlay, copy.deepcopy(overlay), copy.deepcopy(overlay)
    second["tenants"]["blue"]["vni"] = third["tenants"]["blue"]["vni"] = 4711
    third["tenants"]["red"]["vni"] = 1010
    running, freed, given = map(from_dict, (first, second, third))
    released = Released()
    assert released.resting(freed, 10.0) is None
    released.note(running, freed, {}, 10.0)
    assert released.resting(freed, 10.0) is None, "a new number is nobody's before"
    assert released.resting(running, 10.0) is None, "who has given it up may have it back"
    at, why = released.resting(given, 10.5) or (0.0, "")
    assert at == 10.0 + REST
    assert "VNI 1010 was tenant blue's until just now" in why
    assert "it becomes tenant red's in 1.5 s" in why
    assert released.resting(given, at) is None


def test_a_renamed_tenant_gives_up_no_number(overlay: Overlay) -> None:
    after = copy.deepcopy(overlay)
    after["tenants"]["azure"] = after["tenants"].pop("blue")
    before, renamed = from_dict(overlay), from_dict(after)
    released = Released()
    released.note(before, renamed, judge(before, renamed).renamed, 0.0)
    assert released.resting(renamed, 0.0) is None


@pytest.mark.parametrize(
    "change", [swap, exchange_names, remove_and_add, rotate, a_mark_that_was_a_vni, rename_and_more]
)
def test_a_number_that_another_tenant_bears(overlay: Overlay, change: Change) -> None:
    after = copy.deepcopy(overlay)
    change(after)
    verdict = judge(from_dict(overlay), from_dict(after))
    assert verdict.handed_over
    assert "Do it in two steps: first take" in verdict.handed_over[0]
    assert not verdict.renamed
    assert verdict.strangers


def test_marks_change_hands_no_better_than_vnis(overlay: Overlay) -> None:
    overlay["tenants"]["blue"]["mark"], overlay["tenants"]["red"]["mark"] = 10, 20
    after = copy.deepcopy(overlay)
    swapped = after["tenants"]
    swapped["blue"]["mark"], swapped["red"]["mark"] = 20, 10
    verdict = judge(from_dict(overlay), from_dict(after))
    assert [sentence[:7] for sentence in verdict.handed_over] == ["mark 10", "mark 20"]


def test_two_steps_are_taken(overlay: Overlay) -> None:
    """First the number is nobody's."""
    between, after = copy.deepcopy(overlay), copy.deepcopy(overlay)
    del between["tenants"]["blue"]
    after["tenants"]["red"]["vni"] = overlay["tenants"]["blue"]["vni"]
    del after["tenants"]["blue"]
    steps = [from_dict(each) for each in (overlay, between, after)]
    for before, behind in ((0, 1), (1, 2)):
        assert judge(steps[before], steps[behind]).handed_over == ()
    assert judge(steps[0], steps[2]).handed_over


def test_a_tenant_that_keeps_vni_and_endpoints_is_renamed(overlay: Overlay) -> None:
    after = copy.deepcopy(overlay)
    after["tenants"]["azure"] = after["tenants"].pop("blue")
    verdict = judge(from_dict(overlay), from_dict(after))
    assert verdict.renamed == {"blue": "azure"}
    assert verdict.handed_over == ()
    assert verdict.braked is None


def many(count: int) -> Overlay:
    overlay = two_tenants()
    overlay["tenants"]["blue"]["endpoints"] = {
        f"e{n}": {"host": "host1", "mac": f"02:00:00:01:{n >> 8:02x}:{n & 255:02x}"}
        for n in range(count)
    }
    return overlay


@pytest.mark.parametrize(
    ("before", "after", "braked"),
    [(1000, 900, False), (1000, 799, True), (1000, 0, True), (110, 11, False), (400, 200, True)],
)
def test_the_brake(before: int, after: int, *, braked: bool) -> None:
    verdict = judge(from_dict(many(before)), from_dict(many(after)))
    assert (verdict.braked is not None) == braked
    if verdict.braked:
        assert "ovs-lwt reload --force" in verdict.braked
        assert f"{before - after:,} of" in verdict.braked


def test_moving_and_changing_is_not_taking_away() -> None:
    overlay = many(1000)
    after = copy.deepcopy(overlay)
    for n, endpoint in enumerate(after["tenants"]["blue"]["endpoints"].values()):
        endpoint["host"] = "host2"
        endpoint["mac"] = f"02:00:00:02:{n >> 8:02x}:{n & 255:02x}"
    assert judge(from_dict(overlay), from_dict(after)).braked is None


def test_a_tenant_that_is_gone_is_named() -> None:
    overlay = many(1000)
    after = copy.deepcopy(overlay)
    del after["tenants"]["blue"]
    assert "tenants that are gone: blue" in (
        judge(from_dict(overlay), from_dict(after)).braked or ""
    )
    assert judge(from_dict(overlay), from_dict(after), share=100).braked is None
