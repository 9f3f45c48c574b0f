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
"""VTEPs that one group has at most, where the list is not wide: a message holds 1,360 buckets, and
shares are about equal, not exactly.
"""

GUESTS: Final = 1024
"""Guests of a tenant that one group has at most."""

ONE_PASS: Final = 600
"""Copies that any datapath's action list holds, over IPv4 and IPv6."""

SHARES: Final = 6
"""Shares of a wide list. The userspace datapath passes a frame at most seven times
(MAX_RECIRC_DEPTH of 6 in OVS's dpif-netdev), and a frame that came through the tunnel, as a leaf's
does that asks this host to replicate, has used one of them for taking off its outer headers.
"""

WIDEST: Final = SHARES * 540
"""Copies that reach everybody on the userspace datapath, and on any where a leaf asks for them.
Shares are about equal, not exactly: the largest of six has rarely more than 60 above their mean.
"""


def wide_flood(copies: int, *, userspace: bool, replicator: bool) -> str:
    """What is to be said of a broadcast that makes so many copies for other hosts, more than
    `ONE_PASS`.

    userspace: on Open vSwitch's own datapath; replicator: this host is one
    """
    if copies > WIDEST and (userspace or replicator):
        what = f"does not reach all (about {WIDEST} do hear it)"
    elif userspace:
        what = f"takes {SHARES} passes through the switch"
    else:
        what = "may leave the fast path (then every one goes through ovs-vswitchd)"
    mend = (
        "let the tenant span fewer hosts: this one is a replicator already"
        if replicator
        else "mark hosts of the tenant 'replicator: true'"
    )
    return f"{copies} copies of a broadcast, which {what}: {mend}"
