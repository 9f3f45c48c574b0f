"""Filters of tc on a guest's port of plane bridge: no VLAN tags, no MAC but its own, and
announcements for everybody.

A bridge that answers neighbours (`neigh_suppress`) keeps every announcement from the tunnel: it
takes for granted that something else tells the other hosts (net/bridge/br_arp_nd_proxy.c). So a
copy of each is handed to the announcer, a port of the bridge from which nothing is kept. It goes to
the tunnel alone: the guests here have heard the announcement itself.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Final

from ovs_lwt.backends.netlink.bytecode import (
    Bytecode,
    Step,
    assemble,
    equals,
    equals_kept,
    has,
    keep,
    load,
    load_tagged,
    masked,
)
from ovs_lwt.backends.netlink.catalogue.classifier import (
    CONTINUE,
    DROP,
    FIRST,
    FOURTH,
    PASS,
    PIPE,
    SECOND,
    THIRD,
    action,
    actions,
    bpf,
    flower,
)
from ovs_lwt.backends.netlink.kinds import EGRESS
from ovs_lwt.backends.netlink.slots import host, mac
from ovs_lwt.backends.netlink.templates import Template

ANNOUNCER: Final = "an-lwt"
"""The port of the bridge by which copies of announcements come in."""

# Where things stand in a frame: Ethernet, ARP for IPv4 (RFC 826), IPv6 (RFC 8200), ND (RFC 4861).
_TO, _FROM, _ETHERTYPE = 0, 6, 12
_ARP_FORM, _ARP_OPERATION, _ARP_SENDER, _ARP_TARGET = 16, 20, 28, 38
_IPV4_BY_MAC: Final = 0x08000604  # protocol 0x0800, hardware addresses of 6 bytes, others of 4
_REVERSE_REQUEST, _REVERSE_REPLY = 3, 4  # ARPOP_RREQUEST, ARPOP_RREPLY
_LAST_OF_ARP: Final = 41
_NEXT_HEADER, _SOURCE6, _TARGET6, _ICMP_TYPE, _ICMP_CODE, _ND_FLAGS = 20, 22, 38, 54, 55, 58
_LAST_OF_ND: Final = 77  # the end of the address in question
_SOLICITATION, _ADVERTISEMENT, _SOLICITED = 135, 136, 0x40
_ETH_ARP, _ETH_RARP, _ETH_VLAN, _ETH_IPV6 = 0x0806, 0x8035, 0x8100, 0x86DD

_POP, _PUSH = 1, 2  # TCA_VLAN_ACT_* (tc_act/tc_vlan.h)
_MIRROR_INGRESS: Final = 4  # TCA_INGRESS_MIRROR (tc_act/tc_mirred.h)


def _announcement(sender: tuple[Step, ...] = ()) -> Bytecode:
    """What `neigh_suppress` keeps from the tunnel without having answered it.

    It is a frame to many, without a tag (its VLAN would be another), from the right `sender`: of
    ARP a probe or one whose sender and target are the same address (RFC 5227; br_do_proxy_
    suppress_arp leaves out targets on the loopback and groups); of ND an advertisement that nobody
    has asked for, or a solicitation from no address, or to its own (br_do_suppress_nd).
    """
    return assemble(
        [
            *(load_tagged(), equals(0, no="no")),
            *(load(_TO, 1), has(0x01, no="no")),
            *sender,
            *(load(_ETHERTYPE, 2), equals(_ETH_ARP, yes="arp"), equals(_ETH_RARP, yes="arp")),
            equals(_ETH_IPV6, no="no"),
            load(_LAST_OF_ND, 1),
            *(load(_NEXT_HEADER, 1), equals(socket.IPPROTO_ICMPV6, no="no")),
            *(load(_ICMP_CODE, 1), equals(0, no="no")),
            *(load(_ICMP_TYPE, 1), equals(_ADVERTISEMENT, yes="advertisement")),
            equals(_SOLICITATION, no="no"),
            *(
                step
                for at in range(_SOURCE6, _TARGET6, 4)
                for step in (load(at, 4), equals(0, no="from an address"))
            ),
            equals(0, yes="yes"),
            "from an address",
            *(
                step
                for at in range(_SOURCE6, _TARGET6, 4)
                for step in (load(at, 4), keep(), load(at + 16, 4), equals_kept(no="no"))
            ),
            equals_kept(yes="yes"),
            "advertisement",
            *(load(_ND_FLAGS, 1), has(_SOLICITED, yes="no", no="yes")),
            "arp",
            load(_LAST_OF_ARP, 1),
            *(load(_ARP_FORM, 4), equals(_IPV4_BY_MAC, no="no")),
            *(load(_ARP_OPERATION, 2), equals(_REVERSE_REQUEST, yes="no")),
            equals(_REVERSE_REPLY, yes="no"),
            *(load(_ARP_TARGET, 1), equals(127, yes="no"), masked(0xF0), equals(0xE0, yes="no")),
            *(load(_ARP_SENDER, 1), equals(0, yes="yes")),
            *(load(_ARP_SENDER, 4), keep(), load(_ARP_TARGET, 4), equals_kept(no="no")),
        ]
    )


_TAGGED: Final = assemble([load_tagged(), equals(0, yes="no")])
_MAC: Final = (
    *(load(_FROM, 4), equals(host("mac_high"), no="no")),
    *(load(_FROM + 4, 2), equals(host("mac_low"), no="no")),
)


def templates() -> Iterator[tuple[str, Template]]:
    """Their names and templates."""
    yield (
        "filter.tagged",
        bpf(
            "A frame with a VLAN tag is dropped: the bridge would take it for one of the tenant"
            " that has that VLAN.",
            _TAGGED,
            "action drop",
            actions("BPF", action("gact", DROP)),
            FIRST,
        ),
    )
    copied = actions(
        "BPF",
        action(
            "vlan",
            PIPE,
            ("TCA_VLAN_PUSH_VLAN_ID", host("vlan", 2)),
            ("TCA_VLAN_PUSH_VLAN_PROTOCOL", socket.htons(_ETH_VLAN)),
            v_action=_PUSH,
        ),
        action("mirred", PIPE, eaction=_MIRROR_INGRESS, ifindex=host("announcer")),
        action("vlan", CONTINUE, v_action=_POP),
    )
    for suffix, who, program in (
        ("", "A guest that may send from any MAC", _announcement()),
        ("_held", "A guest", _announcement(_MAC)),
    ):
        yield (
            f"filter.announcement{suffix}",
            bpf(
                f"{who} says who has an address, or looks whether somebody has: a copy for the"
                " tenant's other hosts.",
                program,
                "action vlan push id {vlan} protocol 802.1Q pipe"
                " action mirred ingress mirror dev {announcer} pipe action vlan pop continue",
                copied,
                SECOND,
            ),
        )
    yield (
        "filter.sender",
        flower(
            "A MAC that this guest may send from; others may too, so the bridge knows it nowhere.",
            "src_mac {mac} action pass",
            (
                ("TCA_FLOWER_KEY_ETH_SRC", mac("mac")),
                ("TCA_FLOWER_KEY_ETH_SRC_MASK", "ff:ff:ff:ff:ff:ff"),
                actions("FLOWER", action("gact", PASS)),
            ),
            preference=THIRD,
        ),
    )
    yield (
        "filter.other_senders",
        flower(
            "From any other MAC it is not this guest.",
            "action drop",
            (actions("FLOWER", action("gact", DROP)),),
            preference=FOURTH,
        ),
    )
    yield (
        "filter.announced",
        flower(
            "What comes by the announcer is for the tunnel: the guests here have heard it.",
            f"indev {ANNOUNCER} action drop",
            (("TCA_FLOWER_INDEV", ANNOUNCER), actions("FLOWER", action("gact", DROP))),
            parent=EGRESS,
        ),
    )
