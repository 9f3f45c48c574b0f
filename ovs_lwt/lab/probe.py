"""Ask the wire: send probes from every guest, and note which guests receive them."""

from __future__ import annotations

import os
import resource
import selectors
import socket
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from ovs_lwt.lab.kernel import slowness, we_are_in
from ovs_lwt.lab.matrix import Matrix, Probe, Sighting, choose, is_due, is_reached, judge, questions
from ovs_lwt.lab.namespaces import entered
from ovs_lwt.lab.packets import Token, echo_request, ethernet_probe, read_probe
from ovs_lwt.lab.plan import GUEST_INTERFACE, GuestPlan, LabPlan
from ovs_lwt.mistakes import Refused

# The first attempt also resolves neighbours and makes the switches learn their flows.
ATTEMPT_SECONDS = (1.0, 1.5, 2.0)
# How long a leaked copy may come after the last probe that was expected.
SETTLE_SECONDS = 0.3
DEFAULT_SAMPLE = 24
_BURST = 32
_BUFFER_BYTES = 4 << 20
_ETH_P_ALL = 0x0003


def measure(
    plan: LabPlan,
    sample: int = DEFAULT_SAMPLE,
    attempts: Sequence[float] = ATTEMPT_SECONDS,
) -> Matrix:
    """Probe every ordered pair of the lab's guests (at most `sample` of them; 0: all).

    All guests listen, those left out of the sample too, so that no leak goes unseen. Raises
    `Refused` if a guest's namespace is gone.
    """
    began = time.monotonic()
    chosen = choose(plan.guests, sample)
    probes = questions(plan.guests, chosen)
    with _Wire(plan.guests, chosen) as wire:
        wire.ask(probes, attempts)
        cells = judge(plan.guests, probes, wire.sightings)
    return Matrix(
        lab=plan.name,
        guests=tuple(plan.guests[index].id for index in chosen),
        hosts=tuple(plan.guests[index].host for index in chosen),
        of=len(plan.guests),
        probes=len(probes),
        seconds=round(time.monotonic() - began, 3),
        cells=tuple(cells),
    )


@dataclass(slots=True)
class _Sockets:
    """What one guest hears and speaks with; None where it has no such thing."""

    ear: socket.socket | None = None
    ipv4: socket.socket | None = None
    ipv6: socket.socket | None = None


@dataclass(slots=True)
class _Wire:
    """Sockets in all guests' namespaces, polled by one thread."""

    guests: Sequence[GuestPlan]
    chosen: Sequence[int]
    run: bytes = field(default_factory=lambda: os.urandom(8))
    sightings: list[Sighting] = field(default_factory=list)
    _of: dict[int, list[Sighting]] = field(default_factory=dict)
    _waiting: dict[int, Probe] = field(default_factory=dict)
    _sockets: list[_Sockets] = field(default_factory=list)
    _ears: selectors.DefaultSelector = field(default_factory=selectors.DefaultSelector)
    _stack: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> _Wire:
        _allow_files(3 * len(self.guests) + 256)
        self._stack.callback(self._ears.close)
        senders = set(self.chosen)
        try:
            for index, guest in enumerate(self.guests):
                self._sockets.append(self._open(index, guest, index in senders))
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def ask(self, probes: Sequence[Probe], attempts: Sequence[float]) -> None:
        """Send all `probes`; send those again that ought to arrive and did not."""
        self._waiting = {p.number: p for p in probes if is_due(self.guests, p)}
        due: Sequence[Probe] = probes
        for attempt, seconds in enumerate(attempts):
            for count, probe in enumerate(due):
                self._send(probe, attempt)
                if count % _BURST == _BURST - 1:
                    self._hear(0)
            until = time.monotonic() + seconds * slowness(we_are_in())
            while self._waiting and (left := until - time.monotonic()) > 0:
                self._hear(left)
            due = list(self._waiting.values())
            if not due:
                break
        until = time.monotonic() + SETTLE_SECONDS
        while (left := until - time.monotonic()) > 0:
            self._hear(left)

    def _open(self, index: int, guest: GuestPlan, sends: bool) -> _Sockets:
        sockets = _Sockets()
        try:
            with entered(guest.namespace):
                ear = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
                self._stack.callback(ear.close)
                ear.setblocking(False)
                # SO_RCVBUFFORCE: the usual limit holds some 200 frames.
                ear.setsockopt(socket.SOL_SOCKET, 33, _BUFFER_BYTES)
                versions = {address.version for address in guest.addresses} if sends else set()
                for version in versions:
                    speaker = self._speaker(version)
                    if version == 4:
                        sockets.ipv4 = speaker
                    else:
                        sockets.ipv6 = speaker
                try:
                    ear.bind((GUEST_INTERFACE, _ETH_P_ALL))
                except OSError:  # the guest has lost its interface: it hears nothing, and
                    return sockets  # that is what the matrix is to show
        except FileNotFoundError:
            raise Refused(
                f"the namespace of {guest.id}, {guest.namespace}, is gone: the lab is damaged; take"
                " it down and bring it up again"
            ) from None
        sockets.ear = ear
        self._ears.register(ear, selectors.EVENT_READ, index)
        return sockets

    def _speaker(self, version: int) -> socket.socket:
        family, protocol = (
            (socket.AF_INET, socket.IPPROTO_ICMP)
            if version == 4
            else (socket.AF_INET6, socket.IPPROTO_ICMPV6)
        )
        speaker = socket.socket(family, socket.SOCK_RAW, protocol)
        self._stack.callback(speaker.close)
        speaker.setblocking(False)
        # Nobody reads here: the packet socket hears the replies.
        speaker.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)
        return speaker

    def _send(self, probe: Probe, attempt: int) -> None:
        sockets, token = self._sockets[probe.source], Token(self.run, probe.number, attempt)
        try:
            if probe.kind == "ethernet":
                if sockets.ear is not None:
                    source = self.guests[probe.source].mac
                    sockets.ear.send(ethernet_probe(source, probe.address, token))
                return
            speaker = sockets.ipv4 if probe.kind == "ipv4" else sockets.ipv6
            if speaker is not None:
                speaker.sendto(echo_request(probe.kind, token), (probe.address, 0))
        except OSError:
            # No route, no neighbour, interface down: the probe does not arrive, and the matrix
            # says so. The error may also be an older probe's, told late.
            return

    def _hear(self, seconds: float) -> None:
        for key, _ in self._ears.select(seconds):
            self._drain(key.data, key.fileobj)

    def _drain(self, guest: int, ear: object) -> None:
        assert isinstance(ear, socket.socket)
        while True:
            try:
                frame, address = ear.recvfrom(65535)
            except BlockingIOError:
                return
            except OSError:  # interface went down: said once, then it hears again
                return
            if address[2] == socket.PACKET_OUTGOING:
                continue
            found = read_probe(frame, self.run)
            if found is None:
                continue
            token, leg = found
            sighting = Sighting(
                token.probe, token.attempt, guest, leg, address[2] == socket.PACKET_HOST
            )
            self.sightings.append(sighting)
            seen = self._of.setdefault(token.probe, [])
            seen.append(sighting)
            waiting = self._waiting.get(token.probe)
            if waiting is not None and is_reached(waiting, seen):
                del self._waiting[token.probe]


def _allow_files(count: int) -> None:
    """Raise this process's limit of open files to `count`, as far as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(count, hard), hard))
