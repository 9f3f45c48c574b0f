"""Everybody's ears in a lab: who heard a frame, and what was on the underlay.

Nobody waits for what must not come. A frame that was heard or not is followed by others from the
same host that everybody there is sure to hear: a switch keeps the order, so once those have come,
whatever the first became has come too.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tests.support.ovs import eventually
from tests.support.packets import Encapsulated, Wire, read_vxlan, token

if TYPE_CHECKING:
    from tests.support.inhabited import Inhabited

_PATIENCE = 10.0
_AGAIN = 0.5


class Wires:
    """Every guest's end of its cable, and the underlay's end of every host's."""

    def __init__(
        self, lab: Inhabited, guests: Mapping[str, Wire], uplinks: Mapping[str, Wire]
    ) -> None:
        self._lab, self._guests, self._uplinks = lab, guests, uplinks

    def forget(self) -> None:
        """Begin a new story: what was heard so far is of another."""
        for wire in (*self._guests.values(), *self._uplinks.values()):
            wire.forget()

    def send(self, guest: str, frame: bytes) -> None:
        """Let a guest send a frame, and go on."""
        self._guests[guest].send(frame)

    def arrive(self, host: str, frame: bytes) -> None:
        """Let a frame of the underlay come to a host."""
        self._uplinks[host].send(frame)

    def say(self, guest: str, frame: bytes) -> None:
        """Let a guest send a frame, and wait until whatever becomes of it has happened."""
        self._guests[guest].send(frame)
        self.settle(guest)

    def settle(self, guest: str) -> None:
        """Wait until everything that came to the guest's host before has been dealt with.

        Frames follow that all of its tenant hear; then frames of a guest there whose tenant is on
        every host, for the sake of what may have gone astray. The first may share a batch with
        what it follows, and a switch sends a batch out port by port: the second cannot.
        """
        guests = self._lab.guests
        hosts = {g.host for g in guests.values()}
        everywhere = (
            g.id
            for g in guests.values()
            if g.host == guests[guest].host
            and {g.host, *(guests[peer].host for peer in self._lab.peers(g.id))} == hosts
        )
        for sender in dict.fromkeys((guest, next(everywhere, guest))):
            for _ in range(2):
                self._follow(sender)

    def _follow(self, sender: str) -> None:
        mark, hearers = token(), self._lab.peers(sender).keys()
        frames = self._lab.followers(sender, mark)
        until = time.monotonic() + _PATIENCE
        while True:
            for frame in frames:
                self._guests[sender].send(frame)
            # Sent again if need be: the first packet to a VTEP may be lost to its ARP request.
            if eventually(lambda: hearers <= self.heard(mark).keys(), _AGAIN, 0.0005):
                return
            missing = hearers - self.heard(mark).keys()
            assert time.monotonic() < until, f"{sorted(missing)} cannot hear {sender}"

    def heard(self, mark: bytes) -> dict[str, int]:
        """Who heard a frame that bears this token, and how often."""
        return {guest: len(found) for guest in self._guests if (found := self.copies(guest, mark))}

    def copies(self, guest: str, mark: bytes) -> Sequence[bytes]:
        """The frames with this token that a guest heard."""
        return [frame for frame in self._guests[guest].heard() if mark in frame]

    def all_heard(self, guest: str) -> Sequence[bytes]:
        """Every frame that a guest heard."""
        return self._guests[guest].heard()

    def on_underlay(self, mark: bytes, host: str | None = None) -> Sequence[Encapsulated]:
        """The VXLAN packets with this token that a host (or any) has sent."""
        return [
            packet
            for name, wire in self._uplinks.items()
            if host in (None, name)
            for frame in wire.heard()
            if mark in frame and (packet := read_vxlan(frame)) is not None
        ]

    def tunnels(self, mark: bytes) -> Counter[tuple[str, str, int]]:
        """How often who sent a frame with this token to whom: (host, VTEP address, VNI)."""
        return Counter(
            (name, packet.target, packet.vni)
            for name in self._uplinks
            for packet in self.on_underlay(mark, name)
        )
