"""The kinds of entries the kernel keeps for us: their messages, and what identifies an entry.

An entry is compared as the kernel lists it. So a kind says which parts of a message are the key
and which the value, and the templates send attributes in the kernel's own order and with all that
it lists: what was sent is then, byte for byte, what is read back. Parts in neither (ages, probes,
reference counts) are the kernel's business.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Final

from pyroute2.netlink import NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, rtnl
from pyroute2.netlink.rtnl.br_vlan import br_vlan_msg
from pyroute2.netlink.rtnl.fibmsg import fibmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import NTF_EXT_LEARNED, NTF_MASTER, NUD_PERMANENT, ndmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg
from pyroute2.netlink.rtnl.tcmsg import tcmsg

from ovs_lwt.backends.netlink.missing import (
    RTM_DELTUNNEL,
    RTM_NEWTUNNEL,
    label_msg,
    tunnel_msg,
)

PROTOCOL: Final = 76
"""Says whose a route, rule or neighbour is, as zebra's say 11: 'L', not in use elsewhere."""

HEADER: Final = 16
"""struct nlmsghdr: length 4, type 2, flags 2, sequence number 4, port 4; in the host's order."""


@dataclass(frozen=True, slots=True)
class Within:
    """These bytes of the value of a nested attribute, as far as it has them. way: its types"""

    way: tuple[int, ...]
    octets: slice


Part = slice | int | tuple[int, ...] | Within
"""Of a message: these bytes of it, or the attribute of this type with its header; several types are
the way to a nested one."""


def _low(start: int, width: int) -> slice:
    """The lowest byte of a number that begins at `start`."""
    place = start if sys.byteorder == "little" else start + width - 1
    return slice(place, place + 1)


_FAMILY: Final = slice(HEADER, HEADER + 1)  # of every header that follows
_IFINDEX: Final = slice(HEADER + 4, HEADER + 8)  # ndmsg, tunnel_msg
_STATE: Final = slice(HEADER + 8, HEADER + 10)  # ndmsg
_FLAGS: Final = slice(HEADER + 10, HEADER + 11)  # ndmsg
_DST_LEN_TO_TOS: Final = slice(HEADER + 1, HEADER + 4)  # rtmsg, fib_rule_hdr
_PROTO_TO_TYPE: Final = slice(HEADER + 5, HEADER + 8)  # rtmsg
# Of a message with one attribute, which holds one attribute: a VLAN's flags and its number.
_VLAN_FLAGS: Final = slice(HEADER + 16, HEADER + 18)  # br_vlan_msg, struct bridge_vlan_info
_VLAN: Final = slice(HEADER + 18, HEADER + 20)
# The same, of ifinfmsg: IFLA_AF_SPEC, IFLA_BRIDGE_VLAN_TUNNEL_INFO, and in that VNI and VLAN.
_TUNNEL_VNI: Final = slice(HEADER + 28, HEADER + 32)
_TUNNEL_VLAN: Final = slice(HEADER + 36, HEADER + 38)
_ACTION: Final = slice(HEADER + 7, HEADER + 8)  # fib_rule_hdr
_LOW_FLAGS: Final = _low(HEADER + 8, 4)  # rtmsg, fib_rule_hdr

# enum NDA_*, RTA_*, FRA_* (include/uapi/linux/neighbour.h, rtnetlink.h, fib_rules.h).
NDA_DST, NDA_LLADDR, NDA_VLAN, NDA_PORT, NDA_VNI, NDA_IFINDEX = 1, 2, 5, 6, 7, 8
NDA_SRC_VNI, NDA_PROTOCOL, NDA_NH_ID = 11, 12, 13
_RTA_DST, _RTA_SRC, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_PREFSRC = 1, 2, 4, 5, 6, 7
_RTA_METRICS, _RTA_MULTIPATH, _RTA_FLOW, _RTA_TABLE, _RTA_VIA, _RTA_NEWDST = 8, 9, 11, 15, 18, 19
_RTA_ENCAP_TYPE, _RTA_ENCAP, _RTA_NH_ID = 21, 22, 30
# enum lwtunnel_ip_t but for its padding (7), which kernels add that want 64-bit numbers aligned;
# other encapsulations have fewer.
_ENCAP: Final[tuple[Part, ...]] = tuple(
    (_RTA_ENCAP, attribute) for attribute in (1, 2, 3, 4, 5, 6, 8)
)
_ROUTE_VALUE: Final[tuple[Part, ...]] = (
    *(_RTA_OIF, _RTA_GATEWAY, _RTA_VIA, _RTA_ENCAP_TYPE, *_ENCAP, _RTA_PREFSRC),
    *(_RTA_METRICS, _RTA_MULTIPATH, _RTA_FLOW, _RTA_NEWDST, _RTA_NH_ID),
)
_FRA_PRIORITY, _FRA_SUPPRESS_PREFIXLEN, FRA_TABLE, FRA_PROTOCOL, _FRA_LAST = 6, 14, 15, 21, 24
# The kernel lists "suppress nothing" where nothing was said.
_RULE_ATTRIBUTES = tuple(set(range(1, _FRA_LAST + 1)) - {_FRA_SUPPRESS_PREFIXLEN})

