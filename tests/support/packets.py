"""Frames: made, sent and heard raw, in the namespaces of guests and on the underlay's cables.

A frame that a test sends bears a `token` behind its payload, where Ethernet allows padding: what a
switch makes of a frame (an ARP reply out of a request, a copy in a tunnel) bears it still, and
what else goes by does not. The framework's packet library builds and reads the headers.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Literal

from ovs_lwt.backends.openflow import framework
from ovs_lwt.lab.namespaces import entered

FW = framework.current()
PACKET = FW.packet
ETHERNET, ARP, IPV6, ICMPV6 = FW.ethernet, FW.arp, FW.ipv6, FW.icmpv6
ICMP, IPV4, UDP = (
    FW.module("lib.packet.icmp"),
    FW.module("lib.packet.ipv4"),
    FW.module("lib.packet.udp"),
)
VXLAN, CHECKSUM = FW.module("lib.packet.vxlan"), FW.module("lib.packet.packet_utils")

BROADCAST = "ff:ff:ff:ff:ff:ff"
NOBODY = "00:00:00:00:00:00"
REQUEST, REPLY = 1, 2

# IEEE 802, "local experimental ethertype 1": no stack answers it.
EXPERIMENT = 0x88B5
ETH_ARP, ETH_IPV4, ETH_IPV6 = 0x0806, 0x0800, 0x86DD
ETH_VLAN, ETH_SERVICE_VLAN = 0x8100, 0x88A8
VXLAN_PORT, REQUEST_PORT = 4789, 14789
_ETH_P_ALL = 3
_SMALLEST = 60
_SO_RCVBUFFORCE = 33
_UDP_NO_CHECK6_TX, _UDP_NO_CHECK6_RX = 101, 102


def token() -> bytes:
    """Bytes that no other frame bears."""
    return b"<" + os.urandom(7).hex().encode() + b">"


# Frames


def stamped(frame: bytes, mark: bytes) -> bytes:
    """The frame with a token at its end, as long as Ethernet wants it."""
    return frame.ljust(_SMALLEST - len(mark), b"\0") + mark


def ethernet(source: str, target: str, mark: bytes, ethertype: int = EXPERIMENT) -> bytes:
    """A bare frame with nothing but a token in it."""
    return stamped(serialized(ETHERNET.ethernet(target, source, ethertype)), mark)


def arp(
    source: str,
    sender: tuple[str, str],
    target: str,
    mark: bytes,
    *,
    to: str = BROADCAST,
    op: int = REQUEST,
    target_mac: str = NOBODY,
) -> bytes:
    """ARP from Ethernet address `source`, of `sender` (MAC, IP), about the address `target`."""
    body = ARP.arp(
        opcode=op, src_mac=sender[0], src_ip=sender[1], dst_mac=target_mac, dst_ip=target
    )
    return stamped(serialized(ETHERNET.ethernet(to, source, ETH_ARP), body), mark)


def ip(source: tuple[str, str], target: tuple[str, str], mark: bytes) -> bytes:
    """A packet of IP, of either family, between two (MAC, IP): an echo reply nobody asked for.

    Nobody answers it, or complains.
    """
    if ip_address(source[1]).version == 6:
        echo = ICMPV6.echo(data=mark)
        return icmpv6_frame(ICMPV6.ICMPV6_ECHO_REPLY, source, target, echo, mark)
    return serialized(
        ETHERNET.ethernet(target[0], source[0], ETH_IPV4),
        IPV4.ipv4(src=source[1], dst=target[1], proto=socket.IPPROTO_ICMP),
        ICMP.icmp(ICMP.ICMP_ECHO_REPLY, data=ICMP.echo(data=mark)),
    )


def dhcp(source: str, mark: bytes, ports: tuple[int, int] = (68, 67)) -> bytes:
    """The beginning of DHCP: from no address to everybody (RFC 2131, 4.1)."""
    return serialized(
        ETHERNET.ethernet(BROADCAST, source, ETH_IPV4),
        IPV4.ipv4(src="0.0.0.0", dst="255.255.255.255", proto=socket.IPPROTO_UDP),
        UDP.udp(*ports),
        mark,
    )


def solicitation(
    source: tuple[str, str],
    target: str,
    mark: bytes,
    *,
    to: tuple[str, str] | None = None,
    link_layer: str | None = "source",
) -> bytes:
    """A neighbour solicitation from (MAC, IP) for `target`, by default to its solicited nodes.

    link_layer: what the source link-layer address option says; None: there is no such option
    """
    option = None
    if link_layer is not None:
        option = ICMPV6.nd_option_sla(hw_src=source[0] if link_layer == "source" else link_layer)
    body = ICMPV6.nd_neighbor(dst=target, option=option)
    return icmpv6_frame(
        ICMPV6.ND_NEIGHBOR_SOLICIT, source, to or solicited_nodes(target), body, mark
    )


def advertisement(
    source: tuple[str, str], target: str, mark: bytes, *, link_layer: str | None = "source"
) -> bytes:
    """An unsolicited neighbour advertisement to all nodes: `target` is at `link_layer`."""
    option = None
    if link_layer is not None:
        option = ICMPV6.nd_option_tla(hw_src=source[0] if link_layer == "source" else link_layer)
    body = ICMPV6.nd_neighbor(res=0b001, dst=target, option=option)
    return icmpv6_frame(ICMPV6.ND_NEIGHBOR_ADVERT, source, ALL_NODES, body, mark)


def icmpv6(
    kind: Literal["router-solicitation", "router-advertisement", "redirect", "listener-report"],
    source: tuple[str, str],
    mark: bytes,
) -> bytes:
    """A message of ICMPv6 from (MAC, IP), to those whom it concerns."""
    match kind:
        case "router-solicitation":
            body, to = ICMPV6.nd_router_solicit(), ("33:33:00:00:00:02", "ff02::2")
            return icmpv6_frame(ICMPV6.ND_ROUTER_SOLICIT, source, to, body, mark)
        case "router-advertisement":
            body = ICMPV6.nd_router_advert(ch_l=64, rou_l=1800)
            return icmpv6_frame(ICMPV6.ND_ROUTER_ADVERT, source, ALL_NODES, body, mark)
        case "redirect":
            # RFC 4861, 4.5: reserved, target, destination.
            targets = IPv6Address("fd00::12").packed + IPv6Address("fd00::99").packed
            return icmpv6_frame(137, source, ALL_NODES, b"\0" * 4 + targets, mark)
        case "listener-report":
            to = ("33:33:00:00:00:16", "ff02::16")
            return icmpv6_frame(
                ICMPV6.MLDV2_LISTENER_REPORT, source, to, ICMPV6.mldv2_report(), mark
            )


ALL_NODES = ("33:33:00:00:00:01", "ff02::1")


def solicited_nodes(target: str) -> tuple[str, str]:
    """Where a solicitation for an address goes (RFC 4291, 2.7.1): (MAC, IP)."""
    last = IPv6Address(target).packed[-3:]
    group = IPv6Address(IPv6Address("ff02::1:ff00:0").packed[:13] + last)
    return f"33:33:ff:{last.hex(':')}", str(group)


def link_local(mac: str) -> str:
    """The link-local address that follows from a MAC (RFC 4291, appendix A)."""
    octets = bytes.fromhex(mac.replace(":", ""))
    interface = bytes([octets[0] ^ 2]) + octets[1:3] + b"\xff\xfe" + octets[3:]
    return str(IPv6Address(b"\xfe\x80" + b"\0" * 6 + interface))


def vlan_tagged(frame: bytes, vlan: int = 7, ethertype: int = ETH_VLAN) -> bytes:
    """The frame with an 802.1Q tag."""
    return frame[:12] + ethertype.to_bytes(2, "big") + vlan.to_bytes(2, "big") + frame[12:]


def behind_extension(frame: bytes) -> bytes:
    """The IPv6 frame with a header of destination options (RFC 8200, 4.6) before its payload."""
    length = int.from_bytes(frame[18:20], "big") + 8
    options = bytes([frame[20], 0, 1, 4, 0, 0, 0, 0])
    head = frame[:18] + length.to_bytes(2, "big") + bytes([socket.IPPROTO_DSTOPTS])
    return head + frame[21:54] + options + frame[54:]


def icmpv6_frame(
    kind: int, source: tuple[str, str], target: tuple[str, str], body: Any, mark: bytes
) -> bytes:
    frame = serialized(
        ETHERNET.ethernet(target[0], source[0], ETH_IPV6),
        IPV6.ipv6(src=source[1], dst=target[1], nxt=socket.IPPROTO_ICMPV6, hop_limit=255),
        ICMPV6.icmpv6(kind, data=body),
    )
    return stamped(frame, mark)


def serialized(*protocols: Any) -> bytes:
    frame = PACKET.Packet()
    for protocol in protocols:
        frame.add_protocol(protocol)
    frame.serialize()
    return bytes(frame.data)


def encapsulated(
    source: tuple[str, str], target: tuple[str, str], port: int, vni: int, inner: bytes
) -> bytes:
    """A VXLAN packet on an underlay of IPv4, between two VTEPs (MAC, IP), to a UDP port."""
    return serialized(
        ETHERNET.ethernet(target[0], source[0], ETH_IPV4),
        IPV4.ipv4(src=source[1], dst=target[1], proto=socket.IPPROTO_UDP),
        UDP.udp(50000, port),
        bytes(VXLAN.vxlan(vni).serialize(bytearray(), None)) + inner,
    )


# Reading


@dataclass(frozen=True, slots=True)
class Arp:
    """An ARP frame as it was heard; `source` and `target` are Ethernet's."""

    source: str
    target: str
    op: int
    sender: tuple[str, str]
    about: tuple[str, str]


