"""Every template, by name: the entries of the bridge plane and of the route plane, as data.

Attributes stand in the order in which the kernel lists them (vxlan_fdb_info, fdb_fill_info,
neigh_fill_info, fib_dump_info, rt6_fill_node, fib_nl_fill_rule), with all that it lists, so that
an entry reads back as it was sent.
"""

from __future__ import annotations

from collections.abc import Iterator
from socket import AF_BRIDGE, AF_INET, AF_INET6
from typing import Final

from pyroute2.netlink.rtnl import rt_scope
from pyroute2.netlink.rtnl.fibmsg import FR_ACT_GOTO, FR_ACT_TO_TBL
from pyroute2.netlink.rtnl.ndmsg import (
    NTF_EXT_LEARNED,
    NTF_MASTER,
    NTF_SELF,
    NUD_NOARP,
    NUD_PERMANENT,
    NUD_REACHABLE,
)
from pyroute2.netlink.rtnl.rtmsg import (
    LWTUNNEL_ENCAP_IP,
    LWTUNNEL_ENCAP_IP6,
    LWTUNNEL_ENCAP_MPLS,
    RTNH_F_ONLINK,
)

from ovs_lwt.backends.netlink.kinds import (
    BRIDGE_FDB,
    FDB,
    FLOOD,
    NEIGHBOUR,
    PROTOCOL,
    ROUTE,
    RULE,
    VNI,
)
from ovs_lwt.backends.netlink.slots import Slot, host, ipv4, ipv6, ipv6_via, label, mac, network
from ovs_lwt.backends.netlink.slots import text as name_of
from ovs_lwt.backends.netlink.templates import Attributes, Template

_DEV: Final = host("dev")
_NDM_DEV: Final = host("dev", signed=True)
_SELF: Final = {
    "family": AF_BRIDGE,
    "ifindex": _NDM_DEV,
    "state": NUD_NOARP | NUD_PERMANENT,
    "flags": NTF_SELF,
}
_VTEP, _VTEP6 = ipv4("vtep"), ipv6("vtep6")
_ALL_ZERO: Final = "00:00:00:00:00:00"
_UNICAST: Final = 1  # RTN_UNICAST (include/uapi/linux/rtnetlink.h)
_FORWARDED6: Final = 1024  # IP6_RT_PRIO_USER: the metric that an IPv6 route has if none is given


def _encap_ip(remote: Slot) -> Attributes:
    """`encap ip id VNI dst VTEP`, as ip_tun_fill_encap_info lists it."""
    family, source, limit, traffic_class, unset = (
        ("LWTUNNEL_IP_", "SRC", "TTL", "TOS", "0.0.0.0")
        if remote.width == 4
        else ("LWTUNNEL_IP6_", "SRC", "HOPLIMIT", "TC", "::")
    )
    info = (
        (f"{family}ID", network("vni", 8)),
        (f"{family}DST", remote),
        (f"{family}{source}", unset),
        (f"{family}{traffic_class}", 0),
        (f"{family}{limit}", 0),
        (f"{family}FLAGS", 0),
    )
    kind = LWTUNNEL_ENCAP_IP if remote.width == 4 else LWTUNNEL_ENCAP_IP6
    return (("RTA_ENCAP", info), ("RTA_ENCAP_TYPE", kind))


_ENCAP_MPLS: Final[Attributes] = (
    ("RTA_ENCAP", (("MPLS_IPTUNNEL_DST", label("label")),)),
    ("RTA_ENCAP_TYPE", LWTUNNEL_ENCAP_MPLS),
)


def _route(
    family: int, why: str, text: str, out: Attributes, *, flags: int, scope: str
) -> Template:
    """A route of a tenant's table."""
    four = family == AF_INET
    prefix, slot = ("prefix", ipv4("prefix")) if four else ("prefix6", ipv6("prefix6"))
    metric: Attributes = () if four else (("RTA_PRIORITY", _FORWARDED6),)
    words = "" if four else f" metric {_FORWARDED6}"
    return Template(
        ROUTE,
        why,
        "ip",
        f"route replace table {{table}} {{{prefix}}}/{{length}} {text} proto {PROTOCOL}{words}",
        {
            "family": family,
            "dst_len": host("length", 1),
            "proto": PROTOCOL,
            "scope": rt_scope[scope],
            "type": _UNICAST,
            "flags": flags,
        },
        (("RTA_TABLE", host("table")), ("RTA_DST", slot), *metric, *out),
    )


