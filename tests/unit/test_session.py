"""A session and its switch, in good times: what is sent, when, and in which order."""

from __future__ import annotations

import dataclasses
import itertools
import re
import struct
from typing import Any

import numpy as np
import pytest

from ovs_lwt.backends.openflow import load, program, reading, transaction
from ovs_lwt.backends.openflow.foreign import LIMIT
from ovs_lwt.backends.openflow.session import ForeignRemoved, Session, State, SwitchRefused
from ovs_lwt.backends.outcome import AUDIT, Synced
from ovs_lwt.mistakes import Refused
from ovs_lwt.view import View
from tests.support import fake_switch
from tests.support.fake_switch import BUNDLE_ADD, FLOW_MOD, GROUP_MOD, FakeSwitch, Flow, Message
from tests.support.line import Line, holding, in_sync
from tests.support.overlays import claims, endpoint, two_tenants, view

MATCH_ALL = bytes.fromhex("0001000400000000")
SOMEBODYS = Flow(0xBEEF, (0, 0), (0, 0), b"")
FLOOD_BLUE_HERE, FLOOD_RED_HERE = 1010, 2020
FLOOD_BLUE, FLOOD_RED = 1_000_001_010, 1_000_002_020


def deletes(message: Message) -> bool:
    if message.kind == GROUP_MOD:
        return message.body[:2] == b"\0\2"
    return message.body[17] == 4


def blue_moved_to_host3() -> dict[str, object]:
    overlay = two_tenants()
    endpoint(overlay, "blue/web2")["host"] = "host3"
    return overlay


def test_an_empty_switch_gets_everything_in_one_bundle() -> None:
    line = in_sync(view())
    (synced,) = line.events
    assert isinstance(synced, Synced)
    assert synced.counts.flows_written == len(line.switch.state.flows) > 50
    assert synced.counts.groups_written == len(line.switch.state.groups) == 4
    assert synced.counts.changes == len(line.switch.bundled)
    assert str(synced.counts).startswith(f"{len(line.switch.state.flows)} flows written, 0 deleted")
    assert not synced.audit
    assert line.switch.committed == 1
    assert set(line.switch.state.groups) == {
        *(FLOOD_BLUE_HERE, FLOOD_RED_HERE),
        *(FLOOD_BLUE, FLOOD_RED),
    }


def test_a_restart_reads_and_sends_nothing() -> None:
    before = in_sync(view())
    held = before.switch.state.copy()
    # A new process: a new session, the same switch, the overlay read anew.
    line = Line(before.switch)
    line.session.desire(view(), line.now)
    line.connect()
    assert line.state() is State.IN_SYNC
    assert {message.kind for message in line.switch.seen} == {fake_switch.MULTIPART_REQUEST}
    assert line.switch.state == held
    (synced,) = line.events
    assert isinstance(synced, Synced)
    assert synced.counts.changes == 0
    assert synced.counts.unchanged == len(held.flows)


@pytest.mark.parametrize("entries", [1, 2, 7, 1000])
def test_lists_come_in_as_many_parts_as_the_switch_likes(entries: int) -> None:
    before = in_sync(view())
    before.switch.entries_per_part = min(entries, 250)
    line = Line(before.switch)
    line.session.desire(view(), line.now)
    line.connect()
    assert line.state() is State.IN_SYNC
    assert line.switch.committed == 1


def test_nothing_is_read_before_there_is_a_view() -> None:
    line = Line()
    line.connect()
    assert line.state() is State.READING
    assert line.switch.seen == []
    line.wait(10_000)
    assert not line.given_up()
    line.desire(view())
    assert line.state() is State.IN_SYNC


def test_a_change_sends_only_the_difference() -> None:
    line = in_sync(view())
    line.forget()
    line.desire(view(blue_moved_to_host3()))
    assert line.switch.state == holding(view(blue_moved_to_host3()))
    # The endpoint's own flow (new tun_dst), blue's flood list, and host2 still known for red.
    kinds = [message.kind for message in line.switch.bundled]
    assert kinds.count(FLOW_MOD) <= 2
    assert kinds.count(GROUP_MOD) <= 2
    assert fake_switch.MULTIPART_REQUEST not in {message.kind for message in line.switch.seen}


