"""Filters of tc on the shared device: from whom packets may come out of it, and whose they are."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Final

from pyroute2.netlink.rtnl import TC_H_CLSACT

from ovs_lwt.backends.netlink.kinds import EGRESS, FILTER, INGRESS, PROTOCOL, QDISC
from ovs_lwt.backends.netlink.slots import Slot, host, ipv4, ipv6, network
from ovs_lwt.backends.netlink.templates import Attributes, Template

_DEV: Final = host("dev", signed=True)
_CLSACT: Final = 0xFFFF0000  # TC_H_CLSACT's own handle (include/uapi/linux/pkt_sched.h)
_EVERY_PROTOCOL: Final = socket.htons(0x0003)  # ETH_P_ALL (include/uapi/linux/if_ether.h)
# include/uapi/linux/pkt_cls.h: on to the next filter; gone.
_UNSPEC, _SHOT = -1, 2
_MARKS, _KNOWN, _OTHERS = (PROTOCOL + (place << 8) for place in range(3))
"""Preferences, in the order in which filters are asked; the lowest byte says that one is ours."""
_PARMS: Final = {"index": 0, "capab": 0, "action": _UNSPEC, "refcnt": 0, "bindcnt": 0}


def templates() -> Iterator[tuple[str, Template]]:
    """Their names and templates."""
    yield (
        "qdisc.clsact",
        Template(
            QDISC,
            "Filters on this device hang here.",
            "tc",
            "qdisc add dev {dev} clsact",
            {"index": _DEV, "handle": _CLSACT, "parent": TC_H_CLSACT},
            (("TCA_KIND", "clsact"),),
        ),
    )
    yield (
        "filter.tunnel_mark",
        _flower(
            "What comes out of a tunnel with the tenant's VNI gets the tenant's mark.",
            "enc_key_id {vni} action skbedit mark {mark} continue",
            (("TCA_FLOWER_KEY_ENC_KEY_ID", network("vni", 4)), _skbedit(host("mark"))),
        ),
    )
    for suffix, family, vtep in (("", "IPV4", ipv4("vtep")), ("6", "IPV6", ipv6("vtep6"))):
        yield (
            f"filter.known_vtep{suffix}",
            _flower(
                "What comes out of a tunnel from a VTEP that we know may pass.",
                f"enc_src_ip {{{vtep.name}}}",
                ((f"TCA_FLOWER_KEY_ENC_{family}_SRC", vtep),),
                preference=_KNOWN,
            ),
        )
    yield (
        "filter.other_vteps",
        _flower(
            "All else that comes out of tunnels is dropped.",
            "action drop",
            (_action("gact", (("TCA_GACT_PARMS", _PARMS | {"action": _SHOT}),)),),
            preference=_OTHERS,
        ),
    )
    yield (
        "filter.outer_mark",
        _flower(
            "A tenant's mark ends here: the tunnel's own packets are the host's.",
            "action skbedit mark 0 continue",
            (_skbedit(0),),
            parent=EGRESS,
        ),
    )


def _flower(
    why: str,
    text: str,
    options: Attributes,
    parent: int = INGRESS,
    preference: int = _MARKS,
) -> Template:
    """A filter. text: of `tc filter … flower`; options: what it matches, and what it does"""
    where = "ingress" if parent == INGRESS else "egress"
    return Template(
        FILTER,
        why,
        "tc",
        f"filter replace dev {{dev}} {where} protocol all pref {preference} handle {{handle}}"
        f" flower {text}",
        {
            "index": _DEV,
            "handle": host("handle"),
            "parent": parent,
            "info": preference << 16 | _EVERY_PROTOCOL,
        },
        (("TCA_KIND", "flower"), ("TCA_OPTIONS", options)),
    )


def _skbedit(mark: int | Slot) -> tuple[str, Attributes]:
    return _action("skbedit", (("TCA_SKBEDIT_PARMS", _PARMS), ("TCA_SKBEDIT_MARK", mark)))


def _action(kind: str, options: Attributes) -> tuple[str, Attributes]:
    action = (("TCA_ACT_KIND", kind), ("TCA_ACT_OPTIONS", options))
    return "TCA_FLOWER_ACT", (("TCA_ACT_PRIO_1", action),)
