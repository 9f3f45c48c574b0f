"""tc's classifier flower, which pyroute2 0.9.7 does not know yet, by its own extension point."""

from __future__ import annotations

from types import SimpleNamespace

from pyroute2.netlink import nla
from pyroute2.netlink.rtnl import tcmsg
from pyroute2.netlink.rtnl.tcmsg.common_act import tca_act_prio


class flower(nla):  # type: ignore[misc]  # noqa: N801 (the kind's name, as pyroute2 has them)
    """The classifier flower: enum TCA_FLOWER_* (include/uapi/linux/pkt_cls.h), of which here: what
    it does, where a packet goes to, and the tunnel that it has come out of.
    """

    __slots__ = ()
    prefix = "TCA_FLOWER_"
    nla_map = (
        (2, "TCA_FLOWER_INDEV", "asciiz"),
        (3, "TCA_FLOWER_ACT", "tca_act_prio"),
        (4, "TCA_FLOWER_KEY_ETH_DST", "l2addr"),
        (5, "TCA_FLOWER_KEY_ETH_DST_MASK", "l2addr"),
        (6, "TCA_FLOWER_KEY_ETH_SRC", "l2addr"),
        (7, "TCA_FLOWER_KEY_ETH_SRC_MASK", "l2addr"),
        (8, "TCA_FLOWER_KEY_ETH_TYPE", "be16"),
        (12, "TCA_FLOWER_KEY_IPV4_DST", "ip4addr"),
        (13, "TCA_FLOWER_KEY_IPV4_DST_MASK", "ip4addr"),
        (16, "TCA_FLOWER_KEY_IPV6_DST", "ip6addr"),
        (17, "TCA_FLOWER_KEY_IPV6_DST_MASK", "ip6addr"),
        (22, "TCA_FLOWER_FLAGS", "uint32"),
        (26, "TCA_FLOWER_KEY_ENC_KEY_ID", "be32"),
        (27, "TCA_FLOWER_KEY_ENC_IPV4_SRC", "ip4addr"),
        (28, "TCA_FLOWER_KEY_ENC_IPV4_SRC_MASK", "ip4addr"),
        (31, "TCA_FLOWER_KEY_ENC_IPV6_SRC", "ip6addr"),
        (32, "TCA_FLOWER_KEY_ENC_IPV6_SRC_MASK", "ip6addr"),
        (86, "TCA_FLOWER_IN_HW_COUNT", "uint32"),
    )

    tca_act_prio = tca_act_prio


def register() -> None:
    """Make pyroute2 use it; doing it twice is fine."""
    tcmsg.plugins["flower"] = SimpleNamespace(options=flower)
