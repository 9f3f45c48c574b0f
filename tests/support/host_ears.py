"""What a guest may try on its host, and the host's ears: what of it the host's own stack has heard.

Raw sockets hear whatever the stack takes in for itself, whoever else it may be for; the far end of
the uplink's cable hears what it answers, or forwards. Every attempt bears a token of its own.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from ipaddress import IPv4Address, ip_address
from typing import Any

from ovs_lwt.lab import namespaces
from tests.support.ovs import in_netns
from tests.support.packets import (
    ALL_NODES,
    BROADCAST,
    ETH_IPV4,
    ETH_IPV6,
    ETHERNET,
    FW,
    ICMP,
    ICMPV6,
    IPV4,
    IPV6,
    UDP,
    VXLAN,
    VXLAN_PORT,
    Wire,
    link_local,
    serialized,
    solicitation,
    stamped,
    token,
    vlan_tagged,
)

TCP = FW.module("lib.packet.tcp")

PORT = 9999
"""Of a service on the host: no matter whether one listens, raw sockets hear what comes for it."""
CONTROL = "01:80:c2:00:00:0e"
"""A bridge hands what goes there up to its port's device (802.1Q, 8.6.3)."""
EVERYBODY4 = ("01:00:5e:00:00:01", "224.0.0.1")
FORGED = "203.0.113.7"
_SETTLE = 0.5
# More than one: a switch may answer the first of a kind later than the stack would.
_TIMES = 3


@dataclass(frozen=True, slots=True)
class Host:
    """A host that is attacked.

    netns; vtep: its address; other: the address of another host; port: the host's end of a guest's
    cable; uplink: (namespace, interface) of the far end of its own cable
    """

    netns: str
    vtep: str
    other: str
    port: str
    uplink: tuple[str, str]


@dataclass(frozen=True, slots=True)
class Guest:
    """Who attacks. at: (MAC, IPv4), at6: (MAC, IPv6) that the overlay knows it by"""

    netns: str
    at: tuple[str, str]
    at6: tuple[str, str] | None
    interface: str = "eth0"


def attempts(host: Host, guest: Guest, end: str) -> Iterator[tuple[str, Callable[[bytes], bytes]]]:
    """What a guest may try: (its name, the frame that bears a token). end: MAC of the host's end"""
    mac = guest.at[0]
    own = guest.at[1]
    for to, door in (("its end", end), ("broadcast", BROADCAST), ("control", CONTROL)):
        for source, whose in ((own, "own"), (FORGED, "forged"), (host.other, "a VTEP's")):
            name = f"UDP to the VTEP's address from {whose} address, by {to}"
            yield name, _udp((mac, source), (door, host.vtep))
        yield f"TCP to the VTEP's address, by {to}", _tcp((mac, own), (door, host.vtep))
        yield f"ping for another host, by {to}", _ping((mac, host.other), (door, host.vtep))
        yield f"VXLAN of another tenant, by {to}", _vxlan((mac, FORGED), (door, host.other))
        yield (
            f"VXLAN of another tenant to the VTEP, by {to}",
            _vxlan((mac, host.other), (door, host.vtep)),
        )
    for source in (own, FORGED, "0.0.0.0"):
        yield f"UDP to everybody from {source}", _udp((mac, source), (BROADCAST, "255.255.255.255"))
        yield f"UDP to all hosts from {source}", _udp((mac, source), EVERYBODY4)
        yield f"UDP to all by its end from {source}", _udp((mac, source), (end, "255.255.255.255"))
    priority = _udp((mac, own), (end, host.vtep))
    yield "UDP in a priority tag", lambda mark: vlan_tagged(priority(mark), vlan=0)
    yield from _attempts6(guest, end)


def _attempts6(guest: Guest, end: str) -> Iterator[tuple[str, Callable[[bytes], bytes]]]:
    mac = guest.at[0]
    local, theirs = link_local(mac), link_local(end)
    sources = {local, *([guest.at6[1]] if guest.at6 else [])}
    for source in sorted(sources):
        yield f"UDP to all nodes from {source}", _udp((mac, source), ALL_NODES)
        yield f"UDP to its link-local address from {source}", _udp((mac, source), (end, theirs))
        yield f"TCP to its link-local address from {source}", _tcp((mac, source), (end, theirs))
        yield f"UDP by control frames from {source}", _udp((mac, source), (CONTROL, ALL_NODES[1]))
    yield (
        "a solicitation of its link-local address",
        lambda mark: solicitation((mac, local), theirs, mark, to=("33:33:00:00:00:01", "ff02::1")),
    )
    yield "a router advertisement", lambda mark: _router((mac, local), mark)


def _router(source: tuple[str, str], mark: bytes) -> bytes:
    prefix = ICMPV6.nd_option_pi(
        pl=64, res1=0b110, val_l=86400, pre_l=86400, prefix="2001:db8:bad::"
    )
    body = ICMPV6.nd_router_advert(ch_l=64, rou_l=1800, options=[prefix])
    frame = serialized(
        ETHERNET.ethernet(ALL_NODES[0], source[0], ETH_IPV6),
        IPV6.ipv6(src=source[1], dst=ALL_NODES[1], nxt=socket.IPPROTO_ICMPV6, hop_limit=255),
        ICMPV6.icmpv6(ICMPV6.ND_ROUTER_ADVERT, data=body),
    )
    return stamped(frame, mark)


def _udp(source: tuple[str, str], target: tuple[str, str]) -> Callable[[bytes], bytes]:
    return lambda mark: _ip(source, target, socket.IPPROTO_UDP, UDP.udp(PORT, PORT), mark)


def _tcp(source: tuple[str, str], target: tuple[str, str]) -> Callable[[bytes], bytes]:
    header = TCP.tcp(PORT, PORT, seq=1, bits=TCP.TCP_SYN)
    return lambda mark: _ip(source, target, socket.IPPROTO_TCP, header, mark)


