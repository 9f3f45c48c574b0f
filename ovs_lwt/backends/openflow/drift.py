"""What others change on our switch, as it happens, and what puts it right.

What flows in: the updates of a flow monitor (OpenFlow 1.4.1, 7.3.5.15), on the agent's own
connection, and the requests of other controllers that the switch forwards. What flows out: a
transaction over those flows alone; a million others are neither listed nor compared.

    FlowMonitor update      then
    added, modified         the flow is there as the update says it
    removed                 it is gone
    abbreviated             a change of our own
    paused                  the switch has updates that it will not send: everything is to be read
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ovs_lwt.backends.openflow import framework, program, wire
from ovs_lwt.backends.openflow.foreign import Key
from ovs_lwt.backends.openflow.pipeline import COOKIE_OURS, COOKIE_OURS_MASK, COOKIE_VNI_MASK
from ovs_lwt.backends.openflow.program import Part, Program
from ovs_lwt.backends.openflow.relations import Rows
from ovs_lwt.backends.openflow.transaction import Transaction
from ovs_lwt.backends.scope import Scope
from ovs_lwt.delta import Block, fingerprints
from ovs_lwt.view import View

LIMIT = 4096
"""Flows changed by others that are put right one by one; beyond it everything is read."""

_TENANTS = 64
"""Tenants whose flows are compiled for it; beyond it everything is read."""

_ADDED, _REMOVED, _MODIFIED, _ABBREVIATED, _PAUSED = 1, 2, 3, 4, 5  # ofp_flow_update_event
_UPDATE = struct.Struct("!HHBxHHH4xQ")  # ofp_flow_update_full, before the match
_SHORT = struct.Struct("!HH")  # what every update begins with
# ofp_flow_stats up to the match, see wire. Flags that no flow has: an update does not tell them, so
# that what others have touched is never taken for what we want.
_STATS = struct.Struct("!HBxIIHHHHHxxQQQ")
_NO_FLAGS = 0xFFFF
_SEED = 1


@dataclass(slots=True, eq=False)
class Drift:
    """What others have done since it was last put right.

    there: table, priority and match -> the flow as the switch would list it, cookie included
    gone: the same of flows that are no more -> the flow as it was
    groups: a group was written or deleted; lost: more than can be told flow by flow
    """

    there: dict[Key, bytes] = field(default_factory=dict)
    gone: dict[Key, bytes] = field(default_factory=dict)
    groups: bool = False
    lost: bool = False

    def __bool__(self) -> bool:
        return bool(self.there or self.gone or self.groups or self.lost)

    def take(self, body: bytes) -> None:
        """Take note of the updates of one message (its body, behind the multipart header)."""
        at = 0
        while at + _SHORT.size <= len(body) and not self.lost:
            length, event = _SHORT.unpack_from(body, at)
            if event in (_ADDED, _MODIFIED, _REMOVED):
                self._note(body[at : at + length], gone=event == _REMOVED)
            elif event == _PAUSED:
                self.lost = True
            at += max(length, _SHORT.size)
        if len(self.there) + len(self.gone) > LIMIT:
            self.lost = True
        if self.lost:
            self.there, self.gone = {}, {}

    def _note(self, update: bytes, *, gone: bool) -> None:
        _, _, table, idle, hard, priority, cookie = _UPDATE.unpack_from(update)
        match_length = int.from_bytes(update[_UPDATE.size + 2 : _UPDATE.size + 4], "big")
        rest = update[_UPDATE.size :]
        key = (table, priority, rest[: wire.padded(match_length)])
        head = (_STATS.size + len(rest), table, 0, 0, priority, idle, hard)
        entry = _STATS.pack(*head, _NO_FLAGS, _NO_FLAGS, cookie, 0, 0) + rest
        here, other = (self.gone, self.there) if gone else (self.there, self.gone)
        here[key] = entry
        other.pop(key, None)

    def repair(self, view: View, *, keep_foreign: bool) -> Transaction | None:
        """What leads from these flows to those that `view` wants in their places; None: everything
        is to be read.
        """
        entries = [*self.there.values(), *self.gone.values()]
        vnis = _vnis(view, entries)
        if self.lost or len(vnis) > _TENANTS:
            return None
        wanted = _prints(wire.flow_stats_blocks(entries))
        scopes = [Scope.of_tenant(view, vni) for vni in sorted(vnis)]
        parts = (
            program.shared(view),
            program.lists(view, view.flood_lists.owners),
            *map(program.of, scopes),
        )
        chosen = tuple(_only(part, wanted) for part in parts)
        there = wire.flow_stats_blocks(self.there.values())
        return Transaction(there, {}, Program(chosen, {}), keep_foreign=keep_foreign)


def _only(part: Part, wanted: NDArray[np.uint64]) -> Part:
    """Of a part's flows those whose keys have these fingerprints."""

    def rows() -> Iterator[Rows]:
        for found in part.rows():
            if found.count:
                keys = _prints([program.stamped(found).block])
                yield _chosen(found, np.flatnonzero(np.isin(keys, wanted)))

    return Part(rows)


def _chosen(rows: Rows, indices: NDArray[np.intp]) -> Rows:
    columns = {
        name: column[indices] if len(column) > 1 else column
        for name, column in rows.columns.items()
    }
    return Rows(rows.entry, len(indices), columns)


def _prints(blocks: Sequence[Block]) -> NDArray[np.uint64]:
    found = [fingerprints(block.rows, block.key, _SEED) for block in blocks]
    return np.concatenate([np.empty(0, np.uint64), *found])


def _vnis(view: View, entries: Iterable[bytes]) -> set[int]:
    """The tenants whose flows these may have been, by cookie and by match."""
    parse = framework.current().ofproto_v1_4_parser.OFPMatch.parser
    tenants, guests = view.topology.tenants, view.guests.tenant
    found: set[int] = set()
    for entry in entries:
        cookie = int.from_bytes(entry[wire.STATS_COOKIE], "big")
        if cookie & COOKIE_OURS_MASK == COOKIE_OURS:
            found.add(cookie & COOKIE_VNI_MASK)
        # A value with a mask is a pair, and selects nobody in particular.
        match = dict(parse(entry[wire.STATS_MATCH :], 0).items())
        found |= {
            vni for vni in (match.get("metadata"), match.get("tunnel_id")) if type(vni) is int
        }
        if type(port := match.get("in_port")) is int:
            found.update(tenants.vni[guests[view.ports.port == port]].tolist())
        if type(mark := match.get("pkt_mark")) is int:
            found.update(tenants.vni[tenants.mark == mark].tolist())
    return found & set(tenants.vni[view.here].tolist())
