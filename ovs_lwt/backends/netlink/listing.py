"""Say what an entry is, for people: in the words with which `ip` or `bridge` would delete it.

Only for the few that somebody reads; pyroute2 decodes.
"""

from __future__ import annotations

from typing import Any

from pyroute2.netlink.rtnl.fibmsg import FR_ACT_BLACKHOLE, FR_ACT_NOP, FR_ACT_UNREACHABLE

from ovs_lwt.backends.netlink.kinds import (
    BRIDGE_FDB,
    FDB,
    FILTER,
    FLOOD,
    INGRESS,
    LABEL,
    LOCAL_RULE,
    NEIGHBOUR,
    QDISC,
    ROUTE,
    RULE,
    TUNNEL_VLAN,
    VLAN,
)
from ovs_lwt.backends.netlink.templates import Devices
from ovs_lwt.backends.netlink.wire import Listed

_FDB_WORDS = (("dst", "NDA_DST"), ("src_vni", "NDA_SRC_VNI"), ("vlan", "NDA_VLAN"))
_RULE_WORDS = (
    ("priority", "FRA_PRIORITY"),
    ("from", "FRA_SRC"),
    ("iif", "FRA_IIFNAME"),
    ("tun_id", "FRA_TUN_ID"),
    ("goto", "FRA_GOTO"),
)
_WHOLE_MARK = 0xFFFFFFFF
_UNREACHABLE = 7  # RTN_UNREACHABLE (include/uapi/linux/rtnetlink.h)
_ACTIONS = {
    FR_ACT_NOP: ["nop"],
    FR_ACT_BLACKHOLE: ["blackhole"],
    FR_ACT_UNREACHABLE: ["unreachable"],
}


def delete_line(listed: Listed, row: int, devices: Devices) -> str:
    """What deletes this entry."""
    message = listed.kind.message(listed.block.rows[row].tobytes())
    message.decode()
    kind = listed.kind
    if kind in (FDB, FLOOD, BRIDGE_FDB):
        where = "master" if kind is BRIDGE_FDB else "self"
        mac, device = message.get_attr("NDA_LLADDR"), devices.name(message["ifindex"])
        return " ".join(["fdb del", mac, "dev", device, *_pairs(message, _FDB_WORDS), where])
    if kind is NEIGHBOUR:
        return f"neigh del {message.get_attr('NDA_DST')} dev {devices.name(message['ifindex'])}"
    if kind is ROUTE:
        return " ".join(["route del", *_route(message, devices)])
    if kind is LOCAL_RULE:
        return f"rule del priority {message.get_attr('FRA_PRIORITY') or 0} lookup local"
    if kind is RULE:
        return " ".join(["rule del", *_pairs(message, _RULE_WORDS), *_rule(message)])
    if kind is LABEL:
        (entry,) = message.get_attr("RTA_DST")
        return f"route del {entry['label']} dev {devices.name(message.get_attr('RTA_OIF'))}"
    if kind is QDISC:
        return f"qdisc del dev {devices.name(message['index'])} clsact"
    if kind is FILTER:
        hook = "ingress" if message["parent"] == INGRESS else "egress"
        where = f"dev {devices.name(message['index'])} {hook} protocol all"
        preference = message["info"] >> 16
        named = f"pref {preference} handle {message['handle']} {message.get_attr('TCA_KIND')}"
        return f"filter del {where} {named}"
    if kind is VLAN:
        port = message.get_nested("BRIDGE_VLANDB_ENTRY", "BRIDGE_VLANDB_ENTRY_INFO")
        return f"vlan del dev {devices.name(message['ifindex'])} vid {port['vid']}"
    if kind is TUNNEL_VLAN:
        info = message.get_nested("IFLA_AF_SPEC", "IFLA_BRIDGE_VLAN_TUNNEL_INFO")
        words = _pairs(info, (("vid", "IFLA_BRIDGE_VLAN_TUNNEL_VID"),))
        words += ["tunnel_info", *_pairs(info, (("id", "IFLA_BRIDGE_VLAN_TUNNEL_ID"),))]
        return " ".join(["vlan del dev", devices.name(message["index"]), *words])
    entry = message.get_attr("VXLAN_VNIFILTER_ENTRY")
    vni = entry.get_attr("VXLAN_VNIFILTER_ENTRY_START")
    return f"vni delete vni {vni} dev {devices.name(message['ifindex'])}"


def _route(message: Any, devices: Devices) -> list[str]:
    prefix = message.get_attr("RTA_DST")
    words = ["unreachable"] if message["type"] == _UNREACHABLE else []
    words.append(f"{prefix}/{message['dst_len']}" if prefix else "default")
    words += _pairs(message, (("table", "RTA_TABLE"), ("via", "RTA_GATEWAY")))
    device = message.get_attr("RTA_OIF")
    if device:
        words += ["dev", devices.name(device)]
    return words + _pairs(message, (("metric", "RTA_PRIORITY"),))


def _rule(message: Any) -> list[str]:
    mask, table = message.get_attr("FRA_FWMASK"), message.get_attr("FRA_TABLE")
    words = []
    if mask:
        # The kernel lists no mark that is 0.
        bits = "" if mask == _WHOLE_MARK else f"/{mask:#x}"
        words += ["fwmark", f"{message.get_attr('FRA_FWMARK') or 0}{bits}"]
    words += _ACTIONS.get(message["action"], [])
    return words + (["lookup", str(table)] if table else [])


def _pairs(message: Any, words: tuple[tuple[str, str], ...]) -> list[str]:
    found = ((word, message.get_attr(attribute)) for word, attribute in words)
    return [part for word, value in found if value is not None for part in (word, str(value))]
