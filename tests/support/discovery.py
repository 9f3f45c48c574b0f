"""Frames of neighbour discovery and its kin as no decent stack sends them: options twice, headers
in fragments, servers that are none.
"""

from __future__ import annotations

import socket
from ipaddress import IPv6Address

from tests.support.packets import (
    ALL_NODES,
    CHECKSUM,
    ETH_IPV6,
    ETHERNET,
    IPV4,
    IPV6,
    UDP,
    serialized,
    solicited_nodes,
    stamped,
)

NONCE = bytes.fromhex("0e01112233445566")
"""The option that a stack tells its own duplicate detection by (RFC 7527, 4)."""

_SOURCE, _TARGET = 1, 2


def link_layer(mac: str, kind: int = _SOURCE) -> bytes:
    """A link-layer address option (RFC 4861, 4.6.1), by default of the source."""
    return bytes([kind, 1]) + bytes.fromhex(mac.replace(":", ""))


def soliciting(
    source: tuple[str, str],
    target: str,
    options: bytes,
    mark: bytes,
    to: tuple[str, str] | None = None,
) -> bytes:
    """A neighbour solicitation with these options."""
    body = bytes(4) + IPv6Address(target).packed + options
    return _message(135, source, to or solicited_nodes(target), body, mark)


def advertising(source: tuple[str, str], target: str, options: bytes, mark: bytes) -> bytes:
    """An unsolicited neighbour advertisement with these options."""
    body = bytes.fromhex("20000000") + IPv6Address(target).packed + options
    return _message(136, source, ALL_NODES, body, mark)


def twice_advertised(source: tuple[str, str], target: str, other: str, mark: bytes) -> bytes:
    """An advertisement with the sender's own link-layer address first, then another."""
    both = link_layer(source[0], _TARGET) + link_layer(other, _TARGET)
    return advertising(source, target, both, mark)


def listener(kind: int, source: tuple[str, str], mark: bytes) -> bytes:
    """MLDv1 (RFC 2710, 3): report 131, done 132."""
    to = ("33:33:00:00:00:fb", "ff02::fb")
    return _message(kind, source, to, bytes(4) + IPv6Address(to[1]).packed, mark)


def igmp(source: tuple[str, str], mark: bytes, to: str = "224.0.0.22") -> bytes:
    """A membership report (RFC 3376, 4.2) that leaves nothing out."""
    body = bytes.fromhex("2200f9fd0000000104000000e00000fb")
    frame = serialized(
        ETHERNET.ethernet("01:00:5e:00:00:16", source[0]),
        IPV4.ipv4(src=source[1], dst=to, proto=socket.IPPROTO_IGMP, ttl=1),
        body,
    )
    return stamped(frame, mark)


def udp(source: tuple[str, str], ports: tuple[int, int], mark: bytes) -> bytes:
    """A datagram to all, over IPv4 or IPv6, as the source address is."""
    if ":" in source[1]:
        head = IPV6.ipv6(src=source[1], dst=ALL_NODES[1], nxt=socket.IPPROTO_UDP)
        ethernet = ETHERNET.ethernet(ALL_NODES[0], source[0], ETH_IPV6)
    else:
        head = IPV4.ipv4(src=source[1], dst="255.255.255.255", proto=socket.IPPROTO_UDP)
        ethernet = ETHERNET.ethernet("ff:ff:ff:ff:ff:ff", source[0])
    return serialized(ethernet, head, UDP.udp(*ports), mark)


def first_fragment(frame: bytes) -> bytes:
    """The IPv6 frame, said to be the first fragment of a larger packet (RFC 8200, 4.5)."""
    return _between(frame, socket.IPPROTO_FRAGMENT, _fragment(frame[20]) + frame[54:])


def hidden(frame: bytes, options: int = 8, shown: int = 8) -> bytes:
    """A first fragment in which the IPv6 frame's own payload does not begin: only a header of
    destination options before it, of `options` bytes, of which `shown` are there.
    """
    header = bytes([frame[20], options // 8 - 1, 1, options - 4]) + bytes(options - 4)
    rest = frame[54:]
    body = _fragment(socket.IPPROTO_DSTOPTS) + header[:shown]
    return _between(frame[:54] + bytes(0), socket.IPPROTO_FRAGMENT, body) + rest


def _message(
    kind: int, source: tuple[str, str], target: tuple[str, str], body: bytes, mark: bytes
) -> bytes:
    """ICMPv6 with a body that the framework's library does not know."""
    head = IPV6.ipv6(src=source[1], dst=target[1], nxt=socket.IPPROTO_ICMPV6, hop_limit=255)
    message = bytes([kind, 0, 0, 0]) + body
    checksum = CHECKSUM.checksum_ip(head, len(message), message)
    message = message[:2] + checksum.to_bytes(2, "big") + body
    ethernet = ETHERNET.ethernet(target[0], source[0], ETH_IPV6)
    return stamped(serialized(ethernet, head, message), mark)


def _fragment(following: int) -> bytes:
    return bytes([following, 0, 0, 1]) + bytes.fromhex("00c0ffee")


def _between(frame: bytes, following: int, payload: bytes) -> bytes:
    length = len(payload)
    if len(frame) > 54:
        length = int.from_bytes(frame[18:20], "big") + 8
    head = frame[:18] + length.to_bytes(2, "big") + bytes([following])
    return head + frame[21:54] + payload


def fragment4(frame: bytes) -> bytes:
    """The IPv4 frame, said to be the first fragment of a larger packet (RFC 791, 3.1)."""
    head = bytearray(frame[14:34])
    head[6:8], head[10:12] = b"\x20\x00", b"\0\0"
    total = sum(int.from_bytes(head[at : at + 2], "big") for at in range(0, 20, 2))
    total = (total & 0xFFFF) + (total >> 16)
    head[10:12] = (~((total & 0xFFFF) + (total >> 16)) & 0xFFFF).to_bytes(2, "big")
    return frame[:14] + bytes(head) + frame[34:]