def read_arp(frame: bytes) -> Arp | None:
    """The ARP in a frame."""
    packet = PACKET.Packet(frame)
    outer, body = packet.get_protocol(ETHERNET.ethernet), packet.get_protocol(ARP.arp)
    if body is None:
        return None
    return Arp(
        outer.src,
        outer.dst,
        body.opcode,
        (body.src_mac, body.src_ip),
        (body.dst_mac, body.dst_ip),
    )


@dataclass(frozen=True, slots=True)
class Advertisement:
    """A neighbour advertisement as it was heard: (MAC, IP) of both ends, what it says, and how."""

    source: tuple[str, str]
    target: tuple[str, str]
    about: str
    link_layer: str | None
    router: bool
    solicited: bool
    override: bool
    hop_limit: int
    checksum_right: bool


def read_advertisement(frame: bytes) -> Advertisement | None:
    """The neighbour advertisement in a frame."""
    packet = PACKET.Packet(frame)
    outer, ip = packet.get_protocol(ETHERNET.ethernet), packet.get_protocol(IPV6.ipv6)
    body = packet.get_protocol(ICMPV6.icmpv6)
    if body is None or body.type_ != ICMPV6.ND_NEIGHBOR_ADVERT:
        return None
    said = body.data
    option = said.option
    payload = frame[54 : 54 + ip.payload_length]
    return Advertisement(
        (outer.src, str(IPv6Address(ip.src))),
        (outer.dst, str(IPv6Address(ip.dst))),
        str(IPv6Address(said.dst)),
        option.hw_src if isinstance(option, ICMPV6.nd_option_tla) else None,
        bool(said.res & 0b100),
        bool(said.res & 0b010),
        bool(said.res & 0b001),
        ip.hop_limit,
        CHECKSUM.checksum_ip(ip, len(payload), payload) == 0,
    )


