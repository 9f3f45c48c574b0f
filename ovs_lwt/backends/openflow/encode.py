"""From ovs-ofctl syntax to OpenFlow 1.4: `ovs.flow` parses the text, the framework (os-ken or Ryu)
encodes.

Match fields are handed to the framework in the order in which Open vSwitch lists them in its
replies (`nx_put_raw()` in its lib/nx-match.c), so that what is sent and what is read back are the
same bytes, and the difference between desired and installed needs no decoding. A test on a real
switch holds every entry of `flows/` to that.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from functools import cache
from typing import Any

from ovs.flow.decoders import EthMask, IntMask, IPMask
from ovs.flow.ofp import OFPFlow

from ovs_lwt.backends.openflow import framework

_ETHERTYPE_IPV4, _ETHERTYPE_ARP, _ETHERTYPE_IPV6 = 0x0800, 0x0806, 0x86DD
_PROTOCOL_UDP, _PROTOCOL_ICMP6 = 17, 58

_WHOLE = frozenset({"255.255.255.255", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"})
"""Masks of addresses that are matched as they are."""

# NXM_NX_IP_FRAG in ovs-fields(7): bit 0 says that it is a fragment, bit 1 that it is not the first.
_FRAGMENTS = {"first": 1, "later": 3}

_VLAN_BITS = 0x1FFF
"""OXM_OF_VLAN_VID: the VLAN's number and whether there is one (OpenFlow 1.4, 7.2.3.7). A mask of
all is none; `vlan_tci` has the priority besides.
"""

_FRAG_NX_MATCH = 3  # OFPC_FRAG_NX_MATCH in OVS's openflow-common.h: `set-frags BRIDGE nx-match`
_MISS_SEND_LEN = 128  # bytes of a packet for the controller: the default, OpenFlow 1.4, 7.3.2

# Two of Nicira's actions, encap(nsh) and decap(), see ovs-actions(7): subtype, and the type of
# packet that comes out. os-ken and Ryu have a class for the first, which raises NameError, and none
# for the second.
_ENCAP_NSH = 46, bytes.fromhex("0000 0001894f")
_DECAP = 47, bytes.fromhex("0000 0000fffe")

_SHORTHANDS: dict[str, dict[str, int]] = {
    "arp": {"eth_type": _ETHERTYPE_ARP},
    "ip": {"eth_type": _ETHERTYPE_IPV4},
    "udp": {"eth_type": _ETHERTYPE_IPV4, "ip_proto": _PROTOCOL_UDP},
    "udp6": {"eth_type": _ETHERTYPE_IPV6, "ip_proto": _PROTOCOL_UDP},
    "ipv6": {"eth_type": _ETHERTYPE_IPV6},
    "icmp6": {"eth_type": _ETHERTYPE_IPV6, "ip_proto": _PROTOCOL_ICMP6},
}

# ovs-ofctl's name -> the framework's, in the order of nx_put_raw().
_FIELDS: dict[str, str] = {
    "in_port": "in_port",
    "dl_src": "eth_src",
    "eth_src": "eth_src",
    "dl_dst": "eth_dst",
    "eth_dst": "eth_dst",
    "dl_type": "eth_type",
    "vlan_tci": "vlan_vid",
    "nw_src": "ipv4_src",
    "nw_dst": "ipv4_dst",
    "ipv6_src": "ipv6_src",
    "ipv6_dst": "ipv6_dst",
    "nw_frag": "ip_frag",
    "nw_proto": "ip_proto",
    "tp_src": "udp_src",
    "tp_dst": "udp_dst",
    "icmp_type": "icmpv6_type",
    "icmpv6_type": "icmpv6_type",
    "icmp_code": "icmpv6_code",
    "nd_target": "ipv6_nd_target",
    "nd_sll": "ipv6_nd_sll",
    "nd_tll": "ipv6_nd_tll",
    "nd_reserved": "nd_reserved",
    "nd_options_type": "nd_options_type",
    "arp_op": "arp_op",
    "arp_spa": "arp_spa",
    "arp_tpa": "arp_tpa",
    "arp_sha": "arp_sha",
    "arp_tha": "arp_tha",
    "tun_id": "tunnel_id",
    "tun_src": "tun_ipv4_src",
    "tun_dst": "tun_ipv4_dst",
    "tun_ipv6_src": "tun_ipv6_src",
    "tun_ipv6_dst": "tun_ipv6_dst",
    "reg0": "reg0",
    "reg1": "reg1",
    "reg2": "reg2",
    "reg3": "reg3",
    "reg4": "reg4",
    "reg5": "reg5",
    "reg6": "reg6",
    "reg7": "reg7",
    "pkt_mark": "pkt_mark",
    "metadata": "metadata",
}
_MONITOR = 1  # our one flow monitor's number, on our own connection
_ORDER = {name: place for place, name in enumerate(_FIELDS.values())}


class NotEncodable(Exception):
    """The text says something that this module does not know: the pipeline does not need it yet."""


def flow_add(text: str, cookie: int) -> Any:
    """The OFPFlowMod that adds the flow of one `ovs-ofctl` line (tables by number)."""
    parser, ofproto = _protocol().ofproto_parser, _protocol().ofproto
    flow = OFPFlow(text)
    match = dict(flow.match)
    if "priority" not in match:
        raise NotEncodable("a flow without a priority")
    return parser.OFPFlowMod(
        _protocol(),
        cookie=cookie,
        table_id=flow.info["table"],
        priority=match.pop("priority"),
        out_port=ofproto.OFPP_ANY,
        out_group=ofproto.OFPG_ANY,
        match=_match(match),
        instructions=_instructions(flow.actions),
    )


def flow_delete(table: int, priority: int) -> Any:
    """The OFPFlowMod that deletes exactly one flow, its match still empty."""
    parser, ofproto = _protocol().ofproto_parser, _protocol().ofproto
    return parser.OFPFlowMod(
        _protocol(),
        command=ofproto.OFPFC_DELETE_STRICT,
        table_id=table,
        priority=priority,
        out_port=ofproto.OFPP_ANY,
        out_group=ofproto.OFPG_ANY,
        match=parser.OFPMatch(),
    )


def group_mod(command: str, group: int, buckets: list[str]) -> Any:
    """The OFPGroupMod (command "ADD", "MODIFY" or "DELETE") of a group of type all; buckets are
    lists of actions.
    """
    parser, ofproto = _protocol().ofproto_parser, _protocol().ofproto
    wire = [
        parser.OFPBucket(
            weight=0,
            watch_port=ofproto.OFPP_ANY,
            watch_group=ofproto.OFPG_ANY,
            actions=_bucket(actions),
        )
        for actions in buckets
    ]
    return parser.OFPGroupMod(
        _protocol(), getattr(ofproto, f"OFPGC_{command}"), ofproto.OFPGT_ALL, group, wire
    )


def in_bundle(message: Any, bundle: int, xid: int) -> bytes:
    """`message` in an OFPT_BUNDLE_ADD_MESSAGE, atomic and ordered (OpenFlow 1.4.1, 7.3.9.6)."""
    parser, ofproto = _protocol().ofproto_parser, _protocol().ofproto
    flags = ofproto.OFPBF_ATOMIC | ofproto.OFPBF_ORDERED
    wrapped = parser.OFPBundleAddMsg(_protocol(), bundle, flags, message, [])
    return encoded(wrapped, xid)


def bundle_control(kind: str, bundle: int, xid: int) -> bytes:
    """OFPT_BUNDLE_CONTROL: kind is "OPEN", "COMMIT" or "DISCARD"."""
    parser, ofproto = _protocol().ofproto_parser, _protocol().ofproto
    flags = ofproto.OFPBF_ATOMIC | ofproto.OFPBF_ORDERED
    kind_number = getattr(ofproto, f"OFPBCT_{kind}_REQUEST")
    return encoded(parser.OFPBundleCtrlMsg(_protocol(), bundle, kind_number, flags, []), xid)


def flow_stats_request(xid: int, portion: int = 0, portions: int = 1) -> bytes:
    """Ask for the flows of every table, or for one portion of them: those whose cookie is `portion`
    modulo `portions`, a power of two.
    """
    parser, ofproto = _protocol().ofproto_parser, _protocol().ofproto
    request = parser.OFPFlowStatsRequest(
        _protocol(),
        0,
        ofproto.OFPTT_ALL,
        ofproto.OFPP_ANY,
        ofproto.OFPG_ANY,
        portion,
        portions - 1,
        parser.OFPMatch(),
    )
    return encoded(request, xid)


def fragments_by_header(xid: int) -> bytes:
    """OFPT_SET_CONFIG: let flows see the ports and types in a first fragment's header. Open vSwitch
    would hide them, and fragments of neighbour discovery and DHCP could not be told from others.
    """
    return encoded(
        _protocol().ofproto_parser.OFPSetConfig(_protocol(), _FRAG_NX_MATCH, _MISS_SEND_LEN), xid
    )


def group_desc_request(xid: int) -> bytes:
    """Ask for every group."""
    return encoded(_protocol().ofproto_parser.OFPGroupDescStatsRequest(_protocol(), 0), xid)


def flow_monitor_request(xid: int) -> bytes:
    """Ask to be told of every change of a flow from now on, whoever makes it; of this connection's
    own in short (OpenFlow 1.4.1, 7.3.5.15).
    """
    parser, ofproto = _protocol().ofproto_parser, _protocol().ofproto
    flags = (
        ofproto.OFPFMF_ADD
        | ofproto.OFPFMF_REMOVED
        | ofproto.OFPFMF_MODIFY
        | ofproto.OFPFMF_INSTRUCTIONS
    )
    request = parser.OFPFlowMonitorRequest(
        _protocol(),
        0,
        _MONITOR,
        ofproto.OFPP_ANY,
        ofproto.OFPG_ANY,
        flags,
        ofproto.OFPTT_ALL,
        ofproto.OFPFMC_ADD,
        parser.OFPMatch(),
    )
    return encoded(request, xid)


def forwarded_groups(xid: int) -> bytes:
    """Ask to be told when another controller writes groups (7.3.10); all else stays as it is."""
    parser, ofproto = _protocol().ofproto_parser, _protocol().ofproto
    groups = parser.OFPAsyncConfigPropReasons(
        ofproto.OFPACPT_REQUESTFORWARD_MASTER, 0, 1 << ofproto.OFPRFR_GROUP_MOD
    )
    return encoded(parser.OFPSetAsync(_protocol(), [groups]), xid)


def port_desc_request(xid: int) -> bytes:
    """Ask for every port, its state and its configuration."""
    return encoded(_protocol().ofproto_parser.OFPPortDescStatsRequest(_protocol(), 0), xid)


def port_mod(port: int, hw_addr: str, mask: int, xid: int) -> bytes:
    """Take these bits of configuration (OFPPC_…) off a port."""
    message = _protocol().ofproto_parser.OFPPortMod(_protocol(), port, hw_addr, 0, mask, [])
    return encoded(message, xid)


def barrier_request(xid: int) -> bytes:
    """Ask to be told when all that went before is done."""
    return encoded(_protocol().ofproto_parser.OFPBarrierRequest(_protocol()), xid)


def packet_out(port: int, frame: bytes, xid: int) -> bytes:
    """Send `frame` out of `port`."""
    parser, ofproto = _protocol().ofproto_parser, _protocol().ofproto
    message = parser.OFPPacketOut(
        _protocol(),
        ofproto.OFP_NO_BUFFER,
        ofproto.OFPP_CONTROLLER,
        [parser.OFPActionOutput(port, 0)],
        frame,
    )
    return encoded(message, xid)


def encoded(message: Any, xid: int) -> bytes:
    """The bytes of a framework message, with this transaction id."""
    message.set_xid(xid)
    message.serialize()
    return bytes(message.buf)


def decoded(message: bytes) -> Any:
    """The framework's object for a whole message from a switch."""
    version, kind, length, xid = struct.unpack_from("!BBHI", message)
    return framework.current().ofproto_parser.msg(_protocol(), version, kind, length, xid, message)