def test_a_view_that_says_the_same_sends_nothing() -> None:
    line = in_sync(view())
    line.forget()
    line.desire(view())
    assert line.switch.seen == []
    assert line.state() is State.IN_SYNC


def test_a_large_switch_is_read_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that it forwards in between. Foreign flows are in one portion or another, too."""
    monkeypatch.setattr(reading, "PORTION", 2)
    line = in_sync(view())
    line.switch.state.flows[29, 7, MATCH_ALL] = SOMEBODYS
    held = line.switch.state.copy()
    line.forget()
    line.session.audit(line.now)
    line.settle()
    asked = [
        m for m in line.switch.seen if m.kind == fake_switch.MULTIPART_REQUEST and m.body[1] == 1
    ]
    cookies = [m.body[24:40].hex() for m in asked]
    assert cookies == [f"{portion:016x}{3:016x}" for portion in range(4)]
    (synced,) = [event for event in line.events if isinstance(event, Synced)]
    assert synced.counts.unchanged == len(held.flows) - 1
    assert synced.counts.flows_deleted == 1


def test_a_port_that_comes_and_goes_moves_its_flows_only() -> None:
    overlay = two_tenants()
    plugged = view(overlay)
    ports = claims(plugged.topology, "host1")
    line = in_sync(view(overlay, ports=ports[:1]))
    line.forget()
    line.desire(plugged)
    assert line.switch.state == holding(plugged)
    assert not [message for message in line.switch.bundled if deletes(message)]
    line.forget()
    line.desire(view(overlay, ports=ports[:1]))
    assert line.switch.state == holding(view(overlay, ports=ports[:1]))


@pytest.mark.parametrize(
    "facts", [{"tunnel": 101}, {"nd_by_flow": False}], ids=["tunnel port", "neighbour discovery"]
)
def test_what_every_flow_may_bear_changes_in_all_of_them(facts: dict[str, Any]) -> None:
    """The tunnel port is renumbered, or the datapath is another: no tenant has changed."""
    old = view()
    new = dataclasses.replace(old, **facts)
    line = in_sync(old)
    line.desire(new)
    assert line.switch.state == holding(new)
    assert line.switch.state != holding(old)


def test_a_host_that_goes_from_ipv4_to_ipv6_keeps_nothing_of_it() -> None:
    overlay = two_tenants()
    for number, vtep in enumerate(overlay["vteps"].values(), 1):
        vtep["address"] = f"2001:db8::{number}"
    line = in_sync(view())
    line.desire(view(overlay))
    assert line.switch.state == holding(view(overlay))


def test_a_change_while_loading_is_sent_afterwards() -> None:
    line = Line()
    line.session.desire(view(), line.now)
    line.session.connected(line.now)
    line.turn()
    assert line.state() is State.LOADING
    line.session.desire(view(blue_moved_to_host3()), line.now)
    line.settle()
    assert line.state() is State.IN_SYNC
    assert line.switch.committed == 2
    assert line.switch.state == holding(view(blue_moved_to_host3()))
    assert len(line.events) == 2


def test_a_change_while_committing_is_sent_afterwards() -> None:
    line = Line()
    line.session.desire(view(), line.now)
    line.session.connected(line.now)
    line.turn()
    line.turn()
    assert line.state() is State.COMMITTING
    line.session.desire(view(blue_moved_to_host3()), line.now)
    line.settle()
    assert line.switch.state == holding(view(blue_moved_to_host3()))


def test_of_changes_while_reading_the_last_counts() -> None:
    line = Line()
    line.session.desire(view(), line.now)
    line.session.connected(line.now)
    line.session.desire(view(blue_moved_to_host3()), line.now)
    line.settle()
    assert line.switch.committed == 1
    assert line.switch.state == holding(view(blue_moved_to_host3()))


def test_foreign_flows_and_groups_are_removed_and_reported() -> None:
    switch = FakeSwitch()
    switch.state.flows[99, 7, MATCH_ALL] = SOMEBODYS
    switch.state.groups[50_000_000] = (0, b"")
    line = Line(switch)
    line.session.desire(view(), line.now)
    line.connect()
    assert line.switch.state == holding(view())
    (removed,) = [event for event in line.events if isinstance(event, ForeignRemoved)]
    assert set(removed.lines) == {"group_id=50000000", "cookie=0xbeef table=99 priority=7"}


def test_our_own_leftovers_go_without_a_word() -> None:
    line = in_sync(view())
    again = Line(line.switch)
    overlay = two_tenants()
    del overlay["tenants"]["red"]
    again.session.desire(view(overlay), again.now)
    again.connect()
    assert again.switch.state == holding(view(overlay))
    assert [type(event) for event in again.events] == [Synced]


def test_foreign_flows_stay_where_the_user_wants_them_to() -> None:
    switch = FakeSwitch()
    switch.state.flows[99, 7, MATCH_ALL] = SOMEBODYS
    switch.state.groups[50_000_000] = (0, b"")
    line = Line(switch, Session(keep_foreign=True))
    line.session.desire(view(), line.now)
    line.connect()
    ours = holding(view())
    assert switch.state.flows == ours.flows | {(99, 7, MATCH_ALL): SOMEBODYS}
    assert switch.state.groups == ours.groups | {50_000_000: (0, b"")}
    assert [type(event) for event in line.events] == [Synced]
    assert line.session.flow_count == len(ours.flows)
    assert line.session.group_count == len(ours.groups)


def test_a_reading_names_foreign_flows_in_tables_of_ours_alone() -> None:
    line = in_sync(view(), keep_foreign=True)
    flows = line.switch.state.flows
    passes = Flow(0xBEEF, (0, 0), (0, 0), next(flow.rest for flow in flows.values() if flow.rest))
    flows[99, 7, MATCH_ALL] = passes
    flows[6, 59999, MATCH_ALL] = SOMEBODYS
    for priority in range(60000, 60000 + LIMIT + 5):
        flows[6, priority, MATCH_ALL] = passes
    line.wait(AUDIT)
    foreign = line.session.foreign
    told = foreign.as_json()
    assert (told["count"], told["passing"]) == (LIMIT + 6, LIMIT + 5)
    assert len(foreign.lines) == LIMIT + 1, "so many are known one by one, of either kind"
    assert foreign.lines[-1] == "cookie=0xbeef table=forward priority=59999"
    assert told["flows"] == foreign.lines[:20]
    for key in [key for key in flows if key[0] == 6 and 59999 <= key[1] < 65000]:
        del flows[key]
    line.wait(AUDIT)
    assert len(line.session.foreign) == 0


def test_a_flow_with_our_cookie_that_we_do_not_want_goes_even_so() -> None:
    line = in_sync(view(), keep_foreign=True)
    line.switch.state.flows[99, 7, MATCH_ALL] = Flow(0x4C57 << 48 | 1, (0, 0), (0, 0), b"")
    line.wait(AUDIT)
    assert line.switch.state == holding(view())


def test_the_audit_mends_what_others_have_broken() -> None:
    line = in_sync(view())
    whole = line.switch.state.copy()
    flows = line.switch.state.flows
    deleted, altered, timed = [key for key, flow in flows.items() if flow.rest][::20][:3]
    del flows[deleted]
    flows[altered] = Flow(flows[altered].cookie, (0, 0), (0, 0), b"")
    flows[timed] = Flow(flows[timed].cookie, (5, 0), (0, 0), flows[timed].rest)
    flows[99, 7, MATCH_ALL] = SOMEBODYS
    del line.switch.state.groups[FLOOD_BLUE]
    line.forget()
    line.wait(AUDIT - 1)
    assert line.switch.seen == []
    line.wait(1)
    assert line.switch.state == whole
    removed, synced = line.events
    assert removed == ForeignRemoved(("cookie=0xbeef table=99 priority=7",))
    assert isinstance(synced, Synced)
    assert synced.audit
    assert (synced.counts.flows_written, synced.counts.flows_deleted) == (3, 1)
    assert synced.counts.groups_written == 1


def test_an_audit_that_finds_nothing_sends_nothing() -> None:
    line = in_sync(view())
    line.forget()
    line.wait(AUDIT)
    assert {message.kind for message in line.switch.seen} == {fake_switch.MULTIPART_REQUEST}
    line.forget()
    line.session.audit(line.now)
    line.settle()
    assert {message.kind for message in line.switch.seen} == {fake_switch.MULTIPART_REQUEST}


def test_an_overlay_that_changes_all_the_time_is_audited_all_the_same() -> None:
    line = in_sync(view())
    line.switch.state.flows[99, 7, MATCH_ALL] = SOMEBODYS
    for number in range(8):
        line.wait(AUDIT / 4)
        line.desire(view(blue_moved_to_host3() if number % 2 else two_tenants()))
    assert (99, 7, MATCH_ALL) not in line.switch.state.flows


def test_groups_come_before_the_flows_that_use_them_and_deletes_come_last() -> None:
    """The fake switch refuses a flow without its group, and deletes flows along with theirs."""
    without_red = two_tenants()
    del without_red["tenants"]["red"]
    without_blue = two_tenants()
    del without_blue["tenants"]["blue"]
    line = in_sync(view(without_red))
    line.forget()
    line.desire(view(without_blue))
    assert line.switch.state == holding(view(without_blue))
    steps = [(message.kind, deletes(message)) for message in line.switch.bundled]
    order = [step for step, _ in itertools.groupby(steps)]
    assert order == [
        *((GROUP_MOD, False), (FLOW_MOD, False)),
        *((FLOW_MOD, True), (GROUP_MOD, True)),
    ]


def two_guests_behind_one_port() -> View:
    """What nothing that finds guests' ports gives: both tenants' flows would have one match."""
    good = view()
    ports = dataclasses.replace(good.ports, port=np.full(len(good.ports), 7, np.uint32))
    return dataclasses.replace(good, ports=ports)


@pytest.mark.parametrize("piece", [1, load.PIECE], ids=["after others were sent", "at once"])
def test_two_flows_of_one_match_are_refused_and_named_and_the_connection_stays(
    monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    monkeypatch.setattr(load, "PIECE", piece)
    line = Line()
    line.session.desire(two_guests_behind_one_port(), line.now)
    line.connect()

    assert line.state() is State.REFUSED
    assert not line.given_up()
    assert line.switch.state.flows == {}
    (refused,) = line.events
    assert isinstance(refused, SwitchRefused)
    (reason,) = refused.reasons
    assert re.fullmatch(
        r"two flows would have one match: '.*in_port=7.*' and '.*in_port=7.*'", reason
    )
    line.forget()
    line.desire(view())
    assert line.state() is State.IN_SYNC
    assert line.switch.state == holding(view())


def test_two_flows_of_one_match_in_a_change() -> None:
    line = in_sync(view())
    held = line.switch.state.copy()
    line.desire(two_guests_behind_one_port())
    assert line.state() is State.REFUSED
    assert not line.given_up()
    assert line.switch.state == held
    line.desire(view())
    assert line.state() is State.IN_SYNC


def test_a_switch_that_lists_a_flow_twice_is_asked_again() -> None:
    """As it may where somebody changes the flow's cookie between two portions of the list."""
    block = program.full(view()).blocks[0]
    twice = transaction.Transaction([block, block], {}, program.full(view()))
    with pytest.raises(Refused, match=r"the switch lists two flows with one match: '.+' and '.+'"):
        list(iter(lambda: twice.take(lambda _: 1), None))


