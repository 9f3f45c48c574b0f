"""The benchmarks' quick switch, witnessed by the strict one."""

from __future__ import annotations

from tests.support.fake_switch import (
    FLOW_STATS,
    MULTIPART_REPLY,
    FakeSwitch,
    messages_in,
)
from tests.support.line import Line
from tests.support.overlays import endpoint, two_tenants, view
from tests.support.quick_switch import QuickSwitch


class Both(FakeSwitch):
    """The strict switch, beside which the quick one gets the same bytes."""

    def __init__(self) -> None:
        super().__init__(entries_per_part=1 << 10)
        self.quick = QuickSwitch()

    def take(self, data: bytes) -> bytes:
        answers = super().take(data)
        # In two pieces, as a line may deliver them.
        found = self.quick.take(data[:1000]) + self.quick.take(data[1000:])
        assert [what(message) for message in messages_in(found)] == [
            what(message) for message in messages_in(answers)
        ]
        return answers


def what(message: bytes) -> object:
    """A message without its counters, which are never the same."""
    if message[1] != MULTIPART_REPLY:
        return message
    entries, at = [], 16
    while at < len(message):
        length = int.from_bytes(message[at : at + 2], "big")
        entry = message[at : at + length]
        flow = message[9] == FLOW_STATS
        entries.append(entry[:4] + entry[12:32] + entry[48:] if flow else entry)
        at += length
    return message[:16], entries


def test_both_hold_and_list_and_answer_the_same() -> None:
    overlay = two_tenants()
    endpoint(overlay, "blue/web2")["host"] = "host3"
    del overlay["tenants"]["red"]
    line = Line(Both())
    line.session.desire(view(), line.now)
    line.connect()
    line.desire(view(overlay))
    line.session.audit(line.now)
    line.settle()
    assert isinstance(line.switch, Both)
    quick = line.switch.quick
    assert quick.commits == line.switch.committed == 2
    assert len(quick.flows) == len(line.switch.state.flows)
    assert quick.groups.keys() == line.switch.state.groups.keys()