def _match(fields: Mapping[str, Any]) -> Any:
    wanted: dict[str, Any] = {}
    for name, value in fields.items():
        if name in _SHORTHANDS:
            wanted.update(_SHORTHANDS[name])
        elif name in _FIELDS:
            wanted[_FIELDS[name]] = _field(name, value)
        else:
            raise NotEncodable(f"match on {name}")
    ordered = sorted(wanted.items(), key=lambda field: _ORDER.get(field[0], _ORDER["eth_type"]))
    return _protocol().ofproto_parser.OFPMatch(_ordered_fields=ordered)


def _field(name: str, value: Any) -> Any:
    if name == "nw_frag":
        return _FRAGMENTS[value]
    if name == "vlan_tci" and value.mask == _VLAN_BITS:
        return value.value
    return _user_value(value)


def _instructions(actions: list[dict[str, Any]]) -> list[Any]:
    parser, ofproto = _protocol().ofproto_parser, _protocol().ofproto
    applied, rest = [], []
    for action in actions:
        ((name, value),) = action.items()
        if name == "goto_table":
            rest.append(parser.OFPInstructionGotoTable(value))
        elif name != "drop":
            applied.append(_action(name, value))
    if applied:
        rest.insert(0, parser.OFPInstructionActions(ofproto.OFPIT_APPLY_ACTIONS, applied))
    return rest