_KERNELS: Final = 2  # RTPROT_KERNEL
_OFFLOADED: Final = 0x20  # NTF_OFFLOADED
_VOLATILE_NTF: Final = _OFFLOADED | 0x80  # NTF_ROUTER, learned from advertisements
_VOLATILE_RTNH: Final = (
    0x01 | 0x08 | 0x10 | 0x20 | 0x40
)  # DEAD, OFFLOAD, LINKDOWN, UNRESOLVED, TRAP
_FIB_RULE_INVERT: Final = 0x02


# struct tcmsg
_HANDLE: Final = slice(HEADER + 8, HEADER + 12)
_PARENT_TO_INFO: Final = slice(HEADER + 12, HEADER + 20)
_PREFERENCE: Final = HEADER + (18 if sys.byteorder == "little" else 16)  # half of tcm_info

INGRESS, EGRESS = 0xFFFFFFF2, 0xFFFFFFF3
"""Where filters hang: TC_H_CLSACT with TC_H_MIN_INGRESS, _EGRESS (linux/pkt_sched.h)."""

# enum TCA_*, TCA_FLOWER_*, TCA_BPF_* (rtnetlink.h, pkt_cls.h).
TCA_KIND, _TCA_OPTIONS = 1, 2
_FLOWER_INDEV, _FLOWER_ACT, _FLOWER_ETH_SRC, _FLOWER_ENC_KEY_ID = 2, 3, 6, 26
_FLOWER_ENC_IPV4_SRC, _FLOWER_ENC_IPV6_SRC = 27, 31
_BPF_ACT, _BPF_OPS = 1, 5
_ACT_KIND, _ACT_OPTIONS = 1, 2
_ACTIONS: Final = ((_FLOWER_ACT, 1), (_BPF_ACT, 1), (_BPF_ACT, 2), (_BPF_ACT, 3))
_ACTS: Final = (
    (2, slice(8, 12)),  # TCA_*_PARMS, of struct tc_gen the verdict
    (2, slice(20, 28)),  # behind that: push or pop; TCA_INGRESS_MIRROR and the device
    (3, slice(0, 2)),  # TCA_VLAN_PUSH_VLAN_ID
    (4, slice(0, 2)),  # TCA_VLAN_PUSH_VLAN_PROTOCOL
    (5, slice(0, 4)),  # TCA_SKBEDIT_MARK
)
"""What an action does: attribute, and bytes of its value (tc_act/*.h). Of the other actions these
are padding, without a value, or nothing."""


def _action(*way: int) -> Iterator[Part]:
    """What the action is that stands there. Its index is the kernel's business."""
    yield (*way, _ACT_KIND)
    for attribute, octets in _ACTS:
        yield Within((*way, _ACT_OPTIONS, attribute), octets)


@dataclass(frozen=True, slots=True)
class Mine:
    """How our own entries are told from others': the last byte of `part`, masked, is `value`."""

    part: Part
    value: int
    mask: int = 0xFF


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """A kind of entry.

    message: pyroute2's class; new, delete: message types; add: flags of a message that adds, or
    puts right what is there; body: where a message's attributes begin; key, value: its parts
    mine: None where all on a device of ours is ours
    exists: what the kernel answers to adding what is there already
    first: what is to go, or to change, is deleted before anything is written: the kernel would
    refuse the new value, or keep part of the old one
    order: the number by which the kernel goes through entries; they are deleted in that order
    listed: (byte, bits kept, bits set): what makes a listed header one that could be sent
    """

    name: str
    message: Any
    new: int
    delete: int
    add: int
    body: int
    key: tuple[Part, ...]
    value: tuple[Part, ...] = ()
    mine: Mine | None = None
    exists: frozenset[int] = frozenset()
    listed: tuple[int, int, int] | None = None
    first: bool = False
    order: Part | None = None

    @property
    def nested(self) -> frozenset[tuple[int, ...]]:
        """The attributes on the way to parts."""
        parts = (*self.key, *self.value)
        ways = [part for part in parts if isinstance(part, tuple)]
        ways += [part.way for part in parts if isinstance(part, Within)]
        return frozenset(way[:depth] for way in ways for depth in range(1, len(way)))


