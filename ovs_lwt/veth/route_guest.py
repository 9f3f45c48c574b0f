"""What a guest of plane route has besides its addresses: a default route, and its one neighbour.

One of each for IPv4 and for IPv6, where it has such an address. On other planes they go again: what
is ours is known by its protocol.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from socket import AF_INET, AF_INET6
from typing import Any, Final

from pyroute2.netlink.exceptions import NetlinkError

from ovs_lwt.mistakes import Refused
from ovs_lwt.veth.netlink import ignoring
from ovs_lwt.veth.plan import GATEWAY4, GATEWAY6, GATEWAY_MAC, AttachPlan

# rtm_protocol and NDA_PROTOCOL of all routes and neighbours that are made by ovs-lwt.
_PROTOCOL: Final = 76
_NUD_PERMANENT: Final = 0x80
_RTNH_F_ONLINK: Final = 4  # no address of the guest's is in the gateway's network
_MAIN: Final = 254


@dataclass(frozen=True, slots=True)
class _Gateway:
    family: int
    address: str
    used: bool


def set_gateways(guest: Any, index: int, plan: AttachPlan) -> None:
    """Give interface `index` the gateways of its plane, and take away what it no longer uses.

    Raises Refused if the guest has another default route, which is its own business.
    """
    routed = plan.plane == "route"
    for gateway in (
        _Gateway(AF_INET, GATEWAY4, routed and any("." in text for text in plan.addresses)),
        _Gateway(AF_INET6, GATEWAY6, routed and any(":" in text for text in plan.addresses)),
    ):
        _set_neighbour(guest, index, gateway)
        _set_default(guest, index, gateway, plan)


def _set_neighbour(guest: Any, index: int, gateway: _Gateway) -> None:
    right = False
    for found in list(guest.neigh("dump", family=gateway.family, ifindex=index)):
        is_gateway = found.get("dst") == gateway.address
        right = right or (
            gateway.used
            and is_gateway
            and found["state"] == _NUD_PERMANENT
            and found.get("lladdr") == GATEWAY_MAC
            and found.get("protocol") == _PROTOCOL
        )
        if is_gateway and not gateway.used and found.get("protocol") == _PROTOCOL:
            ignoring(errno.ENOENT, guest.neigh, "del", ifindex=index, dst=gateway.address)
    if gateway.used and not right:
        guest.neigh(
            "replace",
            family=gateway.family,
            ifindex=index,
            dst=gateway.address,
            lladdr=GATEWAY_MAC,
            state=_NUD_PERMANENT,
            protocol=_PROTOCOL,
        )


def _set_default(guest: Any, index: int, gateway: _Gateway, plan: AttachPlan) -> None:
    wanted: dict[str, Any] = {
        "family": gateway.family,
        "dst": "default",
        "gateway": gateway.address,
        "oif": index,
        "proto": _PROTOCOL,
    }
    if gateway.family == AF_INET:
        wanted["flags"] = _RTNH_F_ONLINK
    right = False
    for found in list(guest.route("dump", family=gateway.family, table=_MAIN)):
        if found["dst_len"] or found["proto"] != _PROTOCOL or found.get("oif") != index:
            continue
        if gateway.used and found.get("gateway") == gateway.address:
            right = True
        else:
            stale = wanted | {"gateway": found.get("gateway")}
            ignoring(errno.ESRCH, guest.route, "del", **stale)
    if not gateway.used or right:
        return
    try:
        guest.route("add", **wanted)
    except NetlinkError as error:
        if error.code != errno.EEXIST:
            raise
        version = "-6 " if gateway.family == AF_INET6 else ""
        raise Refused(
            f"network namespace {plan.netns} has a default route already, and plane route gives"
            f" {plan.identity} its own: remove that one (ip -n {plan.netns} {version}route del"
            " default)"
        ) from error
