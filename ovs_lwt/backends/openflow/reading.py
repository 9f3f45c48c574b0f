"""What a switch lists when it is read, how far it has come, and how much of it can be true."""

from __future__ import annotations

from dataclasses import dataclass, field

from ovs_lwt.view import View

LISTED_ALWAYS, LISTED_EACH = 1 << 28, 1 << 10
"""Bytes that a switch may list in all, and besides for each endpoint that it should know: it may
hold more than it should, of another overlay, but not any number."""

LISTED_WITHIN = 600.0
"""Seconds in which all of it has to be listed."""

PORTION = 1 << 16
"""Flows, about, that the switch is asked to list at a time: it forwards nothing meanwhile."""


@dataclass(slots=True, eq=False)
class Reading:
    """What the switch has listed so far, and which portions of its flows it has not.

    portions: in how many the flows are asked for, a power of two (0: not at all); size, most: bytes
    that it has listed, and may list
    """

    flows_xid: int
    groups_xid: int
    portions: int
    most: int
    size: int = 0
    portion: int = 0
    flows: list[bytes] = field(default_factory=list)
    groups: dict[int, bytes] = field(default_factory=dict)
    groups_listed: bool = False

    @classmethod
    def of(cls, view: View, flows_xid: int, groups_xid: int) -> Reading:
        """What to ask for, by what should be there."""
        endpoints = sum(len(part) for part in view.topology.slices if part.seen_from(view.host))
        portions = 1 << (endpoints // PORTION).bit_length()
        return cls(flows_xid, groups_xid, portions, LISTED_ALWAYS + LISTED_EACH * endpoints)

    @property
    def too_much(self) -> str:
        """Why it is not read on, and what to do."""
        return (
            f"the switch has listed {self.size >> 20} MB of flows and groups, more than any overlay"
            " like this one makes: if it does hold them, empty its bridge (ovs-ofctl del-flows,"
            " del-groups)"
        )
