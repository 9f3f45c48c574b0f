"""The network devices that there are, as the kernel lists them.

A host may have thousands of guests, and pyroute2 takes half a millisecond for a device. So it
decodes the part that says what a device is, once for as long as that stays the same; where the few
fields stand that are looked at each time, is found for all devices of one shape at once.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from pyroute2.netlink import rtnl
from pyroute2.netlink.rtnl import RTNLGRP_LINK
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from ovs_lwt.backends.netlink import missing, wire
from ovs_lwt.backends.netlink.kinds import HEADER
from ovs_lwt.backends.netlink.transport import Kernel
from ovs_lwt.stencil import Bytes

missing.register()

NOTICES: Final = (socket.NETLINK_ROUTE, (RTNLGRP_LINK,))
"""Where the kernel tells of devices that come, change and go: protocol and multicast groups."""

_BODY: Final = HEADER + 16  # struct ifinfomsg
_INDEX, _IFF = slice(HEADER + 4, HEADER + 8), slice(HEADER + 8, HEADER + 12)
_IFF_UP: Final = 1
_HEAD: Final = 4  # struct nlattr
# enum IFLA_*, include/uapi/linux/if_link.h.
_ADDRESS, _IFNAME, _MTU, _MASTER, _LINKINFO, _IFALIAS = 1, 3, 4, 10, 18, 20
_LOOKED_AT: Final = (_ADDRESS, _IFNAME, _MTU, _MASTER, _IFALIAS)
_NOTHING: Final = slice(0, 0)
_KNOWN: Final = 1 << 14  # devices of which it is remembered what they are

Settings = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Present:
    """A network device.

    alias: what `ip link set … alias` has set; kind: "vxlan", …, "" for one of the hardware's
    master: the index of the bridge (or VRF) that it is in, 0 if none; settings, port: what it and
    its place in the bridge are set to, by the kernel's names (IFLA_VXLAN_PORT, IFLA_BRPORT_LOCKED)
    """

    name: str
    index: int
    up: bool
    mtu: int
    mac: str
    alias: str
    master: int
    kind: str
    settings: Settings
    port: Settings


def devices(kernel: Kernel) -> dict[str, Present]:
    """All devices of the kernel's namespace, by name, in the order in which they were made."""
    request = ifinfmsg()
    request.encode()
    listed = kernel.dump(rtnl.RTM_GETLINK, bytes(request.data)[HEADER:])
    found = [device for rows in listed.values() for device in _devices(rows)]
    return {device.name: device for device in sorted(found, key=lambda device: device.index)}


def _devices(rows: Bytes) -> Iterator[Present]:
    for which, shape in wire.shapes(rows, _BODY):
        for row in rows[which]:
            message = row.tobytes()
            parts = {each: message[shape[each]][_HEAD:] for each in _LOOKED_AT if each in shape}
            kind, settings, port = _linkinfo(message[shape.get(_LINKINFO, _NOTHING)])
            yield Present(
                name=_text(parts[_IFNAME]),
                index=_number(message[_INDEX]),
                up=bool(_number(message[_IFF]) & _IFF_UP),
                mtu=_number(parts[_MTU]),
                mac=parts.get(_ADDRESS, b"").hex(":"),
                alias=_text(parts.get(_IFALIAS, b"")),
                master=_number(parts.get(_MASTER, b"")),
                kind=kind,
                settings=settings,
                port=port,
            )


@lru_cache(_KNOWN)
def _linkinfo(octets: bytes) -> tuple[str, Settings, Settings]:
    """What IFLA_LINKINFO says: (kind, its settings, those of its place in a bridge)."""
    if not octets:
        return "", {}, {}
    info = ifinfmsg.ifinfo(octets)
    info.decode()
    settings, port = (info.get_attr(f"IFLA_INFO_{part}DATA") for part in ("", "SLAVE_"))
    return info.get_attr("IFLA_INFO_KIND") or "", _pairs(settings), _pairs(port)


def _pairs(nested: Any) -> Settings:
    # Of kinds that pyroute2 does not know it gives the bytes, as text.
    return dict(nested["attrs"]) if isinstance(nested, dict) else {}


def _text(octets: bytes) -> str:
    return octets.rstrip(b"\0").decode(errors="replace")


def _number(octets: bytes) -> int:
    return int.from_bytes(octets, sys.byteorder)