ABSENT: Final = frozenset({errno.ENOENT, errno.ESRCH, errno.ENODEV, errno.ENXIO})
"""What the kernel answers to deleting what is not there, or was on a device that is gone."""

_REPLACE: Final = NLM_F_CREATE | NLM_F_REPLACE
_NEIGHBOUR: Final = (ndmsg, rtnl.RTM_NEWNEIGH, rtnl.RTM_DELNEIGH)
_PERMANENT: Final = Mine(_low(_STATE.start, 2), NUD_PERMANENT, NUD_PERMANENT)
_REMOTE_DETAIL: Final = (_STATE, _FLAGS, NDA_PORT, NDA_VNI, NDA_IFINDEX)
_AS_LISTED: Final = (_FLAGS.start, 0xFF & ~_VOLATILE_NTF, 0)

VNI: Final = Kind(
    name="VNI filter",
    message=tunnel_msg,
    new=RTM_NEWTUNNEL,
    delete=RTM_DELTUNNEL,
    add=NLM_F_CREATE,
    body=HEADER + 8,
    key=(_IFINDEX, 1),
)
"""A VNI that a VXLAN device takes part in (`bridge vni`)."""

VLAN: Final = Kind(
    name="VLAN",
    message=br_vlan_msg,
    new=rtnl.RTM_NEWVLAN,
    delete=rtnl.RTM_DELVLAN,
    add=NLM_F_CREATE,
    body=HEADER + 8,
    key=(_IFINDEX, _VLAN),
    value=(_VLAN_FLAGS,),
)
"""A VLAN that a bridge's port is in, tagged or as its own."""

TUNNEL_VLAN: Final = Kind(
    name="VLAN's VNI",
    message=ifinfmsg,
    new=rtnl.RTM_SETLINK,
    delete=rtnl.RTM_DELLINK,
    add=0,
    body=HEADER + 16,
    key=(_IFINDEX, _TUNNEL_VLAN),
    value=(_TUNNEL_VNI,),
    # What it is mapped to already; another VNI, or the same for another VLAN, is EEXIST as well,
    # and is deleted first.
    exists=frozenset({errno.EEXIST}),
    first=True,
)
"""What the VXLAN device makes of a VLAN (`bridge vlan … tunnel_info`)."""

FDB: Final = Kind(
    "FDB entry",
    *_NEIGHBOUR,
    add=_REPLACE,
    body=HEADER + 12,
    key=(_IFINDEX, NDA_LLADDR, NDA_SRC_VNI),
    value=(*_REMOTE_DETAIL, NDA_DST, NDA_NH_ID),
    mine=_PERMANENT,
    listed=_AS_LISTED,
)
"""(VNI, MAC) -> VTEP, in the VXLAN device itself (`self`)."""

FLOOD: Final = Kind(
    "flood entry",
    *_NEIGHBOUR,
    add=NLM_F_CREATE | NLM_F_APPEND,
    body=HEADER + 12,
    key=(_IFINDEX, NDA_LLADDR, NDA_SRC_VNI, NDA_DST, NDA_NH_ID),
    value=_REMOTE_DETAIL,
    mine=_PERMANENT,
    listed=_AS_LISTED,
)
"""A member of a VNI's flood list: an FDB entry of the all-zero MAC, of which there may be many."""

BRIDGE_FDB: Final = Kind(
    "bridge FDB entry",
    *_NEIGHBOUR,
    add=_REPLACE,
    body=HEADER + 12,
    key=(_IFINDEX, NDA_LLADDR, NDA_VLAN),
    value=(_STATE, _FLAGS),
    mine=Mine(_FLAGS, NTF_EXT_LEARNED, NTF_EXT_LEARNED),
    # What another has made static or the bridge's own stays that when we teach it.
    first=True,
    # NTF_MASTER asks for the bridge's own table; the listing names the bridge instead.
    listed=(_FLAGS.start, 0xFF & ~_VOLATILE_NTF, NTF_MASTER),
)
"""(VLAN, MAC) -> port, in the bridge (`master`)."""

NEIGHBOUR: Final = Kind(
    "neighbour",
    *_NEIGHBOUR,
    add=_REPLACE,
    body=HEADER + 12,
    key=(_FAMILY, _IFINDEX, NDA_DST),
    value=(_STATE, _FLAGS, NDA_LLADDR, NDA_PROTOCOL),
    mine=Mine(NDA_PROTOCOL, PROTOCOL),
    # Whether it is a router (NTF_ROUTER) is ours to say: nothing is learnt here.
    listed=(_FLAGS.start, 0xFF & ~_OFFLOADED, 0),
)
"""IP -> MAC on a device: what the bridge answers with, and how the route plane reaches a VTEP."""

