"""A storm of frames: whatever a guest might send, well-formed or not, by the hundred thousand.

Made with `struct` and not with a packet library: a frame takes microseconds. Each bears a number,
behind its headers, that whoever hears it tells it by; a forged packet inside bears the same one.
"""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

MAGIC: Final = b"\xa7\xb6storm"
_NUMBER: Final = struct.Struct("!I")
_SIZE: Final = len(MAGIC) + _NUMBER.size
_SMALLEST: Final = 60
_BROADCAST: Final = b"\xff" * 6
_EXPERIMENT: Final = 0x88B5
_VXLAN_PORT: Final = 4789


def marked(number: int) -> bytes:
    """What a frame bears."""
    return MAGIC + _NUMBER.pack(number)


def number_in(frame: bytes) -> int | None:
    """The number that a frame bears; None: it is no frame of the storm."""
    at = frame.rfind(MAGIC)
    if at < 0 or len(frame) < at + _SIZE:
        return None
    return int(_NUMBER.unpack_from(frame, at + len(MAGIC))[0])


def mac(text: str) -> bytes:
    """A MAC's bytes."""
    return bytes.fromhex(text.replace(":", ""))


@dataclass(frozen=True, slots=True)
class Guest:
    """Who sends: its tenant, its MAC and its addresses."""

    name: str
    tenant: str
    host: str
    mac: bytes
    ip4: bytes
    ip6: bytes


@dataclass(frozen=True, slots=True)
class Sent:
    """What was sent. exactly: who has to hear it, once each; None: nobody is sure to."""

    sender: str
    tenant: str
    frame: bytes
    exactly: frozenset[str] | None

    def __str__(self) -> str:
        return f"a frame of {self.sender}, {self.frame.hex()}"


