"""What stands beside an overlay and user-mode Linux lacks: these run where the kernel has it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest
from pyroute2 import WireGuard

from ovs_lwt.lab.kernel import settle, slowness, we_are_in
from ovs_lwt.netns import entered
from tests.support.ovs import OvsHost, eventually, in_netns, network_namespace

SECONDS: Final = 10 * slowness(we_are_in())
ONE, TWO = "bsd-1", "bsd-2"
PING: Final = ("ping", "-c2", "-i0.2", f"-W{SECONDS:.0f}")


@pytest.fixture
def pair() -> Iterator[None]:
    """Two namespaces with a cable between them: 10.0.0.1 and 10.0.0.2."""
    with ExitStack() as stack:
        for name in (ONE, TWO):
            stack.enter_context(network_namespace(name))
        in_netns(ONE, "ip", "link", "add", "e", "type", "veth", "peer", "name", "e", "netns", TWO)
        for number, name in enumerate((ONE, TWO), 1):
            in_netns(name, "ip", "address", "add", f"10.0.0.{number}/24", "dev", "e")
            in_netns(name, "ip", "link", "set", "e", "up")
        yield


def run(netns: str, *command: str) -> str:
    return in_netns(netns, *command, timeout=SECONDS * 3)


@pytest.mark.needs("conntrack zones")
def test_two_tenants_with_the_same_connection_have_a_zone_each(pair: None, tmp_path: Path) -> None:
    """Kernel datapath: one ping enters both zones, and each keeps a connection of its own."""
    settle()
    with OvsHost(TWO, tmp_path / "s") as switch:
        switch.vsctl("add-br", "br0", "--", "set", "bridge", "br0", "fail_mode=secure")
        run(TWO, "ip", "address", "flush", "dev", "e")
        run(TWO, "ip", "address", "add", "10.0.0.2/24", "dev", "br0")
        run(TWO, "ip", "link", "set", "br0", "up")
        switch.vsctl("add-port", "br0", "e")
        both = "ct(commit,zone=10),ct(commit,zone=20),normal"
        switch.ofctl("add-flow", "br0", "priority=1,actions=normal")
        switch.ofctl("add-flow", "br0", f"priority=9,icmp,in_port=e,actions={both}")
        assert "2 received" in run(ONE, *PING, "10.0.0.2")
        tracked = switch.appctl("dpctl/dump-conntrack")
    assert set(re.findall(r"zone=(\d+)", tracked)) == {"10", "20"}, tracked


@pytest.mark.needs("nft")
def test_nft_drops_where_the_ip_stack_begins(pair: None) -> None:
    """As a host's end is muted: the frames arrive, and nobody answers."""
    assert "2 received" in run(ONE, *PING, "10.0.0.2")
    run(TWO, "nft", "add table inet mute")
    run(TWO, "nft", "add chain inet mute in { type filter hook prerouting priority raw; }")
    run(TWO, "nft", 'add rule inet mute in iifname "e" meta l4proto icmp counter drop')

    with pytest.raises(AssertionError, match="ping"):
        run(ONE, "ping", "-c2", "-i0.2", "-W1", "10.0.0.2")
    table = json.loads(run(TWO, "nft", "-j", "list", "table", "inet", "mute"))
    counters = [
        expression["counter"]["packets"]
        for item in table["nftables"]
        for expression in item.get("rule", {}).get("expr", [])
        if "counter" in expression
    ]
    assert counters == [2]


@pytest.mark.needs("WireGuard")
def test_an_underlay_can_be_encrypted_by_wireguard(pair: None) -> None:
    """The two ends have 192.0.2.1 and .2 in the tunnel, and what passes is counted by it."""
    keys = {}
    for number, name in enumerate((ONE, TWO), 1):
        run(name, "ip", "link", "add", "wg0", "type", "wireguard")
        run(name, "ip", "address", "add", f"192.0.2.{number}/24", "dev", "wg0")
        run(name, "ip", "link", "set", "wg0", "up")
        with entered(name), WireGuard() as wireguard:
            wireguard.set("wg0", private_key=private_key(), listen_port=51820)
            (about, *_) = wireguard.info("wg0")
            keys[name] = about.get_attr("WGDEVICE_A_PUBLIC_KEY").decode()
    for number, (name, other) in enumerate(((ONE, TWO), (TWO, ONE)), 1):
        peer = {
            "public_key": keys[other],
            "endpoint_addr": f"10.0.0.{3 - number}",
            "endpoint_port": 51820,
            "allowed_ips": [f"192.0.2.{3 - number}/32"],
        }
        with entered(name), WireGuard() as wireguard:
            wireguard.set("wg0", peer=peer)

    assert eventually(
        lambda: "2 received" in run(ONE, *PING, "192.0.2.2"), within=SECONDS, every=0.5
    )
    statistics = json.loads(run(TWO, "ip", "-json", "-statistics", "link", "show", "wg0"))
    assert statistics[0]["stats64"]["rx"]["packets"] >= 2


def private_key() -> str:
    """A Curve25519 key as WireGuard writes them (RFC 7748, 5: which bits are set)."""
    from base64 import b64encode

    key = bytearray(os.urandom(32))
    key[0] &= 248
    key[31] = (key[31] & 127) | 64
    return b64encode(key).decode()
