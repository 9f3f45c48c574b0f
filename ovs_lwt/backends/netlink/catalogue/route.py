"""Routes: where a tenant's packets go, and what arrives by label."""

from __future__ import annotations

from collections.abc import Iterator
from socket import AF_INET, AF_INET6
from typing import Final

from pyroute2.common import AF_MPLS
from pyroute2.netlink.rtnl import rt_scope
from pyroute2.netlink.rtnl.rtmsg import (
    LWTUNNEL_ENCAP_IP,
    LWTUNNEL_ENCAP_IP6,
    LWTUNNEL_ENCAP_MPLS,
    RTNH_F_ONLINK,
)

from ovs_lwt.backends.netlink.kinds import LABEL, PROTOCOL, ROUTE
from ovs_lwt.backends.netlink.slots import Slot, host, ipv4, ipv6, ipv6_via, label, network
from ovs_lwt.backends.netlink.templates import Attributes, Template

_DEV: Final = host("dev")
_VTEP, _VTEP6 = ipv4("vtep"), ipv6("vtep6")
_UNICAST, _UNREACHABLE = 1, 7  # RTN_* (include/uapi/linux/rtnetlink.h)
_MAIN: Final = 254  # RT_TABLE_MAIN: the only one that labels have
_LABEL_BITS: Final = 20
_LO: Final = 1  # the loopback's interface index, in every namespace
_LAST: Final = 4278198272
"""A metric that no other route has: what stands at the end of a table (kernel documentation,
networking/vrf.rst)."""
_CSUM: Final = 1  # TUNNEL_CSUM (include/net/ip_tunnels.h)
_FORWARDED6: Final = 1024  # IP6_RT_PRIO_USER: the metric that an IPv6 route has if none is given


def _encap_ip(remote: Slot) -> Attributes:
    """`encap ip id VNI src LOCAL dst VTEP`, as ip_tun_fill_encap_info lists it.

    Over IPv6 with a checksum: without, the receiver drops it (RFC 8200, 8.1).
    """
    family, local, limit, traffic_class, flags = (
        ("LWTUNNEL_IP_", ipv4("local"), "TTL", "TOS", 0)
        if remote.width == 4
        else ("LWTUNNEL_IP6_", ipv6("local6"), "HOPLIMIT", "TC", _CSUM)
    )
    info = (
        (f"{family}ID", network("vni", 8)),
        (f"{family}DST", remote),
        (f"{family}SRC", local),
        (f"{family}{traffic_class}", 0),
        (f"{family}{limit}", 0),
        (f"{family}FLAGS", flags),
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


def templates() -> Iterator[tuple[str, Template]]:
    """Their names and templates."""
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
        encap, source, csum = ("ip", "local", "") if vtep is _VTEP else ("ip6", "local6", " csum")
        yield (
            f"route.{name}",
            _route(
                family,
                remote,
                f"encap {encap} id {{vni}} src {{{source}}} dst {{{vtep.name}}}{csum} {via}"
                " dev {dev} onlink",
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
    yield (
        "route.labelled_prefix_over6",
        _route(
            AF_INET,
            labelled,
            label_text.replace("{via}", "inet6 {via6}"),
            (("RTA_VIA", ipv6_via("via6")), ("RTA_OIF", _DEV), *_ENCAP_MPLS),
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
    for suffix, family, out in (("", AF_INET, ()), ("6", AF_INET6, (("RTA_OIF", _LO),))):
        yield f"route.unreachable{suffix}", _end_of_table(family, out)
    yield (
        "label.tenant",
        Template(
            LABEL,
            "The label that stands for the tenant here: its packets go on by the tenant's table.",
            "ip -f mpls",
            f"route replace {{label}} dev {{dev}} proto {PROTOCOL}",
            {
                "family": AF_MPLS,
                "dst_len": _LABEL_BITS,
                "table": _MAIN,
                "proto": PROTOCOL,
                "type": _UNICAST,
            },
            (("RTA_DST", label("label")), ("RTA_OIF", _DEV)),
        ),
    )


def _end_of_table(family: int, out: Attributes) -> Template:
    return Template(
        ROUTE,
        "The end of a tenant's table: what it does not know is nowhere, and not the host's.",
        "ip" if family == AF_INET else "ip -6",
        f"route replace table {{table}} unreachable default metric {_LAST} proto {PROTOCOL}",
        {"family": family, "proto": PROTOCOL, "type": _UNREACHABLE},
        (("RTA_TABLE", host("table")), ("RTA_PRIORITY", _LAST), *out),
    )
