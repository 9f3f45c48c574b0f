"""The conformance suite: guests and tenants that come and go, agents that do, and strange hands."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from ovs_lwt.mistakes import Refused
from tests.support.conformance_fabric import BLUE_MARK, RED_VNI
from tests.support.conformance_scene import Scene, check, wrong
from tests.support.overlays import Overlay, endpoint
from tests.support.ovs import eventually
from tests.support.packets import arp, ethernet, ip, token, vlan_tagged

_VIRTUAL, _VIRTUAL_IP = "00:00:5e:00:01:01", "10.0.0.100"


@check("live")
def _live(scene: Scene) -> Iterator[str]:
    fabric, new = scene.fabric, "blue/new"
    before = {host: fabric.entries(host) for host in (scene.near, scene.far)}
    described = {"mac": "02:00:00:00:00:20", "ip": ["10.0.0.20/24", "fd00::20/64"]}

    def put(host: str) -> Callable[[Overlay], object]:
        return lambda overlay: overlay["tenants"]["blue"]["endpoints"].update(
            new={**described, "host": host}
        )

    fabric.change(put(scene.far))
    fabric.attach(new)
    yield from wrong(fabric, "when it came")
    fabric.detach(new)
    fabric.change(put(scene.near))
    fabric.attach(new)
    yield from wrong(fabric, "when it had moved")
    fabric.detach(new)
    fabric.change(lambda overlay: overlay["tenants"]["blue"]["endpoints"].pop("new"))
    yield from wrong(fabric, "when it had gone")
    for host, entries in before.items():
        # What is there of a guest goes with its port, a moment later.
        now: list[str] = []

        def restored(host: str = host, entries: list[str] = entries, now: list[str] = now) -> bool:
            now[:] = fabric.entries(host)
            return now == entries

        if not eventually(restored):
            yield f"{host} kept or lost {set(now) ^ set(entries)}"


@check("allowed-pairs")
def _allowed_pairs(scene: Scene) -> Iterator[str]:
    fabric, holders = scene.fabric, (scene.me, scene.they)

    def give(overlay: Overlay) -> None:
        for holder in holders:
            endpoint(overlay, holder)["allowed_pairs"] = [{"mac": _VIRTUAL, "ip": _VIRTUAL_IP}]

    def take(overlay: Overlay) -> None:
        for holder in holders:
            endpoint(overlay, holder).pop("allowed_pairs")

    mate, virtual = fabric.at(scene.mate), (_VIRTUAL, _VIRTUAL_IP)
    try:
        fabric.change(give)
    except Refused as refused:
        yield str(refused)
        return
    try:
        for holder in holders:
            mark = token()
            fabric.wires.say(holder, ip(virtual, mate, mark))
            if (heard := fabric.wires.heard(mark)) != {scene.mate: 1}:
                yield f"a packet from the virtual MAC of {holder} was heard by {heard}"
        mark = token()
        fabric.wires.say(scene.mate, ip(mate, virtual, mark))
        heard = fabric.wires.heard(mark)
        if any(heard.get(holder) != 1 for holder in holders):
            yield f"a packet to the virtual MAC was heard by {heard}"
        mark = token()
        fabric.wires.say(scene.mate, ip((_VIRTUAL, mate[1]), fabric.at(scene.they), mark))
        if heard := fabric.wires.heard(mark):
            yield f"a packet from the virtual MAC of somebody else was heard by {heard}"
        mark = token()
        heard = scene.heard(arp(_VIRTUAL, virtual, _VIRTUAL_IP, mark), mark)
        if heard != fabric.peers(scene.me):
            yield f"that the address is at the virtual MAC was heard by {heard}"
    finally:
        fabric.change(take)


@check("vlan-carried")
def _vlan_carried(scene: Scene) -> Iterator[str]:
    fabric, tenant = scene.fabric, scene.me.split("/")[0]

    def say(what: str) -> Callable[[Overlay], object]:
        return lambda overlay: overlay["tenants"][tenant].update(vlan_tagged=what)

    try:
        fabric.change(say("carry"))
    except Refused as refused:
        yield str(refused)
        return
    try:
        for source, hearers in ((fabric.mac(scene.me), {scene.they: 1}), (_VIRTUAL, {})):
            mark = token()
            frame = vlan_tagged(ethernet(source, fabric.mac(scene.they), mark), RED_VNI)
            if (heard := scene.heard(frame, mark)) != hearers:
                yield f"a frame with a VLAN tag, from {source}, was heard by {heard}"
    finally:
        fabric.change(say("drop"))


@check("restart")
def _restart(scene: Scene) -> Iterator[str]:
    fabric, mark = scene.fabric, token()
    before = fabric.entries(scene.near)
    fabric.stop(scene.near)
    heard = scene.heard(fabric.packet(scene.me, scene.they, mark), mark)
    if heard != {scene.they: 1}:
        yield f"without the agent, a packet was heard by {heard}"
    outcome = fabric.start(scene.near)
    if any(int(number) for number in re.findall(r"(\d+) (?:\w+ )?(?:written|deleted)", outcome)):
        yield f"it came out as: {outcome}"
    if fabric.entries(scene.near) != before:
        yield f"it changed {set(fabric.entries(scene.near)) ^ set(before)}"


@check("drift")
def _drift(scene: Scene) -> Iterator[str]:
    fabric = scene.fabric
    before = fabric.entries(scene.near)
    # One that follows what happens to its flows would have put it back by the time we look.
    with fabric.paused(scene.near):
        fabric.run(scene.near, *fabric.hand(scene.near, scene.they).remove)
        assert fabric.entries(scene.near) != before
    fabric.reload()
    if (now := fabric.entries(scene.near)) != before:
        yield f"it is still without {set(before) ^ set(now)}"


@check("mark-drift")
def _mark_drift(scene: Scene) -> Iterator[str]:
    fabric, port = scene.fabric, scene.fabric.guests[scene.me].port
    marked = f"mark {BLUE_MARK}"

    def shown() -> str:
        return fabric.run(scene.near, "tc", "filter", "show", "dev", port, "ingress")

    assert marked in shown()
    fabric.run(scene.near, "tc", "filter", "del", "dev", port, "ingress")
    if not eventually(lambda: marked in shown()):
        yield "nobody has set it again"


@check("mpls")
def _mpls(scene: Scene) -> Iterator[str]:
    fabric, here = scene.fabric, {"green/web1": scene.near, "green/web2": scene.far}
    green = {
        identity.removeprefix("green/"): {
            "host": host,
            "mac": f"02:00:00:00:00:3{number}",
            # The kernel's IPv6 routes know no IPv4 next hop.
            "ip": [f"10.0.0.3{number}/24"],
        }
        for number, (identity, host) in enumerate(here.items())
    }
    tenant = {"vni": 3030, "encapsulation": "mpls", "endpoints": green}
    try:
        fabric.change(lambda overlay: overlay["tenants"].update(green=tenant))
    except Refused as refused:
        yield str(refused)
        return
    for identity in here:
        fabric.attach(identity)
    yield from wrong(fabric, "with labels")
    for identity in here:
        fabric.detach(identity)
    fabric.change(lambda overlay: overlay["tenants"].pop("green"))
