"""Guests that send from a link-local address that the overlay does not list.

Many systems make one up that does not follow from the MAC (RFC 7217). What they send from it is
dropped, and whoever runs the host should know whose it is.

What flows in: the beginning of such packets, which two flows of table security send here (the
switch limits the rate), and the host's view. What flows out: a sentence when somebody is heard of
for the first time, and a finding for as long as it goes on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Final

import numpy as np

from ovs_lwt.backends.openflow import encode
from ovs_lwt.backends.openflow.pipeline import pipeline
from ovs_lwt.backends.scope import Scope
from ovs_lwt.findings import Finding, warn
from ovs_lwt.mistakes import listing
from ovs_lwt.view import View

FORGOTTEN: Final = 3600.0
"""Seconds after which a guest that has sent nothing of the kind is not spoken of any more."""

KNOWN: Final = 256
"""Guests that are known by name at a time."""

_FLOWS: Final = ("security.unlisted_solicitation", "security.unlisted_link_local")
_EVERY: Final = 60.0  # seconds from one look at packets of a port to the next
_PORTS: Final = 4096  # that are told apart meanwhile
# ofp_packet_in, OpenFlow 1.4, 7.4.1: its cookie, then its match.
_COOKIE, _MATCH = slice(16, 24), slice(24, 28)
# An Ethernet frame of IPv6 (RFC 8200, 3), no tag: from which MAC and which address.
_FROM, _IPV6, _SOURCE = slice(6, 12), b"\x86\xdd", slice(22, 38)


@dataclass(frozen=True, slots=True)
class _Heard:
    address: IPv6Address
    at: float


class UnlistedSources:
    """Who sends from a link-local address that is not its own, as far as it has IPv6 at all.

    (An endpoint that lists IPv4 addresses alone has no IPv6, whatever its guest tries.)
    """

    def __init__(self) -> None:
        self._heard: dict[str, _Heard] = {}
        # What told a packet's port from others, and until when others of that port are passed over.
        self._seen: dict[bytes, float] = {}

    def hears(self, message: bytes) -> bool:
        """Whether an OFPT_PACKET_IN comes from one of those flows."""
        cookie = int.from_bytes(message[_COOKIE], "big")
        return any(pipeline().flows[name].cookie == cookie for name in _FLOWS)

    def note(self, view: View, message: bytes, now: float) -> str | None:
        """Take note of a packet of these flows; return what is to be said if its guest is news."""
        length = int.from_bytes(message[_MATCH][2:], "big")
        port = message[_MATCH.start : _MATCH.start + length]
        if now < self._seen.get(port, 0.0):
            return None
        if len(self._seen) >= _PORTS:
            self._seen.clear()
        self._seen[port] = now + _EVERY
        packet_in = encode.decoded(message)
        frame = bytes(packet_in.data)
        if frame[12:14] != _IPV6 or len(frame) < _SOURCE.stop:
            return None
        (at,) = np.nonzero(view.ports.port == packet_in.match["in_port"])
        if not len(at):
            return None
        name = view.topology.endpoint_id(int(view.ports.endpoint[at[0]]))
        address, mac = IPv6Address(frame[_SOURCE]), int.from_bytes(frame[_FROM], "big")
        if not _is_unlisted(view, name, address, mac):
            return None
        before = self._heard.pop(name, None)
        self._heard[name] = _Heard(address, now)
        if len(self._heard) > KNOWN:
            del self._heard[next(iter(self._heard))]
        if before is not None and before.address == address:
            return None
        return _finding([f"{name} ({address})"]).sentence

    def look(self, view: View) -> None:
        """Forget those that are not here any more, or may send from that address by now."""
        self._seen.clear()
        self._heard = {
            name: heard
            for name, heard in self._heard.items()
            if _is_unlisted(view, name, heard.address)
        }

    def findings(self, now: float) -> Iterator[Finding]:
        """What is to be said of them."""
        some = [
            f"{name} ({heard.address})"
            for name, heard in self._heard.items()
            if now - heard.at < FORGOTTEN
        ]
        if some:
            yield _finding(some)


def _finding(guests: list[str]) -> Finding:
    return warn(
        "guest addresses",
        "dropped, since the overlay does not list these link-local addresses:"
        f" what comes from {listing(guests, 3)}",
        "list it among the endpoint's `ip` (fe80::…/64), or let the guest derive it from its MAC"
        " (Linux: ip link set dev eth0 addrgenmode eui64; NetworkManager:"
        " ipv6.addr-gen-mode eui64)",
    )


def _is_unlisted(view: View, name: str, address: IPv6Address, mac: int | None = None) -> bool:
    """Whether the endpoint has IPv6, but not this address. mac: it is its own, or None"""
    topology = view.topology
    # The whole tenant may have left the overlay since its guest was heard of.
    here = name.partition("/")[0] in topology.tenants.index
    endpoint = topology.find(name) if here else None
    if endpoint is None or endpoint not in view.ports.endpoint:
        return False
    row = topology.taken(np.array([endpoint]))
    if row.spoofing[0] or mac not in (None, int(row.mac[0])):
        return False
    scope = Scope.of_tenant(view, int(topology.tenants.vni[int(row.tenant[0])]))
    at, pairs = endpoint - scope.first_endpoint, scope.part.pairs6
    owner, listed = scope.owned6
    own = [*listed[owner == at], *pairs.ip[pairs.endpoint == at]]
    return bool(own) and address.packed not in {each.tobytes() for each in own}
