"""A bundle on its way to the switch: opened, filled piece by piece, then committed or discarded.

What flows in: a transaction, and what the switch refuses of it. What flows out: messages. Whoever
sends them asks for more once the last ones are on their way, so that pieces are made while others
are sent, and are not in memory all at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ovs_lwt.backends.openflow import encode
from ovs_lwt.backends.openflow.foreign import Foreign
from ovs_lwt.backends.openflow.pipeline import BUNDLE
from ovs_lwt.backends.openflow.transaction import Transaction
from ovs_lwt.mistakes import Refused

PIECE: Final = 1 << 19
"""Bytes, about, that are made ready to be sent at a time."""

Messages = list[bytes | memoryview]


class Load:
    """One transaction under way.

    errors: what was refused of it, and why; complete: there is nothing more to make ready
    waits_for: transaction id of what the switch is to answer, None as long as nothing is
    counted: what it adds and takes away changes how much the switch holds of ours
    staying: flows of others that stay whatever comes of it; None: it says nothing of them
    """

    def __init__(
        self,
        transaction: Transaction,
        number: Callable[..., int],
        *,
        counted: bool = True,
        staying: Foreign | None = None,
    ) -> None:
        """number: gives the first of so many transaction ids in a row (one, if it is not said)."""
        self.transaction = transaction
        self.counted, self.staying = counted, staying
        self.errors: list[str] = []
        self.complete = False
        self.waits_for: int | None = None
        self._number = number

    def opening(self) -> Messages:
        """Return the first messages; none if there is nothing to change. Raises Refused."""
        piece = self._piece()
        if not piece:
            self.complete = True
            return []
        messages = [encode.bundle_control("OPEN", BUNDLE, self._number()), *piece]
        # It was all, if it is less than was asked for.
        return messages if sum(map(len, piece)) >= PIECE else messages + self.more()

    def more(self) -> Messages:
        """Return the next messages; behind the last ones the barrier that is then waited for."""
        piece: Messages = []
        # Once the switch has refused one message, it would refuse the bundle.
        if not self.errors:
            try:
                piece = self._piece()
            except Refused as refused:
                # The bundle is open: it is discarded as if the switch had said so.
                self.errors.append(str(refused))
        if piece:
            return piece
        self.complete, self.waits_for = True, self._number()
        return [encode.barrier_request(self.waits_for)]

    def commit(self) -> bytes:
        """Return what has the switch do all of it, and answer."""
        self.waits_for = self._number()
        return encode.bundle_control("COMMIT", BUNDLE, self.waits_for)

    def discard(self) -> bytes:
        """Return what has the switch forget all of it."""
        return encode.bundle_control("DISCARD", BUNDLE, self._number())

    def _piece(self) -> Messages:
        piece: Messages = []
        size = 0
        while size < PIECE and (messages := self.transaction.take(self._number)) is not None:
            piece.append(messages)
            size += len(messages)
        return piece