def test_the_bundle_is_opened_and_stands_behind_a_barrier_before_its_commit() -> None:
    line = in_sync(view())
    kinds = [message.kind for message in line.switch.seen]
    assert [kind for kind, _ in itertools.groupby(kinds)] == [
        *(fake_switch.MULTIPART_REQUEST, fake_switch.BUNDLE_CONTROL, BUNDLE_ADD),
        *(fake_switch.BARRIER_REQUEST, fake_switch.BUNDLE_CONTROL),
    ]
    controls = [m.body for m in line.switch.seen if m.kind == fake_switch.BUNDLE_CONTROL]
    assert controls == [struct.pack("!IHH", 1, kind, 3) for kind in (0, 4)]


def test_every_message_has_a_transaction_id_of_its_own() -> None:
    line = in_sync(view())
    line.desire(view(blue_moved_to_host3()))
    line.wait(AUDIT)
    xids = [message.xid for message in line.switch.seen]
    assert len(set(xids)) == len(xids)
    assert min(xids) >= 0x40000000


def test_messages_that_are_none_of_ours_are_passed_over() -> None:
    line = Line(in_sync(view()).switch)
    line.switch.reconnect()
    line.session.desire(view(), line.now)
    line.session.connected(line.now)
    before = list(line.session.outbox)
    other = fake_switch.Message(FLOW_MOD, 17, b"\0" * 40)
    line.session.receive(fake_switch.error(other, fake_switch.TABLE_FULL), line.now)
    for kind, body in ((19, struct.pack("!HH4x", 1, 0)), (21, b""), (33, b"\0" * 8), (10, b"")):
        message = struct.pack("!BBHI", 5, kind, 8 + len(body), 17) + body
        line.session.receive(message, line.now)
    assert line.session.outbox == before
    assert line.state() is State.READING
    line.settle()
    assert line.state() is State.IN_SYNC
    assert line.switch.bundled == [], "another app's empty list is not the switch's"


