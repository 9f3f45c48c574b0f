"""Several connections claim to be one switch's: who is spoken with."""

from __future__ import annotations

from collections import deque

from ovs_lwt.backends.openflow.claimants import ANSWERS, MOST, Claimants
from tests.support.fake_switch import FakeSwitch
from tests.support.world import FakeConnection


class Mute(FakeSwitch):
    """Counts what it is asked, and says nothing."""

    def take(self, data: bytes) -> bytes:
        self.committed += 1
        return b""


def line() -> FakeConnection:
    return FakeConnection(1, Mute(), deque())


def asked(connection: FakeConnection) -> int:
    assert isinstance(connection.switch, Mute)
    return connection.switch.committed


def test_the_first_is_spoken_with_and_asked_nothing() -> None:
    claimants, first = Claimants(), line()
    claimants.opened(first, 0.0)
    assert claimants.current is first
    assert not claimants.tick(1000.0, ANSWERS)
    assert asked(first) == 0


def test_the_older_stays_as_long_as_it_answers() -> None:
    claimants, first, second = Claimants(), line(), line()
    claimants.opened(first, 0.0)
    claimants.opened(second, 10.0)
    assert (asked(first), asked(second)) == (1, 1)
    claimants.heard(second, 10.1)
    claimants.heard(first, 10.2)
    assert not claimants.tick(10.0 + 2 * ANSWERS, ANSWERS)
    assert claimants.current is first
    assert claimants.kept


def test_the_newer_takes_over_if_the_older_is_silent_and_it_answers() -> None:
    claimants, first, second = Claimants(), line(), line()
    claimants.opened(first, 0.0)
    claimants.opened(second, 10.0)
    assert not claimants.tick(10.0 + ANSWERS, ANSWERS), "neither has said anything"
    claimants.heard(second, 16.0)
    assert claimants.tick(17.0, ANSWERS)
    assert claimants.current is second


def test_the_older_is_fallen_back_to_when_the_newer_goes() -> None:
    claimants, first, second = Claimants(), line(), line()
    claimants.opened(first, 0.0)
    claimants.opened(second, 10.0)
    claimants.heard(second, 11.0)
    assert claimants.tick(20.0, ANSWERS)
    claimants.closed(second)
    assert claimants.current is first
    claimants.closed(first)
    assert claimants.current is None


def test_one_that_took_over_and_falls_silent_is_doubted_too() -> None:
    claimants, first, second = Claimants(), line(), line()
    claimants.opened(first, 0.0)
    claimants.opened(second, 10.0)
    claimants.heard(second, 11.0)
    assert claimants.tick(20.0, ANSWERS)
    claimants.doubt(30.0)
    claimants.heard(first, 31.0)
    assert claimants.tick(30.0 + ANSWERS, ANSWERS)
    assert claimants.current is first


def test_there_are_only_so_many_and_the_one_spoken_with_is_never_sent_away() -> None:
    claimants, first = Claimants(), line()
    claimants.opened(first, 0.0)
    others = [line() for _ in range(20)]
    for number, other in enumerate(others):
        claimants.opened(other, float(number))
    assert not first.closed
    assert sum(not other.closed for other in others) == MOST - 1
    assert not others[-1].closed, "whoever comes may be the switch"
    assert claimants.current is first
