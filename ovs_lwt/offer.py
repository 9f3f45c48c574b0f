"""Whether a host offers to replicate for leaves (RFC 9574), and until when.

Every host of plane ovs offers it while any host of the overlay is a replicator, whichever those
are: so a leaf that has not yet heard of a change still finds whom it asks. After the last
replicator has gone it goes on for `GRACE`, since other hosts learn of it later; then it is over. An
agent that starts and finds its host offering, where the overlay has no replicator, lets the grace
begin anew: it never ends early, and at most one grace late.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

GRACE: Final = 60.0
"""Seconds from learning that the last replicator has gone to the end of the offer."""


@dataclass(slots=True)
class Offer:
    """One host's offer.

    stands: it is to be there; ends: when it ends, None while no end is known
    """

    stands: bool = False
    ending: bool = False
    ends: float | None = None

    def learn(self, *, replicated: bool, found: bool) -> None:
        """Take note of an overlay.

        replicated: it has replicators; found: the host is offering it now
        """
        self.stands = replicated or found
        if replicated or not found:
            self.ending, self.ends = False, None
        else:
            self.ending = True

    def over(self, now: float) -> bool:
        """Whether the grace is over; the first call after `learn` begins it."""
        if not self.ending:
            return False
        if self.ends is None:
            self.ends = now + GRACE
        return now >= self.ends

    def __str__(self) -> str:
        """What `status` says of it."""
        if self.ending:
            return "ends soon: no host replicates any longer"
        return "offered" if self.stands else "none"

    def withdrawn(self) -> None:
        """It is gone."""
        self.stands, self.ending, self.ends = False, False, None
