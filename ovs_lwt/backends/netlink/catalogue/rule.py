"""Rules: which table a packet's route is looked up in."""

from __future__ import annotations

from collections.abc import Iterator
from socket import AF_INET, AF_INET6
from typing import Final

from pyroute2.netlink.rtnl.fibmsg import (
    FR_ACT_BLACKHOLE,
    FR_ACT_GOTO,
    FR_ACT_NOP,
    FR_ACT_TO_TBL,
    FR_ACT_UNREACHABLE,
)

from ovs_lwt.backends.netlink.kinds import LOCAL_RULE, PROTOCOL, RULE
from ovs_lwt.backends.netlink.slots import Slot, host, ipv4, ipv6, network
from ovs_lwt.backends.netlink.slots import text as name_of
from ovs_lwt.backends.netlink.templates import Attributes, Template

_MASK: Final[Attributes] = (("FRA_FWMARK", host("mark")), ("FRA_FWMASK", host("mask")))
_GOTO: Final[Attributes] = (("FRA_GOTO", host("target")),)
_LOCAL: Final = 255  # RT_TABLE_LOCAL (include/uapi/linux/rtnetlink.h)


def templates() -> Iterator[tuple[str, Template]]:
    """Their names and templates."""
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
            _GOTO,
        ),
        (
            # Apart from `branch`: the kernel does not list a mark that is 0.
            "branch_zero",
            "The same, where these bits are all 0.",
            "fwmark 0/{mask} goto {target}",
            FR_ACT_GOTO,
            0,
            (),
            (("FRA_FWMASK", host("mask")),),
            _GOTO,
        ),
        (
            "device",
            # With a mark, the kernel asks on behalf of the other direction (fib_validate_source).
            "What this device receives, and bears no mark, goes on there.",
            "iif {iif} fwmark 0/{mask} goto {target}",
            FR_ACT_GOTO,
            0,
            (("FRA_IIFNAME", name_of("iif")),),
            (("FRA_FWMASK", host("mask")),),
            _GOTO,
        ),
        (
            "close",
            "Everything else goes on there: what follows here is about other marks.",
            "goto {target}",
            FR_ACT_GOTO,
            0,
            (),
            (),
            _GOTO,
        ),
        (
            "end",
            "A place to go to, and nothing else.",
            "nop",
            FR_ACT_NOP,
            0,
            (),
            (),
            (),
        ),
        (
            "device_table",
            "What this device receives, once it is known whose it is.",
            "iif {iif} lookup {table}",
            FR_ACT_TO_TBL,
            table,
            (("FRA_IIFNAME", name_of("iif")),),
            (),
            (),
        ),
        (
            "device_drop",
            "What this device receives and no tenant has taken: never the host's.",
            "iif {iif} blackhole",
            FR_ACT_BLACKHOLE,
            0,
            (("FRA_IIFNAME", name_of("iif")),),
            (),
            (),
        ),
        (
            "drop",
            "No address that its sender may send from.",
            "blackhole",
            FR_ACT_BLACKHOLE,
            0,
            (),
            (),
            (),
        ),
        (
            "nowhere",
            "Below are the tenants' guards: who has come this far has no route.",
            "unreachable",
            FR_ACT_UNREACHABLE,
            0,
            (),
            (),
            (),
        ),
    )
    for suffix, family, tool in (("", AF_INET, "ip"), ("6", AF_INET6, "ip -6")):
        vtep = ipv6("vtep6") if suffix else ipv4("vtep")
        yield (
            f"rule.outer{suffix}",
            Template(
                RULE,
                "An outer packet keeps the mark of the tenant's packet in it: it is the host's.",
                tool,
                f"rule add priority {{preference}} from {{{vtep.name}}} iif lo goto {{target}}"
                f" protocol {PROTOCOL}",
                {"family": family, "src_len": 8 * vtep.width, "action": FR_ACT_GOTO},
                (
                    ("FRA_TABLE", 0),
                    ("FRA_PROTOCOL", PROTOCOL),
                    ("FRA_IIFNAME", "lo"),
                    ("FRA_PRIORITY", host("preference")),
                    *_GOTO,
                    ("FRA_SRC", vtep),
                ),
            ),
        )
        yield (
            f"rule.local{suffix}",
            Template(
                LOCAL_RULE,
                "The host's own addresses, after the tenants': theirs may be the same.",
                tool,
                f"rule add priority {{preference}} lookup local protocol {PROTOCOL}\n"
                "rule del priority 0 lookup local",
                {"family": family, "action": FR_ACT_TO_TBL, "table": _LOCAL},
                (
                    ("FRA_TABLE", _LOCAL),
                    ("FRA_PROTOCOL", PROTOCOL),
                    ("FRA_PRIORITY", host("preference")),
                ),
            ),
        )
        ip = ipv6("ip6") if suffix else ipv4("ip")
        yield (
            f"rule.sender{suffix}",
            Template(
                RULE,
                "An address that the guest of this port may send from.",
                tool,
                f"rule add priority {{preference}} from {{{ip.name}}} iif {{iif}} lookup {{table}}"
                f" protocol {PROTOCOL}",
                {"family": family, "src_len": 8 * ip.width, "action": FR_ACT_TO_TBL},
                (
                    ("FRA_TABLE", table),
                    ("FRA_PROTOCOL", PROTOCOL),
                    ("FRA_IIFNAME", name_of("iif")),
                    ("FRA_PRIORITY", host("preference")),
                    ("FRA_SRC", ip),
                ),
            ),
        )
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
