"""How wide a flood list may be: what a message holds, and what the datapath's action list holds.

Measured on Open vSwitch 3.1. For every copy of a frame, the userspace datapath's action list takes
84 bytes over IPv4 and 104 over IPv6 (`tnl_push`), the kernel's 64 and 92 (`set(tunnel)`, `output`).
A list has 64 kB, the length of a netlink attribute. What is more, the userspace datapath leaves out
without a word: it looks up the underlay's bridge for every copy, and behind 64 kB there are no
lookups. The kernel's gets such a list from ovs-vswitchd with every packet (the slow path).
"""

from __future__ import annotations

from typing import Final

ONE_GROUP: Final = 512
"""VTEPs that one group has at most. A message holds 1,360 buckets; but a share that a replicator is
asked for must also fit the action list, with room for tags that the underlay puts on.
"""

GUESTS: Final = 1024
"""Guests of a tenant that one group has at most."""

ONE_PASS: Final = 600
"""Copies that any datapath's action list holds, over IPv4 and IPv6."""

SHARES: Final = 7
"""Shares of a wide list. The userspace datapath passes a frame at most seven times
(MAX_RECIRC_DEPTH of 6 in OVS's dpif-netdev).
"""

WIDEST: Final = SHARES * ONE_PASS
"""Copies that reach everybody on the userspace datapath; shares are about equal, not exactly."""


def wide_flood(copies: int, *, userspace: bool, replicator: bool) -> str:
    """What is to be said of a broadcast that makes so many copies for other hosts, more than
    `ONE_PASS`.

    userspace: on Open vSwitch's own datapath; replicator: this host is one
    """
    if not userspace:
        what = "may leave the fast path (then every one goes through ovs-vswitchd)"
    elif copies <= WIDEST:
        what = f"takes {SHARES} passes through the switch"
    else:
        what = f"does not reach all (about {WIDEST} do hear it)"
    mend = (
        "move the tenant's guests away from this host, which is a replicator"
        if replicator
        else "mark hosts of the tenant 'replicator: true'"
    )
    return f"{copies} copies of a broadcast, which {what}: {mend}"
