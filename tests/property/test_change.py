"""Incremental equals full, byte for byte: whatever changed, on every host."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given, settings
from hypothesis import strategies as st

from ovs_lwt.backends.openflow import change, encode, program, wire
from ovs_lwt.backends.openflow.pipeline import BUNDLE
from ovs_lwt.backends.openflow.transaction import Transaction
from ovs_lwt.delta import Block
from ovs_lwt.ports import resolve
from ovs_lwt.sources.overlay_file import from_dict
from ovs_lwt.view import View
from tests.property.hosts import Overlay, changes, plans, views
from tests.strategies import overlays
from tests.support.fake_switch import BUNDLE_CONTROL, MULTIPART_REQUEST, FakeSwitch, messages_in
from tests.support.line import Line
from tests.support.overlays import TUNNEL, claims
from tests.support.transactions import taken, unnumbered

NOTHING = program.Program((), {})


def realise(switch: FakeSwitch, transaction: Transaction) -> None:
    """Have the switch do it, and see that it does not complain."""
    stream = encode.bundle_control("OPEN", BUNDLE, 1) + b"".join(taken(transaction))
    answers = switch.take(stream + encode.bundle_control("COMMIT", BUNDLE, 2))
    assert [message[1] for message in messages_in(answers)] == [BUNDLE_CONTROL] * 2


def full_difference(old: program.Program, new: program.Program) -> Transaction:
    return Transaction(old.blocks, old.groups, new)


@given(st.data(), st.one_of(changes(), plans()))
@settings(max_examples=100)
def test_incremental_change_equals_full_recompute(
    data: st.DataObject, overlay: tuple[Overlay, Overlay]
) -> None:
    before, after = map(from_dict, overlay)
    for name in set(before.vteps.name) & set(after.vteps.name):
        old = data.draw(views(before, before.vtep_index(name)))
        new = data.draw(views(after, after.vtep_index(name)))
        full_old, full_new = program.full(old), program.full(new)
        step_by_step, at_once = FakeSwitch(), FakeSwitch()
        realise(step_by_step, full_difference(NOTHING, full_old))
        realise(at_once, full_difference(NOTHING, full_new))

        realise(step_by_step, change.transaction(old, new))
        assert step_by_step.state == at_once.state
        incremental, full = change.transaction(old, new), full_difference(full_old, full_new)
        assert unnumbered(incremental) == unnumbered(full)
        assert (incremental.counts.changes, incremental.growth) == (
            full.counts.changes,
            full.growth,
        )


@given(st.data(), changes())
@settings(max_examples=20)
def test_there_and_back_again(data: st.DataObject, overlay: tuple[Overlay, Overlay]) -> None:
    """A session follows an overlay to and fro; in the end an audit finds no difference."""
    here, there = map(from_dict, overlay)
    name = data.draw(st.sampled_from(sorted(set(here.vteps.name) & set(there.vteps.name))))
    first = data.draw(views(here, here.vtep_index(name)))
    second = data.draw(views(there, there.vtep_index(name)))
    line = Line(FakeSwitch(entries_per_part=data.draw(st.integers(1, 40))))
    line.session.desire(first, line.now)
    line.connect()
    held = line.switch.state
    line.desire(second)
    line.desire(first)
    assert line.switch.state == held
    assert line.session.flow_count == len(held.flows)
    line.forget()
    line.session.audit(line.now)
    line.settle()
    assert {message.kind for message in line.switch.seen} == {MULTIPART_REQUEST}


@given(st.data(), overlays())
@settings(max_examples=20)
def test_ports_that_come_and_go_touch_their_own_tenants_only(
    data: st.DataObject, overlay: Overlay
) -> None:
    topology = from_dict(overlay)
    host = data.draw(st.integers(0, len(topology.vteps) - 1))
    old, new = data.draw(views(topology, host)), data.draw(views(topology, host))
    facts = [(view.tunnel, view.nd_by_flow, view.userspace) for view in (old, new)]
    if facts[0] == facts[1]:
        touched = change.affected(old, new)
        changed = change.transaction(old, new)
        nobodys = {0} if old.requests != new.requests else set()
        assert set(vnis(changed)) <= touched | nobodys
        ports_of = [
            {vni: sorted(p for v, p in _ports(view) if v == vni) for vni in touched}
            for view in (old, new)
        ]
        # What carries tags has a row of its own for the request port.
        tenants = topology.tenants
        carrying = set(tenants.vni[tenants.carry_tagged].tolist()) if nobodys else set()
        assert all(ports_of[0][vni] != ports_of[1][vni] for vni in touched - carrying)


def _ports(view: View) -> list[tuple[int, tuple[int, ...]]]:
    ports, endpoints = view.ports, view.topology.endpoints
    return [
        (
            int(view.topology.tenants.vni[endpoints.tenant[e]]),
            (int(e), int(number), int(marked), int(up)),
        )
        for e, number, marked, up in zip(
            ports.endpoint, ports.port, ports.marked, ports.up, strict=True
        )
    ]


def vnis(transaction: Transaction) -> Iterable[int]:
    """Whose flows are written, by their cookies."""
    for message in taken(transaction):
        if message[wire.INNER + 1] == 14 and message[wire.INNER + 25] == 0:
            yield int.from_bytes(message[wire.ADD_COOKIE], "big") & 0xFFFFFF


@given(changes(4))
@settings(max_examples=15)
def test_what_is_installed_is_found_whole_in_either_layout(
    overlay: tuple[Overlay, Overlay],
) -> None:
    """What we sent, and what the switch lists, is deleted by the same messages."""
    topology = from_dict(overlay[0])
    ports, _ = resolve(topology, 0, claims(topology, topology.vteps.name[0]))
    held = program.full(View(topology, 0, TUNNEL, ports))
    line = Line()
    realise(line.switch, full_difference(NOTHING, held))
    request = encode.flow_stats_request(7)
    bodies = [m[wire.MULTIPART_BODY :] for m in messages_in(line.switch.take(request))]
    listed: list[Block] = wire.flow_stats_blocks(bodies)
    assert unnumbered(Transaction(listed, held.groups, NOTHING)) == unnumbered(
        full_difference(held, NOTHING)
    )
