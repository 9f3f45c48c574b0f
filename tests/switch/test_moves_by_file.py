"""A guest moves by an edit of the file, and hosts learn of it one after the other: what is lost on
the way, and that nothing is said twice (docs/troubleshooting.md gives the order).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.support.controller import write
from tests.support.overlay_lab import OverlayLab, laboratory
from tests.support.overlays import endpoint, two_tenants
from tests.support.packets import BROADCAST, ethernet, token

WEB2 = "02:00:00:00:00:02"
MOVES, OLD, NEW = "blue/web2", "host2", "host3"


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OverlayLab]:
    """Each host has an agent of its own."""
    with laboratory(two_tenants(), tmp_path_factory.mktemp("by-file")) as lab:
        yield lab


@pytest.fixture
def lab(apart: OverlayLab) -> Iterator[OverlayLab]:
    """All is as it was when a story ends."""
    yield apart
    apart.restore(two_tenants())


def heard(lab: OverlayLab, to: str) -> dict[str, int]:
    """Who hears what blue/web1, a peer on host1, says to that MAC."""
    with lab.listening() as wires:
        mark = token()
        wires.say("blue/web1", ethernet(lab.mac("blue/web1"), to, mark))
        return wires.heard(mark)


def test_the_destination_first(lab: OverlayLab) -> None:
    everybody = {MOVES: 1, "blue/web3": 1}
    endpoint(lab.overlay, MOVES)["host"] = NEW
    write(lab.plan.overlay, lab.overlay)
    lab.learns(NEW)
    assert heard(lab, WEB2) == {MOVES: 1}, "the old host delivers, as before"
    assert heard(lab, BROADCAST) == everybody

    guest = lab.guests.pop(MOVES)
    words = ("attach", str(lab.plan.overlay), MOVES, "--netns", guest.namespace)
    lab._on(OLD, "detach", MOVES)
    lab._on(NEW, *words)
    lab.guests[MOVES] = replace(guest, host=NEW)
    assert heard(lab, WEB2) == {}, "the peer does not know yet"

    lab.learns("host1")
    assert heard(lab, WEB2) == {MOVES: 1}
    assert heard(lab, BROADCAST) == everybody
    lab.learns(OLD)
    lab.follows()
    assert heard(lab, WEB2) == {MOVES: 1}
    assert not lab.reach().wrong


def test_with_the_old_host_first_the_guest_is_nowhere(lab: OverlayLab) -> None:
    from_its_peer = (
        f"in_port=vx-lwt,tun_id=1010,tun_src={lab.vtep('host1')},tun_dst={lab.vtep(OLD)}"
        f",dl_src={lab.mac('blue/web1')},dl_dst={WEB2},dl_type=0x88b5"
    )
    assert "blue-web2" in lab.trace(OLD, from_its_peer).actions
    endpoint(lab.overlay, MOVES)["host"] = NEW
    write(lab.plan.overlay, lab.overlay)
    lab.learns(OLD)
    assert lab.trace(OLD, from_its_peer).actions == "drop"
    for host in ("host1", NEW):
        lab.learns(host)
    lab.follows()
