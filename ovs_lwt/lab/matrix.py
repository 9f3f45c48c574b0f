"""Who should reach whom, and whether what was seen on the wire says so. Pure.

Tenants may have identical MAC and IP addresses, so a reply does not tell who answered. What
counts is which guests *received* a probe, known by the token in it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Interface
from typing import Literal

from ovs_lwt.lab.packets import Kind, Leg
from ovs_lwt.lab.plan import GuestPlan, Interface

Verdict = Literal["reached", "isolated", "wrong"]


@dataclass(frozen=True, slots=True)
class Probe:
    """One question: does what guest `source` sends to `target`'s address arrive at `target`?

    `source` and `target` are indices of guests; `address` is the target's IP address, or its MAC
    for kind "ethernet".
    """

    number: int
    source: int
    target: int
    kind: Kind
    address: str


@dataclass(frozen=True, slots=True)
class Sighting:
    """A guest received a probe; `to_me` if the frame was for its own MAC."""

    probe: int
    attempt: int
    guest: int
    leg: Leg
    to_me: bool


@dataclass(frozen=True, slots=True)
class Cell:
    """What one guest's probes to another showed.

    `kinds` are the ways in which the target was reached, none between tenants; `why` says what was
    wrong, and is empty unless `verdict` is "wrong".
    """

    source: str
    target: str
    expected: Literal["reached", "isolated"]
    verdict: Verdict
    kinds: tuple[Kind, ...]
    why: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Matrix:
    """All cells, row by row; `guests` names rows and columns, `hosts` where each lives."""

    lab: str
    guests: tuple[str, ...]
    hosts: tuple[str, ...]
    of: int
    probes: int
    seconds: float
    cells: tuple[Cell, ...]

    @property
    def wrong(self) -> tuple[Cell, ...]:
        """The cells that are not as the overlay says."""
        return tuple(cell for cell in self.cells if cell.verdict == "wrong")


def choose(guests: Sequence[GuestPlan], sample: int) -> list[int]:
    """Return the indices of at most `sample` guests (0: all), of every tenant and host in turn."""
    if not sample or sample >= len(guests):
        return list(range(len(guests)))
    seen: Counter[tuple[str, str]] = Counter()
    tenants: Counter[str] = Counter()
    rank = {}
    for index, guest in enumerate(guests):
        place = (guest.tenant, guest.host)
        rank[index] = (seen[place], tenants[guest.tenant], index)
        seen[place] += 1
        tenants[guest.tenant] += 1
    return sorted(sorted(rank, key=rank.__getitem__)[:sample])


def questions(guests: Sequence[GuestPlan], chosen: Sequence[int]) -> list[Probe]:
    """Return the probes for every ordered pair of `chosen` guests.

    A ping for each family in which the two should reach each other: on-link, or by routes. A bare
    Ethernet frame to the target's MAC where there is none, and always between tenants, for there a
    ping may fail for want of a neighbour, which proves nothing.
    """
    found: list[Probe] = []
    for source in chosen:
        for target in chosen:
            if source == target:
                continue
            one, other = guests[source], guests[target]
            own = {address.ip for address in one.addresses}
            pings = [
                address
                for version in (4, 6)
                if (address := _reachable(one, other, version)) is not None
                # A ping to one's own address never leaves the machine.
                and address.ip not in own
            ]
            for address in pings:
                kind: Kind = "ipv4" if isinstance(address, IPv4Interface) else "ipv6"
                found.append(Probe(len(found), source, target, kind, str(address.ip)))
            if not pings or one.tenant != other.tenant:
                found.append(Probe(len(found), source, target, "ethernet", other.mac))
    return found


def _reachable(one: GuestPlan, other: GuestPlan, version: int) -> Interface | None:
    """Return the first address of `other` that `one` should reach in this family, or None."""
    routed = one.routed and other.routed
    for there in other.addresses:
        if there.version != version:
            continue
        if any(
            here.version == version
            and (routed or (there.ip in here.network and here.ip in there.network))
            for here in one.addresses
        ):
            return there
    return None


def is_due(guests: Sequence[GuestPlan], probe: Probe) -> bool:
    """Say whether the probe should arrive: within a tenant, but routes carry nothing but IP."""
    one, other = guests[probe.source], guests[probe.target]
    by_routes = one.routed or other.routed
    return one.tenant == other.tenant and not (probe.kind == "ethernet" and by_routes)


def is_reached(probe: Probe, sightings: Iterable[Sighting]) -> bool:
    """Say whether some attempt of `probe` arrived, and its reply too if it was a ping."""
    arrived = {
        (sighting.attempt, sighting.leg)
        for sighting in sightings
        if sighting.to_me
        and sighting.guest == (probe.target if sighting.leg == "request" else probe.source)
    }
    return any(
        leg == "request" and (probe.kind == "ethernet" or (attempt, "reply") in arrived)
        for attempt, leg in arrived
    )


def judge(
    guests: Sequence[GuestPlan], probes: Sequence[Probe], sightings: Iterable[Sighting]
) -> list[Cell]:
    """Return one cell for every pair in `probes`, comparing what was seen with the overlay.

    A frame that arrives where it should not is held against the cell from its sender to whoever
    received it, for that is who reached whom; if that guest was not asked, against the probe's.
    """
    seen: defaultdict[int, list[Sighting]] = defaultdict(list)
    for sighting in sightings:
        seen[sighting.probe].append(sighting)
    owners = _owners(guests)
    # Dicts for sets that keep their order.
    why: dict[_Pair, dict[str, None]] = {(p.source, p.target): {} for p in probes}
    good: defaultdict[_Pair, list[Kind]] = defaultdict(list)
    due = dict.fromkeys(why, False)
    for probe in probes:
        pair = (probe.source, probe.target)
        for where, text in _misplaced(guests, owners, probe, seen[probe.number]):
            why[where if where in why else pair][text] = None
        if not is_due(guests, probe):
            if guests[probe.source].tenant == guests[probe.target].tenant and seen[probe.number]:
                why[pair][f"{_name(probe, 'request')} arrived, but routes carry only IP"] = None
            continue
        due[pair] = True
        if is_reached(probe, seen[probe.number]):
            good[pair].append(probe.kind)
        else:
            why[pair][_loss(guests, probe, seen[probe.number])] = None
    cells = []
    for (source, target), reasons in why.items():
        expected: Literal["reached", "isolated"] = "reached" if due[source, target] else "isolated"
        cells.append(
            Cell(
                source=guests[source].id,
                target=guests[target].id,
                expected=expected,
                verdict="wrong" if reasons else expected,
                kinds=tuple(good[source, target]),
                why=tuple(reasons),
            )
        )
    return cells


_Pair = tuple[int, int]
_Owners = dict[tuple[str, str], int]


def _owners(guests: Sequence[GuestPlan]) -> _Owners:
    found: _Owners = {}
    for index, guest in enumerate(guests):
        found[guest.tenant, guest.mac] = index
        for address in guest.addresses:
            found[guest.tenant, str(address.ip)] = index
    return found


def _misplaced(
    guests: Sequence[GuestPlan], owners: _Owners, probe: Probe, seen: Sequence[Sighting]
) -> Iterator[tuple[_Pair, str]]:
    """Yield (sender, receiver) and a reason for whatever arrived where or as often as it ought not.

    Within the tenant, a frame to a MAC that nobody has may be flooded; a frame to a known one
    is for its owner's eyes alone.
    """
    tenant = guests[probe.source].tenant
    owner = owners.get((tenant, probe.address))
    answerer = probe.target if owner is None else owner
    for sighting in seen:
        request = sighting.leg == "request"
        due = owner if request else probe.source
        pair = (probe.source if request else answerer, sighting.guest)
        if guests[sighting.guest].tenant != tenant:
            yield pair, f"leak: {_name(probe, sighting.leg)} arrived there"
        elif sighting.guest != due and (sighting.to_me or due is not None):
            whose = "nobody" if due is None else guests[due].id
            yield pair, f"{_name(probe, sighting.leg)}, meant for {whose}, arrived there"
    for (_, index, leg), count in Counter((s.attempt, s.guest, s.leg) for s in seen).items():
        if count > 1:
            pair = (probe.source if leg == "request" else answerer, index)
            yield pair, f"{_name(probe, leg)} arrived {count} times"


def _loss(guests: Sequence[GuestPlan], probe: Probe, seen: Sequence[Sighting]) -> str:
    target = guests[probe.target].id
    if any(s.guest == probe.target and s.leg == "request" and s.to_me for s in seen):
        return f"loss: {_name(probe, 'request')} reached {target}, but no reply came back"
    return f"loss: {_name(probe, 'request')} did not reach {target}"


def _name(probe: Probe, leg: Leg) -> str:
    if probe.kind == "ethernet":
        return f"the Ethernet frame to {probe.address}"
    return f"the ping to {probe.address}" if leg == "request" else f"{probe.address}'s reply"
