"""The slots that may stand in `flows/`: how wide each is in a message, and how it is written in
ovs-ofctl syntax.

This is the one place that knows both. The pipeline asks for the text of one value (to encode a
template, or to name the flow that a switch refused), `export` for the text of a whole column.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa

from ovs_lwt.backends import words
from ovs_lwt.backends.openflow.limits import SHARES
from ovs_lwt.stencil import Column


@dataclass(frozen=True, slots=True)
class SlotKind:
    """How one slot is written.

    width: bytes in a message; text: one value -> ovs-ofctl; words: a column of n values -> n words;
    says: what it is, for the table reference
    """

    width: int
    text: Callable[[int], str]
    words: Callable[[Column], pa.StringArray]
    says: str


def _mac_text(mac: int) -> str:
    return mac.to_bytes(6, "big").hex(":")


def _ipv4_text(address: int) -> str:
    return str(ipaddress.IPv4Address(address))


def _ipv6_text(address: int) -> str:
    return str(ipaddress.IPv6Address(address))


def _number(width: int, says: str) -> SlotKind:
    return SlotKind(width, str, words.numbers, says)


def _ipv4(says: str) -> SlotKind:
    return SlotKind(4, _ipv4_text, words.ipv4s, says)


def _ipv6(says: str) -> SlotKind:
    return SlotKind(16, _ipv6_text, words.ipv6s, says)


KINDS: dict[str, SlotKind] = {
    "vni": _number(3, "the tenant's VNI"),
    "mark": _number(4, "the tenant's mark"),
    "port": _number(4, "OpenFlow port of a guest"),
    "tunnel": _number(4, "OpenFlow port of the shared VXLAN port"),
    "requests": _number(4, "OpenFlow port of the request port, the second shared VXLAN port"),
    "mac": SlotKind(6, _mac_text, words.macs, "an endpoint's MAC"),
    "mac_prefix": SlotKind(6, _mac_text, words.macs, "what the MACs of a remote VTEP begin with"),
    "mac_mask": SlotKind(6, _mac_text, words.macs, "which bits that are"),
    "ip": _ipv4("an endpoint's IPv4 address"),
    "ip6": _ipv6("an endpoint's IPv6 address"),
    "target": _ipv6("another address of the same endpoint"),
    "vtep": _ipv4("a remote VTEP, IPv4 underlay"),
    "vtep6": _ipv6("a remote VTEP, IPv6 underlay"),
    "local_flood": _number(4, "group of the tenant's guests here"),
    "remote_flood": _number(4, "group of the tenant's other hosts"),
    **{
        f"share{number}": _number(4, f"group of a wide list's share number {number}")
        for number in range(1, SHARES + 1)
    },
    "share": _number(4, "group of one share of a wide list"),
    "leaf_share": _number(4, "number of the share that a leaf is in, from 1"),
    "ask": _number(4, "group of the replicator that a leaf asks"),
    "chain": _number(4, "group of a chained share"),
    "place": _number(4, "a share's place in its list's chain, from 0"),
    "next_place": _number(4, "the place behind it"),
    "next_guests": _number(4, "group of more of the tenant's guests here"),
    "holder": _number(4, "place in the list of those that share a MAC"),
    "left": _number(4, "a place behind it"),
    "right": _number(4, "the other place behind it"),
    "cookie": SlotKind(8, hex, words.hexes, "what for, and whose"),
}
