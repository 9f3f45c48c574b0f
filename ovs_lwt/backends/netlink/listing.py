"""Say what an entry is, for people: in the words with which `ip` or `bridge` would delete it.

Only for the few that somebody reads; pyroute2 decodes.
"""

from __future__ import annotations

from typing import Any

from ovs_lwt.backends.netlink.kinds import BRIDGE_FDB, FDB, FLOOD, NEIGHBOUR, ROUTE, RULE
from ovs_lwt.backends.netlink.templates import Devices
from ovs_lwt.backends.netlink.wire import Listed

_FDB_WORDS = (("dst", "NDA_DST"), ("src_vni", "NDA_SRC_VNI"), ("vlan", "NDA_VLAN"))
_RULE_WORDS = (
    ("priority", "FRA_PRIORITY"),
    ("iif", "FRA_IIFNAME"),
    ("fwmark", "FRA_FWMARK"),
    ("tun_id", "FRA_TUN_ID"),
    ("goto", "FRA_GOTO"),
)


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
    if kind is RULE:
        table = message.get_attr("FRA_TABLE")
        lookup = ["lookup", str(table)] if table else []
        return " ".join(["rule del", *_pairs(message, _RULE_WORDS), *lookup])
    entry = message.get_attr("VXLAN_VNIFILTER_ENTRY")
    vni = entry.get_attr("VXLAN_VNIFILTER_ENTRY_START")
    return f"vni delete vni {vni} dev {devices.name(message['ifindex'])}"


def _route(message: Any, devices: Devices) -> list[str]:
    prefix = message.get_attr("RTA_DST")
    words = [f"{prefix}/{message['dst_len']}" if prefix else "default"]
    words += _pairs(message, (("table", "RTA_TABLE"), ("via", "RTA_GATEWAY")))
    device = message.get_attr("RTA_OIF")
    if device:
        words += ["dev", devices.name(device)]
    return words + _pairs(message, (("metric", "RTA_PRIORITY"),))


def _pairs(message: Any, words: tuple[tuple[str, str], ...]) -> list[str]:
    found = ((word, message.get_attr(attribute)) for word, attribute in words)
    return [part for word, value in found if value is not None for part in (word, str(value))]