def _ping(source: tuple[str, str], target: tuple[str, str]) -> Callable[[bytes], bytes]:
    def frame(mark: bytes) -> bytes:
        echo = ICMP.icmp(ICMP.ICMP_ECHO_REQUEST, data=ICMP.echo(data=mark))
        return _ip(source, target, socket.IPPROTO_ICMP, echo)

    return frame


def _vxlan(source: tuple[str, str], target: tuple[str, str]) -> Callable[[bytes], bytes]:
    header = bytes(VXLAN.vxlan(2020).serialize(bytearray(), None))
    udp = UDP.udp(PORT, VXLAN_PORT)
    inner = bytes.fromhex("ffffffffffff 020000000099 88b5")
    return lambda mark: _ip(source, target, socket.IPPROTO_UDP, udp, header + inner + mark)


def _ip(source: tuple[str, str], target: tuple[str, str], proto: int, *payload: Any) -> bytes:
    if ip_address(target[1]).version == 6:
        kind = ETH_IPV6
        network = IPV6.ipv6(src=source[1], dst=target[1], nxt=proto, hop_limit=255)
    else:
        kind, network = ETH_IPV4, IPV4.ipv4(src=source[1], dst=target[1], proto=proto)
    return serialized(ETHERNET.ethernet(target[0], source[0], kind), network, *payload)


_EARS = (
    *((socket.AF_INET, proto) for proto in (socket.IPPROTO_ICMP, socket.IPPROTO_UDP)),
    (socket.AF_INET, socket.IPPROTO_TCP),
    *((socket.AF_INET6, proto) for proto in (socket.IPPROTO_ICMPV6, socket.IPPROTO_UDP)),
    (socket.AF_INET6, socket.IPPROTO_TCP),
)


@dataclass
class Ears:
    """The host's, and those of whoever is at the other end of its uplink."""

    host: Host
    tokens: dict[bytes, str] = field(default_factory=dict)
    _raw: list[socket.socket] = field(default_factory=list)
    _uplink: Wire | None = None
    _heard: set[str] = field(default_factory=set)

    def sent(self, name: str) -> bytes:
        """A token for an attempt of that name."""
        mark = token()
        self.tokens[mark] = name
        return mark

    def heard(self) -> list[str]:
        """What of all that the host's stack has heard, or sent on; and what it believes since."""
        time.sleep(_SETTLE)
        for ear in self._raw:
            with contextlib.suppress(BlockingIOError):
                while True:
                    self._note(ear.recv(65535), "")
        assert self._uplink is not None
        for frame in self._uplink.heard():
            if not self._is_tunnel(frame):
                self._note(frame, ", sent on")
        self._uplink.forget()
        return sorted(self._heard | set(self._believes()))

    def _note(self, data: bytes, what: str) -> None:
        for mark, name in self.tokens.items():
            if mark in data:
                self._heard.add(name + what)

    def _is_tunnel(self, frame: bytes) -> bool:
        """Whether this is the host's own VXLAN: the guest's frame on its way to its tenant."""
        ours = IPv4Address(self.host.vtep).packed
        kind = int.from_bytes(frame[12:14], "big")
        port = int.from_bytes(frame[36:38], "big")
        return (kind, frame[26:30], port) == (ETH_IPV4, ours, VXLAN_PORT)

    def _believes(self) -> Iterator[str]:
        if in_netns(self.host.netns, "ip", "-6", "route", "show", "default"):
            yield "a default route by a guest"
        if "2001:db8:bad" in in_netns(self.host.netns, "ip", "-6", "address"):
            yield "an address by a guest"


@contextlib.contextmanager
def listening(host: Host) -> Iterator[Ears]:
    """The host's ears, as long as the story runs."""
    with ExitStack() as stack:
        ears = Ears(host)
        for family, proto in _EARS:
            with namespaces.entered(host.netns):
                ear = stack.enter_context(socket.socket(family, socket.SOCK_RAW, proto))
            ear.setblocking(False)
            ear.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)  # SO_RCVBUFFORCE
            ears._raw.append(ear)
        ears._uplink = Wire(*host.uplink)
        stack.callback(ears._uplink.close)
        yield ears


def attack(ears: Ears, guest: Guest) -> None:
    """Try everything, from inside the guest."""
    frames = _frames(ears, guest)
    with contextlib.closing(Wire(guest.netns, guest.interface)) as wire:
        for _ in range(_TIMES):
            for frame in frames:
                wire.send(frame)


def _frames(ears: Ears, guest: Guest) -> list[bytes]:
    end = mac_of(ears.host.netns, ears.host.port)
    return [frame(ears.sent(name)) for name, frame in attempts(ears.host, guest, end)]


def mac_of(netns: str, device: str) -> str:
    """A device's MAC."""
    return in_netns(netns, "cat", f"/sys/class/net/{device}/address").strip()


@contextlib.contextmanager
def attacking(ears: Ears, guest: Guest) -> Iterator[None]:
    """Try everything over and over while something is done to the guest's cable.

    By broadcast where the MAC of the host's end is not known yet: every cable has another.
    """
    over = threading.Event()
    frames = [frame(ears.sent(name)) for name, frame in attempts(ears.host, guest, BROADCAST)]

    def attacker() -> None:
        while not over.is_set():
            # The cable comes and goes.
            with (
                contextlib.suppress(OSError, AssertionError),
                contextlib.closing(Wire(guest.netns, guest.interface)) as wire,
            ):
                while not over.is_set():
                    for frame in frames:
                        with contextlib.suppress(BlockingIOError):
                            wire.send(frame)

    thread = threading.Thread(target=attacker)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
