"""Assisted replication: a leaf sends one copy of a broadcast, a replicator the rest, and everybody
hears it exactly once, whoever replicates. While that changes nobody hears it twice, and it is lost
only where the first replicator comes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
import yaml

from tests.support.overlay_lab import OverlayLab, laboratory
from tests.support.overlays import Overlay
from tests.support.ovs import eventually
from tests.support.packets import BROADCAST, ForeignVtep, ethernet, token
from tests.support.wires import Wires

HOSTS = ["host1", "host2", "host3", "host4"]
GUESTS = ["blue/web1", "blue/web2", "blue/web3", "blue/web4", "blue/more1", "blue/more4"]
THEIRS, AWAY = "192.0.2.19", "02:00:00:00:00:99"

OVERLAY: Overlay = {
    "vteps": {
        **{host: {"address": f"192.0.2.1{number}"} for number, host in enumerate(HOSTS, 1)},
        "theirs": {"address": THEIRS, "external": True},
    },
    "tenants": {
        "blue": {
            "vni": 1010,
            "endpoints": {
                f"{name}{number}": {
                    "host": f"host{number}",
                    "mac": f"02:00:00:00:{kind:02x}:{number:02x}",
                    "ip": [f"10.0.{kind}.{number}/16"],
                }
                for kind, name, numbers in ((0, "web", "1234"), (1, "more", "14"))
                for number in map(int, numbers)
            }
            | {"away": {"host": "theirs", "mac": AWAY}},
        }
    },
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OverlayLab]:
    with laboratory(OVERLAY, tmp_path_factory.mktemp("replicators")) as lab:
        yield lab


@pytest.fixture(scope="module", autouse=True)
def theirs(lab: OverlayLab) -> Iterator[ForeignVtep]:
    """Somebody else's VTEP, plugged into the underlay. Every host has found it there."""
    with lab.foreign(lab.host("theirs").address) as vtep, lab.listening() as wires:

        def found_by(sender: str) -> bool:
            mark = token()
            wires.say(sender, ethernet(lab.mac(sender), AWAY, mark))
            return eventually(lambda: any(mark in got.inner for got in vtep.received()), 0.5)

        for sender in GUESTS[:4]:
            assert eventually(lambda sender=sender: found_by(sender), 30)  # type: ignore[misc]
        yield vtep


@pytest.fixture
def wires(lab: OverlayLab) -> Iterator[Wires]:
    with lab.listening() as wires:
        yield wires


def replicate_on(overlay: Overlay, *hosts: str) -> None:
    for host in HOSTS:
        overlay["vteps"][host]["replicator"] = host in hosts


def shout(lab: OverlayLab, wires: Wires, sender: str) -> tuple[dict[str, int], dict[str, int]]:
    """A broadcast of this guest: who heard it how often, and which host sent how many copies."""
    wires.forget()
    mark = token()
    wires.say(sender, ethernet(lab.mac(sender), BROADCAST, mark))
    sent = {host: len(wires.on_underlay(mark, host)) for host in HOSTS}
    return wires.heard(mark), {host: copies for host, copies in sent.items() if copies}


def everybody_but(sender: str) -> dict[str, int]:
    return {guest: 1 for guest in GUESTS if guest != sender}


def replicator_of(lab: OverlayLab, host: str) -> str:
    """Whom a leaf asks, by its own switch."""
    groups = [text for number, text in lab.groups(host).items() if number == 1_380_001_010]
    asked = [name for name in HOSTS if any(f"{lab.vtep(name)}->tun_dst" in text for text in groups)]
    return "".join(asked)


@pytest.mark.parametrize("replicators", [(), ("host3",), ("host3", "host4")])
def test_everybody_hears_a_broadcast_once(
    lab: OverlayLab, wires: Wires, replicators: tuple[str, ...]
) -> None:
    lab.change(lambda overlay: replicate_on(overlay, *replicators))
    for sender in GUESTS:
        host = lab.guests[sender].host
        heard, sent = shout(lab, wires, sender)
        assert heard == everybody_but(sender)
        if not replicators or host in replicators:
            assert sent == {host: 4}
        else:
            # One to the replicator, and from it one to each of the others, theirs among them.
            assert sent == {host: 1, replicator_of(lab, host): 3}


