"""Neighbour solicitations as a switch hands them to its controller, and what comes back."""

from __future__ import annotations

import struct

from ovs_lwt.backends.openflow import framework

FW = framework.current()
ASKING, PORT = "02:00:00:00:00:02", 7
SOLICITED_NODE = "ff02::1:ff00:11"


def solicitation(target: str, source: str = "fd00::12") -> bytes:
    option = FW.icmpv6.nd_option_sla(hw_src=ASKING)
    packet = FW.packet.Packet()
    packet.add_protocol(FW.ethernet.ethernet("33:33:ff:00:00:11", ASKING, 0x86DD))
    packet.add_protocol(FW.ipv6.ipv6(src=source, dst=SOLICITED_NODE, nxt=58, hop_limit=255))
    body = FW.icmpv6.nd_neighbor(dst=target, option=option)
    packet.add_protocol(FW.icmpv6.icmpv6(135, data=body))
    packet.serialize()
    return bytes(packet.data)


def packet_in(frame: bytes, vni: int | None = 1010, *, port: int = PORT, cookie: int = 0) -> bytes:
    """OFPT_PACKET_IN (7.4.1), as Open vSwitch sends it: in_port and metadata in its match."""
    match = struct.pack("!HBBI", 0x8000, 0 << 1, 4, port)
    if vni is not None:
        match += struct.pack("!HBBQ", 0x8000, 2 << 1, 8, vni)
    match = struct.pack("!HH", 1, 4 + len(match)) + match
    match += bytes(-len(match) % 8)
    body = struct.pack("!IHBBQ", 0xFFFFFFFF, len(frame), 1, 3, cookie) + match + bytes(2) + frame
    return struct.pack("!BBHI", 5, 10, 8 + len(body), 99) + body


def frame_of(packet_out: bytes) -> tuple[int, bytes]:
    """Out port and frame of an OFPT_PACKET_OUT (7.3.7) with one output action."""
    version, kind, length = struct.unpack_from("!BBH", packet_out)
    assert (version, kind, length) == (5, 13, len(packet_out))
    actions = struct.unpack_from("!H", packet_out, 16)[0]
    action, size, port = struct.unpack_from("!HHI", packet_out, 24)
    assert (action, size) == (0, actions)
    return port, packet_out[24 + actions :]
