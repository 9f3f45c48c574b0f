"""One kernel's session: what it asks for, and what it makes of the answers."""

from __future__ import annotations

import errno

import numpy as np
import pytest

from ovs_lwt.backends.netlink.program import Program, Rows, stamp
from ovs_lwt.backends.netlink.session import KernelRefused, Session, State
from ovs_lwt.backends.netlink.templates import Devices
from ovs_lwt.backends.netlink.transport import Failure, Outcome
from ovs_lwt.backends.outcome import AUDIT, Synced
from ovs_lwt.stencil import Column

HOST = Devices.of({"vx-lwt": 7})
DONE = Outcome()


def program(*macs: int) -> Program:
    columns: dict[str, Column] = {
        "vni": np.full(1, 1010, np.uint32),
        "mac": np.array(macs, np.uint64),
        "vtep": np.full(1, 0xC000020C, np.uint32),
        "dev": np.zeros(1, np.uint32),
    }
    return stamp([Rows("fdb.remote_endpoint", len(macs), columns)], HOST)


def said(session: Session) -> list[str]:
    """What the transaction does, shortened to verb and MAC."""
    lines = [
        step.describe(row) for step in session.transaction.steps for row in range(len(step.rows))
    ]
    return [" ".join([line.split()[1], line.split()[2][-2:]]) for line in lines]


@pytest.fixture
def session() -> Session:
    """In sync with two entries, since second 10."""
    session = Session()
    session.desire(program(1, 2), 10.0)
    session.listed(program(1, 2).entries, 10.0)
    session.events.clear()
    return session


def refused(session: Session) -> KernelRefused:
    (event,) = session.events
    assert isinstance(event, KernelRefused)
    session.events.clear()
    return event


def test_nothing_is_asked_for_before_there_is_a_program() -> None:
    session = Session()
    assert (session.state, session.pending, session.is_due(1e9)) == (State.READING, False, False)


def test_a_cold_start_reads_writes_and_agrees() -> None:
    session = Session()
    session.desire(program(1, 2), 10.0)
    assert (session.state, session.pending) == (State.READING, True)
    session.listed(program(9).entries, 10.5)
    assert (session.state, said(session)) == (State.WRITING, ["replace 01", "replace 02", "del 09"])
    session.done(DONE, 11.0)
    assert (session.state, session.pending, session.entries) == (State.IN_SYNC, False, 2)
    (event,) = session.events
    assert isinstance(event, Synced)
    assert str(event.counts) == "2 written, 1 deleted, 0 as they were"
    assert (event.seconds, event.audit) == (1.0, False)


def test_a_restart_with_nothing_changed_writes_nothing(session: Session) -> None:
    assert (session.state, session.pending, said(session)) == (State.IN_SYNC, False, [])
    assert session.entries == 2


def test_a_change_is_written_without_reading(session: Session) -> None:
    session.desire(program(2, 3), 20.0)
    assert (session.state, said(session)) == (State.WRITING, ["replace 03", "del 01"])
    session.done(DONE, 20.25)
    assert session.state is State.IN_SYNC
    (event,) = session.events
    assert isinstance(event, Synced)
    assert (str(event.counts), event.seconds) == ("1 written, 1 deleted, 1 as they were", 0.25)


def test_a_program_that_says_the_same_needs_no_writing(session: Session) -> None:
    session.desire(program(1, 2), 20.0)
    assert (session.state, session.pending) == (State.IN_SYNC, False)


def test_a_change_before_the_last_was_written_is_compared_with_what_is_there(
    session: Session,
) -> None:
    session.desire(program(3), 20.0)
    session.desire(program(4), 20.0)
    assert session.state is State.READING
    session.listed(program(1, 2).entries, 20.0)
    assert said(session) == ["replace 04", "del 01", "del 02"]


def test_an_audit_finds_what_others_have_changed_and_mends_it(session: Session) -> None:
    assert not session.is_due(10.0 + AUDIT - 0.1)
    assert session.is_due(10.0 + AUDIT)
    session.audit(70.0)
    assert session.state is State.READING
    session.listed(program(1, 8).entries, 70.0)
    assert said(session) == ["replace 02", "del 08"]
    session.done(DONE, 70.0)
    (event,) = session.events
    assert isinstance(event, Synced)
    assert (event.audit, str(event.counts)) == (True, "1 written, 1 deleted, 1 as they were")


def test_a_kernel_that_is_slow_to_read_is_read_less_often(session: Session) -> None:
    session.audit(70.0)
    session.listed(program(1, 2).entries, 73.0)
    assert not session.is_due(73.0 + 299)
    assert session.is_due(73.0 + 300)


def test_changes_do_not_put_the_audit_off(session: Session) -> None:
    session.desire(program(3), 60.0)
    session.done(DONE, 60.0)
    assert session.is_due(70.0)


def test_what_the_kernel_refuses_is_told_in_its_words_and_tried_again(session: Session) -> None:
    session.desire(program(1, 2, 3), 20.0)
    what = session.transaction.steps[0].describe(0)
    session.done(Outcome(3, 2, (Failure(what, errno.ENOSPC, ""),)), 20.0)
    event = refused(session)
    (reason,) = event.reasons
    assert reason.startswith("fdb replace 00:00:00:00:00:03 dev vx-lwt dst 192.0.2.12 src_vni 1010")
    assert reason.endswith(": No space left on device")
    assert (event.more, event.retry_in, session.state) == (1, 5.0, State.REFUSED)
    assert not session.pending
    assert not session.is_due(24.9)
    # Only reading tells what has been done.
    session.audit(25.0)
    session.listed(program(1, 2).entries, 25.0)
    session.done(Outcome(1, 1, (Failure(what, errno.ENOSPC, ""),)), 25.0)
    assert refused(session).retry_in == 10.0
    session.audit(35.0)
    session.listed(program(1, 2, 3).entries, 35.0)
    assert session.state is State.IN_SYNC
    (event_,) = session.events
    assert isinstance(event_, Synced)
    assert not event_.audit


def test_a_change_is_tried_at_once_after_a_refusal(session: Session) -> None:
    session.refuse(("no",), 20.0)
    session.refuse(("no",), 25.0)
    session.events.clear()
    session.desire(program(1), 26.0)
    assert session.state is State.READING
    session.refuse(("no",), 26.0)
    assert refused(session).retry_in == 5.0


def test_the_time_between_tries_has_an_end(session: Session) -> None:
    waits = []
    for _ in range(9):
        session.refuse(("no",), 0.0)
        waits.append(refused(session).retry_in)
    assert waits == [5, 10, 20, 40, 80, 160, 300, 300, 300]


def test_two_rows_about_one_entry_are_refused_by_name(session: Session) -> None:
    session.desire(program(5, 5), 20.0)
    assert "two rows are about one entry: 'fdb replace" in refused(session).reasons[0]
    assert session.state is State.REFUSED
