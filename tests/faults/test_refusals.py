"""The switch says no: to one flow, to a whole bundle, to a list.

It keeps what it had, and we say what it refused, and why.
"""

from __future__ import annotations

import re

import pytest

from ovs_lwt.backends.openflow import load
from ovs_lwt.backends.openflow.session import ForeignRemoved, State, SwitchRefused
from ovs_lwt.backends.outcome import Synced
from tests.support import fake_switch
from tests.support.fake_switch import BAD_SET_ARGUMENT, BUNDLE_CONTROL, FLOW_MOD, FakeSwitch, Flow
from tests.support.line import Line, holding, in_sync
from tests.support.overlays import spread, two_tenants, view

REMOTE_WEB2 = (
    "table=6 priority=200,metadata=1010,dl_dst=02:00:00:00:00:02"
    " actions=set_field:192.0.2.12->tun_dst,output:100"
)


def without_blue() -> dict[str, object]:
    overlay = two_tenants()
    del overlay["tenants"]["blue"]
    return overlay


def number_of_web2() -> int:
    """Which of the messages of a change from no blue to blue is web2's own flow."""
    line = in_sync(view(without_blue()))
    line.forget()
    line.desire(view())
    for number, message in enumerate(line.switch.bundled):
        dst = b"\x80\x00\x06\x06\x02\x00\x00\x00\x00\x02"
        if message.kind == FLOW_MOD and message.body[16] == 6 and dst in message.body:
            return number
    raise AssertionError("web2 has no flow")


def refusals(line: Line) -> list[SwitchRefused]:
    return [event for event in line.events if isinstance(event, SwitchRefused)]


def test_a_refused_flow_is_named_and_the_bundle_discarded() -> None:
    line = in_sync(view(without_blue()))
    held = line.switch.state.copy()
    line.forget()
    line.switch.refuse = {number_of_web2(): BAD_SET_ARGUMENT}
    line.desire(view())
    assert line.state() is State.REFUSED
    assert line.switch.state == held
    controls = [m.body[4:6] for m in line.switch.seen if m.kind == BUNDLE_CONTROL]
    assert controls == [b"\0\0", b"\0\6"], "opened, then discarded"
    (refused,) = refusals(line)
    (reason,) = refused.reasons
    cookie, _, flow = reason.partition(" ")
    assert re.fullmatch(r"cookie=0x4c5706..00" + f"{1010:06x}", cookie)
    assert flow.startswith(REMOTE_WEB2 + ": OFPBAC_BAD_SET_ARGUMENT")
    assert "OFPET_BAD_ACTION" in reason


def test_every_refused_flow_is_named() -> None:
    line = in_sync(view(without_blue()))
    line.forget()
    web2 = number_of_web2()
    # The next flow is that of web3; the first message is a group.
    line.switch.refuse = {web2: BAD_SET_ARGUMENT, web2 + 1: BAD_SET_ARGUMENT, 0: (6, 4)}
    line.desire(view())
    (refused,) = refusals(line)
    assert len(refused.reasons) == 3
    assert refused.reasons[0].startswith("add-group group_id=1010 (")
    assert "dl_dst=02:00:00:00:00:02" in refused.reasons[1]
    assert "dl_dst=02:00:00:00:00:03" in refused.reasons[2]


def test_a_refused_delete_is_named() -> None:
    switch = FakeSwitch()
    switch.state.flows[29, 7, bytes.fromhex("0001000400000000")] = Flow(0xBEEF, (0, 0), (0, 0), b"")
    line = Line(switch)
    line.session.desire(view(), line.now)
    added = len(in_sync(view()).switch.bundled)
    switch.refuse = {added: (5, 4)}
    line.connect()
    (refused,) = refusals(line)
    assert [reason.partition(": ")[0] for reason in refused.reasons] == [
        "delete cookie=0xbeef table=29 priority=7"
    ]
    assert not [event for event in line.events if isinstance(event, ForeignRemoved)]
    assert (29, 7, bytes.fromhex("0001000400000000")) in switch.state.flows


def test_a_full_table_leaves_the_old_state_whole_and_is_tried_again_when_there_is_room() -> None:
    line = in_sync(view(without_blue()))
    held = line.switch.state.copy()
    line.forget()
    line.switch.flow_limit = len(held.flows) + 3
    line.desire(view())
    assert line.state() is State.REFUSED
    assert line.switch.state == held
    (refused,) = refusals(line)
    (reason,) = refused.reasons
    # One of blue's flows: the fourth that did not find room.
    flow, _, why = reason.rpartition(": ")
    assert re.match(r"cookie=0x4c57\w{12} table=\d+ priority=\d+,.*1010", flow)
    assert why.startswith("OFPFMFC_TABLE_FULL")
    line.forget()
    line.wait(refused.retry_in - 0.1)
    assert line.switch.seen == []
    line.wait(0.1)
    (again,) = refusals(line)
    assert again.retry_in > refused.retry_in
    line.switch.flow_limit = 1 << 20
    line.wait(again.retry_in)
    assert line.state() is State.IN_SYNC
    assert line.switch.state == holding(view())


