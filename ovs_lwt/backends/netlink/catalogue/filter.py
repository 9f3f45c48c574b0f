"""Filters of tc on the shared device: from whom packets may come out of it, and whose they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pyroute2.netlink.rtnl import TC_H_CLSACT

from ovs_lwt.backends.netlink.catalogue.classifier import (
    CONTINUE,
    DEV,
    DROP,
    SECOND,
    THIRD,
    action,
    actions,
    flower,
)
from ovs_lwt.backends.netlink.kinds import EGRESS, QDISC
from ovs_lwt.backends.netlink.slots import Slot, host, ipv4, ipv6, network
from ovs_lwt.backends.netlink.templates import Attributes, Template

_CLSACT: Final = 0xFFFF0000  # TC_H_CLSACT's own handle (include/uapi/linux/pkt_sched.h)


def templates() -> Iterator[tuple[str, Template]]:
    """Their names and templates."""
    yield (
        "qdisc.clsact",
        Template(
            QDISC,
            "Filters on this device hang here.",
            "tc",
            "qdisc replace dev {dev} clsact",
            {"index": DEV, "handle": _CLSACT, "parent": TC_H_CLSACT},
            (("TCA_KIND", "clsact"),),
        ),
    )
    yield (
        "filter.tunnel_mark",
        flower(
            "What comes out of a tunnel with the tenant's VNI gets the tenant's mark.",
            "enc_key_id {vni} action skbedit mark {mark} continue",
            (("TCA_FLOWER_KEY_ENC_KEY_ID", network("vni", 4)), _skbedit(host("mark"))),
        ),
    )
    for suffix, family, vtep in (("", "IPV4", ipv4("vtep")), ("6", "IPV6", ipv6("vtep6"))):
        yield (
            f"filter.known_vtep{suffix}",
            flower(
                "What comes out of a tunnel from a VTEP that we know may pass.",
                f"enc_src_ip {{{vtep.name}}}",
                ((f"TCA_FLOWER_KEY_ENC_{family}_SRC", vtep),),
                preference=SECOND,
            ),
        )
    yield (
        "filter.other_vteps",
        flower(
            "All else that comes out of tunnels is dropped.",
            "action drop",
            (actions("FLOWER", action("gact", DROP)),),
            preference=THIRD,
        ),
    )
    yield (
        "filter.outer_mark",
        flower(
            "A tenant's mark ends here: the tunnel's own packets are the host's.",
            "action skbedit mark 0 continue",
            (_skbedit(0),),
            parent=EGRESS,
        ),
    )


def _skbedit(mark: int | Slot) -> tuple[str, Attributes]:
    return actions("FLOWER", action("skbedit", CONTINUE, ("TCA_SKBEDIT_MARK", mark)))
