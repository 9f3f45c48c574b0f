"""From a packet's mark to its tenant's table: the rules of `ip rule`, as a tree.

The kernel walks its rules one by one (fib_rules_lookup), so a rule for each of 4,096 tenants would
be 2,048 comparisons for a packet on average. Here it is 17: a rule can test some bits of the mark
and go on at another rule (`fwmark 5/0xf goto 2042`). The rules that one such step leads to, a node,
share a priority; the next priority closes the node: what has found nothing leaves the tree.

    1100  from VTEP iif lo goto END            outer packets: they keep the mark of what is in them
    1101  iif vx-lwt fwmark 0 goto TUNNELS     where packets from the tunnel bear no marks
    1102  fwmark 0 goto END                    the host's own traffic
    2000  …                                    the tree: its root, then the others by depth
    31998 tun_id VNI lookup TABLE …            TUNNELS
    31999 nop                                  END; behind it the kernel's own: main

A tenant's table ends the walk: it has an `unreachable default` of its own.

When tenants come and go, rules are added first, behind those of their priority, and what is no
longer wanted is deleted afterwards, in ascending order. A packet finds its tenant's table at every
moment in between, because a rule tests all the bits that led to it: a rule of the old tree that
matches leads into the old tree, all of which is still there from that priority on, and beside it
is all of the new one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Final, NamedTuple

import numpy as np

from ovs_lwt.backends.netlink.program import Rows
from ovs_lwt.columns import U32
from ovs_lwt.mistakes import Refused
from ovs_lwt.stencil import Column

OUTER: Final = 1100
FROM_TUNNEL: Final = 1101
UNMARKED: Final = 1102
FIRST: Final = 2000
TUNNELS: Final = 31998
END: Final = 31999
"""Priorities. The kernel has rules of its own at 0 (`local`), 1000 (VRFs) and 32766 (`main`)."""

NODES: Final = (TUNNELS - FIRST) // 2
"""As many nodes fit."""

_WHOLE: Final = 0xFFFFFFFF
_STEADY: Final = 12


@dataclass(frozen=True, slots=True)
class Shape:
    """bits: of the mark, that a node tests (1 to 4); bucket: tenants that share a node without
    being told apart further.

    Of 4,096 tenants numbered without gaps a packet asks 17 rules with 2 bits, 20 with 1 or 3, and
    27 with 4 (ADR 0012).
    """

    bits: int = 2
    bucket: int = 4


class Node(NamedTuple):
    """What has led to a node: the low `depth` bits of a mark are `prefix`."""

    depth: int
    prefix: int

    @property
    def mask(self) -> int:
        """The bits that have been tested."""
        return (1 << self.depth) - 1


def tree(marks: U32, tables: U32, suffix: str = "", shape: Shape = Shape()) -> list[Rows]:
    """The rules that lead packets to their tenants' tables.

    marks, tables: [T], of each tenant; suffix: "6" for IPv6
    Raises Refused if two tenants have one mark, or the nodes are more than priorities.
    """
    table_of = dict(zip(marks.tolist(), tables.tolist(), strict=True))
    if len(table_of) < len(marks):
        different, times = np.unique(marks, return_counts=True)
        raise Refused(
            f"two tenants have the mark {different[times > 1][0]}: give each its own ('mark')"
        )
    if not table_of:
        return []
    nodes = dict(_grow(sorted(table_of), shape))
    priority = _priorities(list(nodes), shape.bits)
    if len(priority) < len(nodes):
        raise Refused(
            f"the marks of {len(marks)} tenants make a tree of {len(nodes)} nodes, and"
            f" priorities are left for {NODES}: number the tenants' marks without gaps ('mark')"
        )
    leaves, branches = [], []
    for node, below in nodes.items():
        for each in below:
            if isinstance(each, Node):
                branches.append((priority[node], each.prefix, each.mask, priority[each]))
            else:
                leaves.append((priority[node], each, table_of[each]))
    preference, mark, table = _columns(leaves, 3)
    closes = np.array(sorted(priority.values()), np.uint32) + 1
    return [
        Rows(
            f"rule.mark{suffix}",
            len(leaves),
            {"preference": preference, "mark": mark, "mask": _u32(_WHOLE), "table": table},
        ),
        Rows(f"rule.close{suffix}", len(closes), {"preference": closes, "target": _u32(END)}),
        *_branches(branches, suffix),
    ]


def head(vtep: Column, over: str, suffix: str = "") -> list[Rows]:
    """The rules before the tree: who does not walk it, and where those are who have.

    vtep: the local VTEP's address, one value (uint32, or uint8[1, 16]); over: "6" if that is IPv6
    suffix: "6" for IPv6
    """
    rows = [Rows(f"rule.end{suffix}", 1, {"preference": _u32(END)})]
    if suffix == over:
        columns = {"preference": _u32(OUTER), f"vtep{over}": vtep, "target": _u32(END)}
        rows.append(Rows(f"rule.outer{suffix}", 1, columns))
    unmarked = {"preference": _u32(UNMARKED), "mask": _u32(_WHOLE), "target": _u32(END)}
    return [*rows, Rows(f"rule.branch_zero{suffix}", 1, unmarked)]


def from_tunnel(vnis: U32, tables: U32, device: int, suffix: str = "") -> list[Rows]:
    """The rules for packets from the tunnel that bear no marks, because the kernel lacks tc's
    flower: one for each tenant. They cannot be a tree, since a rule knows no mask for VNIs.

    vnis, tables: [T], of each tenant; device: the number of the shared device
    """
    columns = {"preference": _u32(TUNNELS), "vni": vnis, "table": tables}
    aside = {
        "preference": _u32(FROM_TUNNEL),
        "iif": _u32(device),
        "mask": _u32(_WHOLE),
        "target": _u32(TUNNELS),
    }
    return [
        Rows(f"rule.tunnel{suffix}", len(vnis), columns),
        Rows(f"rule.device{suffix}", 1, aside),
    ]


def _grow(marks: Sequence[int], shape: Shape) -> Iterator[tuple[Node, Sequence[Node | int]]]:
    """The nodes of these marks, and what each leads to: to other nodes, or, by whole marks, home.

    The root comes first.
    """
    waiting = [(_node(marks, 0, shape), marks)]
    while waiting:
        node, members = waiting.pop()
        if len(members) <= shape.bucket:
            yield node, members
            continue
        groups: dict[int, list[int]] = {}
        for mark in members:
            groups.setdefault(mark >> node.depth & (1 << shape.bits) - 1, []).append(mark)
        below: list[Node | int] = []
        for group in groups.values():
            if len(group) == 1:
                below += group
            else:
                child = _node(group, node.depth + shape.bits, shape)
                below.append(child)
                waiting.append((child, group))
        yield node, below


def _node(marks: Sequence[int], depth: int, shape: Shape) -> Node:
    """Where marks that share `depth` bits meet the next node: further on, if they share more and
    are to be told apart.
    """
    if len(marks) > shape.bucket:
        differ = reduce(int.__or__, (mark ^ marks[0] for mark in marks))
        first = (differ & -differ).bit_length() - 1
        depth = first - first % shape.bits
    return Node(depth, marks[0] & (1 << depth) - 1)


def _priorities(nodes: Sequence[Node], bits: int) -> Mapping[Node, int]:
    """A priority for each node, of as many as fit: higher than those of all before it.

    Near the root a node's prefix says its number, whoever else is there: a tenant that comes or
    goes touches the rules of its own node. Only what lies deeper is numbered one by one.
    """
    root = nodes[0]
    steady = _STEADY - _STEADY % bits

    def number(depth: int) -> int:
        """The first at this depth: 1 + 2^bits + 2^2bits + …"""
        return ((1 << depth) - 1) // ((1 << bits) - 1)

    near = [node for node in nodes if node.depth - root.depth <= steady]
    found = {node: number(node.depth - root.depth) + (node.prefix >> root.depth) for node in near}
    free = range(number(steady + bits), NODES)
    found |= zip(sorted(set(nodes) - found.keys()), free, strict=False)
    return {node: FIRST + 2 * slot for node, slot in found.items()}


def _branches(branches: Sequence[tuple[int, int, int, int]], suffix: str) -> Iterator[Rows]:
    for name, chosen in (
        ("branch", [branch for branch in branches if branch[1]]),
        ("branch_zero", [branch for branch in branches if not branch[1]]),
    ):
        if chosen:
            preference, prefix, mask, target = _columns(chosen, 4)
            columns = {"preference": preference, "mark": prefix, "mask": mask, "target": target}
            yield Rows(f"rule.{name}{suffix}", len(chosen), columns)


def _columns(rows: Sequence[tuple[int, ...]], width: int) -> Iterator[U32]:
    """Rows as columns, ascending by the first."""
    yield from np.array(sorted(rows), np.uint32).reshape(-1, width).T


def _u32(number: int) -> U32:
    return np.array([number], np.uint32)
