"""What comes out of the tunnel, and what goes in: only known VTEPs, only known VNIs, and no way
back in.

"Theirs" is a VTEP of the overlay that somebody else runs: a plain UDP socket in the underlay.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from tests.support.overlay_lab import OverlayLab
from tests.support.ovs import eventually
from tests.support.packets import (
    BROADCAST,
    ForeignVtep,
    arp,
    ethernet,
    ip,
    read_arp,
    token,
    vlan_tagged,
)
from tests.support.wires import Wires

AWAY = ("02:00:00:00:00:09", "10.0.0.19")
UNKNOWN = "02:00:00:00:00:77"
BLUE, RED, VIOLET, NOBODYS = 1010, 2020, 4040, 999_999
ON_HOST1 = {"blue/web1": 1, "blue/web4": 1, "blue/router": 1}


@pytest.fixture(scope="module")
def theirs(stage: OverlayLab) -> Iterator[ForeignVtep]:
    """Somebody else's VTEP, plugged into the underlay for as long as the stories here last."""
    with stage.foreign(stage.host("theirs").address) as vtep, stage.listening() as wires:
        assert eventually(lambda: _answers(stage, wires, vtep))
        yield vtep


def _answers(stage: OverlayLab, wires: Wires, vtep: ForeignVtep) -> bool:
    """Whether every host of blue's has found the machine on the underlay by now."""
    marks = {}
    for guest in ("blue/web1", "blue/web2", "blue/web3"):
        marks[guest] = token()
        wires.say(guest, ethernet(stage.mac(guest), AWAY[0], marks[guest]))
    received = b"".join(packet.inner for packet in vtep.received())
    return all(mark in received for mark in marks.values())


def _arrives(
    stage: OverlayLab, wires: Wires, vtep: ForeignVtep, vni: int, frame: bytes, host: str = "host1"
) -> None:
    """Let a foreign machine send a frame to a host, and wait until the host has dealt with it.

    What follows it comes by the same cable.
    """
    vtep.send(stage.vtep(host), vni, frame)
    wires.settle("blue/web2" if host != "host2" else "blue/web1")


# From a VTEP that we know


def test_a_known_vteps_frame_reaches_its_receiver_in_the_tenant(
    stage: OverlayLab, wires: Wires, theirs: ForeignVtep
) -> None:
    """Red and green have a guest with that MAC on that host as well."""
    mark = token()
    frame = ethernet(AWAY[0], stage.mac("blue/web1"), mark)
    _arrives(stage, wires, theirs, BLUE, frame)
    assert wires.heard(mark) == {"blue/web1": 1}
    assert list(wires.copies("blue/web1", mark)) == [frame]


def test_a_known_vteps_broadcast_reaches_the_hosts_guests_and_goes_nowhere_else(
    stage: OverlayLab, wires: Wires, theirs: ForeignVtep
) -> None:
    mark = token()
    _arrives(stage, wires, theirs, BLUE, ethernet(AWAY[0], BROADCAST, mark))
    assert wires.heard(mark) == ON_HOST1
    assert not wires.on_underlay(mark)


@pytest.mark.parametrize(
    ("to", "hearers"),
    [
        ("02:00:00:00:00:02", {}),
        ("02:00:00:00:00:03", {}),
        (AWAY[0], {}),
        (UNKNOWN, ON_HOST1),
        ("01:00:5e:00:00:fb", ON_HOST1),
    ],
    ids=["of host2", "of host3", "of the sender's host", "unknown", "multicast"],
)
def test_no_frame_goes_back_into_the_tunnel(
    stage: OverlayLab, wires: Wires, theirs: ForeignVtep, to: str, hearers: dict[str, int]
) -> None:
    """Split horizon: whoever sent it has sent it to everybody whom it concerns."""
    mark = token()
    before = len(theirs.received())
    _arrives(stage, wires, theirs, BLUE, ethernet(AWAY[0], to, mark))
    assert wires.heard(mark) == hearers
    assert not wires.on_underlay(mark)
    assert not any(mark in packet.inner for packet in theirs.received()[before:])


def test_a_question_out_of_the_tunnel_is_for_the_guests(
    stage: OverlayLab, wires: Wires, theirs: ForeignVtep
) -> None:
    """The host answers its own guests only; a machine that floods gets the owner's answer."""
    web1, mark = stage.at("blue/web1"), token()
    _arrives(stage, wires, theirs, BLUE, arp(AWAY[0], AWAY, web1[1], mark))
    assert wires.heard(mark) == ON_HOST1

    def answered() -> bool:
        replies = [reply for p in theirs.received() if (reply := read_arp(p.inner))]
        return any(reply.sender == web1 and reply.about == AWAY for reply in replies)

    assert eventually(answered)


# To a VTEP that we know


