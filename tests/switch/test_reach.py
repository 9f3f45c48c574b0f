"""Who reaches whom: everybody in the tenant, nobody else, with every size of packet that fits."""

from __future__ import annotations

import socket
from threading import Thread

import pytest

from ovs_lwt.lab import probe
from ovs_lwt.lab.namespaces import entered
from tests.support.overlay_lab import OverlayLab
from tests.support.packets import ethernet, ip, token
from tests.support.wires import Wires

_IP_MTU_DISCOVER, _IP_PMTUDISC_DO = 10, 2


def test_guests_reach_their_tenant_and_nobody_else(stage: OverlayLab) -> None:
    matrix = probe.measure(stage.plan, sample=0)
    assert not matrix.wrong
    assert {(cell.source, cell.target) for cell in matrix.cells if cell.verdict == "reached"} == {
        (one, other) for one in stage.guests for other in stage.peers(one)
    }


def test_a_frame_for_a_guest_on_the_same_host_stays_there(stage: OverlayLab, wires: Wires) -> None:
    mark = token()
    wires.say("blue/web1", ip(stage.at("blue/web1"), stage.at("blue/web4"), mark))
    assert wires.heard(mark) == {"blue/web4": 1}
    assert not wires.on_underlay(mark)


@pytest.mark.parametrize(("tenant", "vni"), [("blue", 1010), ("red", 2020), ("green", 3030)])
def test_a_frame_for_another_host_crosses_the_underlay_once_under_the_tenants_vni(
    stage: OverlayLab, wires: Wires, tenant: str, vni: int
) -> None:
    mark = token()
    frame = ethernet(stage.mac(f"{tenant}/web1"), stage.mac(f"{tenant}/web2"), mark)
    wires.say(f"{tenant}/web1", frame)
    assert wires.heard(mark) == {f"{tenant}/web2": 1}
    (packet,) = wires.on_underlay(mark)
    assert (packet.source, packet.target) == (stage.vtep("host1"), stage.vtep("host2"))
    assert packet.vni == vni
    assert packet.inner == frame


@pytest.mark.parametrize("version", [4, 6])
def test_the_largest_packet_crosses_the_underlay_in_one_piece(
    stage: OverlayLab, wires: Wires, version: int
) -> None:
    largest = 1450 - (28 if version == 4 else 48)
    mark = token()
    with (
        _datagrams(stage, "blue/web2", version) as there,
        _datagrams(stage, "blue/web1", version) as here,
    ):
        address = (stage.ip("blue/web2", version), there.getsockname()[1])
        with pytest.raises(OSError, match="too long"):
            here.sendto(bytes(largest + 1), address)
        here.sendto(mark.rjust(largest, b"."), address)
        data, back = there.recvfrom(65535)
        assert len(data) == largest
        there.sendto(data, back)
        assert here.recv(65535) == data
    packets = wires.on_underlay(mark)
    assert [(packet.length, packet.fragment) for packet in packets] == [(1500, False)] * 2


@pytest.mark.parametrize(
    ("server", "version"), [("blue/web2", 4), ("blue/web2", 6), ("red/web1", 4)]
)
def test_tcp_carries_what_it_is_given(stage: OverlayLab, server: str, version: int) -> None:
    client = server.replace("web2", "web0").replace("web1", "web2").replace("web0", "web1")
    sent = b"".join(number.to_bytes(4, "big") for number in range(1 << 18))
    received = bytearray()
    with _stream(stage, server, version) as listener:
        listener.bind((stage.ip(server, version), 0))
        listener.listen()
        with _stream(stage, client, version) as here:
            here.connect((stage.ip(server, version), listener.getsockname()[1]))
            there, _ = listener.accept()
            with there:
                there.settimeout(20)
                sender = Thread(target=_send, args=(here, sent))
                sender.start()
                while chunk := there.recv(1 << 16):
                    received += chunk
                sender.join()
    assert received == sent


def test_the_same_question_has_another_answer_in_another_tenant(stage: OverlayLab) -> None:
    """Identical MACs, on other ports and other hosts: the tenant decides."""
    frame = f"dl_src={stage.mac('blue/web1')},dl_dst={stage.mac('blue/web4')},dl_type=0x88b5"
    assert stage.trace("host1", f"in_port=blue-web1,{frame}").actions.endswith("blue-web4")
    assert stage.trace("host1", f"in_port=green-web1,{frame}").actions.endswith("green-web4")
    # Red has no such endpoint, and drops what it does not know.
    assert stage.trace("host1", f"in_port=red-web1,{frame}").actions == "drop"


def _datagrams(stage: OverlayLab, guest: str, version: int) -> socket.socket:
    """A UDP socket in a guest that sends nothing in pieces."""
    with entered(stage.guests[guest].namespace):
        if version == 4:
            found = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            found.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _IP_PMTUDISC_DO)
        else:
            found = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
            found.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_DONTFRAG, 1)
    found.settimeout(10)
    found.bind((stage.ip(guest, version), 0))
    return found


def _send(connection: socket.socket, data: bytes) -> None:
    with connection:
        connection.sendall(data)


def _stream(stage: OverlayLab, guest: str, version: int) -> socket.socket:
    with entered(stage.guests[guest].namespace):
        found = socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6)
    found.settimeout(10)
    return found
