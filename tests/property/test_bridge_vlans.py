"""Whatever tenants come and go: a VLAN stays a tenant's, and is nobody else's."""

from __future__ import annotations

import tempfile
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovs_lwt.backends.bridge.vlans import FIRST, LAST, VlanStore, allocate
from ovs_lwt.mistakes import Refused
from ovs_lwt.sources.overlay_file import from_dict
from ovs_lwt.view import View
from tests.property.hosts import Overlay, changes, views

# Few VNIs, so that they come back; marks around what can be a VLAN.
vnis = st.integers(1, 12)
marks = st.one_of(st.integers(1, 15), st.integers(LAST - 2, LAST + 3))
tenants = st.dictionaries(vnis, marks, max_size=10)


@given(st.lists(tenants, min_size=1, max_size=8))
def test_a_tenant_that_stays_keeps_its_vlan_and_no_two_have_one(
    history: list[dict[int, int]],
) -> None:
    held: dict[int, int] = {}
    for here in history:
        after = allocate(held, here)
        assert after.keys() == here.keys()
        assert all(after[vni] == held[vni] for vni in held.keys() & here.keys())
        assert len(set(after.values())) == len(after)
        assert all(FIRST <= vlan <= LAST for vlan in after.values())
        # Nor does one that comes get what one that has just left may still be in.
        new = {after[vni] for vni in here.keys() - held.keys()}
        assert not new & set(held.values())
        held = after


@given(tenants, st.randoms())
def test_from_nothing_the_same_tenants_get_the_same_vlans(
    here: dict[int, int], random: Random
) -> None:
    shuffled = list(here.items())
    random.shuffle(shuffled)
    given_vlans = allocate({}, here)
    assert allocate({}, dict(shuffled)) == given_vlans
    assert list(given_vlans) == sorted(here)
    taken = [mark for mark in here.values() if mark <= LAST]
    assert set(taken) <= set(given_vlans.values())


@given(st.sets(st.integers(1, LAST), max_size=6), st.sets(st.integers(5000, 5010), max_size=6))
@settings(max_examples=20)
def test_all_vlans_can_be_in_use(gone: set[int], come: set[int]) -> None:
    held = {vni: vni for vni in range(1, LAST + 1)}
    here = {vni: vni for vni in held.keys() - gone} | dict.fromkeys(sorted(come)[: len(gone)], 1)
    after = allocate(held, here)
    assert len(set(after.values())) == len(here)


@given(st.data(), changes())
@settings(max_examples=30)
def test_a_file_that_is_cut_short_is_refused_and_a_whole_one_kept(
    data: st.DataObject, overlay: tuple[Overlay, Overlay]
) -> None:
    before, after = (
        data.draw(views(topology, 0)) for topology in (from_dict(overlay[0]), from_dict(overlay[1]))
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "host1.vlans")
        VlanStore(path).keep(before)
        store = VlanStore(path)
        store.keep(after)
        if not path.exists():
            return
        assert given_by(VlanStore(path), after) == given_by(store, after)
        whole = path.read_bytes()
        path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 2))])
        with pytest.raises(Refused, match="restore it, or delete it"):
            VlanStore(path).of(after)


def given_by(store: VlanStore, view: View) -> list[int]:
    found: list[int] = store.of(view).tolist()
    return found