def _routes() -> Iterator[tuple[str, Template]]:
    remote = "A prefix on another host: the packet leaves in a tunnel of its own making."
    # Over IPv6 the kernel wants a next hop that no other device reaches: a link-local one.
    via6: Attributes = (("RTA_GATEWAY", ipv6("via6")),)
    nexthops: tuple[tuple[str, int, str, Slot, Attributes], ...] = (
        ("remote_prefix", AF_INET, "via {vtep}", _VTEP, (("RTA_GATEWAY", _VTEP),)),
        (
            "remote_prefix_over6",
            AF_INET,
            "via inet6 {via6}",
            _VTEP6,
            (("RTA_VIA", ipv6_via("via6")),),
        ),
        ("remote_prefix6", AF_INET6, "via {via6}", _VTEP, via6),
        ("remote_prefix6_over6", AF_INET6, "via {via6}", _VTEP6, via6),
    )
    for name, family, via, vtep, gateway in nexthops:
        encap = "ip" if vtep is _VTEP else "ip6"
        yield (
            f"route.{name}",
            _route(
                family,
                remote,
                f"encap {encap} id {{vni}} dst {{{vtep.name}}} {via} dev {{dev}} onlink",
                (*gateway, ("RTA_OIF", _DEV), *_encap_ip(vtep)),
                flags=RTNH_F_ONLINK,
                scope="universe",
            ),
        )
    label_text = "encap mpls {label} via {via} dev {dev}"
    labelled = "A prefix on another host, reached by the label that stands for the tenant there."
    yield (
        "route.labelled_prefix",
        _route(
            AF_INET,
            labelled,
            label_text,
            (("RTA_GATEWAY", ipv4("via")), ("RTA_OIF", _DEV), *_ENCAP_MPLS),
            flags=0,
            scope="universe",
        ),
    )
    yield (
        "route.labelled_prefix6",
        _route(
            AF_INET6,
            labelled,
            label_text.replace("{via}", "{via6}"),
            (("RTA_GATEWAY", ipv6("via6")), ("RTA_OIF", _DEV), *_ENCAP_MPLS),
            flags=0,
            scope="universe",
        ),
    )
    local = "An endpoint here: its veth."
    for suffix, family, scope in (("", AF_INET, "link"), ("6", AF_INET6, "universe")):
        yield (
            f"route.local_prefix{suffix}",
            _route(family, local, "dev {dev}", (("RTA_OIF", _DEV),), flags=0, scope=scope),
        )


_MASK: Final[Attributes] = (("FRA_FWMARK", host("mark")), ("FRA_FWMASK", host("mask")))