@dataclass(frozen=True, slots=True)
class Encapsulated:
    """A VXLAN packet on the underlay. `length` is the outer IP packet's, in bytes; `port` is the
    UDP port it goes to.
    """

    source: str
    target: str
    vni: int
    inner: bytes
    length: int
    fragment: bool
    port: int = VXLAN_PORT


def read_vxlan(frame: bytes) -> Encapsulated | None:
    """The VXLAN packet in a frame of the underlay, to the shared port or the request port."""
    ethertype = int.from_bytes(frame[12:14], "big")
    if ethertype == ETH_IPV4 and frame[23] == socket.IPPROTO_UDP:
        head, length = 20, int.from_bytes(frame[16:18], "big")
        source, target = str(IPv4Address(frame[26:30])), str(IPv4Address(frame[30:34]))
        # More fragments, or an offset.
        fragment = int.from_bytes(frame[20:22], "big") & 0x3FFF != 0
    elif ethertype == ETH_IPV6 and frame[20] == socket.IPPROTO_UDP:
        head, length = 40, 40 + int.from_bytes(frame[18:20], "big")
        source, target = str(IPv6Address(frame[22:38])), str(IPv6Address(frame[38:54]))
        fragment = False
    else:
        return None
    datagram = frame[14 + head : 14 + length]
    port = int.from_bytes(datagram[2:4], "big")
    if port not in (VXLAN_PORT, REQUEST_PORT):
        return None
    vni = VXLAN.vxlan.parser(datagram[8:])[0].vni
    return Encapsulated(source, target, vni, datagram[16:], length, fragment, port)


