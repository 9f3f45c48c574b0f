"""The conformance suite: packets as large as they may be, over an underlay of either family."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Final

import pytest

from ovs_lwt.lab.namespaces import entered
from tests.support.conformance_fabric import Fabric
from tests.support.conformance_scene import Scene, check, wrong
from tests.support.packets import token

_IP_MTU_DISCOVER, _IPV6_MTU_DISCOVER, _PMTUDISC_DO = 10, 23, 2
_MEGABYTE: Final = 1 << 20


@check("mtu")
def _mtu(scene: Scene) -> Iterator[str]:
    for version in (4, 6):
        yield from _largest(scene, version)


def _largest(scene: Scene, version: int) -> Iterator[str]:
    fabric = scene.fabric
    room = fabric.mtu(scene.me) - (28 if version == 4 else 48)
    mark = token()
    with _socket(fabric, scene.me, version, socket.SOCK_DGRAM) as speaker:
        if version == 4:
            speaker.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_DO)
        else:
            speaker.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_DO)
        to = fabric.ip(scene.they, version), 9
        # At the end, where no complaint about it quotes it.
        speaker.sendto(mark.rjust(room, b"."), to)
        fabric.wires.settle(scene.me)
        if (heard := fabric.wires.heard(mark)) != {scene.they: 1}:
            yield f"the largest packet of IPv{version} was heard by {heard}"
        sizes = [(p.length, p.fragment) for p in fabric.wires.on_underlay(mark, scene.near)]
        if sizes != [(fabric.plan.mtu, False)]:
            yield f"on the underlay it was {sizes}, of {fabric.plan.mtu}"
        with pytest.raises(OSError, match="too long"):
            speaker.sendto(bytes(room + 1), to)


@check("tcp")
def _tcp(scene: Scene) -> Iterator[str]:
    for version in (4, 6):
        came = _transferred(scene, version)
        if came != _MEGABYTE:
            yield f"{came} of {_MEGABYTE} bytes came by IPv{version}"


def _transferred(scene: Scene, version: int) -> int:
    fabric = scene.fabric
    counted = [0]

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        connection.settimeout(10)
        with connection, contextlib.suppress(TimeoutError):
            while data := connection.recv(65536):
                counted[0] += len(data)

    with ExitStack() as stack:
        listener = stack.enter_context(_socket(fabric, scene.they, version, socket.SOCK_STREAM))
        listener.bind((fabric.ip(scene.they, version), 0))
        listener.listen(1)
        listener.settimeout(10)
        server = threading.Thread(target=serve, args=(listener,))
        server.start()
        stack.callback(server.join)
        with _socket(fabric, scene.me, version, socket.SOCK_STREAM) as speaker:
            speaker.settimeout(10)
            with contextlib.suppress(TimeoutError):
                speaker.connect(listener.getsockname()[:2])
                speaker.sendall(bytes(_MEGABYTE))
    return counted[0]


def _socket(fabric: Fabric, guest: str, version: int, kind: int) -> socket.socket:
    with entered(fabric.guests[guest].namespace):
        return socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, kind)


@check("underlay6")
def _underlay6(scene: Scene) -> Iterator[str]:
    assert ":" in scene.fabric.vtep(scene.near)
    yield from wrong(scene.fabric, "over IPv6")
    yield from _largest(scene, 4)
    yield from _largest(scene, 6)
