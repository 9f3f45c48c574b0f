"""A storm of frames, a restless overlay, and a judge: what isolation is held to, on any planes.

Random frames from every guest and forged ones from the underlay, while the overlay, its replicators
and its hosts change. No frame is heard by another tenant, by a host's own stack, or twice; the
tenant that nothing changes hears each of its own frames exactly once.
"""

from __future__ import annotations

import copy
import random
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address, ip_interface
from itertools import count
from typing import Any, Final

import yaml

from ovs_lwt.control import ask
from ovs_lwt.lab import namespaces
from ovs_lwt.lab.plan import GUEST_INTERFACE, HostPlan
from tests.support.earshot import Earshot, by_number
from tests.support.inhabited import Inhabited
from tests.support.overlays import Overlay
from tests.support.storm import Guest, Sent, Storm, mac

_BURST: Final = 80  # frames of a guest before it waits: a port's socket holds a few hundred
_FORGED: Final = 0.05  # of all frames
_PATIENCE: Final = 5.0
_STILL: Final = "still"

# VNIs that differ in their upper bits alone, and marks that are others' VNIs.
_VNIS: Final = {_STILL: 0x0003F2, "upper": 0x1003F2, "share": 0x8003F2, "all": 0xF003F2}
_MARKS: Final = {"upper": 0x8003F2 ^ 1, "share": 77}
_SPARE_VNIS: Final = (0x9003F2, 0x2003F2, 0x4003F2, 0x7FFFFF, 1)


def overlay(*planes: str) -> Overlay:
    """Four tenants with the same MACs and addresses, not all of them on all of three hosts.

    planes: of the hosts; default: ovs
    """
    where = {_STILL: (1, 2, 3), "upper": (1, 2), "share": (2, 3), "all": (1, 3)}
    return {
        "underlay": {"udp_port": 4789, "mtu": 1500},
        "vteps": {
            f"host{n}": {"address": f"192.0.2.1{n}", "plane": plane}
            for n, plane in enumerate(planes or ("ovs",) * 3, 1)
        },
        "tenants": {
            tenant: {
                "vni": _VNIS[tenant],
                **({"mark": _MARKS[tenant]} if tenant in _MARKS else {}),
                "endpoints": {
                    f"g{n}": {
                        "host": f"host{n}",
                        "mac": f"02:00:00:00:00:0{n}",
                        "ip": [f"10.0.0.1{n}/24", f"fd00::1{n}/64"],
                    }
                    for n in where[tenant]
                },
            }
            for tenant in _VNIS
        },
    }


# What changes, besides: none of it concerns the tenant that is still.


def _replicators(chance: random.Random, wanted: Overlay) -> None:
    for vtep in wanted["vteps"].values():
        vtep["replicator"] = vtep["plane"] == "ovs" and chance.random() < 0.4


def _replicated(wanted: Overlay) -> bool:
    return any(vtep.get("replicator") for vtep in wanted["vteps"].values())


def _moves(chance: random.Random, wanted: Overlay) -> None:
    """The overlay says an endpoint lives elsewhere, and its guest is cut off meanwhile."""
    tenant = wanted["tenants"][chance.choice(_moving(wanted))]
    for name, endpoint in tenant["endpoints"].items():
        at_home = f"host{name[1:]}"
        endpoint["host"] = at_home if chance.random() < 0.6 else f"host{chance.randrange(1, 4)}"


def _policies(chance: random.Random, wanted: Overlay) -> None:
    tenant = wanted["tenants"][chance.choice(_moving(wanted))]
    tenant["unknown_unicast"] = chance.choice(["flood", "drop"])
    tenant["neighbours"] = chance.choice(["answer", "flood"])
    for endpoint in tenant["endpoints"].values():
        endpoint["spoofing"] = chance.choice(["allow", "deny"])
        if chance.random() < 0.3:
            endpoint.pop("ip", None)


def _another_vni(chance: random.Random, wanted: Overlay) -> None:
    used = {tenant["vni"] for tenant in wanted["tenants"].values()}
    tenant = wanted["tenants"][chance.choice(_moving(wanted))]
    tenant["vni"] = chance.choice([vni for vni in _SPARE_VNIS if vni not in used])


def _gone(chance: random.Random, wanted: Overlay) -> None:
    moving = _moving(wanted)
    if len(moving) > 1:
        del wanted["tenants"][chance.choice(moving)]


def _back(_: random.Random, wanted: Overlay) -> None:
    """As it was at first, but for VNIs that others bear meanwhile."""
    used = {tenant["vni"] for tenant in wanted["tenants"].values()}
    for name, tenant in overlay()["tenants"].items():
        if name not in wanted["tenants"] and tenant["vni"] not in used:
            wanted["tenants"][name] = tenant


_CHANGES: Final = (_replicators, _replicators, _moves, _policies, _another_vni, _gone, _back, _back)


def _moving(wanted: Overlay) -> list[str]:
    return [name for name in wanted["tenants"] if name != _STILL]


