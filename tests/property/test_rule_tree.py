"""A packet finds its own tenant's table: in every tree, and at every moment of every change."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ovs_lwt.backends.netlink.program import Program, stamp
from ovs_lwt.backends.netlink.templates import Devices
from ovs_lwt.backends.netlink.transaction import between
from ovs_lwt.backends.route import tree
from ovs_lwt.backends.route.tree import Shape
from tests.support.rules import NO_TABLE, Packet, RuleList

HOST = Devices.of({"vx-lwt": 7})
VTEP = np.array([0xC000020B], np.uint32)

Tenants = Mapping[int, int]
"""Mark -> table."""

shapes = st.builds(Shape, st.integers(1, 4), st.integers(1, 5))
# Numbered without gaps, anyhow, alike at the high end, or alike at the low end: those make nodes
# far from the root, whose priorities change.
marks = (
    st.integers(1, 60)
    | st.integers(1, (1 << 32) - 1)
    | st.integers(0, 0xFFF).map(lambda mark: 0xABC00000 | mark)
    | st.tuples(st.integers(1, 6), st.integers(0, 31)).map(lambda mark: mark[0] | mark[1] << 24)
)
# Few tables, so that a tenant may come back to another than it had.
tenants = st.dictionaries(marks, st.integers(1, 3).map(lambda table: 1000 + table), max_size=40)


@st.composite
def histories(draw: st.DrawFn) -> list[Tenants]:
    """Tenants, and what became of them; most stay as they are."""
    history: list[Tenants] = [draw(tenants)]
    for _ in range(draw(st.integers(1, 3))):
        there = history[-1]
        gone = draw(st.sets(st.sampled_from(sorted(there)), max_size=8)) if there else set()
        come = draw(st.dictionaries(marks, st.integers(1001, 1003), max_size=12))
        history.append({mark: there[mark] for mark in there if mark not in gone} | come)
    return history


def program(tenants: Tenants, shape: Shape) -> Program:
    found = np.array([*tenants.items()], np.uint32).reshape(-1, 2)
    rows = tree.tree(found[:, 0], found[:, 1], shape=shape)
    return stamp([*tree.head(VTEP, ""), *rows], HOST)


def kernel(desired: Program) -> RuleList:
    rules = RuleList()
    rules.run(between([], desired))
    return rules


def table(rules: RuleList, mark: int) -> int:
    return rules.walk(Packet(mark))[0]


@given(tenants, shapes, st.lists(marks))
def test_every_mark_leads_to_its_table_and_no_other_to_any(
    tenants: Tenants, shape: Shape, others: list[int]
) -> None:
    rules = kernel(program(tenants, shape))
    for mark in {*tenants, *others}:
        assert table(rules, mark) == tenants.get(mark, NO_TABLE)
        assert table(rules, mark ^ 1 << 31) == tenants.get(mark ^ 1 << 31, NO_TABLE)
    assert rules.walk(Packet(0))[1] <= 4


@given(histories(), shapes, st.booleans())
@settings(max_examples=150, deadline=None)
def test_a_packet_finds_its_table_at_every_moment_of_a_change(
    history: list[Tenants], shape: Shape, restarts: bool
) -> None:
    programs = [program(tenants, shape) for tenants in history]
    rules = kernel(programs[0])
    for (before, after), (old, new) in zip(pairwise(history), pairwise(programs), strict=True):
        allowed = {
            mark: {before.get(mark, NO_TABLE), after.get(mark, NO_TABLE)}
            for mark in {*before, *after}
        }
        for step in between(rules.listed() if restarts else old.entries, new).steps:
            for message in step.rows:
                rules.do(message.tobytes())
                for mark, tables in allowed.items():
                    assert table(rules, mark) in tables
        assert {rule.octets for rule in rules.rules} == {rule.octets for rule in kernel(new).rules}