class Storm:
    """Draws frames. everywhere: all guests; vteps: addresses of VTEPs; vnis: that mean somebody."""

    def __init__(
        self,
        chance: random.Random,
        guests: Sequence[Guest],
        vteps: Sequence[str],
        vnis: Sequence[int],
        devices: Sequence[bytes],
    ) -> None:
        self._chance = chance
        self._guests = guests
        self._vteps = vteps
        self._vnis = vnis
        self._macs = [*(guest.mac for guest in guests), *devices]
        self._ip4 = [
            *(guest.ip4 for guest in guests),
            *(ip_address(vtep).packed for vtep in vteps if ":" not in vtep),
            *map(socket.inet_aton, ("0.0.0.0", "255.255.255.255", "224.0.0.1", "127.0.0.1")),
        ]
        texts = ("::", "ff02::1", "ff02::2", "ff02::1:ff00:1", "fe80::1", "::1", "fd00::99")
        self._ip6 = [
            *(guest.ip6 for guest in guests),
            *(socket.inet_pton(socket.AF_INET6, text) for text in texts),
        ]
        self._kinds: Sequence[Callable[[Guest, bytes], bytes]] = (
            self._bare,
            self._arp,
            self._ipv4,
            self._forged_vxlan,
            self._ipv6,
            self._discovery,
            self._fragment,
            self._tagged,
            self._garbage,
            self._control,
        )

    def plain(self, guest: Guest, number: int) -> tuple[bytes, frozenset[str] | None]:
        """A frame that the guest may send, and who has to hear it."""
        chance = self._chance
        others = [g for g in self._guests if g.tenant == guest.tenant and g.name != guest.name]
        if others and chance.random() < 0.6:
            to = chance.choice(others)
            target, exactly = to.mac, frozenset({to.name})
        else:
            group = b"\x33\x33" + chance.randbytes(4)
            target = chance.choice([_BROADCAST, b"\x01\x00\x5e\x00\x00\x05", group])
            exactly = frozenset(g.name for g in others)
        frame = target + guest.mac + _EXPERIMENT.to_bytes(2, "big")
        return self._sealed(frame, number), exactly

    def wild(self, guest: Guest, number: int) -> bytes:
        """Any frame at all."""
        seal = marked(number)
        frame = self._chance.choice(self._kinds)(guest, seal)
        return frame if seal in frame else self._sealed(frame, number)

    def forged(self, number: int) -> bytes:
        """The payload of a UDP packet to a VTEP: VXLAN of somebody, or nearly."""
        chance = self._chance
        guest = chance.choice(self._guests)
        inner = self._sealed(self._head(guest, _EXPERIMENT), number)
        flags = chance.choice([8, 8, 8, 0, 0xFF, 0x88])
        vni = chance.choice([*self._vnis, chance.randrange(1 << 24)])
        return struct.pack("!B3xI", flags, vni << 8 | chance.choice([0, 0, 1])) + inner

    # The kinds

    def _sealed(self, frame: bytes, number: int) -> bytes:
        return frame.ljust(_SMALLEST - _SIZE, b"\0") + marked(number)

    def _head(self, guest: Guest, ethertype: int) -> bytes:
        chance = self._chance
        target = chance.choice([_BROADCAST, *self._macs, chance.randbytes(6)])
        source = (
            guest.mac
            if chance.random() < 0.7
            else chance.choice([*self._macs, _BROADCAST, bytes(6), chance.randbytes(6)])
        )
        return target + source + ethertype.to_bytes(2, "big")

    def _bare(self, guest: Guest, _: bytes) -> bytes:
        return self._head(guest, self._chance.choice([_EXPERIMENT, 0x88CC, 0x8847, 0x22F3, 0x002E]))

    def _control(self, guest: Guest, _: bytes) -> bytes:
        last = bytes([self._chance.randrange(48)])
        return b"\x01\x80\xc2\x00\x00" + last + guest.mac + b"\x88\xcc"

    def _arp(self, guest: Guest, _: bytes) -> bytes:
        chance = self._chance
        own = chance.random() < 0.6
        return self._head(guest, 0x0806) + struct.pack(
            "!HHBBH6s4s6s4s",
            1,
            0x0800,
            6,
            4,
            chance.choice([1, 1, 2, 2, 3, 8, 0]),
            guest.mac if own else chance.choice(self._macs),
            guest.ip4 if own else chance.choice(self._ip4),
            chance.choice([bytes(6), _BROADCAST, *self._macs]),
            chance.choice(self._ip4),
        )

    def _ipv4(self, guest: Guest, seal: bytes) -> bytes:
        chance = self._chance
        protocol = chance.choice([1, 2, 6, 17, 17, 17, 4, 47, 255])
        ports = (chance.choice([67, 68, 53, 546, 4790, 9, _VXLAN_PORT]) for _ in range(2))
        body = (
            struct.pack("!HHHH", *ports, 8 + len(seal), 0) if protocol == 17 else bytes(8)
        ) + seal
        return self._packet4(guest, protocol, body)

    def _forged_vxlan(self, guest: Guest, seal: bytes) -> bytes:
        """A tunnel packet of another tenant, out of a guest: to a VTEP, from a VTEP or itself."""
        chance = self._chance
        other = chance.choice(self._guests)
        inner = _BROADCAST + other.mac + _EXPERIMENT.to_bytes(2, "big") + bytes(40) + seal
        vxlan = struct.pack("!B3xI", 8, chance.choice(self._vnis) << 8) + inner
        udp = struct.pack("!HHHH", 50000, _VXLAN_PORT, 8 + len(vxlan), 0) + vxlan
        addresses = [ip_address(vtep).packed for vtep in self._vteps]
        source = chance.choice([guest.ip4, *addresses])
        return self._packet4(guest, 17, udp, source, chance.choice(addresses))

    def _packet4(
        self,
        guest: Guest,
        protocol: int,
        body: bytes,
        source: bytes | None = None,
        target: bytes | None = None,
        fragment: int = 0,
    ) -> bytes:
        chance = self._chance
        if source is None:
            source = guest.ip4 if chance.random() < 0.6 else chance.choice(self._ip4)
        target = target or chance.choice(self._ip4)
        head = struct.pack(
            "!BBHHHBBH4s4s", 0x45, 0, 20 + len(body), 1, fragment, 64, protocol, 0, source, target
        )
        total: int = sum(struct.unpack("!10H", head))
        total = (total & 0xFFFF) + (total >> 16)
        checksum = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
        return (
            self._head(guest, 0x0800) + head[:10] + checksum.to_bytes(2, "big") + head[12:] + body
        )

    def _ipv6(self, guest: Guest, seal: bytes) -> bytes:
        ports = self._chance.choice([(546, 547), (547, 546), (9, 9), (_VXLAN_PORT, _VXLAN_PORT)])
        return self._packet6(guest, 17, struct.pack("!HHHH", *ports, 8 + len(seal), 0) + seal)

    def _discovery(self, guest: Guest, seal: bytes) -> bytes:
        """ICMPv6: neighbours, routers, redirects, listeners, with whatever options."""
        chance = self._chance
        kind = chance.choice([133, 134, 135, 135, 136, 136, 137, 130, 131, 143, 128])
        body = struct.pack("!BBHI", kind, chance.choice([0, 0, 0, 1]), 0, chance.getrandbits(32))
        if kind in (135, 136, 137):
            body += chance.choice(self._ip6)
        for _ in range(chance.randrange(3)):
            lladdr = guest.mac if chance.random() < 0.5 else chance.choice(self._macs)
            body += struct.pack("!BB6s", chance.choice([1, 2, 14]), 1, lladdr)
        return self._packet6(guest, 58, body + seal)

    def _fragment(self, guest: Guest, seal: bytes) -> bytes:
        chance = self._chance
        if chance.random() < 0.3:
            return self._packet4(guest, 17, bytes(8) + seal, fragment=chance.choice([0x2000, 5]))
        offset = chance.choice([0, 0, 1, 8])
        head = struct.pack("!BBHI", chance.choice([58, 60, 0]), 0, offset << 3 | 1, 7)
        body = struct.pack("!BBHI", chance.choice([134, 135, 136, 0]), 0, 0, 0)
        return self._packet6(guest, 44, head + body + chance.choice(self._ip6) + seal)

    def _packet6(self, guest: Guest, following: int, body: bytes) -> bytes:
        chance = self._chance
        source = guest.ip6 if chance.random() < 0.5 else chance.choice(self._ip6)
        if following == 58 and chance.random() < 0.2:
            # Hop-by-hop, or destination options, in front.
            body = struct.pack("!BB6s", 58, 0, b"\x01\x04\0\0\0\0") + body
            following = chance.choice([0, 60])
        head = struct.pack("!IHBB", 6 << 28, len(body), following, chance.choice([255, 255, 64]))
        return self._head(guest, 0x86DD) + head + source + chance.choice(self._ip6) + body

    def _tagged(self, guest: Guest, seal: bytes) -> bytes:
        chance = self._chance
        kinds = [kind for kind in self._kinds if kind != self._tagged]
        inner = chance.choice(kinds)(guest, seal)
        tags = b"".join(
            struct.pack("!HH", chance.choice([0x8100, 0x88A8]), chance.choice([0, 7, 0xE000, 4095]))
            for _ in range(chance.choice([1, 1, 2]))
        )
        return inner[:12] + tags + inner[12:]

    def _garbage(self, guest: Guest, seal: bytes) -> bytes:
        chance = self._chance
        body = chance.randbytes(chance.choice([0, 3, 46, 200, 1400]))
        return (
            self._head(guest, chance.choice([0x0800, 0x86DD, 0x0806, 0x0000, 0xFFFF])) + body + seal
        )