@pytest.mark.parametrize(("turns", "kind"), [(1, 21), (2, 33)], ids=["barrier", "bundle"])
def test_another_apps_answer_is_not_taken_for_ours(turns: int, kind: int) -> None:
    """It shares the connection: its barrier must not commit our bundle, nor end it."""
    line = Line()
    line.session.desire(view(), line.now)
    line.session.connected(line.now)
    for _ in range(turns):
        line.turn()
    state = line.state()
    assert state is (State.LOADING, State.COMMITTING)[turns - 1]
    body = struct.pack("!IHH", 9, 5, 3) if kind == 33 else b""
    line.session.receive(struct.pack("!BBHI", 5, kind, 8 + len(body), 17) + body, line.now)
    assert line.state() is state
    line.settle()
    assert line.switch.state == holding(view())


def test_the_lists_that_it_waits_for_are_known_by_their_transaction_ids() -> None:
    line = Line()
    assert line.session.listing_xids == frozenset()
    line.session.desire(view(), line.now)
    line.session.connected(line.now)
    expected = line.session.listing_xids
    assert len(expected) == 2
    line.settle()
    requests = [m for m in line.switch.seen if m.kind == fake_switch.MULTIPART_REQUEST]
    assert {message.xid for message in requests} == expected
    assert line.session.listing_xids == frozenset()


def test_it_counts_what_the_switch_holds() -> None:
    line = in_sync(view())
    for overlay in (blue_moved_to_host3(), two_tenants()):
        line.desire(view(overlay))
        assert line.session.flow_count == len(line.switch.state.flows)
        assert line.session.group_count == len(line.switch.state.groups)


def test_transaction_ids_begin_again_before_they_run_out() -> None:
    line = in_sync(view())
    line.session._next_xid = 0x7FFFFFF0
    line.forget()
    line.desire(view(blue_moved_to_host3()))
    line.wait(AUDIT)
    line.session.desire(view(), line.now)
    line.settle()
    assert line.state() is State.IN_SYNC
    assert all(0x40000000 <= message.xid < 0x80000000 for message in line.switch.seen)