ROUTE: Final = Kind(
    name="route",
    message=rtmsg,
    new=rtnl.RTM_NEWROUTE,
    delete=rtnl.RTM_DELROUTE,
    add=_REPLACE,
    body=HEADER + 12,
    key=(_FAMILY, _DST_LEN_TO_TOS, _RTA_TABLE, _RTA_DST, _RTA_SRC, _RTA_PRIORITY),
    value=(_PROTO_TO_TYPE, _LOW_FLAGS, *_ROUTE_VALUE),
    mine=Mine(slice(_PROTO_TO_TYPE.start, _PROTO_TO_TYPE.start + 1), PROTOCOL),
    listed=(_LOW_FLAGS.start, 0xFF & ~_VOLATILE_RTNH, 0),
)
"""A route of one table."""

LABEL: Final = Kind(
    name="label",
    message=label_msg,
    new=rtnl.RTM_NEWROUTE,
    delete=rtnl.RTM_DELROUTE,
    add=_REPLACE,
    body=HEADER + 12,
    key=(_FAMILY, _DST_LEN_TO_TOS, _RTA_DST),
    value=(_PROTO_TO_TYPE, _LOW_FLAGS, *_ROUTE_VALUE),
    mine=Mine(slice(_PROTO_TO_TYPE.start, _PROTO_TO_TYPE.start + 1), PROTOCOL),
    listed=(_LOW_FLAGS.start, 0xFF & ~_VOLATILE_RTNH, 0),
)
"""Where packets with an MPLS label go (`ip -f mpls route`)."""

QDISC: Final = Kind(
    name="qdisc",
    message=tcmsg,
    new=rtnl.RTM_NEWQDISC,
    delete=rtnl.RTM_DELQDISC,
    add=NLM_F_CREATE | NLM_F_EXCL,
    body=HEADER + 20,
    key=(_IFINDEX, TCA_KIND),
    # Never: on a guest's port the filters of others hang on it as well.
    mine=Mine(TCA_KIND, 1, 0),
    exists=frozenset({errno.EEXIST}),
)
"""What filters on a device hang on: clsact. It is never taken away."""

FILTER: Final = Kind(
    name="filter",
    message=tcmsg,
    new=rtnl.RTM_NEWTFILTER,
    delete=rtnl.RTM_DELTFILTER,
    add=NLM_F_CREATE,
    body=HEADER + 20,
    key=(_IFINDEX, _HANDLE, _PARENT_TO_INFO),
    value=(
        TCA_KIND,
        *(
            (_TCA_OPTIONS, each)
            for each in (_FLOWER_INDEV, _FLOWER_ETH_SRC, _FLOWER_ENC_KEY_ID, _BPF_OPS)
        ),
        *((_TCA_OPTIONS, each) for each in (_FLOWER_ENC_IPV4_SRC, _FLOWER_ENC_IPV6_SRC)),
        *chain.from_iterable(_action(_TCA_OPTIONS, *way) for way in _ACTIONS),
    ),
    mine=Mine(slice(_PREFERENCE, _PREFERENCE + 1), PROTOCOL),
)
"""A classifier on a device, and what it does. Counters and times are the kernel's business."""

RULE: Final = Kind(
    name="rule",
    message=fibmsg,
    new=rtnl.RTM_NEWRULE,
    delete=rtnl.RTM_DELRULE,
    # There is no replacing: without EXCL the kernel would take the same rule twice.
    add=NLM_F_CREATE | NLM_F_EXCL,
    body=HEADER + 12,
    key=(_FAMILY, _DST_LEN_TO_TOS, _ACTION, _LOW_FLAGS, *_RULE_ATTRIBUTES),
    mine=Mine(FRA_PROTOCOL, PROTOCOL),
    exists=frozenset({errno.EEXIST}),
    listed=(_LOW_FLAGS.start, _FIB_RULE_INVERT, 0),
    # As long as a rule that leads on is there, so is what it leads to.
    order=_FRA_PRIORITY,
)
"""A rule of `ip rule`: all of it is its key."""

LOCAL_RULE: Final = replace(
    RULE,
    name="local rule",
    key=(_FAMILY, _ACTION, FRA_TABLE, _FRA_PRIORITY, FRA_PROTOCOL),
    mine=Mine(FRA_PROTOCOL, _KERNELS),
    order=None,
)
"""A rule that looks up the host's own addresses. Ours is never deleted, the kernel's is: so its
place is another, but there is always one.
"""

KINDS: Final = (
    # What drops stands before what lets through, and goes after it.
    QDISC,
    FILTER,
    VNI,
    VLAN,
    TUNNEL_VLAN,
    FDB,
    FLOOD,
    BRIDGE_FDB,
    NEIGHBOUR,
    ROUTE,
    LABEL,
    RULE,
    LOCAL_RULE,
)
"""In the order in which they are added; deleted in the reverse order."""