def test_the_leaves_of_a_replicator_that_goes_turn_to_the_other_and_no_others(
    lab: OverlayLab,
) -> None:
    lab.change(lambda overlay: replicate_on(overlay, "host3", "host4"))
    before = {host: replicator_of(lab, host) for host in ("host1", "host2")}
    lab.change(lambda overlay: replicate_on(overlay, "host3"))
    assert {replicator_of(lab, host) for host in ("host1", "host2")} == {"host3"}
    lab.change(lambda overlay: replicate_on(overlay, "host3", "host4"))
    assert {host: replicator_of(lab, host) for host in ("host1", "host2")} == before


@pytest.mark.parametrize("order", [HOSTS, HOSTS[::-1]], ids=["leaves first", "replicators first"])
@pytest.mark.parametrize(
    ("before", "after"),
    [(("host3", "host4"), ("host3",)), (("host3",), ()), (("host3",), ("host3", "host4"))],
    ids=["one of two goes", "the last goes", "a second comes"],
)
def test_hosts_that_learn_of_it_one_after_the_other_lose_and_double_nothing(
    lab: OverlayLab,
    wires: Wires,
    before: tuple[str, ...],
    after: tuple[str, ...],
    order: list[str],
) -> None:
    lab.change(lambda overlay: replicate_on(overlay, *before))
    replicate_on(lab.overlay, *after)
    lab.plan.overlay.write_text(yaml.safe_dump(lab.overlay))
    for host in order:
        lab.learns(host)
        for sender in GUESTS[:4]:
            assert shout(lab, wires, sender)[0] == everybody_but(sender), f"{host} has it"


@pytest.mark.parametrize("order", [HOSTS, HOSTS[::-1]], ids=["leaves first", "replicators first"])
def test_where_the_first_replicator_comes_nothing_is_doubled(
    lab: OverlayLab, wires: Wires, order: list[str]
) -> None:
    lab.change(lambda overlay: replicate_on(overlay))
    for host in HOSTS:
        end_offer(lab, host)
    replicate_on(lab.overlay, "host4")
    lab.plan.overlay.write_text(yaml.safe_dump(lab.overlay))
    learnt: set[str] = set()
    for host in order:
        lab.learns(host)
        learnt.add(host)
        for sender in GUESTS[:4]:
            home = lab.guests[sender].host
            if home not in learnt or "host4" in learnt:
                assert shout(lab, wires, sender)[0] == everybody_but(sender), f"{host} has it"
                continue
            # It asks a host that has not heard of it: only guests beside the sender hear it.
            mark = token()
            wires.send(sender, ethernet(lab.mac(sender), BROADCAST, mark))
            reach_all(lab, wires, sender)
            beside = [guest for guest in everybody_but(sender) if lab.guests[guest].host == home]
            assert wires.heard(mark) == dict.fromkeys(beside, 1)


def reach_all(lab: OverlayLab, wires: Wires, sender: str) -> None:
    """Send frames to one guest each, until all have had theirs: what was sent before has then come
    as well.
    """
    for _ in range(2):
        marks = {guest: token() for guest in everybody_but(sender)}
        for guest, mark in marks.items():
            wires.send(sender, ethernet(lab.mac(sender), lab.mac(guest), mark))
        assert eventually(lambda: all(wires.heard(marks[guest]) for guest in marks))  # noqa: B023


