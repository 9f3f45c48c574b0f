"""The same over an underlay of IPv6: reach, copies, strangers, the largest packet."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from ovs_lwt.lab.namespaces import entered
from tests.support.overlay_lab import OverlayLab, laboratory
from tests.support.overlays import endpoint, two_tenants
from tests.support.ovs import eventually
from tests.support.packets import BROADCAST, REQUEST_PORT, VXLAN_PORT, ethernet, ip, token

VTEPS = {"host1": "2001:db8::11", "host2": "2001:db8::12", "host3": "2001:db8::13"}
THEIRS, STRANGER = "2001:db8::14", "2001:db8::66"
WEB1, WEB2, AWAY = "02:00:00:00:00:01", "02:00:00:00:00:02", "02:00:00:00:00:09"
_IP_MTU_DISCOVER, _IP_PMTUDISC_DO = 10, 2


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OverlayLab]:
    overlay = two_tenants()
    overlay["vteps"] = {name: {"address": address} for name, address in VTEPS.items()}
    overlay["vteps"]["theirs"] = {"address": THEIRS, "external": True}
    away = {"host": "theirs", "mac": AWAY, "ip": ["10.0.0.19/24"]}
    overlay["tenants"]["blue"]["endpoints"]["away"] = away
    with laboratory(overlay, tmp_path_factory.mktemp("six"), one_controller=True) as lab:
        yield lab


def test_guests_reach_their_tenant_and_nobody_else(lab: OverlayLab) -> None:
    assert not lab.reach().wrong


def test_a_broadcast_reaches_the_tenants_other_guests_each_once(lab: OverlayLab) -> None:
    with lab.listening() as wires:
        for sender, vni, hosts in (("blue/web1", 1010, 2), ("red/web1", 2020, 1)):
            mark = token()
            wires.say(sender, ethernet(WEB1, BROADCAST, mark))
            assert wires.heard(mark) == lab.peers(sender)
            sent = wires.tunnels(mark)
            assert {(host, number) for host, _, number in sent} == {("host1", vni)}
            assert set(sent.values()) == {1}
            assert len(sent) == hosts


def test_a_frame_crosses_between_the_two_hosts_under_the_tenants_vni(lab: OverlayLab) -> None:
    with lab.listening() as wires:
        mark = token()
        frame = ethernet(WEB1, WEB2, mark)
        wires.say("red/web1", frame)
        assert wires.heard(mark) == {"red/web2": 1}
        (packet,) = wires.on_underlay(mark)
    assert (packet.source, packet.target) == (VTEPS["host1"], VTEPS["host2"])
    assert (packet.vni, packet.inner) == (2020, frame)


def test_the_largest_packet_crosses_in_one_piece(lab: OverlayLab) -> None:
    largest = 1430 - 28
    mark = token()
    with (
        lab.listening() as wires,
        _datagrams(lab, "blue/web1") as here,
        _datagrams(lab, "blue/web2") as there,
    ):
        with pytest.raises(OSError, match="too long"):
            here.sendto(bytes(largest + 1), there.getsockname())
        here.sendto(mark.rjust(largest, b"."), there.getsockname())
        assert len(there.recv(65535)) == largest
        (packet,) = wires.on_underlay(mark)
    assert packet.length == 1500


def test_a_known_vtep_is_heard_and_gets_its_frames(lab: OverlayLab) -> None:
    with lab.foreign(ip_address(THEIRS)) as theirs, lab.listening() as wires:
        inward, back = token(), token()
        theirs.send(VTEPS["host1"], 1010, ethernet(AWAY, BROADCAST, inward))
        wires.settle("blue/web2")
        assert wires.heard(inward) == {"blue/web1": 1}
        assert not wires.on_underlay(inward)

        frame = ip(lab.at("blue/web1"), (AWAY, "10.0.0.19"), back)

        def received() -> set[tuple[str, int]]:
            # The first one goes while the host looks for the machine.
            wires.say("blue/web1", frame)
            return {(p.source, p.vni) for p in theirs.received() if p.inner == frame}

        assert eventually(lambda: bool(received()))
        assert received() == {(VTEPS["host1"], 1010)}
        assert wires.heard(back) == {}


@pytest.mark.parametrize("to", [WEB1, BROADCAST])
def test_an_unknown_vtep_is_a_stranger(lab: OverlayLab, to: str) -> None:
    with lab.foreign(ip_address(STRANGER)) as stranger, lab.listening() as wires:
        mark = token()
        stranger.send(VTEPS["host1"], 1010, ethernet(AWAY, to, mark))
        wires.settle("blue/web2")
        assert wires.heard(mark) == {}
    packet = f"in_port=vx-lwt,tun_id=1010,tun_ipv6_src={STRANGER},dl_dst={to}"
    assert lab.trace("host1", packet).actions == "drop"


def test_a_leaf_asks_a_replicator(lab: OverlayLab) -> None:
    lab.change(lambda overlay: overlay["vteps"]["host3"].update(replicator=True))
    with lab.listening() as wires:
        for sender, port in (("blue/web1", REQUEST_PORT), ("red/web1", VXLAN_PORT)):
            mark = token()
            wires.say(sender, ethernet(WEB1, BROADCAST, mark))
            assert wires.heard(mark) == lab.peers(sender)
            assert {packet.port for packet in wires.on_underlay(mark, "host1")} == {port}
    lab.change(lambda overlay: overlay["vteps"]["host3"].update(replicator=False))


def test_an_endpoint_moves_to_another_host(lab: OverlayLab) -> None:
    lab.change(lambda overlay: endpoint(overlay, "blue/web2").update(host="host3"))
    lab.detach("blue/web2")
    lab.attach("blue/web2", "host3")
    with lab.listening() as wires:
        mark = token()
        wires.say("blue/web1", ethernet(WEB1, WEB2, mark))
        assert wires.heard(mark) == {"blue/web2": 1}
        assert wires.tunnels(mark) == {("host1", VTEPS["host3"], 1010): 1}


def _datagrams(lab: OverlayLab, guest: str) -> socket.socket:
    """A UDP socket in a guest that sends nothing in pieces."""
    with entered(lab.guests[guest].namespace):
        found = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    found.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _IP_PMTUDISC_DO)
    found.settimeout(10)
    found.bind((lab.ip(guest), 0))
    return found