def test_a_switch_that_goes_on_refusing_is_asked_ever_more_seldom() -> None:
    line = Line(FakeSwitch(flow_limit=3))
    line.session.desire(view(), line.now)
    line.connect()
    for _ in range(12):
        line.wait(refusals(line)[-1].retry_in)
    waits = [refused.retry_in for refused in refusals(line)]
    assert waits == sorted(waits)
    assert waits[0] == 5
    assert waits[1] == 10
    assert waits[-1] == waits[-2] == 300
    assert line.switch.state == fake_switch.State()


def test_a_change_is_tried_at_once_and_patience_begins_anew() -> None:
    line = Line(FakeSwitch(flow_limit=3))
    line.session.desire(view(), line.now)
    line.connect()
    line.wait(refusals(line)[-1].retry_in)
    line.forget()
    line.desire(view(without_blue()))
    (refused,) = refusals(line)
    assert refused.retry_in == 5
    line.switch.flow_limit = 1000
    line.desire(view())
    assert line.state() is State.IN_SYNC
    assert line.switch.state == holding(view())


def test_after_a_refusal_the_next_one_waits_no_longer_than_the_first() -> None:
    line = Line(FakeSwitch(flow_limit=3))
    line.session.desire(view(without_blue()), line.now)
    line.connect()
    line.wait(5)
    line.switch.flow_limit = 1000
    line.wait(10)
    assert line.state() is State.IN_SYNC
    line.forget()
    line.switch.flow_limit = len(line.switch.state.flows)
    line.desire(view())
    (refused,) = refusals(line)
    assert refused.retry_in == 5


def test_too_many_groups_are_refused_by_name() -> None:
    line = Line(FakeSwitch(group_limit=1))
    line.session.desire(view(), line.now)
    line.connect()
    (refused,) = refusals(line)
    (reason,) = refused.reasons
    assert reason.startswith("add-group group_id=")
    assert "OFPGMFC_OUT_OF_GROUPS" in reason
    assert line.switch.state == fake_switch.State()


def test_a_commit_refused_as_a_whole_is_told_as_that() -> None:
    line = in_sync(view(without_blue()))
    line.forget()
    line.session.desire(view(), line.now)
    line.turn()
    assert line.state() is State.COMMITTING
    xid = int.from_bytes(line.session.outbox[-1][4:8], "big")
    line.session.outbox.clear()
    commit = fake_switch.Message(BUNDLE_CONTROL, xid, b"\0" * 8)
    line.session.receive(fake_switch.error(commit, (17, 14)), line.now)
    line.settle()
    (refused,) = refusals(line)
    assert refused.reasons[0].startswith("the bundle: OFPBFC_TIMEOUT")


def test_an_answer_to_a_guest_that_is_refused_meanwhile_costs_no_bundle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It bears the transaction id 0, which nothing waits for, also before there is a barrier."""
    monkeypatch.setattr(load, "PIECE", 1)
    line = in_sync(view(without_blue()))
    line.forget()
    line.session.desire(view(), line.now)
    assert line.state() is State.LOADING
    packet_out = fake_switch.Message(13, 0, b"\0" * 16)
    line.session.receive(fake_switch.error(packet_out, (1, 6)), line.now)
    line.settle()
    assert line.state() is State.IN_SYNC
    assert refusals(line) == []


def test_a_list_that_the_switch_refuses_is_asked_for_again_later() -> None:
    line = Line()
    line.session.desire(view(), line.now)
    line.session.connected(line.now)
    flows = max(line.session.listing_xids)
    line.session.outbox.clear()
    request = fake_switch.Message(18, flows, b"\0\1" + b"\0" * 6)
    line.session.receive(fake_switch.error(request, (1, 2)), line.now)
    line.settle()
    (refused,) = refusals(line)
    assert refused.reasons[0].startswith("listing flows and groups: OFPBRC_BAD_MULTIPART")
    line.wait(refused.retry_in)
    assert line.state() is State.IN_SYNC


def test_an_error_of_a_kind_that_nobody_knows_is_told_by_its_numbers() -> None:
    line = in_sync(view(without_blue()))
    line.forget()
    line.switch.refuse = {number_of_web2(): (0xFFFF, 2600)}
    line.desire(view())
    (refused,) = refusals(line)
    assert "2600" in refused.reasons[0]


def test_a_share_that_no_message_holds_is_refused_before_anything_is_sent() -> None:
    line = in_sync(view(without_blue()))
    held = line.switch.state.copy()
    line.forget()
    line.desire(view(spread(11_000), "host0001"))
    assert line.state() is State.REFUSED
    assert line.switch.seen == []
    (refused,) = refusals(line)
    reason = refused.reasons[0]
    assert re.match(r"group 1\d+ would have 1\d{3} members, .* over fewer hosts", reason)
    line.desire(view(without_blue()))
    assert line.state() is State.IN_SYNC
    assert line.switch.state == held
    assert isinstance(line.events[-1], Synced)