def _rules() -> Iterator[tuple[str, Template]]:
    table = host("table")
    choices: tuple[tuple[str, str, str, int, int | Slot, Attributes, Attributes, Attributes], ...]
    choices = (
        (
            "mark",
            "What a tenant's guests send bears its mark.",
            "fwmark {mark}/{mask} lookup {table}",
            FR_ACT_TO_TBL,
            table,
            (),
            _MASK,
            (),
        ),
        (
            "port_mark",
            "The same, from one device only: an outer packet that kept a mark is not the tenant's.",
            "iif {iif} fwmark {mark}/{mask} lookup {table}",
            FR_ACT_TO_TBL,
            table,
            (("FRA_IIFNAME", name_of("iif")),),
            _MASK,
            (),
        ),
        (
            "tunnel",
            "What comes out of a tunnel bears the tenant's VNI.",
            "tun_id {vni} lookup {table}",
            FR_ACT_TO_TBL,
            table,
            (),
            (("FRA_TUN_ID", network("vni", 8)),),
            (),
        ),
        (
            "branch",
            "Marks that share these bits go on further down: nobody walks every tenant's rule.",
            "fwmark {mark}/{mask} goto {target}",
            FR_ACT_GOTO,
            0,
            (),
            _MASK,
            (("FRA_GOTO", host("target")),),
        ),
    )
    for suffix, family, tool in (("", AF_INET, "ip"), ("6", AF_INET6, "ip -6")):
        for name, why, text, action, lookup, device, what, goto in choices:
            attributes: Attributes = (
                ("FRA_TABLE", lookup),
                ("FRA_PROTOCOL", PROTOCOL),
                *device,
                ("FRA_PRIORITY", host("preference")),
                *what,
                *goto,
            )
            yield (
                f"rule.{name}{suffix}",
                Template(
                    RULE,
                    why,
                    tool,
                    f"rule add priority {{preference}} {text} protocol {PROTOCOL}",
                    {"family": family, "action": action},
                    attributes,
                ),
            )


def _entries() -> Iterator[tuple[str, Template]]:
    yield (
        "vni.member",
        Template(
            VNI,
            "A VNI that the shared device takes part in; it drops all others.",
            "bridge",
            "vni add vni {vni} dev {dev}",
            {"family": AF_BRIDGE, "ifindex": _DEV},
            (("VXLAN_VNIFILTER_ENTRY", (("VXLAN_VNIFILTER_ENTRY_START", host("vni")),)),),
        ),
    )
    for suffix, vtep in (("", _VTEP), ("6", _VTEP6)):
        where: Attributes = (("NDA_DST", vtep), ("NDA_SRC_VNI", host("vni")))
        words = f"dev {{dev}} dst {{{vtep.name}}} src_vni {{vni}} self permanent"
        yield (
            f"fdb.remote_endpoint{suffix}",
            Template(
                FDB,
                "An endpoint on another host: which VTEP has it.",
                "bridge",
                f"fdb replace {{mac}} {words}",
                _SELF,
                (("NDA_LLADDR", mac("mac")), *where),
            ),
        )
        yield (
            f"fdb.flood{suffix}",
            Template(
                FLOOD,
                "A VTEP that gets a copy of every BUM frame of the tenant.",
                "bridge",
                f"fdb append {_ALL_ZERO} {words}",
                _SELF,
                (("NDA_LLADDR", _ALL_ZERO), *where),
            ),
        )
    yield (
        "fdb.bridge_endpoint",
        Template(
            BRIDGE_FDB,
            "An endpoint on another host: the bridge sends it to the shared device.",
            "bridge",
            "fdb replace {mac} dev {dev} vlan {vlan} master dynamic extern_learn",
            {
                "family": AF_BRIDGE,
                "ifindex": _NDM_DEV,
                # What the bridge lists for entries that it has been taught: they do not age.
                "state": NUD_REACHABLE,
                "flags": NTF_MASTER | NTF_EXT_LEARNED,
            },
            (("NDA_LLADDR", mac("mac")), ("NDA_VLAN", host("vlan", 2))),
        ),
    )
    for suffix, family, ip in (("", AF_INET, ipv4("ip")), ("6", AF_INET6, ipv6("ip6"))):
        yield (
            f"neighbour.permanent{suffix}",
            Template(
                NEIGHBOUR,
                "IP to MAC, answered or used here without asking on the wire.",
                "ip",
                f"neigh replace {{{ip.name}}} lladdr {{mac}} dev {{dev}} nud permanent"
                f" proto {PROTOCOL}",
                {"family": family, "ifindex": _NDM_DEV, "state": NUD_PERMANENT},
                (("NDA_DST", ip), ("NDA_LLADDR", mac("mac")), ("NDA_PROTOCOL", PROTOCOL)),
            ),
        )


TEMPLATES: Final[dict[str, Template]] = {**dict(_entries()), **dict(_routes()), **dict(_rules())}
"""Name -> template. Addresses are IPv4 unless the name ends in 6; `_over6` names the underlay."""
