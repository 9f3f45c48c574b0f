"""Neighbours: IP to MAC."""

from __future__ import annotations

from collections.abc import Iterator
from socket import AF_INET, AF_INET6
from typing import Final

from pyroute2.netlink.rtnl.ndmsg import NTF_ROUTER, NUD_PERMANENT

from ovs_lwt.backends.netlink.kinds import NEIGHBOUR, PROTOCOL
from ovs_lwt.backends.netlink.slots import host, ipv4, ipv6, mac
from ovs_lwt.backends.netlink.templates import Template

_NDM_DEV: Final = host("dev", signed=True)


def templates() -> Iterator[tuple[str, Template]]:
    """Their names and templates."""
    why = "IP to MAC, answered or used here without asking on the wire"
    for name, reason, family, ip, flags, word in (
        ("permanent", f"{why}.", AF_INET, ipv4("ip"), 0, ""),
        ("permanent6", f"{why}.", AF_INET6, ipv6("ip6"), 0, ""),
        (
            "router6",
            f"{why}; and that it is a router (RFC 4861, 4.4).",
            *(AF_INET6, ipv6("ip6"), NTF_ROUTER, " router"),
        ),
    ):
        yield (
            f"neighbour.{name}",
            Template(
                NEIGHBOUR,
                reason,
                "ip",
                f"neigh replace {{{ip.name}}} lladdr {{mac}} dev {{dev}} nud permanent{word}"
                f" proto {PROTOCOL}",
                {"family": family, "ifindex": _NDM_DEV, "state": NUD_PERMANENT, "flags": flags},
                (("NDA_DST", ip), ("NDA_LLADDR", mac("mac")), ("NDA_PROTOCOL", PROTOCOL)),
            ),
        )
