"""The connection breaks, or falls silent: the switch keeps what it had, the next one completes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovs_lwt.backends.openflow.session import PATIENCE, State
from ovs_lwt.backends.outcome import Synced
from tests.support.fake_switch import BUNDLE_ADD, FakeSwitch, messages_in
from tests.support.line import Line, holding, in_sync
from tests.support.overlays import endpoint, two_tenants, view


def renumbered() -> dict[str, object]:
    """Another VNI for blue: nearly all of its flows and groups change."""
    overlay = two_tenants()
    overlay["tenants"]["blue"]["vni"] = 3030
    endpoint(overlay, "red/web2")["host"] = "host3"
    return overlay


OLD, NEW = view(), view(renumbered())
HELD_OLD, HELD_NEW = holding(OLD), holding(NEW)


def bytes_of_the_change() -> int:
    line = in_sync(OLD)
    before = line.switch._taken
    line.desire(NEW)
    return line.switch._taken - before


BYTES = bytes_of_the_change()


@given(st.integers(0, BYTES - 1))
@settings(max_examples=60)
def test_a_connection_lost_at_any_byte_leaves_the_old_state_whole(at: int) -> None:
    line = in_sync(OLD)
    line.switch.drop_after_bytes = line.switch._taken + at
    line.desire(NEW)
    assert line.state() is State.OFFLINE
    assert line.session.outbox == []
    assert line.switch.state == HELD_OLD
    line.connect()
    assert line.state() is State.IN_SYNC
    assert line.switch.state == HELD_NEW


@pytest.mark.parametrize("number", [0, 1, 40])
def test_a_connection_lost_in_mid_bundle_leaves_the_old_state_whole(number: int) -> None:
    line = in_sync(OLD)
    line.forget()
    line.switch.drop_after_bundled = number
    line.desire(NEW)
    assert [m.kind for m in line.switch.seen].count(BUNDLE_ADD) == number + 1
    assert line.switch.state == HELD_OLD
    line.connect()
    assert line.switch.state == HELD_NEW


def test_a_commit_whose_answer_is_lost_is_found_done_at_the_reconnect() -> None:
    line = in_sync(OLD)
    line.session.desire(NEW, line.now)
    line.turn()
    line.switch.take(b"".join(line.session.outbox))
    line.session.disconnected()
    assert line.switch.state == HELD_NEW
    line.forget()
    line.connect()
    assert line.state() is State.IN_SYNC
    assert BUNDLE_ADD not in {message.kind for message in line.switch.seen}


def test_a_connection_lost_while_reading_begins_again() -> None:
    line = Line()
    line.session.desire(NEW, line.now)
    line.session.connected(line.now)
    line.session.disconnected()
    assert line.state() is State.OFFLINE
    line.connect()
    assert line.switch.state == HELD_NEW


def test_what_changes_while_the_switch_is_away_is_sent_when_it_is_back() -> None:
    line = in_sync(OLD)
    line.session.disconnected()
    line.session.desire(NEW, line.now)
    line.wait(1e6)
    assert line.session.outbox == []
    assert not line.given_up()
    line.connect()
    assert line.switch.state == HELD_NEW


def test_another_switch_than_before_gets_everything() -> None:
    """Somebody has emptied the bridge, or restarted ovs-vswitchd."""
    line = in_sync(OLD)
    line.session.disconnected()
    line.switch = FakeSwitch()
    line.connect()
    assert line.switch.state == HELD_OLD


def test_a_switch_that_does_not_answer_is_given_up_after_a_while() -> None:
    line = Line(FakeSwitch(silent=True))
    line.session.desire(NEW, line.now)
    line.connect()
    line.wait(PATIENCE - 1)
    assert not line.given_up()
    line.wait(1)
    assert line.given_up()
    line.session.disconnected()
    line.switch.silent = False
    line.connect()
    assert not line.given_up()
    assert line.switch.state == HELD_NEW


@pytest.mark.parametrize("turns", [0, 1])
def test_a_switch_that_falls_silent_over_a_bundle_is_given_up(turns: int) -> None:
    line = in_sync(OLD)
    line.session.desire(NEW, line.now)
    for _ in range(turns):
        line.turn()
    assert line.state() is (State.LOADING, State.COMMITTING)[turns]
    line.switch.silent = True
    line.wait(PATIENCE)
    assert line.given_up()
    line.session.disconnected()
    line.switch.silent = False
    line.connect()
    assert line.switch.state == HELD_NEW


def test_a_long_list_is_no_silence() -> None:
    """Every part of it is a sign of life."""
    full = in_sync(OLD)
    full.switch.entries_per_part = 1
    line = Line(full.switch)
    line.session.desire(OLD, line.now)
    line.session.connected(line.now)
    parts = line.switch.take(b"".join(line.session.outbox))
    line.session.outbox.clear()
    for message in messages_in(parts):
        line.now += 4
        line.session.tick(line.now)
        line.session.receive(message, line.now)
    assert line.now - 1000 > PATIENCE
    assert not line.given_up()
    (synced,) = line.session.events
    assert isinstance(synced, Synced)
    assert synced.counts.changes == 0


def test_the_barrier_of_an_old_connection_commits_nothing() -> None:
    line = in_sync(OLD)
    line.session.desire(NEW, line.now)
    late = line.switch.take(b"".join(line.session.outbox))
    line.session.disconnected()
    line.switch.reconnect()
    line.session.connected(line.now)
    for message in messages_in(late):
        line.session.receive(message, line.now)
    line.settle()
    assert line.state() is State.IN_SYNC
    assert line.switch.state == HELD_NEW
    assert line.switch.committed == 2
