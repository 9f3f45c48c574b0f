"""Probes on the wire: frames that say which probe they are, and reading them back. Pure."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Literal

Kind = Literal["ipv4", "ipv6", "ethernet"]
Leg = Literal["request", "reply"]

# IEEE 802, "local experimental ethertype 1": no stack answers or forwards it.
PROBE_ETHERTYPE = 0x88B5
_MAGIC = b"ovs-lwt\x01"
_TOKEN = struct.Struct("!8s8sIH")
_IPV4, _IPV6 = 0x0800, 0x86DD
_ICMP, _ICMPV6 = 1, 58
_ECHO = {"ipv4": 8, "ipv6": 128}
# By protocol and ICMP type, as they stand in the frame.
_LEGS: dict[bytes, Leg] = {
    bytes([_ICMP, 8]): "request",
    bytes([_ICMP, 0]): "reply",
    bytes([_ICMPV6, 128]): "request",
    bytes([_ICMPV6, 129]): "reply",
}


@dataclass(frozen=True, slots=True)
class Token:
    """Which probe a frame belongs to: the run it was sent in, its number, and the attempt."""

    run: bytes
    probe: int
    attempt: int

    def pack(self) -> bytes:
        """Return the bytes that travel in the payload."""
        return _TOKEN.pack(_MAGIC, self.run, self.probe, self.attempt)


def echo_request(kind: Literal["ipv4", "ipv6"], token: Token) -> bytes:
    """Return an ICMP or ICMPv6 echo request with `token` as payload (RFC 792, RFC 4443).

    The kernel fills in the checksum of ICMPv6, and of ICMP nobody does, so it is done here.
    """
    head = struct.Struct("!BBHHH")
    payload = token.pack()
    sequence = token.probe & 0xFFFF
    bare = head.pack(_ECHO[kind], 0, 0, 0x1B77, sequence) + payload
    checksum = internet_checksum(bare) if kind == "ipv4" else 0
    return head.pack(_ECHO[kind], 0, checksum, 0x1B77, sequence) + payload


def ethernet_probe(source: str, target: str, token: Token) -> bytes:
    """Return a whole frame from MAC `source` to MAC `target` that carries `token`."""
    frame = mac_bytes(target) + mac_bytes(source) + struct.pack("!H", PROBE_ETHERTYPE)
    return (frame + token.pack()).ljust(60, b"\0")


def read_probe(frame: bytes, run: bytes) -> tuple[Token, Leg] | None:
    """Return which probe of `run` a received frame is, and which leg; None for other frames."""
    start = frame.find(_MAGIC + run)
    if start < 0 or len(frame) < start + _TOKEN.size:
        return None
    leg = _leg(frame)
    if leg is None:
        return None
    _, run, probe, attempt = _TOKEN.unpack_from(frame, start)
    return Token(run, probe, attempt), leg


def _leg(frame: bytes) -> Leg | None:
    ethertype = int.from_bytes(frame[12:14], "big")
    if ethertype == PROBE_ETHERTYPE:
        return "request"
    # A token inside an ICMP error (the kernel quotes what it could not deliver) is no probe.
    if ethertype == _IPV4:
        header = (frame[14] & 0x0F) * 4
        return _LEGS.get(frame[23:24] + frame[14 + header : 15 + header])
    if ethertype == _IPV6:
        return _LEGS.get(frame[20:21] + frame[54:55])
    return None


def internet_checksum(data: bytes) -> int:
    """Return the ones' complement checksum of RFC 1071."""
    padded = data + b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def mac_bytes(mac: str) -> bytes:
    """Return the six bytes of ``02:00:00:00:00:01``."""
    return bytes.fromhex(mac.replace(":", ""))