@pytest.mark.parametrize("guest", ["blue/web1", "blue/web2", "blue/web3"])
def test_a_frame_for_an_endpoint_of_theirs_goes_to_them(
    stage: OverlayLab, wires: Wires, theirs: ForeignVtep, guest: str
) -> None:
    mark = token()
    frame = ip(stage.at(guest), AWAY, mark)
    wires.say(guest, frame)
    assert eventually(lambda: any(mark in packet.inner for packet in theirs.received()))
    (packet,) = [packet for packet in theirs.received() if mark in packet.inner]
    host = stage.guests[guest].host
    assert (packet.source, packet.vni, packet.inner) == (stage.vtep(host), BLUE, frame)
    assert wires.heard(mark) == {}
    assert wires.tunnels(mark) == {(host, theirs.address, BLUE): 1}


def test_they_get_one_copy_of_a_tenants_broadcast(
    stage: OverlayLab, wires: Wires, theirs: ForeignVtep
) -> None:
    blue, red = token(), token()
    wires.say("blue/web1", ethernet(stage.mac("blue/web1"), BROADCAST, blue))
    wires.say("red/web1", ethernet(stage.mac("red/web1"), BROADCAST, red))
    assert eventually(lambda: any(blue in packet.inner for packet in theirs.received()))
    # They have no part in red.
    assert [p.vni for p in theirs.received() if blue in p.inner or red in p.inner] == [BLUE]
    assert wires.heard(blue) == stage.peers("blue/web1")


# From strangers


@pytest.mark.parametrize("to", ["02:00:00:00:00:01", BROADCAST])
@pytest.mark.parametrize("vni", [VIOLET, NOBODYS], ids=["of another host", "nobody's"])
def test_a_vni_that_is_not_here_is_dropped(
    stage: OverlayLab, wires: Wires, theirs: ForeignVtep, vni: int, to: str
) -> None:
    mark = token()
    _arrives(stage, wires, theirs, vni, ethernet(AWAY[0], to, mark))
    assert wires.heard(mark) == {}
    assert not wires.on_underlay(mark)
    packet = f"in_port=vx-lwt,tun_id={vni},tun_src={theirs.address},dl_dst={to}"
    assert stage.trace("host1", packet).actions == "drop"


@pytest.mark.parametrize("to", ["02:00:00:00:00:01", BROADCAST])
@pytest.mark.parametrize("address", ["192.0.2.66", "192.0.2.15"], ids=["unknown", "no tenant here"])
def test_a_vtep_that_shares_no_tenant_is_a_stranger(
    stage: OverlayLab, wires: Wires, address: str, to: str
) -> None:
    with stage.foreign(ip_address(address)) as stranger:
        for vni in (BLUE, RED):
            mark = token()
            _arrives(stage, wires, stranger, vni, ethernet(AWAY[0], to, mark))
            assert wires.heard(mark) == {}
            assert not wires.on_underlay(mark)
            packet = f"in_port=vx-lwt,tun_id={vni},tun_src={address},dl_dst={to}"
            assert stage.trace("host1", packet).actions == "drop"


def test_a_tag_or_a_link_control_frame_in_the_tunnel_is_dropped(
    stage: OverlayLab, wires: Wires, theirs: ForeignVtep
) -> None:
    """RFC 7348, 6.1; IEEE 802.1Q, 8.6.3."""
    tagged, control = token(), token()
    frame = vlan_tagged(ethernet(AWAY[0], stage.mac("blue/web1"), tagged))
    _arrives(stage, wires, theirs, BLUE, frame)
    _arrives(stage, wires, theirs, BLUE, ethernet(AWAY[0], "01:80:c2:00:00:0e", control))
    assert wires.heard(tagged) == {}
    assert wires.heard(control) == {}


# Marks of the kernel


@pytest.mark.parametrize(
    ("mark", "vni"),
    [(10, 1010), (2020, 2020), (3030, 3030)],
    ids=["its own", "the VNI", "the VNI again"],
)
def test_a_mark_is_its_tenants(stage: OverlayLab, mark: int, vni: int) -> None:
    """What the kernel has marked is classified by the mark, wherever it comes in."""
    final = stage.trace("host1", f"in_port=LOCAL,pkt_mark={mark}").final
    assert int(final["metadata"], 0) == int(final["tun_id"], 0) == vni
    # It is not taken along: outside the tenant it would mean something else.
    assert "pkt_mark" not in final


def test_one_flow_serves_every_tenant_whose_mark_is_its_vni(stage: OverlayLab) -> None:
    red, green = (
        stage.trace("host1", f"in_port=LOCAL,pkt_mark={vni}").text.split(" 2. ")[0].splitlines()[4]
        for vni in (2020, 3030)
    )
    assert red == green
    assert "priority 200" in red


@pytest.mark.parametrize("mark", [0, 1010], ids=["none", "the VNI of a tenant with another mark"])
def test_what_is_nobodys_mark_is_dropped(stage: OverlayLab, mark: int) -> None:
    trace = stage.trace("host1", f"in_port=LOCAL,pkt_mark={mark}")
    assert trace.actions == "drop"
    assert trace.tables == ["0"]
    assert "metadata" not in trace.final