class Restless(threading.Thread):
    """Somebody who changes the overlay all the time; hosts learn of it one after the other.

    unsettled: how often the first replicator has begun to come, or the last to go, and how often
    all hosts have then learnt of it: between the two, broadcasts may be lost (ADR 15); trouble: why
    hosts did not take a change over, which ends it; history: each change in a line
    """

    def __init__(self, lab: Inhabited, chance: random.Random) -> None:
        super().__init__(daemon=True)
        self._lab, self._chance = lab, chance
        self._wanted: Overlay = copy.deepcopy(lab.overlay)
        self._end = threading.Event()
        self.changes = 0
        self.unsettled = [0, 0]
        self.trouble: list[str] = []
        self.history: list[str] = []

    def run(self) -> None:
        # A change is the first step of the next: who has not all hosts know it goes no further.
        while not self._end.wait(0.1) and not self.trouble:
            before = copy.deepcopy(self._wanted)
            self._chance.choice(_CHANGES)(self._chance, self._wanted)
            if self._wanted == before:
                continue
            replicated = _replicated(self._wanted) != _replicated(before)
            self.unsettled[0] += replicated
            began = time.monotonic()
            learnt = self._learn(self._wanted)
            self._note(began, learnt=learnt)
            if not learnt:
                self._wanted = before
            self.unsettled[1] += replicated

    def _note(self, began: float, *, learnt: bool) -> None:
        vnis = {name: hex(tenant["vni"]) for name, tenant in self._wanted["tenants"].items()}
        word = "learnt" if learnt else "refused"
        self.history.append(f"{began:.2f} to {time.monotonic():.2f}: {word} {vnis}")

    def _learn(self, wanted: Overlay) -> bool:
        text = yaml.safe_dump(dict(wanted), sort_keys=False)
        new = self._lab.plan.overlay.with_suffix(".new")
        new.write_text(text)
        new.replace(self._lab.plan.overlay)
        hosts = list(self._lab.plan.own_hosts)
        self._chance.shuffle(hosts)
        for host in hosts:
            try:
                ask(host.control, "reload")
            except Exception as refused:
                # A VNI that has been given away within one change: that is what is refused.
                if "in two steps" in str(refused):
                    return False
                self.trouble.append(str(refused))
        self.changes += 1
        return True

    def stop(self) -> None:
        self._end.set()
        self.join(60)


class Stranger:
    """A machine in the underlay that is no VTEP of the overlay."""

    def __init__(self, lab: Inhabited, sockets: Sequence[socket.socket]) -> None:
        self._sockets = sockets
        self._hosts = [lab.vtep(host.name) for host in lab.plan.own_hosts]

    def send(self, chance: random.Random, payload: bytes, ports: Sequence[int]) -> None:
        target = (chance.choice(self._hosts), chance.choice(ports))
        chance.choice(self._sockets).sendto(payload, target)


def _guests(lab: Inhabited) -> list[Guest]:
    found = []
    for guest in lab.guests.values():
        addresses = {a.version: a.ip.packed for a in map(ip_interface, guest.addresses)}
        found.append(
            Guest(guest.id, guest.tenant, guest.host, mac(guest.mac), addresses[4], addresses[6])
        )
    return found


def _mute(lab: Inhabited) -> None:
    """The guests' kernels say nothing by themselves: not even that nobody listens."""
    for guest in lab.guests.values():
        namespaces.set_sysctl(guest.namespace, f"net/ipv6/conf/{GUEST_INTERFACE}/disable_ipv6", "1")
        with namespaces.links(guest.namespace) as netlink:
            index = namespaces.index_of(netlink, GUEST_INTERFACE)
            netlink.flush_addr(index=index)
            netlink.link("set", index=index, arp=False)


def _devices(hosts: Sequence[HostPlan]) -> list[bytes]:
    """The MACs of everything in the hosts: their stacks listen to those."""
    found = []
    for host in hosts:
        with namespaces.links(host.namespace) as netlink:
            found += [
                mac(link.get("address")) for link in netlink.get_links() if link.get("address")
            ]
    return [address for address in found if any(address)]


