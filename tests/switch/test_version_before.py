"""Hosts of the version before, whose requests to replicators stood in the VNI, beside today's: they
carry each other's tenants, nothing is doubled, and no tenant hears another. What a leaf of one asks
of a replicator of the other is lost.

`version_before/` holds what that version's `ovs-lwt export` printed for this overlay.
"""

from __future__ import annotations

import contextlib
import copy
import os
import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from threading import Event

import pytest

from ovs_lwt.lab import controllers
from tests.support.overlay_lab import OverlayLab, laboratory
from tests.support.overlays import Overlay
from tests.support.ovs import eventually
from tests.support.packets import BROADCAST, ethernet, token
from tests.support.wires import Wires

EXPORTED = Path(__file__).parent / "version_before"


def endpoint(number: int) -> Overlay:
    return {
        "host": f"host{number}",
        "mac": f"02:00:00:00:00:0{number}",
        "ip": [f"10.0.0.1{number}/24"],
    }


# Two tenants with the same MACs and addresses; host3 has the one alone.
OVERLAY: Overlay = {
    "vteps": {f"host{number}": {"address": f"192.0.2.1{number}"} for number in (1, 2, 3)},
    "tenants": {
        "blue": {"vni": 1010, "endpoints": {f"web{n}": endpoint(n) for n in (1, 2, 3)}},
        "green": {"vni": 2020, "endpoints": {f"web{n}": endpoint(n) for n in (1, 2)}},
    },
}
BLUE = ("blue/web1", "blue/web2", "blue/web3")
GREEN = ("green/web1", "green/web2")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OverlayLab]:
    with laboratory(copy.deepcopy(OVERLAY), tmp_path_factory.mktemp("before")) as lab:
        yield lab


@pytest.fixture
def wires(lab: OverlayLab) -> Iterator[Wires]:
    with lab.listening() as wires:
        yield wires


@contextlib.contextmanager
def of_the_version_before(lab: OverlayLab, name: str, exported: str) -> Iterator[None]:
    """Have a host hold what the version before made of it; in the end it is today's again."""
    host = lab.host(name)
    pid = controllers.running(host)
    assert pid is not None
    os.kill(pid, signal.SIGTERM)
    assert eventually(lambda: controllers.running(host) is None, 20)
    lab.vsctl(name, "--if-exists", "del-port", "vx-lwt-ar")
    lines = (EXPORTED / exported).read_text("utf-8").splitlines(keepends=True)
    files = {}
    for kind in ("group", "flow"):
        files[kind] = host.control.with_name(f"{name}.{kind}s-before")
        wanted = [line for line in lines if line.startswith("group_id=") == (kind == "group")]
        files[kind].write_text("".join(wanted))
    lab.ofctl(name, "del-flows", "br-lwt")
    lab.ofctl(name, "del-groups", "br-lwt")
    lab.ofctl(name, "add-groups", "br-lwt", str(files["group"]))
    lab.ofctl(name, "--bundle", "add-flows", "br-lwt", str(files["flow"]))
    # What the datapath has cached meanwhile is of neither version.
    lab.forget_paths(name)
    try:
        yield
    finally:
        controllers.start(lab.plan, [host])
        guests = [guest for guest, plan in lab.guests.items() if plan.host == name]
        controllers.wait_in_sync(host, guests, until=time.monotonic() + 60, give_up=Event())
        lab.check()


def replicate_on(lab: OverlayLab, *hosts: str) -> None:
    def edit(overlay: Overlay) -> None:
        for name, vtep in overlay["vteps"].items():
            vtep["replicator"] = name in hosts

    lab.change(edit)


def broadcasts(lab: OverlayLab, wires: Wires) -> dict[str, dict[str, int]]:
    """Who heard a broadcast of each guest, and how often. Once unicast frames behind them have come
    to all peers, so would these have.
    """
    marks = {sender: token() for sender in (*BLUE, *GREEN)}
    for sender, mark in marks.items():
        wires.send(sender, ethernet(lab.mac(sender), BROADCAST, mark))
    # The second round cannot share a batch with the broadcasts.
    for _ in range(2):
        for sender in marks:
            for peer in lab.peers(sender):
                mark = token()
                wires.send(sender, ethernet(lab.mac(sender), lab.mac(peer), mark))
                assert eventually(partial(_has_come, wires, mark, peer))
    return {sender: wires.heard(mark) for sender, mark in marks.items()}


def _has_come(wires: Wires, mark: bytes, guest: str) -> bool:
    return wires.heard(mark) == {guest: 1}


@pytest.mark.parametrize("old", ["host1", "host3"])
def test_without_replicators_all_hear_each_other_once(
    lab: OverlayLab, wires: Wires, old: str
) -> None:
    replicate_on(lab)
    with of_the_version_before(lab, old, f"{old}.txt"):
        assert broadcasts(lab, wires) == {guest: lab.peers(guest) for guest in lab.guests}


def test_what_an_old_leaf_asks_of_a_new_replicator_is_lost(lab: OverlayLab, wires: Wires) -> None:
    replicate_on(lab, "host3")
    with of_the_version_before(lab, "host1", "host1-with-a-replicator.txt"):
        heard = broadcasts(lab, wires)
        assert heard.pop("blue/web1") == {}
        assert heard == {guest: lab.peers(guest) for guest in heard}


def test_what_new_leaves_ask_of_an_old_replicator_is_lost(lab: OverlayLab, wires: Wires) -> None:
    replicate_on(lab, "host3")
    with of_the_version_before(lab, "host3", "host3.txt"):
        heard = broadcasts(lab, wires)
        assert heard.pop("blue/web1") == heard.pop("blue/web2") == {}
        assert heard == {guest: lab.peers(guest) for guest in heard}
