"""The slots of netlink messages: how a column's values stand in a message, and in a line of text.

Netlink keeps numbers in the host's order, and addresses, tunnel ids and labels in the network's;
so a value's place in a message says more than its name does.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from ovs_lwt.backends import words
from ovs_lwt.stencil import Bytes, Column, big_endian


@dataclass(frozen=True, slots=True, eq=False)
class Slot:
    """A place in a message.

    name: the column; width: bytes (0: as many as each row's value has); octets: a column as bytes
    uint8[n, width]; decoded: the bytes of one value as pyroute2 wants it
    """

    name: str
    width: int
    octets: Callable[[Column], Bytes]
    decoded: Callable[[bytes], object]


def host(name: str, width: int = 4, *, signed: bool = False) -> Slot:
    """A number in the host's byte order. signed: as pyroute2 declares the field."""
    return Slot(
        name,
        width,
        lambda column: _native(column, width),
        lambda octets: int.from_bytes(octets, sys.byteorder, signed=signed),
    )


def network(name: str, width: int) -> Slot:
    """A number in network byte order."""
    return Slot(name, width, lambda column: big_endian(column, width), _from_network)


def mac(name: str) -> Slot:
    """A MAC."""
    return Slot(name, 6, lambda column: big_endian(column, 6), lambda octets: octets.hex(":"))


def ipv4(name: str) -> Slot:
    """An IPv4 address."""
    return Slot(name, 4, lambda column: big_endian(column, 4), _ipv4)


def ipv6(name: str) -> Slot:
    """An IPv6 address."""
    return Slot(name, 16, lambda column: big_endian(column, 16), _ipv6)


def ipv6_via(name: str) -> Slot:
    """An IPv6 next hop of an IPv4 route (struct rtvia)."""
    return Slot(
        name,
        16,
        lambda column: big_endian(column, 16),
        lambda octets: {"family": socket.AF_INET6, "addr": _ipv6(octets)},
    )


def label(name: str) -> Slot:
    """An MPLS label that is the only one of its stack (RFC 3032)."""
    return Slot(name, 4, _label_octets, _label)


def vlan(name: str, flags: int) -> Slot:
    """A VLAN that a port is in (struct bridge_vlan_info). flags: BRIDGE_VLAN_INFO_*"""
    number = host(name, 2)
    return Slot(
        name, 2, number.octets, lambda octets: {"flags": flags, "vid": number.decoded(octets)}
    )


def text(name: str) -> Slot:
    """The name of a device, NUL not included."""
    return Slot(name, 0, _as_bytes, lambda octets: octets)


def _native(column: Column, width: int) -> Bytes:
    numbers = np.ascontiguousarray(column.astype(f"=u{width}"))
    return numbers.view(np.uint8).reshape(-1, width)


def _from_network(octets: bytes) -> int:
    return int.from_bytes(octets, "big")


def _ipv4(octets: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET, octets)


def _ipv6(octets: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET6, octets)


_BOTTOM_OF_STACK: Final = 1 << 8


def _label_octets(column: Column) -> Bytes:
    return big_endian(column.astype(np.uint32) << np.uint32(12) | np.uint32(_BOTTOM_OF_STACK), 4)


def _label(octets: bytes) -> list[dict[str, int]]:
    entry = _from_network(octets)
    fields = {"label": entry >> 12, "tc": entry >> 9 & 7, "bos": entry >> 8 & 1, "ttl": entry & 255}
    return [fields]


def _as_bytes(column: Column) -> Bytes:
    return np.ascontiguousarray(column).view(np.uint8).reshape(len(column), -1)


WORDS: Final[dict[str, Callable[[Column], pa.StringArray]]] = {
    **dict.fromkeys(("vni", "mark", "mask", "table", "preference", "target"), words.numbers),
    **dict.fromkeys(("vlan", "label", "length", "handle"), words.numbers),
    **dict.fromkeys(("mac_high", "mac_low"), words.numbers),
    **dict.fromkeys(("ip", "vtep", "via", "prefix", "local"), words.ipv4s),
    **dict.fromkeys(("ip6", "vtep6", "via6", "prefix6", "local6"), words.ipv6s),
    "mac": words.macs,
}
"""How the values of a slot are written in the words of `ip` and `bridge`; devices are named."""
