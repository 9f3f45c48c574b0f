"""How a filter of tc is written down: what it matches, where it hangs, and what it does."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Final

from ovs_lwt.backends.netlink.bytecode import Bytecode
from ovs_lwt.backends.netlink.kinds import FILTER, INGRESS, PROTOCOL
from ovs_lwt.backends.netlink.slots import Slot, host
from ovs_lwt.backends.netlink.templates import Attributes, Template

DEV: Final = host("dev", signed=True)

CONTINUE, PASS, DROP, PIPE = -1, 0, 2, 3
"""TC_ACT_* (include/uapi/linux/pkt_cls.h): on to the next filter; let through; gone; on to the next
action."""

PREFERENCES: Final = tuple(PROTOCOL + (place << 8) for place in range(4))
FIRST, SECOND, THIRD, FOURTH = PREFERENCES
"""Preferences, in the order in which filters are asked; the lowest byte says that one is ours. Of
one device and direction, all that share a preference are of one kind."""

EVERY_PROTOCOL: Final = socket.htons(0x0003)  # ETH_P_ALL (include/uapi/linux/if_ether.h)


def flower(
    why: str, text: str, options: Attributes, parent: int = INGRESS, preference: int = FIRST
) -> Template:
    """A filter by fields. text: of `tc filter … flower`; options: what it matches, and does"""
    return _filter("flower", why, text, options, parent, preference)


def bpf(
    why: str, program: Bytecode, text: str, does: tuple[str, Attributes], preference: int
) -> Template:
    """A filter of what comes in, by a program. text: its actions; does: the same, see `actions`"""
    options = (("TCA_BPF_OPS_LEN", len(program)), ("TCA_BPF_OPS", program), does)
    return _filter("bpf", why, f"bytecode {program.text} {text}", options, INGRESS, preference)


def actions(of: str, *each: Attributes) -> tuple[str, Attributes]:
    """What a filter does, action by action. of: "FLOWER", "BPF" """
    numbered = tuple((f"TCA_ACT_PRIO_{place}", action) for place, action in enumerate(each, 1))
    return f"TCA_{of}_ACT", numbered


def action(
    kind: str, verdict: int, *options: tuple[str, object], **details: int | Slot
) -> Attributes:
    """One action. verdict: what happens to the packet then; details: more fields of its parameters

    The kernel gives it its index.
    """
    fields: Mapping[str, int | Slot] = {
        "index": 0,
        "capab": 0,
        "action": verdict,
        "refcnt": 0,
        "bindcnt": 0,
        **details,
    }
    parameters = (f"TCA_{kind.upper()}_PARMS", fields)
    return (("TCA_ACT_KIND", kind), ("TCA_ACT_OPTIONS", (parameters, *options)))


def _filter(
    kind: str, why: str, text: str, options: Attributes, parent: int, preference: int
) -> Template:
    where = "ingress" if parent == INGRESS else "egress"
    return Template(
        FILTER,
        why,
        "tc",
        f"filter replace dev {{dev}} {where} protocol all pref {preference} handle {{handle}}"
        f" {kind} {text}",
        {
            "index": DEV,
            "handle": host("handle"),
            "parent": parent,
            "info": preference << 16 | EVERY_PROTOCOL,
        },
        (("TCA_KIND", kind), ("TCA_OPTIONS", options)),
    )
