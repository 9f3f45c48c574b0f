"""The messages of a transaction, taken as a session takes them."""

from __future__ import annotations

from ovs_lwt.backends.openflow import wire
from ovs_lwt.backends.openflow.transaction import Transaction
from tests.support.fake_switch import messages_in


def taken(transaction: Transaction, first_xid: int = 0x1000) -> list[bytes]:
    """All its messages, in order, numbered from `first_xid`."""
    found: list[bytes] = []

    def number(_: int) -> int:
        # Every message so far has had one.
        return first_xid + len(found)

    while (messages := transaction.take(number)) is not None:
        found += messages_in(bytes(messages))
    return found


def unnumbered(transaction: Transaction) -> list[bytes]:
    """All its messages, sorted, without their transaction ids."""
    found = []
    for message in map(bytearray, taken(transaction)):
        for place in wire.XIDS:
            message[place : place + 4] = bytes(4)
        found.append(bytes(message))
    return sorted(found)