def _bucket(actions: str) -> list[Any]:
    # ovs.flow parses whole flows: give the bucket's actions one.
    flow = OFPFlow(f"table=0 priority=0 actions={actions}")
    return [_action(*next(iter(action.items()))) for action in flow.actions]


def _action(name: str, value: Any) -> Any:
    parser, ofproto = _protocol().ofproto_parser, _protocol().ofproto
    match name:
        case "output":
            port = ofproto.OFPP_IN_PORT if value["port"] == "IN_PORT" else value["port"]
            return parser.OFPActionOutput(port, 0)
        case "controller":
            return parser.OFPActionOutput(ofproto.OFPP_CONTROLLER, value["max_len"])
        case "group":
            return parser.OFPActionGroup(value)
        case "set_field":
            ((field, new),) = value["value"].items()
            return parser.OFPActionSetField(**{_FIELDS[field]: _user_value(new)})
        case "move":
            source, target = value["src"], value["dst"]
            bits = min(_bits(source), _bits(target))
            return parser.NXActionRegMove(
                _nxm_name(source["field"]),
                _nxm_name(target["field"]),
                bits,
                source.get("start", 0),
                target.get("start", 0),
            )
        case "load":
            target = value["dst"]
            return parser.NXActionRegLoad(
                _nicira_ext().ofs_nbits(target["start"], target["end"]),
                _nxm_name(target["field"]),
                value["value"],
            )
        case "resubmit":
            return parser.NXActionResubmitTable(table_id=value["table"])
        case "encap":
            return parser.NXActionUnknown(*_ENCAP_NSH)
        case "decap":
            return parser.NXActionUnknown(*_DECAP)
    raise NotEncodable(f"action {name}")