# Hearing and sending


class Wire:
    """One end of a cable: hears every frame that goes by, and sends raw ones."""

    def __init__(self, namespace: str, interface: str) -> None:
        with entered(namespace):
            # No protocol yet: unbound, it would hear all interfaces.
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 4 << 20)
        self._socket.setblocking(False)
        self._socket.bind((interface, _ETH_P_ALL))
        self._heard: list[bytes] = []

    def send(self, frame: bytes) -> None:
        """Put a frame on the cable."""
        self._socket.send(frame)

    def heard(self) -> Sequence[bytes]:
        """Every frame that has come in through the cable so far."""
        while True:
            try:
                frame, address = self._socket.recvfrom(65535)
            except BlockingIOError:
                return self._heard
            if address[2] != socket.PACKET_OUTGOING:
                self._heard.append(frame)

    def forget(self) -> None:
        """What was heard so far is no longer of interest."""
        self.heard()
        self._heard.clear()

    def close(self) -> None:
        """Hear no more."""
        self._socket.close()


class ForeignVtep:
    """Somebody else's machine in the underlay: VXLAN over a plain UDP socket."""

    def __init__(self, namespace: str, address: str) -> None:
        family = socket.AF_INET if ip_address(address).version == 4 else socket.AF_INET6
        with entered(namespace):
            self._socket = socket.socket(family, socket.SOCK_DGRAM)
        if family == socket.AF_INET6:
            # VXLAN may do without the outer checksum (RFC 7348, 5; RFC 6935).
            for option in (_UDP_NO_CHECK6_TX, _UDP_NO_CHECK6_RX):
                self._socket.setsockopt(socket.IPPROTO_UDP, option, 1)
        self._socket.bind((address, VXLAN_PORT))
        self._socket.setblocking(False)
        self.address = address
        self._received: list[Encapsulated] = []

    def send(self, host: str, vni: int, frame: bytes, port: int = VXLAN_PORT) -> None:
        """Send a frame to the VTEP with the address `host`, by default to the shared UDP port."""
        header = bytes(VXLAN.vxlan(vni).serialize(bytearray(), None))
        self._socket.sendto(header + frame, (host, port))

    def received(self) -> Sequence[Encapsulated]:
        """Everything that has come in so far."""
        while True:
            try:
                data, (source, *_) = self._socket.recvfrom(65535)
            except BlockingIOError:
                return self._received
            vni = VXLAN.vxlan.parser(data)[0].vni
            self._received.append(
                Encapsulated(source, self.address, vni, data[8:], len(data) + 28, False)
            )

    def close(self) -> None:
        """Leave the UDP port."""
        self._socket.close()
