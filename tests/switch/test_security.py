"""What a guest may send: from its own MAC and addresses, in every protocol that names them.

What is sent from web1 must be heard by nobody; the router, whose endpoint says `spoofing: allow`,
is heard by all with the same.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.discovery import (
    NONCE,
    first_fragment,
    fragment4,
    hidden,
    igmp,
    link_layer,
    listener,
    soliciting,
    twice_advertised,
    udp,
)
from tests.support.overlay_lab import OverlayLab
from tests.support.packets import (
    ALL_NODES,
    BROADCAST,
    ETH_SERVICE_VLAN,
    REPLY,
    advertisement,
    arp,
    behind_extension,
    dhcp,
    ethernet,
    icmpv6,
    ip,
    link_local,
    solicitation,
    token,
    vlan_tagged,
)
from tests.support.wires import Wires

EVERYBODY = (BROADCAST, "10.0.0.255")
OTHER_MAC, OTHER, OTHER6 = "02:00:00:00:00:77", "10.0.0.77", "fd00::77"
ELSEWHERE, ELSEWHERE6 = "10.0.0.99", "fd00::99"

Frame = Callable[[str, str, str, bytes], bytes]
"""A frame of the guest with this MAC, IPv4 and IPv6 address, with this token in it."""

# Each says one thing about its sender that is not so.
SPOOFED: dict[str, Frame] = {
    "Ethernet source": lambda mac, v4, v6, mark: ethernet(OTHER_MAC, BROADCAST, mark),
    "Ethernet source of a neighbour": lambda mac, v4, v6, mark: ethernet(
        "02:00:00:00:00:04", BROADCAST, mark
    ),
    "Ethernet source under the own address": lambda mac, v4, v6, mark: ip(
        (OTHER_MAC, v4), EVERYBODY, mark
    ),
    "IPv4 source": lambda mac, v4, v6, mark: ip((mac, OTHER), EVERYBODY, mark),
    "IPv4 source of a neighbour": lambda mac, v4, v6, mark: ip((mac, "10.0.0.14"), EVERYBODY, mark),
    "no IPv4 source": lambda mac, v4, v6, mark: ip((mac, "0.0.0.0"), EVERYBODY, mark),
    "DHCP server": lambda mac, v4, v6, mark: dhcp(mac, mark, ports=(67, 68)),
    "IPv6 source": lambda mac, v4, v6, mark: ip((mac, OTHER6), ALL_NODES, mark),
    "IPv6 source of a neighbour": lambda mac, v4, v6, mark: ip((mac, "fd00::14"), ALL_NODES, mark),
    "no IPv6 source": lambda mac, v4, v6, mark: ip((mac, "::"), ALL_NODES, mark),
    "link-local source": lambda mac, v4, v6, mark: ip(
        (mac, link_local(OTHER_MAC)), ALL_NODES, mark
    ),
    "ARP sender address": lambda mac, v4, v6, mark: arp(mac, (mac, OTHER), ELSEWHERE, mark),
    "ARP sender MAC": lambda mac, v4, v6, mark: arp(mac, (OTHER_MAC, v4), ELSEWHERE, mark),
    "ARP reply for another": lambda mac, v4, v6, mark: arp(
        mac, (mac, OTHER), ELSEWHERE, mark, op=REPLY
    ),
    "ARP probe of another MAC": lambda mac, v4, v6, mark: arp(
        mac, (OTHER_MAC, "0.0.0.0"), ELSEWHERE, mark
    ),
    "solicitation source": lambda mac, v4, v6, mark: solicitation((mac, OTHER6), ELSEWHERE6, mark),
    "solicitation option": lambda mac, v4, v6, mark: solicitation(
        (mac, v6), ELSEWHERE6, mark, link_layer=OTHER_MAC
    ),
    "advertisement source": lambda mac, v4, v6, mark: advertisement((mac, OTHER6), v6, mark),
    "advertisement target": lambda mac, v4, v6, mark: advertisement((mac, v6), OTHER6, mark),
    "advertisement target of a neighbour": lambda mac, v4, v6, mark: advertisement(
        (mac, v6), "fd00::14", mark
    ),
    "advertisement target, no option": lambda mac, v4, v6, mark: advertisement(
        (mac, v6), OTHER6, mark, link_layer=None
    ),
    "advertisement option": lambda mac, v4, v6, mark: advertisement(
        (mac, v6), v6, mark, link_layer=OTHER_MAC
    ),
    "router": lambda mac, v4, v6, mark: icmpv6(
        "router-advertisement", (mac, link_local(mac)), mark
    ),
    # RFC 7113: where guards have been led astray.
    "router behind an extension header": lambda mac, v4, v6, mark: behind_extension(
        icmpv6("router-advertisement", (mac, link_local(mac)), mark)
    ),
    # RFC 6980: never in fragments, which nobody can look into as a whole.
    "router in a fragment": lambda mac, v4, v6, mark: first_fragment(
        icmpv6("router-advertisement", (mac, link_local(mac)), mark)
    ),
    "router in a later fragment": lambda mac, v4, v6, mark: hidden(
        icmpv6("router-advertisement", (mac, link_local(mac)), mark)
    ),
    "header cut by a fragment": lambda mac, v4, v6, mark: hidden(
        icmpv6("router-advertisement", (mac, link_local(mac)), mark), 32, 8
    ),
    "solicitation in a fragment": lambda mac, v4, v6, mark: first_fragment(
        solicitation((mac, v6), ELSEWHERE6, mark)
    ),
    "advertisement in a fragment": lambda mac, v4, v6, mark: first_fragment(
        advertisement((mac, v6), v6, mark)
    ),
    "router solicitation in a fragment": lambda mac, v4, v6, mark: first_fragment(
        icmpv6("router-solicitation", (mac, v6), mark)
    ),
    # Receivers differ in which of two they believe.
    "solicitation with two addresses": lambda mac, v4, v6, mark: soliciting(
        (mac, v6), ELSEWHERE6, link_layer(mac) + link_layer(OTHER_MAC), mark
    ),
    "solicitation with two addresses, the false one first": lambda mac, v4, v6, mark: soliciting(
        (mac, v6), ELSEWHERE6, link_layer(OTHER_MAC) + link_layer(mac), mark
    ),
    "advertisement with two addresses": lambda mac, v4, v6, mark: twice_advertised(
        (mac, v6), v6, OTHER_MAC, mark
    ),
    "duplicate detection with an option": lambda mac, v4, v6, mark: solicitation(
        (mac, "::"), ELSEWHERE6, mark
    ),
    # RFC 4861, 7.1.1, and RFC 5227, 1.1: to all who may have it, so that one of them does not hear
    # of it alone.
    "duplicate detection to one": lambda mac, v4, v6, mark: solicitation(
        (mac, "::"), ELSEWHERE6, mark, to=ALL_NODES, link_layer=None
    ),
    "ARP probe in a reply": lambda mac, v4, v6, mark: arp(
        mac, (mac, "0.0.0.0"), ELSEWHERE, mark, op=REPLY
    ),
    # RFC 7610
    "DHCP server with an address": lambda mac, v4, v6, mark: udp((mac, v4), (67, 68), mark),
    "DHCP server from another port": lambda mac, v4, v6, mark: udp((mac, v4), (6767, 68), mark),
    "DHCP relay": lambda mac, v4, v6, mark: udp((mac, v4), (67, 67), mark),
    "DHCP server in a fragment": lambda mac, v4, v6, mark: fragment4(
        udp((mac, v4), (67, 68), mark)
    ),
    "DHCPv6 server": lambda mac, v4, v6, mark: udp((mac, link_local(mac)), (547, 546), mark),
    "DHCPv6 server from another port": lambda mac, v4, v6, mark: udp((mac, v6), (5470, 546), mark),
    "DHCPv6 relay": lambda mac, v4, v6, mark: udp((mac, v6), (547, 547), mark),
    "DHCPv6 server in a fragment": lambda mac, v4, v6, mark: first_fragment(
        udp((mac, v6), (547, 546), mark)
    ),
    "DHCPv6 server in a later fragment": lambda mac, v4, v6, mark: hidden(
        udp((mac, v6), (547, 546), mark)
    ),
    "membership report of another MAC": lambda mac, v4, v6, mark: igmp(
        (OTHER_MAC, "0.0.0.0"), mark
    ),
    "membership report to one": lambda mac, v4, v6, mark: igmp(
        (mac, "0.0.0.0"), mark, to="10.0.0.99"
    ),
    "link-local address of its own making": lambda mac, v4, v6, mark: ip(
        (mac, "fe80::1234"), ALL_NODES, mark
    ),
    "IPv4 link-local source": lambda mac, v4, v6, mark: ip((mac, "169.254.7.7"), EVERYBODY, mark),
    "redirecting router": lambda mac, v4, v6, mark: icmpv6(
        "redirect", (mac, link_local(mac)), mark
    ),
}

# What a guest sends of its own, with its addresses and before it has any.
OWN: dict[str, Frame] = {
    "Ethernet": lambda mac, v4, v6, mark: ethernet(mac, BROADCAST, mark),
    "IPv4": lambda mac, v4, v6, mark: ip((mac, v4), EVERYBODY, mark),
    "IPv6": lambda mac, v4, v6, mark: ip((mac, v6), ALL_NODES, mark),
    "IPv6 link-local": lambda mac, v4, v6, mark: ip((mac, link_local(mac)), ALL_NODES, mark),
    "ARP": lambda mac, v4, v6, mark: arp(mac, (mac, v4), ELSEWHERE, mark),
    "ARP probe": lambda mac, v4, v6, mark: arp(mac, (mac, "0.0.0.0"), ELSEWHERE, mark),
    "solicitation": lambda mac, v4, v6, mark: solicitation((mac, v6), ELSEWHERE6, mark),
    "duplicate detection": lambda mac, v4, v6, mark: solicitation(
        (mac, "::"), ELSEWHERE6, mark, link_layer=None
    ),
    "advertisement": lambda mac, v4, v6, mark: advertisement((mac, v6), v6, mark),
    "advertisement from link-local": lambda mac, v4, v6, mark: advertisement(
        (mac, link_local(mac)), v6, mark
    ),
    "advertisement of link-local, no option": lambda mac, v4, v6, mark: advertisement(
        (mac, v6), link_local(mac), mark, link_layer=None
    ),
    "DHCP discover": lambda mac, v4, v6, mark: dhcp(mac, mark),
    "router solicitation": lambda mac, v4, v6, mark: icmpv6("router-solicitation", (mac, v6), mark),
    "router solicitation without address": lambda mac, v4, v6, mark: icmpv6(
        "router-solicitation", (mac, "::"), mark
    ),
    "DHCPv6 client": lambda mac, v4, v6, mark: udp((mac, link_local(mac)), (546, 547), mark),
    "DHCP client that has an address": lambda mac, v4, v6, mark: udp((mac, v4), (68, 67), mark),
    "a fragment": lambda mac, v4, v6, mark: first_fragment(ip((mac, v6), ALL_NODES, mark)),
    "an IPv4 fragment": lambda mac, v4, v6, mark: fragment4(udp((mac, v4), (4000, 4001), mark)),
    "UDP": lambda mac, v4, v6, mark: udp((mac, v6), (4000, 4001), mark),
    "duplicate detection with a nonce": lambda mac, v4, v6, mark: soliciting(
        (mac, "::"), ELSEWHERE6, NONCE, mark
    ),
    "solicitation with a nonce": lambda mac, v4, v6, mark: soliciting(
        (mac, v6), ELSEWHERE6, NONCE + link_layer(mac), mark
    ),
    "membership report": lambda mac, v4, v6, mark: igmp((mac, v4), mark),
    # RFC 3376, 4.2.13, and RFC 3590, 4
    "membership report without address": lambda mac, v4, v6, mark: igmp((mac, "0.0.0.0"), mark),
    "older listener report without address": lambda mac, v4, v6, mark: listener(
        131, (mac, "::"), mark
    ),
    "older listener's farewell without address": lambda mac, v4, v6, mark: listener(
        132, (mac, "::"), mark
    ),
    "listener report": lambda mac, v4, v6, mark: icmpv6("listener-report", (mac, v6), mark),
    "listener report without address": lambda mac, v4, v6, mark: icmpv6(
        "listener-report", (mac, "::"), mark
    ),
}

# What no bridge passes on, whoever it is from.
NEVER: dict[str, Frame] = {
    "VLAN tag": lambda mac, v4, v6, mark: vlan_tagged(ethernet(mac, BROADCAST, mark)),
    "priority tag": lambda mac, v4, v6, mark: vlan_tagged(ethernet(mac, BROADCAST, mark), vlan=0),
    "service tag": lambda mac, v4, v6, mark: vlan_tagged(
        ethernet(mac, BROADCAST, mark), ethertype=ETH_SERVICE_VLAN
    ),
    "spanning tree": lambda mac, v4, v6, mark: ethernet(mac, "01:80:c2:00:00:00", mark, 0x0026),
    "LACP": lambda mac, v4, v6, mark: ethernet(mac, "01:80:c2:00:00:02", mark, 0x8809),
    "LLDP": lambda mac, v4, v6, mark: ethernet(mac, "01:80:c2:00:00:0e", mark, 0x88CC),
}


@pytest.mark.parametrize("lie", SPOOFED)
def test_a_guest_that_says_it_is_another_is_not_heard(
    stage: OverlayLab, wires: Wires, lie: str
) -> None:
    assert _says(stage, wires, "blue/web1", SPOOFED[lie]) == {}


@pytest.mark.parametrize("lie", SPOOFED)
def test_a_guest_that_may_say_so_is_heard(stage: OverlayLab, wires: Wires, lie: str) -> None:
    assert _says(stage, wires, "blue/router", SPOOFED[lie]) == stage.peers("blue/router")


@pytest.mark.parametrize("frame", OWN)
def test_a_guest_is_heard_with_what_is_its_own(stage: OverlayLab, wires: Wires, frame: str) -> None:
    assert _says(stage, wires, "blue/web1", OWN[frame]) == stage.peers("blue/web1")


@pytest.mark.parametrize("frame", NEVER)
@pytest.mark.parametrize("guest", ["blue/web1", "blue/router"])
def test_a_link_keeps_its_own_frames(
    stage: OverlayLab, wires: Wires, guest: str, frame: str
) -> None:
    assert _says(stage, wires, guest, NEVER[frame]) == {}


def test_a_guest_is_not_heard_with_what_is_anothers_in_another_tenant(
    stage: OverlayLab, wires: Wires
) -> None:
    """fd00::15 is the router's in blue, and nobody's in red."""
    mark = token()
    wires.say("red/web1", ip((stage.mac("red/web1"), "fd00::15"), ALL_NODES, mark))
    assert wires.heard(mark) == {}


def test_without_ipv6_addresses_a_guest_has_no_ipv6(stage: OverlayLab, wires: Wires) -> None:
    mac, mark = stage.mac("blue/web3"), token()
    wires.say("blue/web3", ip((mac, link_local(mac)), ALL_NODES, mark))
    assert wires.heard(mark) == {}


def test_without_any_addresses_a_guest_is_held_to_its_mac(stage: OverlayLab, wires: Wires) -> None:
    mac, passed, dropped = stage.mac("blue/bare"), token(), token()
    wires.say("blue/bare", ip((mac, OTHER), EVERYBODY, passed))
    wires.say("blue/bare", ip((OTHER_MAC, OTHER), EVERYBODY, dropped))
    assert wires.heard(passed) == stage.peers("blue/bare")
    assert wires.heard(dropped) == {}


# What blue/bare, for which the overlay lists no address, may not say: that it has another's.
OTHERS: dict[str, Frame] = {
    "IPv4 source": lambda mac, v4, v6, mark: ip((mac, v4), EVERYBODY, mark),
    "IPv6 source": lambda mac, v4, v6, mark: ip((mac, v6), ALL_NODES, mark),
    "link-local source": lambda mac, v4, v6, mark: ip((mac, link_local(WEB1)), ALL_NODES, mark),
    "ARP sender": lambda mac, v4, v6, mark: arp(mac, (mac, v4), ELSEWHERE, mark),
    "gratuitous ARP": lambda mac, v4, v6, mark: arp(mac, (mac, v4), v4, mark),
    "ARP reply": lambda mac, v4, v6, mark: arp(mac, (mac, v4), ELSEWHERE, mark, op=REPLY),
    "solicitation source": lambda mac, v4, v6, mark: solicitation((mac, v6), ELSEWHERE6, mark),
    "advertisement": lambda mac, v4, v6, mark: advertisement((mac, v6), v6, mark),
    "advertisement from another address": lambda mac, v4, v6, mark: advertisement(
        (mac, OTHER6), v6, mark
    ),
    "ARP sender MAC": lambda mac, v4, v6, mark: arp(mac, (WEB1, OTHER), ELSEWHERE, mark),
    "solicitation option": lambda mac, v4, v6, mark: solicitation(
        (mac, OTHER6), ELSEWHERE6, mark, link_layer=WEB1
    ),
    "advertisement option": lambda mac, v4, v6, mark: advertisement(
        (mac, OTHER6), OTHER6, mark, link_layer=WEB1
    ),
    "router": SPOOFED["router"],
    "advertisement in a fragment": SPOOFED["advertisement in a fragment"],
    "solicitation with two addresses": SPOOFED["solicitation with two addresses"],
    "DHCP server": SPOOFED["DHCP server"],
}

# What it may say, for nobody else has it.
UNLISTED: dict[str, Frame] = {
    "IPv6 source": lambda mac, v4, v6, mark: ip((mac, OTHER6), ALL_NODES, mark),
    "link-local source": lambda mac, v4, v6, mark: ip((mac, "fe80::1234"), ALL_NODES, mark),
    "gratuitous ARP": lambda mac, v4, v6, mark: arp(mac, (mac, OTHER), OTHER, mark),
    "solicitation": lambda mac, v4, v6, mark: solicitation((mac, OTHER6), ELSEWHERE6, mark),
    "advertisement": lambda mac, v4, v6, mark: advertisement((mac, OTHER6), OTHER6, mark),
    "DHCP discover": OWN["DHCP discover"],
    "duplicate detection": OWN["duplicate detection"],
    "membership report": OWN["membership report without address"],
}
WEB1 = "02:00:00:00:00:01"


@pytest.mark.parametrize("lie", OTHERS)
def test_a_guest_without_addresses_does_not_speak_for_those_of_others(
    stage: OverlayLab, wires: Wires, lie: str
) -> None:
    mark = token()
    v4, v6 = stage.ip("blue/web1"), stage.ip("blue/web1", 6)
    wires.say("blue/bare", OTHERS[lie](stage.mac("blue/bare"), v4, v6, mark))
    assert wires.heard(mark) == {}


@pytest.mark.parametrize("frame", UNLISTED)
def test_a_guest_without_addresses_speaks_for_those_of_nobody(
    stage: OverlayLab, wires: Wires, frame: str
) -> None:
    mark = token()
    wires.say("blue/bare", UNLISTED[frame](stage.mac("blue/bare"), OTHER, OTHER6, mark))
    assert wires.heard(mark) == stage.peers("blue/bare")


def test_a_port_speaks_for_one_endpoint_only(stage: OverlayLab) -> None:
    """Web4 lives on the same host, and its flows are there: they are for its own port."""
    web1, web4 = "02:00:00:00:00:01", "02:00:00:00:00:04"
    assert stage.trace("host1", f"in_port=blue-web4,dl_src={web4},dl_dst={web1}").copies
    assert not stage.trace("host1", f"in_port=blue-web1,dl_src={web4},dl_dst={web1}").copies
    assert not stage.trace("host1", f"in_port=red-web1,dl_src={web4},dl_dst={web1}").copies


def _says(stage: OverlayLab, wires: Wires, guest: str, frame: Frame) -> dict[str, int]:
    """Who hears it when a guest says this."""
    mark = token()
    wires.say(guest, frame(stage.mac(guest), stage.ip(guest), stage.ip(guest, 6), mark))
    return wires.heard(mark)
