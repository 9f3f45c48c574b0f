"""What the VXLAN device and the bridge hold: VNIs, VLANs, forwarding databases, flood lists."""

from __future__ import annotations

from collections.abc import Iterator
from socket import AF_BRIDGE
from typing import Final

from pyroute2.netlink.rtnl.ifinfmsg import BRIDGE_VLAN_INFO_PVID, BRIDGE_VLAN_INFO_UNTAGGED
from pyroute2.netlink.rtnl.ndmsg import (
    NTF_EXT_LEARNED,
    NTF_MASTER,
    NTF_SELF,
    NUD_NOARP,
    NUD_PERMANENT,
    NUD_REACHABLE,
)

from ovs_lwt.backends.netlink.kinds import BRIDGE_FDB, FDB, FLOOD, TUNNEL_VLAN, VLAN, VNI
from ovs_lwt.backends.netlink.slots import host, ipv4, ipv6, mac
from ovs_lwt.backends.netlink.slots import vlan as member_of
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


def templates() -> Iterator[tuple[str, Template]]:
    """Their names and templates."""
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
    for name, why, words, flags in (
        ("tunnel", "A tenant's VLAN: what is in it may pass the shared device.", "", 0),
        ("announcer", "A tenant's VLAN: its guests' announcements come in once more.", "", 0),
        (
            "guest",
            "A guest here: what it sends, and is sent, without a tag is in its tenant's VLAN.",
            " pvid untagged",
            BRIDGE_VLAN_INFO_PVID | BRIDGE_VLAN_INFO_UNTAGGED,
        ),
    ):
        yield (
            f"vlan.{name}",
            Template(
                VLAN,
                why,
                "bridge",
                f"vlan add dev {{dev}} vid {{vlan}}{words}",
                {"family": AF_BRIDGE, "ifindex": _NDM_DEV},
                (
                    (
                        "BRIDGE_VLANDB_ENTRY",
                        (("BRIDGE_VLANDB_ENTRY_INFO", member_of("vlan", flags)),),
                    ),
                ),
            ),
        )
    yield (
        "vlan.vni",
        Template(
            TUNNEL_VLAN,
            "A tenant's VLAN is this VNI in the tunnel.",
            "bridge",
            "vlan add dev {dev} vid {vlan} tunnel_info id {vni}",
            {"family": AF_BRIDGE, "index": _NDM_DEV},
            (
                (
                    "IFLA_AF_SPEC",
                    (
                        (
                            "IFLA_BRIDGE_VLAN_TUNNEL_INFO",
                            (
                                ("IFLA_BRIDGE_VLAN_TUNNEL_ID", host("vni")),
                                ("IFLA_BRIDGE_VLAN_TUNNEL_VID", host("vlan", 2)),
                            ),
                        ),
                    ),
                ),
            ),
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
    for name, why in (
        (
            "bridge_endpoint",
            "An endpoint on another host: the bridge sends it to the shared device.",
        ),
        (
            "local_endpoint",
            "An endpoint here: its port, and the only one (`locked`) that may send from its MAC.",
        ),
    ):
        yield (
            f"fdb.{name}",
            Template(
                BRIDGE_FDB,
                why,
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
