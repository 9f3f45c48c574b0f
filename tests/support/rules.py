"""The kernel's policy rules, as net/core/fib_rules.c keeps and walks them, for netlink messages."""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass, field

import numpy as np

from ovs_lwt.backends.netlink import wire
from ovs_lwt.backends.netlink.kinds import HEADER, RULE
from ovs_lwt.backends.netlink.transaction import Transaction

NO_TABLE = 0


@dataclass(frozen=True, slots=True)
class Packet:
    """What rules ask about a packet; iif: "lo" if the host itself sends it."""

    mark: int = 0
    iif: str = "blue-web1"
    source: str = "10.0.0.11"
    vni: int | None = None


@dataclass(frozen=True, slots=True, order=True)
class Rule:
    """A rule; in the kernel's order: by priority, then as it was added."""

    priority: int
    age: int
    octets: bytes = field(compare=False)
    mark: int = field(compare=False)
    mask: int = field(compare=False)
    iif: str | None = field(compare=False)
    source: str | None = field(compare=False)
    vni: int | None = field(compare=False)
    target: int | None = field(compare=False)
    table: int = field(compare=False)

    def matches(self, packet: Packet) -> bool:
        """Whether the rule is about this packet."""
        return (
            not (packet.mark ^ self.mark) & self.mask
            and self.iif in (None, packet.iif)
            and self.source in (None, packet.source)
            and self.vni in (None, packet.vni)
        )


class RuleList:
    """The rules of one family."""

    def __init__(self) -> None:
        self.rules: list[Rule] = []
        self._known: dict[bytes, Rule] = {}
        self._added = 0

    def run(self, transaction: Transaction) -> None:
        """Do all of it."""
        for step in transaction.steps:
            for message in step.rows:
                self.do(message.tobytes())

    def do(self, message: bytes) -> None:
        """Add or delete one rule."""
        decoded = RULE.message(message)
        decoded.decode()
        octets = message[HEADER:]
        if decoded["header"]["type"] == RULE.delete:
            assert octets in self._known, "the kernel would answer ENOENT"
            self.rules.remove(self._known.pop(octets))
            return
        assert octets not in self._known, "the kernel would answer EEXIST"
        rule = Rule(
            priority=decoded.get_attr("FRA_PRIORITY"),
            age=self._added,
            octets=octets,
            mark=decoded.get_attr("FRA_FWMARK") or 0,
            mask=decoded.get_attr("FRA_FWMASK") or 0,
            iif=decoded.get_attr("FRA_IIFNAME"),
            source=decoded.get_attr("FRA_SRC"),
            vni=decoded.get_attr("FRA_TUN_ID"),
            target=decoded.get_attr("FRA_GOTO"),
            table=decoded.get_attr("FRA_TABLE"),
        )
        assert rule.target is None or rule.target > rule.priority, "the kernel would answer EINVAL"
        insort(self.rules, rule)
        self._known[octets] = rule
        self._added += 1

    def walk(self, packet: Packet) -> tuple[int, int]:
        """The table in which the walk ends (NO_TABLE if in none), and how many rules it asks."""
        first: dict[int | None, int] = {}
        for place, rule in enumerate(self.rules):
            first.setdefault(rule.priority, place)
        at = asked = 0
        while at < len(self.rules):
            rule = self.rules[at]
            asked += 1
            if not rule.matches(packet):
                at += 1
            elif rule.table:
                return rule.table, asked
            else:
                # A goto whose target is not there is passed over.
                at = first.get(rule.target, at + 1)
        return NO_TABLE, asked

    def listed(self) -> list[wire.Listed]:
        """As `dumps.rules` has them: by length, in the kernel's order."""
        by_length: dict[int, list[bytes]] = {}
        for rule in self.rules:
            by_length.setdefault(len(rule.octets), []).append(bytes(HEADER) + rule.octets)
        found: list[wire.Listed] = []
        for messages in by_length.values():
            rows = np.frombuffer(bytearray(b"".join(messages)), np.uint8)
            found += wire.entries(RULE, rows.reshape(len(messages), -1))
        return found
