"""What others change on the switch is put right as it happens: those flows, and no others."""

from __future__ import annotations

import struct

import pytest

from ovs_lwt.backends.openflow import drift, session
from ovs_lwt.backends.openflow.session import ForeignRemoved, PortsMended, State
from ovs_lwt.backends.outcome import Synced
from ovs_lwt.findings import Level
from tests.support import fake_switch
from tests.support.fake_switch import FakeSwitch, Flow, FlowKey
from tests.support.line import Line, in_sync
from tests.support.overlays import two_tenants, view

MATCH_ALL = bytes.fromhex("0001000400000000")
SOMEBODYS = Flow(0xBEEF, (0, 0), (0, 0), b"")


def tell(line: Line, message: bytes) -> None:
    """The switch says something by itself; then others are silent for long enough."""
    line.session.receive(message, line.now)
    line.settle()
    assert line.state() is State.IN_SYNC, "not while somebody may still be at it"
    line.wait(session.SETTLE)


def listed(line: Line) -> bool:
    return any(seen.kind == fake_switch.MULTIPART_REQUEST for seen in line.switch.seen)


def some_flow(line: Line, table: int) -> FlowKey:
    return next(key for key in line.switch.state.flows if key[0] == table)


@pytest.mark.parametrize("table", [0, 1, 2, 3, 6, 7, 8])
def test_a_flow_of_ours_that_is_deleted_comes_back(table: int) -> None:
    line = in_sync(view())
    held, count = line.switch.state.copy(), line.session.flow_count
    line.forget()
    tell(line, line.switch.meddle(some_flow(line, table), None))
    assert line.switch.state == held
    assert len(line.switch.bundled) == 1, "that flow and no other"
    assert not listed(line), "nothing is read for it"
    (synced,) = (event for event in line.events if isinstance(event, Synced))
    assert synced.repaired == 1
    assert line.session.flow_count == count


@pytest.mark.parametrize("table", [0, 1, 2, 3, 6, 7, 8])
def test_a_flow_that_somebody_overwrites_is_ours_again(table: int) -> None:
    line = in_sync(view())
    held = line.switch.state.copy()
    line.forget()
    tell(line, line.switch.meddle(some_flow(line, table), SOMEBODYS))
    assert line.switch.state == held
    assert not listed(line)


def test_flags_alone_are_a_change_as_well() -> None:
    """An update does not tell them."""
    line = in_sync(view())
    held = line.switch.state.copy()
    key = some_flow(line, 6)
    flow = held.flows[key]
    tell(line, line.switch.meddle(key, Flow(flow.cookie, (0, 0), (1, 0), flow.rest)))
    assert line.switch.state == held


def test_a_foreign_flow_goes_and_is_named() -> None:
    line = in_sync(view())
    held = line.switch.state.copy()
    line.forget()
    tell(line, line.switch.meddle((6, 65535, MATCH_ALL), SOMEBODYS))
    assert line.switch.state == held
    (foreign,) = (event for event in line.events if isinstance(event, ForeignRemoved))
    assert "cookie=0xbeef table=forward priority=65535" in foreign.lines[0]


def test_a_foreign_flow_is_left_where_foreign_ones_are_kept() -> None:
    line = in_sync(view(), keep_foreign=True)
    tell(line, line.switch.meddle((6, 65535, MATCH_ALL), SOMEBODYS))
    assert (6, 65535, MATCH_ALL) in line.switch.state.flows
    key = some_flow(line, 3)
    held = line.switch.state.copy()
    line.wait(session.REPAIR_GAP)
    line.session.receive(line.switch.meddle(key, SOMEBODYS), line.now)
    line.wait(session.REPAIR_GAP)
    assert line.switch.state == held, "but not in the place of one of ours"


def test_foreign_flows_that_are_kept_are_named_as_they_come_and_go() -> None:
    """What drops bypasses nothing; what has an instruction may."""
    line = in_sync(view(), keep_foreign=True)
    line.forget()
    flows = line.switch.state.flows.values()
    passes = Flow(0xBEEF, (0, 0), (0, 0), next(flow.rest for flow in flows if flow.rest))
    tell(line, line.switch.meddle((6, 65535, MATCH_ALL), passes))
    (kept,) = (event for event in line.events if isinstance(event, session.ForeignKept))
    assert kept.foreign.lines == ["cookie=0xbeef table=forward priority=65535"]
    (found,) = line.session.foreign.findings("br-lwt")
    assert found.level is Level.FAIL
    assert "cookie=0xbeef table=forward priority=65535" in found.text

    line.wait(session.REPAIR_GAP)
    tell(line, line.switch.meddle((6, 65535, MATCH_ALL), SOMEBODYS))
    (found,) = line.session.foreign.findings("br-lwt")
    assert found.level is Level.WARN

    line.wait(session.REPAIR_GAP)
    tell(line, line.switch.meddle((6, 65535, MATCH_ALL), None))
    assert len(line.session.foreign) == 0
    assert [*line.session.foreign.findings("br-lwt")] == []


