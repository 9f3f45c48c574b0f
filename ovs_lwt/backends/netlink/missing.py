"""What pyroute2 0.9.7 does not know yet of rtnetlink, through its own extension points.

Each addition as it could stand in pyroute2 itself: the VNI filter of a VXLAN device, the messages
behind `bridge vni`, routes that encapsulate in IP, routes by MPLS label, tc's bpf; and its flower,
which `veth` has. Importing this module registers them; nothing that pyroute2 knows already changes.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Final

from pyroute2.netlink import NLA_F_NESTED, nla, nlmsg
from pyroute2.netlink.rtnl import tcmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ifinfmsg.plugins.vxlan import vxlan as known_vxlan
from pyroute2.netlink.rtnl.marshal import MarshalRtnl
from pyroute2.netlink.rtnl.rtmsg import LWTUNNEL_ENCAP_IP, LWTUNNEL_ENCAP_IP6, rtmsg_base
from pyroute2.netlink.rtnl.tcmsg import sched_bpf
from pyroute2.netlink.rtnl.tcmsg.common_act import tca_act_prio

from ovs_lwt.veth import flower

# include/uapi/linux/rtnetlink.h
RTM_NEWTUNNEL: Final = 120
RTM_DELTUNNEL: Final = 121
RTM_GETTUNNEL: Final = 122


class vxlan(known_vxlan):  # type: ignore[misc]  # noqa: N801 (the kind's name, as pyroute2 has it)
    """A VXLAN device that may filter by VNI: `ip link add … type vxlan external vnifilter`.

    IFLA_VXLAN_VNIFILTER follows IFLA_VXLAN_DF in include/uapi/linux/if_link.h.
    """

    nla_map = (*known_vxlan.nla_map, ("IFLA_VXLAN_VNIFILTER", "uint8"))


class tunnel_msg(nlmsg):  # type: ignore[misc]  # noqa: N801 (the structure's name in the kernel)
    """Which VNIs a VXLAN device takes part in: `bridge vni`.

    C structure (include/uapi/linux/if_link.h)::

        struct tunnel_msg {
            __u8  family;
            __u8  flags;
            __u16 reserved2;
            __u32 ifindex;
        };

    One message holds any number of entries; an entry with an END is a range, both ends included.
    """

    __slots__ = ()
    prefix = "VXLAN_VNIFILTER_"
    fields = (("family", "B"), ("flags", "B"), ("reserved2", "H"), ("ifindex", "I"))
    nla_map = (("VXLAN_VNIFILTER_UNSPEC", "none"), ("VXLAN_VNIFILTER_ENTRY", "entry"))

    class entry(nla):  # type: ignore[misc]  # noqa: N801
        """enum VXLAN_VNIFILTER_ENTRY_* (include/uapi/linux/if_link.h)."""

        __slots__ = ()
        prefix = "VXLAN_VNIFILTER_ENTRY_"
        nla_flags = NLA_F_NESTED
        nla_map = (
            ("VXLAN_VNIFILTER_ENTRY_UNSPEC", "none"),
            ("VXLAN_VNIFILTER_ENTRY_START", "uint32"),
            ("VXLAN_VNIFILTER_ENTRY_END", "uint32"),
            ("VXLAN_VNIFILTER_ENTRY_GROUP", "ip4addr"),
            ("VXLAN_VNIFILTER_ENTRY_GROUP6", "ip6addr"),
            ("VXLAN_VNIFILTER_ENTRY_STATS", "hex"),
        )


class ip_encap_info(nla):  # type: ignore[misc]  # noqa: N801
    """A route's `encap ip`: enum lwtunnel_ip_t (include/uapi/linux/lwtunnel.h)."""

    __slots__ = ()
    prefix = "LWTUNNEL_IP_"
    nla_map = (
        ("LWTUNNEL_IP_UNSPEC", "none"),
        ("LWTUNNEL_IP_ID", "be64"),
        ("LWTUNNEL_IP_DST", "ip4addr"),
        ("LWTUNNEL_IP_SRC", "ip4addr"),
        ("LWTUNNEL_IP_TTL", "uint8"),
        ("LWTUNNEL_IP_TOS", "uint8"),
        ("LWTUNNEL_IP_FLAGS", "be16"),
        ("LWTUNNEL_IP_PAD", "hex"),
        ("LWTUNNEL_IP_OPTS", "hex"),
    )


class ip6_encap_info(nla):  # type: ignore[misc]  # noqa: N801
    """A route's `encap ip6`: enum lwtunnel_ip6_t (include/uapi/linux/lwtunnel.h)."""

    __slots__ = ()
    prefix = "LWTUNNEL_IP6_"
    nla_map = (
        ("LWTUNNEL_IP6_UNSPEC", "none"),
        ("LWTUNNEL_IP6_ID", "be64"),
        ("LWTUNNEL_IP6_DST", "ip6addr"),
        ("LWTUNNEL_IP6_SRC", "ip6addr"),
        ("LWTUNNEL_IP6_HOPLIMIT", "uint8"),
        ("LWTUNNEL_IP6_TC", "uint8"),
        ("LWTUNNEL_IP6_FLAGS", "be16"),
        ("LWTUNNEL_IP6_PAD", "hex"),
        ("LWTUNNEL_IP6_OPTS", "hex"),
    )


class bpf(nla):  # type: ignore[misc]  # noqa: N801
    """The classifier bpf: enum TCA_BPF_* (include/uapi/linux/pkt_cls.h). pyroute2's own takes a
    program of the newer kind alone, by its file, and no action but such a program.
    """

    __slots__ = ()
    prefix = "TCA_BPF_"
    nla_map = (
        ("TCA_BPF_UNSPEC", "none"),
        ("TCA_BPF_ACT", "tca_act_prio"),
        ("TCA_BPF_POLICE", "hex"),
        ("TCA_BPF_CLASSID", "uint32"),
        ("TCA_BPF_OPS_LEN", "uint16"),
        ("TCA_BPF_OPS", "cdata"),
        ("TCA_BPF_FD", "uint32"),
        ("TCA_BPF_NAME", "asciiz"),
        ("TCA_BPF_FLAGS", "uint32"),
    )

    tca_act_prio = tca_act_prio


class label_msg(rtmsg_base, nlmsg):  # type: ignore[misc]  # noqa: N801
    """A route by MPLS label. pyroute2's own message refuses RTA_TTL_PROPAGATE, and cannot ask for
    routes: it says of every one that it is unicast and 20 bits long.
    """

    __slots__ = ()


def register() -> None:
    """Make pyroute2 use these; doing it twice is fine."""
    ifinfmsg.ifinfo.register_link_kind(module={"vxlan": vxlan})
    for number in (RTM_NEWTUNNEL, RTM_DELTUNNEL, RTM_GETTUNNEL):
        MarshalRtnl.msg_map[number] = tunnel_msg
    flower.register()
    # As a queueing discipline it stays what it was.
    tcmsg.plugins["bpf"] = SimpleNamespace(**vars(sched_bpf) | {"options": bpf})
    rtmsg_base.encaps[LWTUNNEL_ENCAP_IP] = ip_encap_info
    rtmsg_base.encaps[LWTUNNEL_ENCAP_IP6] = ip6_encap_info


register()