def storm(lab: Inhabited, frames: int, *, ethernet: bool = True, least: float = 0.25) -> None:
    """Let a storm of frames loose while the overlay changes, and hold everything against it.

    ethernet: all planes of the lab carry any frame; least: so much of the frames is heard by
    somebody, or the storm shows nothing
    """
    seed = random.SystemRandom().getrandbits(32)
    ports = (4789, _replication_port(lab))
    chance = random.Random(seed)
    restless = Restless(lab, random.Random(seed + 1))
    _mute(lab)
    with lab.foreign(ip_address("192.0.2.200")) as stranger, Earshot(lab, *ports) as ears:
        guests = _guests(lab)
        storm = Storm(
            chance,
            guests,
            [lab.vtep(host.name) for host in lab.plan.own_hosts],
            [*_VNIS.values(), *_SPARE_VNIS],
            _devices(lab.plan.own_hosts),
        )
        outside = Stranger(lab, [stranger._socket])
        judge = Judge(guests)
        still = _STILL if ethernet else ""
        restless.start()
        try:
            began, numbers = time.monotonic(), count(1)
            while judge.sent < frames and not judge.found:
                unsettled = list(restless.unsettled)
                sent = _burst(chance, storm, ears, outside, guests, numbers, ports, still)
                settled = unsettled == restless.unsettled == [unsettled[0]] * 2
                judge.judge(ears, sent, settled=settled)
                ears.forget()
        finally:
            restless.stop()
        seconds = time.monotonic() - began
    rate = judge.sent / seconds
    print(f"{judge.sent} frames, {restless.changes} changes, {seconds:.1f} s, {rate:.0f} a second")
    assert not restless.trouble, (restless.trouble[:3], judge.found[:3])
    story = (f"seed {seed}, found at {judge.at:.2f}:", *judge.found[:20], *restless.history[-9:])
    assert not judge.found, "\n".join(story)
    assert restless.changes > frames / 20_000
    assert judge.heard > frames * least, "a storm that nobody hears shows nothing"


def _burst(
    chance: random.Random,
    storm: Storm,
    ears: Earshot,
    outside: Stranger,
    guests: Sequence[Guest],
    numbers: Iterator[int],
    ports: Sequence[int],
    still: str,
) -> dict[int, Sent]:
    """Everybody sends some frames; then those that are sure to be heard are waited for."""
    sent: dict[int, Sent] = {}
    for _ in range(_BURST):
        for guest in guests:
            number = next(numbers)
            exactly = None
            if chance.random() < _FORGED:
                frame = storm.forged(number)
                outside.send(chance, frame, ports)
                sent[number] = Sent("the underlay", "", frame, frozenset())
                continue
            if chance.random() < 0.25:
                frame, exactly = storm.plain(guest, number)
            else:
                frame = storm.wild(guest, number)
            sure = exactly if guest.tenant == still else None
            sent[number] = Sent(guest.name, guest.tenant, frame, sure)
            ears.send(guest.name, frame)
    deadline = time.monotonic() + _PATIENCE
    while True:
        ears.listen()
        if _all_heard(ears, sent) or time.monotonic() > deadline:
            break
    # Whatever follows on what was heard: copies, and what the stacks make of it.
    time.sleep(0.01)
    ears.listen()
    return sent


def _all_heard(ears: Earshot, sent: Mapping[int, Sent]) -> bool:
    """Whether those that are sure to be heard have been. (With others' changes, some are not.)"""
    return all(
        (number, who) in ears.heard for number, frame in sent.items() for who in frame.exactly or ()
    )


class Judge:
    """Holds what was heard against what was sent. found: what should not have been; at: when the
    last burst was judged
    """

    def __init__(self, guests: Sequence[Guest]) -> None:
        self.guests = guests
        self._tenant = {guest.name: guest.tenant for guest in guests}
        self.sent = self.heard = 0
        self.found: list[str] = []
        self.at = 0.0

    def judge(self, ears: Earshot, sent: Mapping[int, Sent], *, settled: bool) -> None:
        """Judge a burst. settled: no broadcast may have been lost while it was sent."""
        self.at = time.monotonic()
        self.sent += len(sent)
        self.heard += len(ears.heard)
        heard = by_number(ears.heard)
        for number, who in heard.items():
            frame = sent.get(number)
            if frame is None:
                # Of a burst before: too late to tell more than whose it is not.
                continue
            for hearer, times in who.items():
                if self._tenant[hearer] != frame.tenant:
                    self.found.append(f"{hearer} heard {frame}")
                # Who sends to itself by its gateway hears that, and that there is a shorter way.
                if times > 1 and hearer != frame.sender:
                    self.found.append(f"{hearer} heard {times} times {frame}")
        for number, frame in sent.items():
            if frame.exactly is not None:
                sure = settled or len(frame.exactly) < 2
                missing = frame.exactly - heard.get(number, {}).keys() if sure else set()
                more = heard.get(number, {}).keys() - frame.exactly if frame.exactly else set()
                if missing:
                    self.found.append(f"{sorted(missing)} did not hear {frame}")
                if more:
                    self.found.append(f"{sorted(more)} heard {frame} for another")
        for (number, host), _ in ears.by_hosts.items():
            if number in sent and sent[number].tenant:
                self.found.append(f"the stack of {host} took in {sent[number]}")
        for (number, vni), _ in ears.tunnels.items():
            frame = sent.get(number)
            # What comes of the underlay's own packets (unreachable ports) stays on it.
            if frame is not None and frame.tenant and vni is None:
                self.found.append(f"the underlay heard, outside of a tunnel, {frame}")


def _replication_port(lab: Inhabited) -> int:
    underlay: dict[str, Any] = lab.overlay.get("underlay", {})
    return int(underlay.get("replication_udp_port", 14789))
