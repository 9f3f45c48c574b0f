"""A host of plane bridge or route: its kernel, brought to what the overlay says.

A guest's port is a device that says so: `ip link set DEVICE alias "ovs-lwt TENANT/NAME"`. `ovs-lwt
attach` does that for a veth; for a tap device, whoever makes it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Final, Protocol

import numpy as np

from ovs_lwt import kernel_mutes
from ovs_lwt.backends.netlink import session
from ovs_lwt.backends.netlink.linkchange import OURS
from ovs_lwt.backends.netlink.links import Links
from ovs_lwt.backends.netlink.present import NOTICES, Present
from ovs_lwt.backends.netlink.program import stamp
from ovs_lwt.backends.netlink.session import Session, State
from ovs_lwt.backends.netlink.setup import Forwarding, Link, Setup
from ovs_lwt.backends.netlink.templates import Devices
from ovs_lwt.backends.netlink.transaction import Counts
from ovs_lwt.backends.netlink.transport import Kernel
from ovs_lwt.backends.outcome import Moment, Repairs, Synced
from ovs_lwt.claims import renamed_claims
from ovs_lwt.findings import Finding
from ovs_lwt.memory import give_back
from ovs_lwt.mistakes import NotNow, Refused
from ovs_lwt.netns import entered
from ovs_lwt.ports import portless, resolve
from ovs_lwt.topology import Topology
from ovs_lwt.underlay.expected import Expected
from ovs_lwt.veth import MuteKeeper
from ovs_lwt.veth.marks import MarkKeeper
from ovs_lwt.veth.mute import heard
from ovs_lwt.veth.netlink import spoken_by_kernel
from ovs_lwt.veth.notices import Notices
from ovs_lwt.veth.pair import rename_claims
from ovs_lwt.view import View
from ovs_lwt.voice import Voice
from ovs_lwt.vswitch import DEFAULT_BRIDGE, DEFAULT_REQUEST_PORT, DEFAULT_TUNNEL_PORT, LocalPort

_TUNNEL: Final = 0  # the shared device's number, in every view of a kernel plane
_CLAIM: Final = f"{OURS} "  # and TENANT/NAME
_DOWN: Final = "is down: set it up (ip link set {} up)"
_TRIES: Final = 5


class Marks(Protocol):
    """Who keeps the tenants' marks on the guests' ports; `MarkKeeper` does."""

    def want(self, marks: Mapping[str, int]) -> None:
        """Keep these, by port name."""

    def run(self) -> list[str]:
        """Mend what differs; say what that was."""

    def marking(self) -> Mapping[str, str]:
        """Who sets the mark, by port name: "tc" or "nft"."""

    def errors(self) -> Mapping[str, str]:
        """What keeps a port from being marked, by its name."""

    def close(self) -> None:
        """Let go; marks stay."""


class Closing(Protocol):
    """What is let go of in the end."""

    def close(self) -> None:
        """Let go."""


class KernelHost:
    """Joins what the overlay says of a host with the devices that are there, and tells of both.

    netns: where all of it is: a namespace's name or path, None for our own
    held: what is closed when it is (the namespace's lock)
    guests: port name -> endpoint; strangers: names of ports that are no endpoint's
    last, refused: how the session last came out
    """

    def __init__(
        self,
        name: str,
        netns: str | None,
        forwarding: Forwarding,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.forwarding = forwarding
        self.session = Session()
        self.guests: dict[str, str] = {}
        self.held: list[Closing] = []
        self.strangers: dict[str, str] = {}
        self.last: Synced[Counts] | None = None
        self.refused: session.KernelRefused | None = None
        self.repairs = Repairs()
        self.synced = Moment()
        self._netns = netns
        self._clock = clock
        with spoken_by_kernel(f"speak to the kernel for {name}"):
            with entered(netns):
                self._kernel = Kernel()
            self._notices = Notices(*NOTICES, netns)
            self._marks: Marks = MarkKeeper(netns, egress=True)
            self._mutes: kernel_mutes.Mutes = MuteKeeper(netns)
        self._links = Links(self._kernel, netns)
        self._claimed: dict[str, Present] = {}
        self._claims: dict[str, str] = {}
        self._numbers: dict[str, int] = {}
        self._voice = Voice(name)
        self._topology: Topology | None = None
        self._view: View | None = None
        self._names: list[str] = []
        self._placed: frozenset[str] = frozenset()
        self._setup: Setup | None = None
        self._devices: Devices | None = None
        self._unpruned = False
        self._asks_anew = False
        self._stale = False

    # What the overlay and the devices make

    def prepare(self, topology: Topology) -> None:
        """Make the devices that the overlay needs. Raises Refused."""
        topology.own_index(self.name)
        with spoken_by_kernel(f"prepare {self.name}"):
            there = self._links.there()
            view, names = self._see(topology, there)
            setup = self._setup_of(view, names)
            try:
                self._links.apply(setup, there)
            finally:
                # If this overlay is not taken over after all, somebody has to see it.
                self._stale |= self._tell_links()

    def poll(self) -> bool:
        """Take note of what has happened to devices; say whether it may be news. Keep guests'
        ports mute.
        """
        if self._keep_mute() and self._topology is not None:
            # With a device's ARP go all its neighbours, our permanent ones too.
            self._review(self._clock())
        stale, self._stale = self._stale, False
        return self._notices.poll() or stale

    def look(self, topology: Topology, now: float) -> None:
        """Make the devices what they should be, and hand the session a program if it is another."""
        self._topology = topology
        self._realise(topology, now)

    def _realise(self, topology: Topology, now: float) -> bool:
        """Do as `look` says; False if that is refused."""
        try:
            with spoken_by_kernel(f"prepare {self.name}"):
                self._stand(topology, now)
        except Refused as refused:
            self._mute(self._setup)
            # Whatever comes next is news.
            self._view = None
            self.session.refuse((str(refused),), now)
            return False
        finally:
            self._tell_links()
            self._voice.ports(self._claims)
        return True

    def _stand(self, topology: Topology, now: float) -> None:
        for _ in range(_TRIES):
            there: Mapping[str, Present] = self._links.there()
            view, names = self._see(topology, there)
            setup, known = self._wanted(view, names)
            there = self._links.apply(setup, there)
            if self.session.state is not State.IN_SYNC:
                self._links.evict(setup, there)
            gone = [name for name in setup.devices if name not in there]
            if not set(gone) & set(names):
                break
            # A guest has left meanwhile.
        if gone:
            raise NotNow(f"there is no device {gone[0]}: see that it is there (ip link)")
        self._asks_anew = False
        devices = Devices.of({name: there[name].index for name in setup.devices})
        self._numbers = _marks_of(view, names)
        self._marks.want(self._numbers)
        self._mute(setup)
        if not (known and self._devices is not None and _same(devices, self._devices)):
            program = stamp(self.forwarding.rows(view, setup), devices)
            self.session.desire(program, now)
            self._unpruned = True
        if self._links.lost:
            self._links.lost = False
            self.session.audit(now)
        self.strangers = _strangers(there, {*self.guests, *self._claims}, setup.links)
        self._view, self._names, self._setup, self._devices = view, names, setup, devices
        self._placed = frozenset(self._claimed)

    def _wanted(self, view: View, names: list[str]) -> tuple[Setup, bool]:
        """The setup that the view stands on, and whether it is known already."""
        known = self._view is not None and view.same(self._view) and names == self._names
        known = known and self._claimed.keys() == self._placed
        before = self._setup
        if before is not None and known and not self._asks_anew:
            return before, True
        setup = self._setup_of(view, names)
        return setup, known and setup == before

    def _setup_of(self, view: View, names: Sequence[str]) -> Setup:
        """What the plane wants to stand on. Raises Refused if it cannot carry the view."""
        # A plane may ask what this kernel can do, and how it reaches a VTEP.
        with entered(self._netns):
            self.forwarding.check(view)
            setup = self.forwarding.setup(view, names)
        aside = [self.forwarding.aside(name) for name in self._claimed if name not in names]
        members = [member for member in aside if member is not None]
        return replace(
            setup,
            devices=(*setup.devices, *(member.device for member in members)),
            members=(*setup.members, *members),
            aside=frozenset(member.device for member in members),
        )

    def _mute(self, setup: Setup | None) -> None:
        """Keep all guests' ports from the host's stack; new ones now, before they are set up."""
        sysctls = {} if setup is None else setup.sysctls
        wall = self.forwarding.plane
        self._mutes.want(kernel_mutes.wanted(wall, self._claimed, self._numbers, sysctls))
        self._keep_mute(news=True)

    def _keep_mute(self, *, news: bool = False) -> bool:
        """Mend what is not mute, and say so; returns whether there was anything."""
        mended = self._mutes.run(news=news)
        self.repairs.note(len(mended))
        for each in mended:
            self._voice.say(logging.WARNING, each)
        return bool(mended)

    def _see(self, topology: Topology, there: Mapping[str, Present]) -> tuple[View, list[str]]:
        """The view with the guests' ports that are there, and the names of these in its order."""
        self._claimed = {
            name: device for name, device in there.items() if device.alias.startswith(_CLAIM)
        }
        if self.forwarding.plane == "bridge":
            # Before they are put into the bridge, and set up. Routed ones wait for their marks.
            self._mute(self._setup)
        claims = {name: device.alias.removeprefix(_CLAIM) for name, device in self._claimed.items()}
        # Of two that claim one endpoint, the one that was there first has it.
        ports = [
            LocalPort(name, number, claims[name])
            for number, name in enumerate(claims, 1)
            if there[name].up or self._waits(there[name])
        ]
        host = topology.vtep_index(self.name)
        found, errors = resolve(topology, host, ports)
        down = claims.keys() - {port.name for port in ports}
        self._claims = errors | {name: _DOWN.format(name) for name in sorted(down)}
        self.guests = {port.name: claims[port.name] for port in ports if port.name not in errors}
        by_number = {port.ofport: port.name for port in ports}
        names = [by_number[number] for number in found.port.tolist()]
        numbered = replace(found, port=np.arange(1, len(found) + 1, dtype=np.uint32))
        return View(topology, host, _TUNNEL, numbered), names

    def _waits(self, device: Present) -> bool:
        """Whether a port is down only until it has been put where its guest's frames are taken."""
        return not device.master and self.forwarding.aside(device.name) is not None

    # What is sent to the kernel

    def tick(self, now: float) -> None:
        """Audit, or try again, if it is time to."""
        if self.session.is_due(now):
            self._review(now)

    def audit(self, now: float) -> None:
        """Compare what there is with what should be, soon; forget how that last came out."""
        self.last = None
        self._review(now)

    def _review(self, now: float) -> None:
        """Trust in nothing that was set or written before."""
        self._links.forget()
        self._unpruned = self._asks_anew = True
        if self._topology is not None and self._realise(self._topology, now):
            self.session.audit(now)

    def flush(self) -> None:
        """Bring the kernel to what is desired, take away what is not wanted any more, and tell."""
        while self.session.pending:
            self._proceed()
        if self._unpruned and self.session.state is State.IN_SYNC and self._setup is not None:
            self._unpruned = False
            with self._refusing():
                self._links.prune(self._setup, self._links.there())
            self._tell_links()
        while self.session.events:
            self._tell(self.session.events.pop(0))
        for mended in self._marks.run():
            self._voice.say(logging.WARNING, mended)

    def _proceed(self) -> None:
        assert self._devices is not None, "there are devices before there is a program"
        if self.session.state is State.READING:
            with self._refusing():
                found = self.forwarding.read(self._kernel, self._devices)
                self.session.listed(found, self._clock())
            return
        with self._refusing():
            outcome = self._kernel.run(self.session.transaction)
            if outcome.failed and self._topology is not None and self._moved(self._devices):
                # A guest has left meanwhile: that is news, and no refusal.
                self.look(self._topology, self._clock())
            else:
                self.session.done(outcome, self._clock())

    def _moved(self, devices: Devices) -> bool:
        """Whether one of these devices is not what it was."""
        there = self._links.there()
        now = [there[name].index if name in there else 0 for name in devices.names]
        return now != list(devices.index)

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        """What goes wrong in here has been refused, and is tried again later."""
        try:
            with spoken_by_kernel(f"bring {self.name}'s kernel to what the overlay says"):
                yield
        except Refused as refused:
            self.session.refuse((str(refused),), self._clock())

    # What it tells

    def _tell(self, event: session.Event) -> None:
        match event:
            case Synced():
                self.last, self.refused = self._voice.synced(event, self.last), None
                self.repairs.note(event.repaired)
                self.synced.now()
                give_back(event.counts.changes + event.counts.unchanged)
            case session.KernelRefused(reasons, more, retry_in):
                again = self.refused is not None and self.refused.reasons == reasons
                level = logging.DEBUG if again else logging.ERROR
                self.refused = event
                self._voice.say(level, "the kernel refused, and has taken all else:")
                self._voice.list(level, reasons, more)
                self._voice.say(level, f"next try in {retry_in:.0f} s, or at the next change")

    def _tell_links(self) -> bool:
        """Log what has been done to devices; say whether that was anything."""
        done, self._links.log = self._links.log, []
        self._voice.list(logging.INFO, done)
        return bool(done)

    # What it says when asked

    @property
    def busy(self) -> bool:
        """Whether its kernel is about to agree, or to refuse."""
        return self.session.pending

    @property
    def errors(self) -> dict[str, str]:
        """What is wrong with guests' ports, by their names."""
        return {**self._marks.errors(), **self._claims}

    @property
    def state(self) -> str:
        """What the session is at."""
        return str(self.session.state)

    def outcome(self) -> str:
        """How it last came out, or what the session is at."""
        return str(self.last.counts if self.last else self.session.state)

    def portless(self) -> list[str]:
        """The host's endpoints that have no port here."""
        view = self._view
        return [] if view is None else portless(view.topology, view.host, view.ports)

    def refusals(self) -> tuple[str, ...]:
        """What the kernel refused."""
        return self.refused.reasons if self.refused else ()

    def rename(self, renamed: Mapping[str, str]) -> None:
        """Have devices that claim endpoints of these tenants claim them anew."""
        again = renamed_claims(self.guests, renamed)
        with spoken_by_kernel(f"rename the claims of {self.name}"):
            done = rename_claims(self._netns, again) if again else ()
        for port in done:
            claim = again[port][1]
            self._voice.say(logging.INFO, f"port {port} claims {claim} now: its tenant is renamed")

    def expected(self, topology: Topology) -> Expected:
        """What the overlay expects of this machine, for a check."""
        return Expected.of(
            topology,
            self.name,
            self._netns or "",
            DEFAULT_BRIDGE,
            DEFAULT_TUNNEL_PORT,
            DEFAULT_REQUEST_PORT,
        )

    def findings(self) -> Sequence[Finding]:
        """What it has found wrong itself."""
        return heard(self._mutes.errors())

    def tell_findings(self, findings: Sequence[Finding]) -> None:
        """Log what a check has found, as far as it is news."""
        self._voice.findings(findings)

    def status(self) -> dict[str, object]:
        """The host's part of `ovs-appctl -t … status`."""
        return {
            "plane": self.forwarding.plane,
            "state": self.state,
            "entries": self.session.entries,
            "ports": self.guests,
            "errors": self.errors,
            "portless": self.portless(),
            "strangers": self.strangers,
            "marking": dict(self._marks.marking()),
            "repaired": self.repairs.count,
            "repaired_at": self.repairs.last,
            "refused": list(self.refusals()),
            "last": str(self.last.counts) if self.last else None,
            "seconds": self.last.seconds if self.last else None,
            "synced": self.synced.ago,
            "trouble": list(self._voice.errors),
        }

    def close(self) -> None:
        """Close its sockets. Entries, devices and marks stay, and ports stay mute."""
        self._mutes.close()
        self._marks.close()
        self._notices.close()
        self._kernel.close()
        for held in self.held:
            held.close()


def _strangers(
    there: Mapping[str, Present], claims: Collection[str], links: Sequence[Link]
) -> dict[str, str]:
    """Devices in a bridge of ours that claim nothing and are not ours."""
    own = {link.name for link in links}
    bridges = {there[name].index for name in own & there.keys() if there[name].kind == "bridge"}
    return {
        name: ""
        for name, device in there.items()
        if device.master in bridges and name not in own and name not in claims
    }


def _same(one: Devices, other: Devices) -> bool:
    return one.names == other.names and bool((one.index == other.index).all())


def _marks_of(view: View, names: Sequence[str]) -> dict[str, int]:
    """The tenants' marks, by the guests' ports."""
    topology = view.topology
    marks = topology.tenants.mark[topology.endpoints.tenant[view.ports.endpoint]]
    return dict(zip(names, marks.tolist(), strict=True))
