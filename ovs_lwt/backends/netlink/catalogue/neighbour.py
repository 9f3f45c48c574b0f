"""Neighbours: IP to MAC."""

from __future__ import annotations

from collections.abc import Iterator
from socket import AF_INET, AF_INET6
from typing import Final

from pyroute2.netlink.rtnl.ndmsg import NUD_PERMANENT

from ovs_lwt.backends.netlink.kinds import NEIGHBOUR, PROTOCOL
from ovs_lwt.backends.netlink.slots import host, ipv4, ipv6, mac
from ovs_lwt.backends.netlink.templates import Template

_NDM_DEV: Final = host("dev", signed=True)


def templates() -> Iterator[tuple[str, Template]]:
    """Their names and templates."""
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
