"""What the table forward of a fake switch does with a frame: a witness.

It looks a frame up in the flows as they stand on the wire, by priority and mask, and shares no code
with what compiled them (OpenFlow 1.4.1, 7.2.2; class 0x0001 in OVS's ovs-fields(7)).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass

from tests.support.fake_switch import Flow, State, actions_of, fields_of, gotos_of

FORWARD, BUM = 6, 7

Field = tuple[int, int]

_BASIC, _NICIRA = 0x8000, 0x0001
_IN_PORT, _METADATA, _ETH_DST = (_BASIC, 0), (_BASIC, 2), (_BASIC, 3)
_REG0, _REG6 = (_NICIRA, 0), (_NICIRA, 6)
_WIDTHS = {_IN_PORT: 4, _METADATA: 8, _ETH_DST: 6, _REG0: 4, _REG6: 4}
_PKT_MARK, _TUN_DST = (_NICIRA, 33), ((_NICIRA, 32), (_NICIRA, 110))
_OUTPUT, _SET_FIELD = 0, 25


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame in table forward: whose it is, where it came in, where it wants to go."""

    vni: int
    in_port: int
    to: int


def forwarded(held: State, frame: Frame) -> str:
    """What becomes of it: "drop", "bum", "port 5 mark 10", "port 100 to 192.0.2.12"."""
    # Nobody has asked for copies of it, and it is for no list: both registers are empty.
    wanted = {_IN_PORT: frame.in_port, _METADATA: frame.vni, _ETH_DST: frame.to}
    wanted |= {_REG0: 0, _REG6: 0}
    found = [
        (priority, flow)
        for (table, priority, match), flow in held.flows.items()
        if table == FORWARD and _matches(fields_of(match), wanted)
    ]
    highest = max((priority for priority, _ in found), default=None)
    chosen = [flow for priority, flow in found if priority == highest]
    assert len(chosen) <= 1, f"the switch may take either: {chosen}"
    return _outcome(chosen[0], frame.in_port) if chosen else "drop"


def _matches(
    fields: Mapping[tuple[int, int], bytes], wanted: Mapping[tuple[int, int], int]
) -> bool:
    for field, octets in fields.items():
        width = _WIDTHS[field]
        value = int.from_bytes(octets[:width], "big")
        mask = int.from_bytes(octets[width:], "big") if len(octets) > width else -1
        assert value & mask == value, "a switch would refuse, or write it otherwise"
        if wanted[field] & mask != value:
            return False
    return True


def _outcome(flow: Flow, in_port: int) -> str:
    said = ""
    for kind, body in actions_of(flow):
        if kind == _SET_FIELD:
            field, value = (int.from_bytes(body[:2], "big"), body[2] >> 1), body[4 : 4 + body[3]]
            if field == _PKT_MARK:
                said += f" mark {int.from_bytes(value, 'big')}"
            else:
                assert field in _TUN_DST
                said += f" to {ipaddress.ip_address(value)}"
        else:
            assert kind == _OUTPUT
            port = int.from_bytes(body[:4], "big")
            # Never out of the port it came in by.
            return "drop" if port == in_port else f"port {port}{said}"
    return "bum" if gotos_of(flow) == [BUM] else "drop"
