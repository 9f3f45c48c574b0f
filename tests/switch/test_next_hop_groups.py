"""Why plane bridge has an all-zero entry for every VTEP of a flood list (docs/adr/0013).

A next-hop group for the FDB could be shared by all tenants with the same VTEPs. But the kernel
takes it for ways to one place, and picks one. Should a kernel ever send to all of them, this fails,
and flood lists can be shared.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from ipaddress import ip_address, ip_network

import pytest

from ovs_lwt.lab import namespaces
from tests.support.ovs import in_netns, network_namespace
from tests.support.packets import BROADCAST, Wire, ethernet, token

VTEPS = ("192.0.2.12", "192.0.2.13")
FRAMES = 10
SENDER = f"nhg-{os.getpid()}"


@pytest.fixture
def ears() -> Iterator[list[socket.socket]]:
    """What listens at each of the VTEPs for VXLAN packets from the device `vx` of SENDER."""
    network = ip_network("192.0.2.0/24")
    with ExitStack() as stack:
        underlay = stack.enter_context(network_namespace(f"{SENDER}-u"))
        namespaces.make_underlay(underlay, "br-underlay", 1500)
        heard = []
        for number, address in enumerate(("192.0.2.11", *VTEPS)):
            netns = stack.enter_context(network_namespace(f"{SENDER}-{number}"))
            namespaces.plug(underlay, "br-underlay", f"u{number}", netns, "u0", 1500)
            namespaces.give_address(netns, "u0", ip_address(address), network)
            if number:
                with namespaces.entered(netns):
                    ear = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                    ear.bind((address, 4789))
                ear.settimeout(1)
                heard.append(ear)
        ip = ("ip", "link", "add", "vx", "type", "vxlan", "id", "1010", "dstport", "4789")
        in_netns(f"{SENDER}-0", *ip, "local", "192.0.2.11", "nolearning")
        in_netns(f"{SENDER}-0", "ip", "link", "set", "vx", "up")
        yield heard


def broadcast(ears: list[socket.socket]) -> list[int]:
    """How many of FRAMES broadcasts arrive at each VTEP."""
    mark = token()
    with closing(Wire(f"{SENDER}-0", "vx")) as wire:
        for number in range(FRAMES):
            wire.send(ethernet(f"02:00:00:00:00:{number:02x}", BROADCAST, mark))
    return [sum(mark in packet for packet in _received(ear)) for ear in ears]


def _received(ear: socket.socket) -> Iterator[bytes]:
    while True:
        try:
            yield ear.recv(2000)
        except TimeoutError:
            return


def test_a_list_sends_to_each_vtep_and_a_next_hop_group_to_one(ears: list[socket.socket]) -> None:
    def bridge(*words: str) -> None:
        in_netns(f"{SENDER}-0", "bridge", "fdb", *words, "self")

    everyone = ("00:00:00:00:00:00", "dev", "vx")
    for vtep in VTEPS:
        bridge("append", *everyone, "dst", vtep)
    assert broadcast(ears) == [FRAMES, FRAMES]

    for number, vtep in enumerate(VTEPS, 1):
        bridge("del", *everyone, "dst", vtep)
        in_netns(f"{SENDER}-0", "ip", "nexthop", "add", "id", str(number), "via", vtep, "fdb")
    in_netns(f"{SENDER}-0", "ip", "nexthop", "add", "id", "10", "group", "1/2", "fdb")
    bridge("add", *everyone, "nhid", "10")
    assert sum(broadcast(ears)) == FRAMES
