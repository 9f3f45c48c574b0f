"""What one change may not do to an overlay that runs, though either overlay is right by itself.

Hosts learn of a change one after the other. Until all have it, a number on the wire (VNI, label)
must not mean two tenants, and a mark on a host must not either, since flows and the kernel's
filters do not change at one moment. And a file that has lost many of its endpoints is taken for an
accident.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow.compute as pc

from ovs_lwt.changes import compare
from ovs_lwt.columns import Indices
from ovs_lwt.mistakes import listing
from ovs_lwt.topology import TenantColumns, Topology

BRAKE_SHARE = 20
"""Percent of the endpoints that one change may take away."""

BRAKE_FEW = 100
"""... and so many endpoints are never too many."""


REST = 2.0
"""Seconds for which a number that a tenant has given up is nobody's. Packets that bear it may still
be under way, and in the queue of a host whose switch is busy they may outlive two changes.
"""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be said of a change.

    renamed: tenants by their names before and after; handed_over: sentences about numbers that
    would mean another tenant from now on; braked: a sentence about endpoints that would go, or none
    strangers: tenants of the old overlay, by index, whose numbers would be others'
    """

    renamed: Mapping[str, str]
    handed_over: tuple[str, ...]
    braked: str | None
    strangers: frozenset[int]


@dataclass(slots=True)
class Released:
    """Numbers that tenants have given up lately: (kind, number) -> whose it was, and since when."""

    _by_number: dict[tuple[str, int], tuple[str, float]] = field(default_factory=dict)

    def note(self, old: Topology, new: Topology, renamed: Mapping[str, str], now: float) -> None:
        """`new` runs now instead of `old`. renamed: tenants by their names before and after"""
        self._by_number = {
            number: (renamed.get(name, name), since)
            for number, (name, since) in self._by_number.items()
            if now < since + REST
        }
        if old.tenants is new.tenants:
            return
        kept = _bearers(new.tenants)
        for number, name in _bearers(old.tenants).items():
            name = renamed.get(name, name)
            if kept.get(number) != name:
                self._by_number[number] = name, now

    def resting(self, new: Topology, now: float) -> tuple[float, str] | None:
        """When `new` may run, if that is later than `now`; and why, in a sentence."""
        waits = [
            (since + REST, kind, number, name)
            for (kind, number), (name, since) in self._by_number.items()
            if now < since + REST
        ]
        if not waits:
            return None
        bearers = _bearers(new.tenants)
        waits = [wait for wait in waits if bearers.get(wait[1:3], wait[3]) != wait[3]]
        if not waits:
            return None
        at, kind, number, name = max(waits, key=lambda wait: wait[0])
        return at, (
            f"{kind} {number} was tenant {name}'s until just now, and packets with it may be under"
            f" way: it becomes tenant {bearers[kind, number]}'s in {at - now:.1f} s, by itself"
        )


def judge(old: Topology, new: Topology, share: int = BRAKE_SHARE) -> Verdict:
    """Hold `new` against `old`, which runs. share: percent of the endpoints that may go."""
    if old is new:
        return Verdict({}, (), None, frozenset())
    renamed = dict(_renamed(old, new))
    given = list(_handed_over(old.tenants, new.tenants, renamed))
    return Verdict(
        renamed,
        tuple(sentence for _, sentence in given),
        _brake(old, new, share),
        frozenset(tenant for tenant, _ in given),
    )


def _renamed(old: Topology, new: Topology) -> Iterator[tuple[str, str]]:
    """Tenants that keep VNI and endpoints, and whose names the other overlay does not know."""
    if old.tenants is new.tenants:
        return
    known = dict(zip(new.tenants.vni.tolist(), new.tenants.name, strict=True))
    here, there = old.tenants.index, new.tenants.index
    candidates = [
        (name, known[vni])
        for name, vni in zip(old.tenants.name, old.tenants.vni.tolist(), strict=True)
        if name not in there and vni in known and known[vni] not in here
    ]
    if not candidates:
        return
    one, other = compare(old, new)
    changed = {
        side.topology.tenants.name[tenant]
        for side in (one, other)
        for tenant in side.topology.tenants_of(side.endpoints).tolist()
    }
    for before, after in candidates:
        if before not in changed and after not in changed:
            yield before, after


def _handed_over(
    old: TenantColumns, new: TenantColumns, renamed: Mapping[str, str]
) -> Iterator[tuple[int, str]]:
    """(the tenant that bears the number now, what is wrong with giving it to another)."""
    if old is new:
        return
    takers = _bearers(new)
    told: set[tuple[str, str]] = set()
    for (kind, number), bearer in _bearers(old).items():
        name = renamed.get(bearer, bearer)
        taker = takers.get((kind, number), name)
        # A mark or label that follows from the VNI is no other news.
        if taker != name and (bearer, taker) not in told:
            told.add((bearer, taker))
            yield old.index[bearer], _two_steps(f"{kind} {number}", bearer, taker)


def _bearers(tenants: TenantColumns) -> dict[tuple[str, int], str]:
    """(kind, number) -> the tenant that bears it, for all that must not mean two at a time."""
    kinds = {"VNI": tenants.vni, "mark": tenants.mark, "MPLS label": tenants.label}
    return {
        (kind, number): name
        for kind, column in kinds.items()
        for number, name in zip(column.tolist(), tenants.name, strict=True)
        # Label 0 stands for none.
        if number
    }


def _two_steps(number: str, bearer: str, taker: str) -> str:
    return (
        f"{number} is tenant {bearer}'s in the overlay that runs, and would be tenant {taker}'s:"
        " while not all hosts know, one would hear the other. Do it in two steps: first take"
        f" {number} off {bearer}, and once all hosts have that, give it to {taker}"
    )


def _brake(old: Topology, new: Topology, share: int) -> str | None:
    count = int(old.endpoint_edges[-1])
    allowed = max(BRAKE_FEW, count * share // 100)
    differing = compare(old, new)[0]
    if len(differing.endpoints) <= allowed:
        return None
    gone = _gone(old, new, differing.endpoints)
    if gone <= allowed:
        return None
    tenants = [name for name in old.tenants.name if name not in new.tenants.index]
    whose = f" (tenants that are gone: {listing(tenants)})" if tenants else ""
    return (
        f"it takes away {gone:,} of {count:,} endpoints{whose}, and one change may take {share} %:"
        " if that is meant, ovs-lwt reload --force"
    )


def _gone(old: Topology, new: Topology, endpoints: Indices) -> int:
    """How many of these endpoints of `old` have no namesake in their tenant in `new`."""
    there = {int(vni): tenant for tenant, vni in enumerate(new.tenants.vni)}
    edges = np.searchsorted(endpoints, [old.tenant_span(t).start for t in range(len(old.tenants))])
    gone = 0
    for tenant, (low, high) in enumerate(zip(edges, [*edges[1:], len(endpoints)], strict=True)):
        if low == high:
            continue
        same = there.get(int(old.tenants.vni[tenant]))
        if same is None:
            gone += int(high - low)
            continue
        names = old.taken(endpoints[low:high]).name
        span = new.tenant_span(same)
        known = new.taken(np.arange(span.start, span.stop)).name
        kept = pc.sum(pc.is_in(names, value_set=known)).as_py() or 0
        gone += int(high - low) - int(kept)
    return gone
