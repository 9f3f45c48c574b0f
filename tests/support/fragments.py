"""A datagram in two fragments, each with a token of its own."""

from __future__ import annotations

import socket
import struct
from ipaddress import ip_address

from tests.support.packets import ETH_IPV4, ETH_IPV6, ETHERNET, IPV4, IPV6, serialized

_HALF = 64  # bytes in a fragment: offsets are told in steps of 8 (RFC 791, 3.1; RFC 8200, 4.5)
_MORE = 1


def halves(
    source: tuple[str, str], target: tuple[str, str], number: int, tokens: tuple[bytes, bytes]
) -> tuple[bytes, bytes]:
    """A datagram between two (MAC, IP) as two frames. number: the identification that they share"""
    # Without a checksum (RFC 768).
    udp = struct.pack("!HHHH", 4000, 4001, 2 * _HALF, 0)
    whole = udp + tokens[0].ljust(_HALF - len(udp), b"\0") + tokens[1].ljust(_HALF, b"\0")
    first, second = (
        _fragment(source, target, number, offset, whole[offset : offset + _HALF])
        for offset in (0, _HALF)
    )
    return first, second


def _fragment(
    source: tuple[str, str], target: tuple[str, str], number: int, offset: int, data: bytes
) -> bytes:
    place, more = offset // 8, _MORE * (offset == 0)
    if ip_address(source[1]).version == 6:
        extension = IPV6.fragment(nxt=socket.IPPROTO_UDP, offset=place, more=more, id_=number)
        head = IPV6.ipv6(
            src=source[1],
            dst=target[1],
            nxt=socket.IPPROTO_FRAGMENT,
            hop_limit=64,
            ext_hdrs=[extension],
        )
        kind = ETH_IPV6
    else:
        head = IPV4.ipv4(
            src=source[1],
            dst=target[1],
            proto=socket.IPPROTO_UDP,
            identification=number,
            flags=more,
            offset=place,
        )
        kind = ETH_IPV4
    return serialized(ETHERNET.ethernet(target[0], source[0], kind), head, data)
