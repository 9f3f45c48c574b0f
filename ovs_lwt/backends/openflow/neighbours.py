"""Answer neighbour solicitations that the datapath cannot turn into advertisements by itself.

The flow `respond.nd_to_app` sends them here, only those for addresses that we know; the switch
limits their rate.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

from ovs_lwt.backends.openflow import encode, framework
from ovs_lwt.backends.scope import Scope
from ovs_lwt.view import View

_ICMPV6 = 58  # IANA protocol number
_HOP_LIMIT = 255  # RFC 4861, 7.1.2: anything else is not from this link
_SOLICITED_OVERRIDE = 0b011  # the flags R, S, O


def answer(view: View, message: bytes, xid: int) -> bytes | None:
    """The packet-out that answers the solicitation in this OFPT_PACKET_IN; None if it holds none
    that we can answer.
    """
    fw = framework.current()
    packet_in = encode.decoded(message)
    try:
        frame = fw.packet.Packet(packet_in.data)
    except Exception:
        # A guest wrote it, and both frameworks' parsers raise what they like: TypeError for an
        # unknown routing header. It must not cost the switch its connection.
        return None
    asking, ip = frame.get_protocol(fw.ethernet.ethernet), frame.get_protocol(fw.ipv6.ipv6)
    solicitation = frame.get_protocol(fw.icmpv6.icmpv6)
    if ip is None or solicitation is None or solicitation.type_ != fw.icmpv6.ND_NEIGHBOR_SOLICIT:
        return None
    if not isinstance(solicitation.data, fw.icmpv6.nd_neighbor):
        return None  # cut off before its target
    target = solicitation.data.dst
    mac = _macs(view, int(packet_in.match.get("metadata", 0))).get(target)
    if mac is None:
        return None
    reply = fw.packet.Packet()
    reply.add_protocol(fw.ethernet.ethernet(asking.src, mac, asking.ethertype))
    reply.add_protocol(fw.ipv6.ipv6(src=target, dst=ip.src, nxt=_ICMPV6, hop_limit=_HOP_LIMIT))
    option = fw.icmpv6.nd_option_tla(hw_src=mac)
    body = fw.icmpv6.nd_neighbor(res=_SOLICITED_OVERRIDE, dst=target, option=option)
    reply.add_protocol(fw.icmpv6.icmpv6(fw.icmpv6.ND_NEIGHBOR_ADVERT, data=body))
    reply.serialize()
    return encode.packet_out(packet_in.match["in_port"], bytes(reply.data), xid)


def _macs(view: View, vni: int) -> dict[str, str]:
    """Address -> MAC of the tenant's endpoints, as the framework writes them."""
    tenants = _known.setdefault(view, {})
    if vni not in tenants:
        owner, addresses = Scope.of(view, [vni]).owned6
        type_desc = framework.current().module("lib.type_desc")
        macs = view.topology.endpoints.mac[owner].tolist()
        tenants[vni] = {
            type_desc.IPv6Addr.to_user(ip.tobytes()): mac.to_bytes(6, "big").hex(":")
            for ip, mac in zip(addresses, macs, strict=True)
        }
    return tenants[vni]


# By view and VNI, for the tenants that have asked.
_known: WeakKeyDictionary[View, dict[int, dict[str, str]]] = WeakKeyDictionary()