def test_where_no_host_replicates_no_host_offers_it(lab: OverlayLab) -> None:
    """Neither the port nor a flow; and with the first replicator every host has both."""
    lab.change(lambda overlay: replicate_on(overlay))
    for host in HOSTS:
        end_offer(lab, host)
        assert "vx-lwt-ar" not in lab.ofctl(host, "show", "br-lwt")
    lab.check()
    lab.change(lambda overlay: replicate_on(overlay, "host2"))
    for host in HOSTS:
        options = lab.vsctl(host, "get", "interface", "vx-lwt-ar", "options")
        assert 'dst_port="14789"' in options
        assert f'local_ip="{lab.vtep(host)}"' in options
        assert [flow for flow in lab.flows(host) if 'in_port="vx-lwt-ar" actions' in flow]


def end_offer(lab: OverlayLab, host: str) -> None:
    """What a host does a minute after the last replicator has gone: the port goes, and the flows
    with it.
    """
    lab.vsctl(host, "--if-exists", "del-port", "vx-lwt-ar")
    assert eventually(lambda: not any("vx-lwt-ar" in flow for flow in lab.flows(host)))


def test_under_a_running_broadcast_both_replicators_are_taken_away(
    lab: OverlayLab, wires: Wires
) -> None:
    lab.change(lambda overlay: replicate_on(overlay, "host3", "host4"))
    wires.forget()
    marks: list[bytes] = []
    over = threading.Event()

    def call_out() -> None:
        while not over.is_set():
            for sender in ("blue/web1", "blue/web2"):
                marks.append(token())
                wires.send(sender, ethernet(lab.mac(sender), BROADCAST, marks[-1]))
            time.sleep(0.002)

    caller = threading.Thread(target=call_out)
    caller.start()
    try:
        for replicators in (("host3",), (), ("host4",), ("host3", "host4")):
            lab.change(lambda overlay, now=replicators: replicate_on(overlay, *now))  # type: ignore[misc]
    finally:
        over.set()
        caller.join()
    wires.settle("blue/web1")
    wires.settle("blue/web2")
    assert len(marks) > 100
    frames = {guest: b"".join(wires.all_heard(guest)) for guest in GUESTS}
    wrong = [
        (guest, number, heard)
        for number, mark in enumerate(marks)
        for guest in GUESTS
        if (heard := frames[guest].count(mark)) != (guest != ("blue/web1", "blue/web2")[number % 2])
    ]
    assert wrong == []


def test_somebody_elses_vtep_gets_one_copy_and_is_not_replicated_for(
    lab: OverlayLab, wires: Wires, theirs: ForeignVtep
) -> None:
    lab.change(lambda overlay: replicate_on(overlay, "host3", "host4"))
    # What was said before it was asked fills its socket.
    theirs.received()
    mark = token()
    wires.say("blue/web1", ethernet(lab.mac("blue/web1"), BROADCAST, mark))

    def received() -> list[tuple[str, int]]:
        return [(got.source, got.vni) for got in theirs.received() if mark in got.inner]

    assert eventually(lambda: bool(received()))
    assert received() == [(lab.vtep(replicator_of(lab, "host1")), 1010)]

    wires.forget()
    mark = token()
    for host in HOSTS:
        theirs.send(lab.vtep(host), 1010, ethernet(AWAY, BROADCAST, mark))
    assert eventually(lambda: len(wires.heard(mark)) == len(GUESTS))
    for sender in GUESTS[:4]:
        wires.settle(sender)
    assert wires.heard(mark) == dict.fromkeys(GUESTS, 1)
    assert not wires.on_underlay(mark)


def test_a_stranger_that_asks_is_not_heard(lab: OverlayLab, wires: Wires) -> None:
    """Replicators are no amplifiers: who shares no tenant with this host is asked nothing of."""
    lab.change(lambda overlay: replicate_on(overlay, "host3"))
    packet = f"in_port=vx-lwt-ar,tun_id=1010,tun_dst={lab.vtep('host3')}"
    frame = f"dl_src=02:00:00:00:00:01,dl_dst={BROADCAST}"
    known = lab.trace("host3", f"{packet},tun_src={lab.vtep('host1')},{frame}")
    assert ("tunnel", 0) in known.copies
    assert lab.trace("host3", f"{packet},tun_src=192.0.2.66,{frame}").copies == []