def test_groups_are_compared_without_the_flows() -> None:
    line = in_sync(view())
    held = line.switch.state.copy()
    line.forget()
    group = next(iter(held.groups))
    tell(line, line.switch.meddle_with_group(group, (0, b"")))
    assert line.switch.state == held
    kinds = [
        int.from_bytes(seen.body[:2], "big")
        for seen in line.switch.seen
        if seen.kind == fake_switch.MULTIPART_REQUEST
    ]
    assert kinds == [fake_switch.GROUP_DESC]
    assert line.session.group_count == len(held.groups)
    assert line.session.flow_count == len(held.flows)


def test_a_group_that_goes_takes_its_flows_along() -> None:
    line = in_sync(view())
    held = line.switch.state.copy()
    group = next(iter(held.groups))
    users = [key for key, flow in held.flows.items() if group in fake_switch.groups_of(flow)]
    assert users
    line.forget()
    for key in users:
        line.session.receive(line.switch.meddle(key, None), line.now)
    line.session.receive(line.switch.meddle_with_group(group, None), line.now)
    line.wait(session.SETTLE)
    line.wait(session.REPAIR_GAP)
    assert line.switch.state == held


def test_more_than_can_be_told_is_read() -> None:
    line = in_sync(view())
    held = line.switch.state.copy()
    line.switch.state.flows.clear()
    line.forget()
    tell(line, line.switch.pause())
    assert line.switch.state == held
    assert listed(line)


def test_many_changes_are_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drift, "LIMIT", 5)
    line = in_sync(view())
    held = line.switch.state.copy()
    line.forget()
    for key in [*held.flows][:10]:
        line.session.receive(line.switch.meddle(key, None), line.now)
    line.wait(session.SETTLE)
    assert line.switch.state == held
    assert listed(line)


def test_whoever_fights_with_us_does_not_have_all_our_time() -> None:
    line = in_sync(view())
    held = line.switch.state.copy()
    tell(line, line.switch.meddle((6, 65535, MATCH_ALL), SOMEBODYS))
    line.forget()
    line.session.receive(line.switch.meddle((6, 65535, MATCH_ALL), SOMEBODYS), line.now)
    line.wait(session.SETTLE)
    assert not line.switch.bundled
    line.wait(session.REPAIR_GAP)
    assert line.switch.state == held


def test_a_change_that_comes_meanwhile_is_not_undone() -> None:
    line = in_sync(view())
    overlay = two_tenants()
    overlay["tenants"]["blue"]["endpoints"]["web2"]["host"] = "host3"
    line.session.receive(line.switch.meddle(some_flow(line, 6), None), line.now)
    line.desire(view(overlay))
    line.wait(session.REPAIR_GAP)
    assert line.switch.state == in_sync(view(overlay)).switch.state


def _port(number: int, config: int, name: bytes = b"vx-lwt") -> bytes:
    return struct.pack("!IH2x6s2x16sII", number, 40, bytes(6), name, config, 0)


def test_ports_forward_again() -> None:
    here = view()
    line = in_sync(here)
    line.forget()
    switch: FakeSwitch = line.switch
    number = int(here.ports.port[0])
    status = struct.pack("!BBHIB7x", 5, 12, 56, 0, 2) + _port(number, 1 << 5, b"blue-web1")
    line.session.receive(status, line.now)
    sent = b"".join(line.session.outbox)
    line.session.outbox.clear()
    kind, port = sent[1], int.from_bytes(sent[8:12], "big")
    config, mask = struct.unpack_from("!II", sent, 24)
    assert (kind, port, config, mask) == (fake_switch.PORT_MOD, number, 0, 1 << 5)
    line.events += line.session.events
    assert line.events == [PortsMended(("port blue-web1 was set no-forward (ovs-ofctl mod-port)",))]
    assert not switch.bundled


def test_what_a_reading_has_put_right_is_not_put_right_again() -> None:
    """Who asks for a reading at once is quicker than those who wait for silence."""
    line = in_sync(view())
    held = line.switch.state.copy()
    line.session.receive(line.switch.meddle((6, 65535, MATCH_ALL), SOMEBODYS), line.now)
    line.session.audit(line.now)
    line.settle()
    assert line.switch.state == held
    line.forget()
    line.wait(session.SETTLE)
    line.wait(session.REPAIR_GAP)
    assert not line.switch.bundled
    assert line.events == []
