"""Flows in tables of ours that are not ours and stay, because the user wants that (--keep-foreign).

What flows in: what a switch listed that nobody desires. What flows out: who they are, and whether
frames may pass by them, past what the overlay says. Flows in other tables are not looked at: frames
get there by a flow in a table of ours alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from ovs_lwt.backends.openflow import listing
from ovs_lwt.backends.openflow.pipeline import pipeline
from ovs_lwt.delta import Block, Indices
from ovs_lwt.findings import Finding, fail, warn
from ovs_lwt.mistakes import listing as named

Key = tuple[int, int, bytes]
"""A flow's table, priority and match."""

LIMIT: Final = 256
"""Flows of a kind that are known one by one; the others are counted."""

SHOWN: Final = 20
_SUBJECT: Final = "foreign flows"


@dataclass(frozen=True, slots=True)
class Kind:
    """Flows of one kind, in ovs-ofctl syntax, by table, priority and match. more: those beyond."""

    flows: Mapping[Key, str] = field(default_factory=dict)
    more: int = 0

    def __len__(self) -> int:
        return len(self.flows) + self.more

    def joined(self, other: Kind) -> Kind:
        """These and those."""
        every = {**self.flows, **other.flows}
        kept = dict(list(every.items())[:LIMIT])
        return Kind(kept, self.more + other.more + len(every) - len(kept))

    def without(self, keys: Collection[Key]) -> Kind:
        """All but these."""
        return Kind({key: line for key, line in self.flows.items() if key not in keys}, self.more)


@dataclass(frozen=True, slots=True)
class Foreign:
    """passing: flows that do more than drop; dropping: the others."""

    passing: Kind = field(default_factory=Kind)
    dropping: Kind = field(default_factory=Kind)

    @classmethod
    def among(cls, block: Block, rows: Indices) -> Foreign:
        """Those of these rows of what a switch listed that stand in tables of ours."""
        (place, _, _), instructions = block.key, block.value[-1]
        ours = np.isin(block.rows[rows, place.start], [number for number, _ in pipeline().tables])
        chosen = rows[ours].tolist()
        flows = {_key(block, row): listing.flow_line(block, row) for row in chosen[:LIMIT]}
        kind = Kind(flows, len(chosen) - len(flows))
        # Without an instruction a flow drops; rows of a block have one length.
        drops = instructions.start == instructions.stop
        return cls(dropping=kind) if drops else cls(passing=kind)

    def joined(self, other: Foreign) -> Foreign:
        """These and those."""
        return Foreign(self.passing.joined(other.passing), self.dropping.joined(other.dropping))

    def without(self, keys: Collection[Key]) -> Foreign:
        """All but these."""
        return Foreign(self.passing.without(keys), self.dropping.without(keys))

    def __len__(self) -> int:
        return len(self.passing) + len(self.dropping)

    @property
    def lines(self) -> list[str]:
        """The flows that are known one by one, those that do more than drop first."""
        return [*self.passing.flows.values(), *self.dropping.flows.values()]

    def findings(self, bridge: str) -> Iterator[Finding]:
        """What is to be said of them."""
        mend = (
            f"remove them (see ovs-ofctl -O OpenFlow14 dump-flows {bridge}), or run without"
            " --keep-foreign, which does it"
        )
        whose = "in ovs-lwt's tables not of its own"
        if self.passing:
            yield fail(
                _SUBJECT,
                f"{len(self.passing):,} {whose} that do more than drop, so that frames may pass"
                f" from tenant to tenant: {_listed(self.passing)}",
                mend,
            )
        if self.dropping:
            yield warn(
                _SUBJECT,
                f"{len(self.dropping):,} {whose} that drop what they match, whatever the overlay"
                f" says: {_listed(self.dropping)}",
                mend,
            )

    def as_json(self) -> dict[str, object]:
        """Their part of `ovs-lwt status`."""
        return {"count": len(self), "passing": len(self.passing), "flows": self.lines[:SHOWN]}


def _key(block: Block, row: int) -> Key:
    table, priority, match = (block.rows[row, part].tobytes() for part in block.key)
    return int.from_bytes(table, "big"), int.from_bytes(priority, "big"), match


def _listed(kind: Kind) -> str:
    return named([*kind.flows.values()], 3) + (f" (and {kind.more:,} more)" if kind.more else "")
