"""Answer neighbour solicitations that the datapath cannot turn into advertisements by itself.

The flow `respond.nd_to_app` sends them here, only those for addresses that we know; the switch
limits their rate.
"""

from __future__ import annotations

from ipaddress import IPv6Address
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from ovs_lwt.backends.openflow import encode, framework
from ovs_lwt.backends.openflow.slots import KINDS
from ovs_lwt.backends.scope import Scope
from ovs_lwt.columns import U64
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
    mac = _mac(view, int(packet_in.match.get("metadata", 0)), target)
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


def _mac(view: View, vni: int, target: str) -> str | None:
    """The MAC of the tenant's endpoint that has this address."""
    tenants = _known.setdefault(view, {})
    if vni not in tenants:
        scope = Scope.of_tenant(view, vni)
        owner, octets = scope.owned6
        addresses = np.ascontiguousarray(octets).view("S16").ravel()
        order = np.argsort(addresses)
        tenants[vni] = addresses[order], scope.endpoints.mac[owner[order]]
    addresses, macs = tenants[vni]
    wanted = IPv6Address(target).packed
    found = macs[np.searchsorted(addresses, wanted) : np.searchsorted(addresses, wanted, "right")]
    return KINDS["mac"].text(int(found[0])) if len(found) else None


# By view and VNI, for the tenants that have asked: addresses, ascending, and the MACs they are at.
_known: WeakKeyDictionary[View, dict[int, tuple[NDArray[np.bytes_], U64]]] = WeakKeyDictionary()