def _bits(subfield: Mapping[str, Any]) -> int:
    if "start" in subfield:
        return int(subfield["end"]) - int(subfield["start"]) + 1
    return int(_types()[_nxm_name(subfield["field"])].type.size) * 8


def _nxm_name(field: str) -> str:
    """NXM_OF_ETH_SRC -> eth_src_nxm: `move` is a Nicira action, and Open vSwitch lists it with NXM
    headers.
    """
    name = field.split("_", 2)[2].lower()
    name = {"tun_id": "tunnel_id"}.get(name, name)
    return f"{name}_nxm" if f"{name}_nxm" in _types() else name


def _user_value(value: Any) -> Any:
    """What the framework's OFPMatch and OFPActionSetField take for a value that ovs.flow has
    parsed.
    """
    match value:
        case IPMask() if str(value.mask) in _WHOLE:
            return str(value.ip)
        case IPMask():
            return (str(value.ip), str(value.mask))
        case EthMask() if value.mask is not None and str(value).count("/"):
            return tuple(str(value).split("/"))
        case EthMask():
            return str(value)
        case IntMask() if not value.fully():
            return (value.value, value.mask)
        case IntMask():
            return value.value
    return value


@cache
def _protocol() -> Any:
    """A description of OpenFlow 1.4 that needs no connection."""
    _add_missing_fields()
    return framework.current().ofproto_protocol.ProtocolDesc(
        version=framework.current().ofproto_v1_4.OFP_VERSION
    )


def _nicira_ext() -> Any:
    return framework.current().module("ofproto.nicira_ext")


@cache
def _types() -> dict[str, Any]:
    return {field.name: field for field in framework.current().ofproto_v1_4.oxm_types}


def _add_missing_fields() -> None:
    """Two fields of neighbour discovery that neither framework knows: class 0x1000 in OVS's
    ovs-fields(7).
    """
    fw = framework.current()
    ofproto, oxm_fields = fw.ofproto_v1_4, fw.module("ofproto.oxm_fields")
    type_desc = fw.module("lib.type_desc")

    class Ericsson(oxm_fields._OxmClass):  # type: ignore[misc, name-defined]  # untyped
        _class = 0x1000

    known = {field.name for field in ofproto.oxm_types}
    missing = (
        Ericsson("nd_reserved", 1, type_desc.Int4),
        Ericsson("nd_options_type", 2, type_desc.Int1),
    )
    ofproto.oxm_types.extend(field for field in missing if field.name not in known)
    oxm_fields.generate(ofproto.__name__)
