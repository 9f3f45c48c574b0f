"""Who heard which frame of a storm, counted as it comes in: every guest, every host's own IP stack,
and the underlay.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from ipaddress import ip_address
from typing import Final, Self

from ovs_lwt.lab import namespaces
from ovs_lwt.lab.plan import GUEST_INTERFACE
from tests.support.inhabited import Inhabited
from tests.support.storm import number_in

_ETH_P_ALL: Final = 3
_SO_RCVBUFFORCE: Final = 33
_SOL_PACKET, _IGNORE_OUTGOING = 263, 23
_ROOM: Final = 64 << 20
_IPV4 = (socket.IPPROTO_ICMP, socket.IPPROTO_IGMP, socket.IPPROTO_TCP, socket.IPPROTO_UDP)
_IPV6 = (socket.IPPROTO_ICMPV6, socket.IPPROTO_TCP, socket.IPPROTO_UDP)


class Earshot:
    """heard: (number of a frame, guest) -> how often; by_hosts: (number, host) -> how often its own
    stack took it in; tunnels: (number, VNI) -> how often it was on the underlay, VNI None for what
    was there without a tunnel
    """

    def __init__(self, lab: Inhabited, *ports: int) -> None:
        """ports: the UDP ports of the tunnels"""
        self._lab = lab
        self._stack = ExitStack()
        self._guests: dict[str, socket.socket] = {}
        self._hosts: list[tuple[str, socket.socket]] = []
        self._uplinks: list[socket.socket] = []
        self._vteps = {ip_address(lab.vtep(host.name)).packed for host in lab.plan.own_hosts}
        self._ports = frozenset(ports)
        self.heard: Counter[tuple[int, str]] = Counter()
        self.by_hosts: Counter[tuple[int, str]] = Counter()
        self.tunnels: Counter[tuple[int, int | None]] = Counter()

    def __enter__(self) -> Self:
        for guest in self._lab.guests.values():
            self._guests[guest.id] = self._cable(guest.namespace, GUEST_INTERFACE)
        for host in self._lab.plan.own_hosts:
            self._uplinks.append(self._cable(self._lab.plan.underlay, host.uplink))
            for family, protocols in ((socket.AF_INET, _IPV4), (socket.AF_INET6, _IPV6)):
                for protocol in protocols:
                    self._hosts.append((host.name, self._raw(host.namespace, family, protocol)))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def send(self, guest: str, frame: bytes) -> None:
        """Let a guest send a frame; one that no cable takes is none."""
        with suppress(OSError):
            self._guests[guest].send(frame)

    def listen(self) -> None:
        """Count what has come in."""
        for guest, ear in self._guests.items():
            for frame in _received(ear):
                if (number := number_in(frame)) is not None:
                    self.heard[number, guest] += 1
        for host, ear in self._hosts:
            for packet in _received(ear):
                # What arrives by the tunnel goes through the kernel's stack on its datapath. (Of
                # IPv6 a raw socket gets no header: ipv6(7); the tunnels of this lab are IPv4.)
                of_tunnels = ear.family == socket.AF_INET and self._of_tunnels(packet)
                if not of_tunnels and (number := number_in(packet)) is not None:
                    self.by_hosts[number, host] += 1
        for ear in self._uplinks:
            for frame in _received(ear):
                if (number := number_in(frame)) is not None:
                    self.tunnels[number, _vni(frame, self._ports)] += 1

    def _of_tunnels(self, packet: bytes) -> bool:
        """Whether an IPv4 packet is one of our tunnels', or the complaint about one."""
        sent = _asked(packet)
        return sent[12:16] in self._vteps and _port(sent) in self._ports

    def forget(self) -> None:
        """What was heard so far has been judged."""
        self.heard.clear()
        self.by_hosts.clear()
        self.tunnels.clear()

    def _cable(self, namespace: str, interface: str) -> socket.socket:
        with namespaces.entered(namespace):
            ear = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._stack.callback(ear.close)
        ear.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _ROOM)
        ear.setsockopt(_SOL_PACKET, _IGNORE_OUTGOING, 1)
        ear.setblocking(False)
        ear.bind((interface, _ETH_P_ALL))
        return ear

    def _raw(self, namespace: str, family: int, protocol: int) -> socket.socket:
        with namespaces.entered(namespace):
            ear = socket.socket(family, socket.SOCK_RAW, protocol)
        self._stack.callback(ear.close)
        ear.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _ROOM)
        ear.setblocking(False)
        return ear


def _asked(packet: bytes) -> bytes:
    """An IPv4 packet, or the one that it is the complaint about: a host that does not replicate yet
    says so to whoever asks it (port unreachable).
    """
    return packet[28:] if packet[9] == socket.IPPROTO_ICMP and packet[20] == 3 else packet


def _port(packet: bytes) -> int:
    """The UDP port that an IPv4 packet goes to, if it is UDP."""
    return int.from_bytes(packet[22:24], "big") if packet[9] == socket.IPPROTO_UDP else 0


def _vni(frame: bytes, ports: frozenset[int]) -> int | None:
    """The VNI of a frame of the underlay, None if it is no tunnel packet."""
    if frame[12:14] != b"\x08\x00":
        return None
    packet = _asked(frame[14:])
    return int.from_bytes(packet[32:35], "big") if _port(packet) in ports else None


def _received(ear: socket.socket) -> list[bytes]:
    found = []
    while True:
        try:
            found.append(ear.recv(65535))
        except BlockingIOError:
            return found


def by_number(counts: Mapping[tuple[int, str], int]) -> dict[int, dict[str, int]]:
    """Number of a frame -> who heard it -> how often."""
    found: dict[int, dict[str, int]] = {}
    for (number, who), count in counts.items():
        found.setdefault(number, {})[who] = count
    return found
