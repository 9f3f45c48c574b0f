"""What one host's kernel should hold and what it holds, brought together: without I/O, without a
clock.

What flows in: programs to realise, what the kernel has listed, how a transaction went, the time.
What flows out: what to do next (`state`, `transaction`) and events to tell about (`events`).

    state     asks for                           then
    reading   a list of what is installed        writing, or in-sync if nothing differs
    writing   `transaction` to be sent           in-sync; refused
    in-sync   nothing, until the next audit      writing after another program; reading
    refused   nothing, until the retry time      reading
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from ovs_lwt.backends.netlink.program import Program
from ovs_lwt.backends.netlink.transaction import Counts, Transaction, between
from ovs_lwt.backends.netlink.transport import Outcome
from ovs_lwt.backends.netlink.wire import Listed
from ovs_lwt.backends.outcome import AUDIT, AUDIT_SHARE, RETRY_FIRST, RETRY_LAST, Synced
from ovs_lwt.mistakes import Refused


class State(StrEnum):
    """See the table at the top of the module."""

    READING = "reading"
    WRITING = "writing"
    IN_SYNC = "in-sync"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class KernelRefused:
    """The kernel said no to these, and why; all else has been done. more: how many are not named"""

    reasons: tuple[str, ...]
    more: int
    retry_in: float


Event = Synced[Counts] | KernelRefused


@dataclass(slots=True, eq=False)
class Session:
    """One kernel. Give it a program with `desire`, then do what its state asks for.

    due: when it is time to `audit`, or to try again
    """

    state: State = State.READING
    transaction: Transaction = field(default_factory=Transaction)
    events: list[Event] = field(default_factory=list)
    due: float = float("inf")
    _desired: Program | None = None
    _installed: Program | None = None
    _began: float = 0.0
    _read_for: float = 0.0
    _next_audit: float = float("inf")
    _retry: float = RETRY_FIRST
    _audit: bool = False

    @property
    def entries(self) -> int:
        """How many entries the kernel holds of ours, as far as is known."""
        return len(self._installed) if self._installed is not None else 0

    @property
    def pending(self) -> bool:
        """Whether there is something to be done now."""
        if self.state is State.READING:
            return self._desired is not None
        return self.state is State.WRITING

    def desire(self, program: Program, now: float) -> None:
        """Realise `program` from now on. What is known to be installed need not be read."""
        self._desired, self._retry = program, RETRY_FIRST
        if self.state is State.IN_SYNC:
            self._began, self._audit = now, False
            self._compare(self._installed.entries if self._installed else [], now)
        else:
            self._read(now)

    def listed(self, found: Sequence[Listed], now: float) -> None:
        """What the kernel holds where ours belong."""
        # From here on, and not from the last change: what changes all the time is audited too.
        self._next_audit = now + max(AUDIT, AUDIT_SHARE * (now - self._began))
        self._compare(found, now)

    def done(self, outcome: Outcome, now: float) -> None:
        """The transaction has been sent, and went like this."""
        if outcome.failed:
            reasons = tuple(str(failure) for failure in outcome.failures)
            self.refuse(reasons, now, outcome.failed - len(reasons))
        else:
            self._agree(now)

    def refuse(self, reasons: tuple[str, ...], now: float, more: int = 0) -> None:
        """It cannot be done, or not now; what is installed is not known any more."""
        self.state, self._installed, self._audit = State.REFUSED, None, False
        self.transaction = Transaction()
        self.events.append(KernelRefused(reasons, more, self._retry))
        self.due = now + self._retry
        self._retry = min(self._retry * 2, RETRY_LAST)

    def audit(self, now: float) -> None:
        """Read the kernel next, whatever is believed of it."""
        self._audit = self.state is State.IN_SYNC
        self._read(now)

    def is_due(self, now: float) -> bool:
        """Whether it is time for an audit, or for another try."""
        return now >= self.due

    def _read(self, now: float) -> None:
        self.state, self.due, self._began = State.READING, float("inf"), now

    def _compare(self, installed: Sequence[Listed], now: float) -> None:
        assert self._desired is not None, "there is a program before anything is read"
        try:
            self.transaction = between(installed, self._desired)
        except Refused as refused:
            self.refuse((str(refused),), now)
            return
        self.state = State.WRITING
        if not len(self.transaction):
            self._agree(now)

    def _agree(self, now: float) -> None:
        self.state, self._installed, self._retry = State.IN_SYNC, self._desired, RETRY_FIRST
        self.events.append(Synced(self.transaction.counts, now - self._began, self._audit))
        self.transaction, self._audit = Transaction(), False
        self.due = self._next_audit
