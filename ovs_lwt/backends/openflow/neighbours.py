"""Answer neighbour solicitations that the datapath cannot turn into advertisements by itself.

The flow `respond.nd_to_app` sends them here, only those for addresses that we know; the switch
limits their rate.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Address
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from ovs_lwt.backends.openflow import encode, framework
from ovs_lwt.backends.openflow.answers import Answers6, answers6
from ovs_lwt.backends.openflow.slots import KINDS
from ovs_lwt.backends.scope import Scope
from ovs_lwt.columns import U64
from ovs_lwt.view import View

_IPV6, _ICMPV6 = 0x86DD, 58  # IANA: EtherType, protocol number
_HOP_LIMIT = 255  # RFC 4861, 7.1.2: anything else is not from this link
_ROUTER, _SOLICITED, _OVERRIDE = 0b100, 0b010, 0b001  # RFC 4861, 4.4
_UNSPECIFIED = IPv6Address("::")
_ALL_NODES, _ALL_NODES_MAC = "ff02::1", "33:33:00:00:00:01"


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
    # Whoever looks for a duplicate has no address yet: all nodes are told (RFC 4861, 7.2.4), of
    # whom it alone hears it.
    detection = IPv6Address(ip.src) == _UNSPECIFIED
    owner = _owner(view, int(packet_in.match.get("metadata", 0)), target)
    if owner is None or (owner.detection and not detection):
        return None
    to_mac, to_ip = (_ALL_NODES_MAC, _ALL_NODES) if detection else (asking.src, ip.src)
    flags = _OVERRIDE | (0 if detection else _SOLICITED) | (_ROUTER if owner.router else 0)
    reply = fw.packet.Packet()
    reply.add_protocol(fw.ethernet.ethernet(to_mac, owner.mac, _IPV6))
    reply.add_protocol(fw.ipv6.ipv6(src=target, dst=to_ip, nxt=_ICMPV6, hop_limit=_HOP_LIMIT))
    option = fw.icmpv6.nd_option_tla(hw_src=owner.mac)
    body = fw.icmpv6.nd_neighbor(res=flags, dst=target, option=option)
    reply.add_protocol(fw.icmpv6.icmpv6(fw.icmpv6.ND_NEIGHBOR_ADVERT, data=body))
    reply.serialize()
    return encode.packet_out(packet_in.match["in_port"], bytes(reply.data), xid)


@dataclass(frozen=True, slots=True)
class _Owner:
    """Who has an address, and what is answered for it: see `answers.Answers6`."""

    mac: str
    router: bool
    detection: bool


def _owner(view: View, vni: int, target: str) -> _Owner | None:
    """The tenant's endpoint that has this address, if it is answered for."""
    tenants = _known.setdefault(view, {})
    if vni not in tenants:
        scope = Scope.of_tenant(view, vni)
        found = answers6(scope)
        addresses = np.ascontiguousarray(found.ip).view("S16").ravel()
        order = np.argsort(addresses)
        says = Answers6(
            found.endpoint[order], found.ip[order], found.router[order], found.detection[order]
        )
        tenants[vni] = addresses[order], scope.endpoints.mac[says.endpoint], says
    addresses, macs, says = tenants[vni]
    at = int(np.searchsorted(addresses, wanted := IPv6Address(target).packed))
    if at == np.searchsorted(addresses, wanted, "right"):
        return None
    mac = KINDS["mac"].text(int(macs[at]))
    return _Owner(mac, bool(says.router[at]), bool(says.detection[at]))


# By view and VNI, for the tenants that have asked: addresses, ascending, the MACs they are at, and
# what is answered.
_known: WeakKeyDictionary[View, dict[int, tuple[NDArray[np.bytes_], U64, Answers6]]] = (
    WeakKeyDictionary()
)
