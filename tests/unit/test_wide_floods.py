"""Flood lists wider than a group or than the datapath: how they are split, and who is told."""

from __future__ import annotations

import pytest

from ovs_lwt.backends.openflow import floods, program
from ovs_lwt.backends.openflow.floods import SHARED_LIST
from ovs_lwt.backends.openflow.limits import GUESTS, ONE_GROUP, ONE_PASS, SHARES
from tests.support.fake_switch import FakeSwitch, groups_called, ports_fed
from tests.support.line import Line
from tests.support.overlays import Overlay, crowded, spread, view
from tests.support.world import Story, World

HOST = "host0001"


def groups(overlay: Overlay, *, userspace: bool = True) -> dict[int, bytes]:
    """The groups of VTEPs on the first host."""
    found = program.full(view(overlay, HOST, userspace=userspace)).groups
    return {number: body for number, body in found.items() if number >= SHARED_LIST}


def test_a_list_that_fits_is_one_group() -> None:
    assert list(groups(spread(ONE_GROUP + 1))) == [SHARED_LIST + 1010]


@pytest.mark.parametrize("userspace", [True, False], ids=["userspace", "kernel"])
def test_of_a_wider_list_every_group_fits_a_message(userspace: bool) -> None:
    found = groups(spread(3000), userspace=userspace)
    assert len(found) == SHARES
    assert all(len(body) < 0xFFFF - 100 for body in found.values())
    assert all(floods.is_ours(number) for number in found)
    assert floods.is_ours(1010)
    assert not floods.is_ours(50_000_000)


@pytest.mark.parametrize("guests", [1, GUESTS, GUESTS + 1, 3 * GUESTS])
def test_many_guests_of_one_tenant_are_spread_over_groups_that_call_each_other(guests: int) -> None:
    line = Line(FakeSwitch(entries_per_part=1))
    line.session.desire(view(crowded(guests), HOST), line.now)
    line.connect()
    groups = {
        number: body
        for number, (_, body) in line.switch.state.groups.items()
        if number != SHARED_LIST + 1010
    }
    assert len(groups) == -(-guests // GUESTS)
    assert all(len(body) < 0xFFFF - 100 for body in groups.values())
    assert all(floods.is_ours(number) for number in groups)
    ports: list[int] = []
    following = [1010]
    while following:
        body = groups.pop(following[0])
        ports += ports_fed(body)
        following = list(groups_called(body))
    assert groups == {}
    assert sorted(ports) == list(range(1, guests + 1))

    line.session.desire(view(crowded(1), HOST), line.now)
    line.settle()
    assert sorted(line.switch.state.groups) == [1010, SHARED_LIST + 1010]


def test_a_vtep_more_is_one_changed_group() -> None:
    before, after = groups(spread(1500)), groups(spread(1501))
    assert before.keys() == after.keys()
    assert sum(before[number] != after[number] for number in before) == 1


def test_groups_come_before_those_that_call_them_and_go_after() -> None:
    """The switch here refuses a group that calls one which is not there."""
    line = Line(FakeSwitch(entries_per_part=1))
    line.session.desire(view(crowded(5 * GUESTS), HOST), line.now)
    line.connect()
    calling = [body for _, body in line.switch.state.groups.values() if list(groups_called(body))]
    assert len(calling) == 4
    line.session.desire(view(crowded(1), HOST), line.now)
    line.settle()
    assert sorted(line.switch.state.groups) == [1010, SHARED_LIST + 1010]
    deleted = [
        int.from_bytes(message.body[4:8], "big")
        for message in line.switch.bundled
        if message.kind == 15 and message.body[1] == 2
    ]
    assert deleted == sorted(deleted)
    assert len(deleted) == 4


@pytest.mark.parametrize("offers", [False, True])
def test_a_list_that_is_chained_goes_whole(offers: bool) -> None:
    """On the kernel's datapath; with what leaves ask for, and without."""
    line = Line(FakeSwitch(entries_per_part=1))
    line.session.desire(view(spread(10), HOST, userspace=False, offers=offers), line.now)
    line.connect()
    before = line.switch.state.copy()
    for hosts in (700, 10):
        line.session.desire(view(spread(hosts), HOST, userspace=False, offers=offers), line.now)
        line.settle()
        groups = len(line.switch.state.groups) - 1
        assert groups == (1 if hosts == 10 else 2 * SHARES if offers else SHARES)
    assert line.switch.state == before


def test_from_narrow_to_wide_and_back_is_a_change_like_any_other() -> None:
    narrow, wide = (view(spread(hosts), HOST) for hosts in (ONE_GROUP, ONE_GROUP + 200))
    line = Line(FakeSwitch(entries_per_part=1))
    line.session.desire(narrow, line.now)
    line.connect()
    before = line.switch.state.copy()
    for each in (wide, narrow):
        line.session.desire(each, line.now)
        line.settle()
    assert line.switch.state == before


def test_whose_broadcasts_are_too_wide_is_in_the_log_once_and_in_the_status(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    def told() -> list[str]:
        found = [record.getMessage() for record in caplog.records if "copies" in record.message]
        caplog.clear()
        return found

    world.source.overlay = renamed(spread(ONE_PASS + 2))

    def story() -> Story:
        world.connect("host1")
        yield
        assert world.status("host1")["wide_floods"] == {"blue": ONE_PASS + 1}
        (line,) = told()
        assert line.startswith(f"host1:   blue: {ONE_PASS + 1} copies of a broadcast, which ")
        assert line.endswith("mark hosts of the tenant 'replicator: true'")

        world.ask("reload")
        yield
        assert told() == []

        world.source.overlay["vteps"]["host0002"]["replicator"] = True
        world.ask("reload")
        yield
        assert world.status("host1")["wide_floods"] == {}
        assert told() == []

    world.run(story(), "host1")


def renamed(overlay: Overlay) -> Overlay:
    """The same with a first host that is called host1."""
    overlay["vteps"] = {"host1": overlay["vteps"].pop(HOST), **overlay["vteps"]}
    overlay["tenants"]["blue"]["endpoints"]["web1"]["host"] = "host1"
    return overlay
