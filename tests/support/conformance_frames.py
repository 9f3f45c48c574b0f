"""The conformance suite: who hears what, from whom, and with which mark."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from ovs_lwt.lab.plan import UPLINK
from tests.support.conformance_fabric import BLUE_MARK, BLUE_VNI, RED_VNI, Fabric
from tests.support.conformance_scene import Scene, check
from tests.support.departures import Departures
from tests.support.overlays import endpoint
from tests.support.packets import (
    BROADCAST,
    ETH_ARP,
    ETH_IPV6,
    ETH_SERVICE_VLAN,
    ETH_VLAN,
    REPLY,
    advertisement,
    arp,
    ethernet,
    ip,
    solicitation,
    token,
    vlan_tagged,
)

_MANY: Final = (BROADCAST, "01:00:5e:00:00:fb", "33:33:00:00:00:fb")
_NOBODYS_MAC, _NOBODYS = "02:00:00:00:00:77", {4: "10.0.0.77", 6: "fd00::77"}
_NOBODYS_VNI: Final = 999_999
_SOLICITATION, _ADVERTISEMENT = 135, 136


# Who reaches whom


def _reached(scene: Scene, kind: str) -> Iterator[str]:
    guests = scene.fabric.guests
    for cell in scene.fabric.matrix.cells:
        source, target = guests[cell.source], guests[cell.target]
        if source.tenant != target.tenant or source.host != scene.near:
            continue
        if kind not in cell.kinds:
            yield f"{cell.source} does not reach {cell.target}: {'; '.join(cell.why)}"


@check("ipv4")
def _ipv4(scene: Scene) -> Iterable[str]:
    return _reached(scene, "ipv4")


@check("ipv6")
def _ipv6(scene: Scene) -> Iterable[str]:
    return _reached(scene, "ipv6")


@check("isolation")
def _isolation(scene: Scene) -> Iterable[str]:
    guests = scene.fabric.guests
    for cell in scene.fabric.matrix.cells:
        if guests[cell.source].tenant != guests[cell.target].tenant and cell.verdict == "wrong":
            yield f"{cell.source} and {cell.target}: {'; '.join(cell.why)}"


@check("ethernet")
def _ethernet(scene: Scene) -> Iterable[str]:
    mark = token()
    heard = scene.heard(
        ethernet(scene.fabric.mac(scene.me), scene.fabric.mac(scene.they), mark), mark
    )
    if heard != {scene.they: 1}:
        yield f"heard by {heard}"


@check("bum")
def _bum(scene: Scene) -> Iterable[str]:
    return _flooded(scene, *_MANY)


@check("unknown-unicast")
def _unknown_unicast(scene: Scene) -> Iterable[str]:
    return _flooded(scene, _NOBODYS_MAC)


def _flooded(scene: Scene, *addresses: str) -> Iterator[str]:
    for to in addresses:
        mark = token()
        heard = scene.heard(ethernet(scene.fabric.mac(scene.me), to, mark), mark)
        if heard != scene.fabric.peers(scene.me):
            yield f"a frame to {to} was heard by {heard}"


@check("neighbours")
def _neighbours(scene: Scene) -> Iterable[str]:
    fabric = scene.fabric
    fabric.forget_neighbours(scene.me)
    fabric.wires.forget()
    assert not fabric.reach(scene.me, scene.they).wrong
    for host in (scene.near, scene.far):
        for packet in fabric.wires.on_underlay(b"", host):
            ethertype = int.from_bytes(packet.inner[12:14], "big")
            asks = ethertype == ETH_IPV6 and packet.inner[54] in (_SOLICITATION, _ADVERTISEMENT)
            # Red may ask for what only blue has.
            if packet.vni == BLUE_VNI and (ethertype == ETH_ARP or asks):
                yield f"{host} sent {packet.inner[:62].hex()} to {packet.target}"


@check("announcements")
def _announcements(scene: Scene) -> Iterator[str]:
    fabric = scene.fabric
    at, at6 = fabric.at(scene.me), fabric.at(scene.me, 6)
    mac, own = at
    announcements: dict[str, Callable[[bytes], bytes]] = {
        "gratuitous request": lambda mark: arp(mac, at, own, mark),
        "gratuitous reply": lambda mark: arp(mac, at, own, mark, op=REPLY),
        "probe": lambda mark: arp(mac, (mac, "0.0.0.0"), _NOBODYS[4], mark),
        "unsolicited advertisement": lambda mark: advertisement(at6, at6[1], mark),
        "duplicate address detection": lambda mark: solicitation(
            (mac, "::"), _NOBODYS[6], mark, link_layer=None
        ),
    }
    for what, made in announcements.items():
        mark = token()
        if (heard := scene.heard(made(mark), mark)) != fabric.peers(scene.me):
            yield f"a {what} was heard by {heard}"


# What is not so


@check("vlan-tagged")
def _vlan_tagged(scene: Scene) -> Iterator[str]:
    """Whatever the tag: one that is nobody's, one that is a tenant's number, one behind another."""
    fabric, at = scene.fabric, scene.fabric.at(scene.me)
    numbers = (0, 7, BLUE_MARK, RED_VNI)
    tags = [[(number, kind)] for number in numbers for kind in (ETH_VLAN, ETH_SERVICE_VLAN)]
    tags += [[(outer, ETH_VLAN), (RED_VNI, ETH_VLAN)] for outer in (0, BLUE_MARK)]
    with fabric.theirs() as theirs:
        for stack in tags:
            for to in (BROADCAST, fabric.mac(scene.they)):
                marks = token(), token(), token()
                by_guest = (
                    ethernet(at[0], to, marks[0]),
                    arp(at[0], at, at[1], marks[1], to=to),
                )
                for frame in by_guest:
                    fabric.wires.send(scene.me, _tagged(frame, stack))
                away = ethernet(endpoint(fabric.overlay, "blue/away")["mac"], to, marks[2])
                theirs.send(fabric.vtep(scene.near), BLUE_VNI, _tagged(away, stack))
                fabric.wires.settle(scene.they)
                fabric.wires.settle(scene.me)
                for mark in marks:
                    if heard := fabric.wires.heard(mark):
                        yield f"a frame with the tags {stack} was heard by {heard}"


def _tagged(frame: bytes, stack: Sequence[tuple[int, int]]) -> bytes:
    for number, kind in reversed(stack):
        frame = vlan_tagged(frame, number, kind)
    return frame


@check("spoofed-mac")
def _spoofed_mac(scene: Scene) -> Iterator[str]:
    fabric, address = scene.fabric, scene.fabric.ip(scene.me)
    for source in (_NOBODYS_MAC, fabric.mac(scene.mate)):
        marks = token(), token()
        door = fabric.door(scene.me, scene.they)
        by_ip = ip((source, address), (door, fabric.ip(scene.they)), marks[0])
        for mark, frame in zip(
            marks, (by_ip, ethernet(source, fabric.mac(scene.they), marks[1])), strict=True
        ):
            for guest in scene.heard(frame, mark):
                # Routes put a MAC of their own in its place.
                if any(copy[6:12] == frame[6:12] for copy in fabric.wires.copies(guest, mark)):
                    yield f"{guest} heard a frame from {source}"


@check("spoofed-ipv4")
def _spoofed_ipv4(scene: Scene) -> Iterable[str]:
    return _spoofed_ip(scene, 4)


@check("spoofed-ipv6")
def _spoofed_ipv6(scene: Scene) -> Iterable[str]:
    return _spoofed_ip(scene, 6)


def _spoofed_ip(scene: Scene, version: int) -> Iterator[str]:
    fabric = scene.fabric
    mac, own = fabric.at(scene.me, version)
    there = fabric.door(scene.me, scene.they), fabric.ip(scene.they, version)
    for source in (own, _NOBODYS[version], fabric.ip(scene.mate, version)):
        mark = token()
        heard = scene.heard(ip((mac, source), there, mark), mark)
        if source == own:
            assert heard == {scene.they: 1}
        elif heard:
            yield f"a packet from {source} was heard by {heard}"


@check("spoofed-arp")
def _spoofed_arp(scene: Scene) -> Iterator[str]:
    fabric = scene.fabric
    mac, own = fabric.at(scene.me)
    taken = fabric.ip(scene.mate)
    for sender in ((mac, _NOBODYS[4]), (mac, taken), (_NOBODYS_MAC, own)):
        mark = token()
        if heard := scene.heard(arp(mac, sender, _NOBODYS[4], mark), mark):
            _disbelieved(fabric, heard)
            yield f"ARP of {sender[1]} at {sender[0]} was heard by {heard}"


@check("spoofed-nd")
def _spoofed_nd(scene: Scene) -> Iterator[str]:
    fabric = scene.fabric
    mac, own = fabric.at(scene.me, 6)
    for about, link_layer in ((fabric.ip(scene.mate, 6), "source"), (own, _NOBODYS_MAC)):
        mark = token()
        heard = scene.heard(advertisement((mac, own), about, mark, link_layer=link_layer), mark)
        if heard:
            _disbelieved(fabric, heard)
            yield f"an advertisement of {about} at {link_layer} was heard by {heard}"


def _disbelieved(fabric: Fabric, hearers: Iterable[str]) -> None:
    """Let those who were lied to forget it."""
    for guest in hearers:
        fabric.forget_neighbours(guest)


@check("unknown-vtep")
def _unknown_vtep(scene: Scene) -> Iterator[str]:
    fabric, mark = scene.fabric, token()
    inner = scene.crossing(mark)
    with fabric.theirs() as theirs, fabric.stranger() as stranger:
        for vtep in (theirs, stranger):
            copied = token()
            vtep.send(fabric.vtep(scene.near), BLUE_VNI, inner.replace(mark, copied))
            fabric.wires.settle(scene.they)
            heard = fabric.wires.heard(copied)
            if vtep is theirs:
                assert heard == {scene.me: 1}
            elif heard:
                yield f"what {vtep.address} sent was heard by {heard}"


@check("unknown-vni")
def _unknown_vni(scene: Scene) -> Iterator[str]:
    fabric, mark = scene.fabric, token()
    inner = scene.crossing(mark)
    with fabric.theirs() as theirs:
        for vni in (BLUE_VNI, _NOBODYS_VNI):
            copied = token()
            theirs.send(fabric.vtep(scene.near), vni, inner.replace(mark, copied))
            fabric.wires.settle(scene.they)
            heard = fabric.wires.heard(copied)
            if vni == BLUE_VNI:
                assert heard == {scene.me: 1}
            elif heard:
                yield f"what came with VNI {vni} was heard by {heard}"


# Marks


@check("mark")
def _mark(scene: Scene) -> Iterator[str]:
    fabric = scene.fabric
    namespace, port = fabric.host(scene.near).namespace, fabric.guests[scene.me].port
    with contextlib.closing(Departures(namespace, port, BLUE_MARK)) as marked:
        for sender in (scene.they, scene.mate):
            mark = token()
            fabric.wires.say(sender, fabric.packet(sender, scene.me, mark))
            assert fabric.wires.heard(mark) == {scene.me: 1}
            if not any(mark in packet for packet in marked.sent()):
                yield f"a packet from {sender} was handed over without the mark"


@check("unmarked-underlay")
def _unmarked_underlay(scene: Scene) -> Iterator[str]:
    """A rule for a tenant's mark would catch the tunnel's own packets."""
    fabric, mark = scene.fabric, token()
    with contextlib.closing(Departures(fabric.host(scene.near).namespace, UPLINK, 0)) as unmarked:
        heard = scene.heard(fabric.packet(scene.me, scene.they, mark), mark)
        assert heard == {scene.they: 1}
        if not any(mark in packet for packet in unmarked.sent()):
            yield "the tunnel's packet had a mark"
