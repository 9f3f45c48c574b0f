"""What the kernel says of all devices of a namespace at once: whether they are mute.

A host may have a thousand guests, and one dump tells of all their sysctls; pyroute2 would take half
a second to read it.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from ovs_lwt.netns import entered

# include/uapi/linux/netlink.h, rtnetlink.h, if_link.h, if.h
_NLMSGHDR: Final = struct.Struct("=IHHII")
_IFINFOMSG: Final = struct.Struct("=BBHiII")
_NLATTR: Final = struct.Struct("=HH")
_REQUEST, _DUMP, _INTERRUPTED = 1, 0x300, 0x10
_ERROR, _DONE, _NEWLINK, _GETLINK = 2, 3, 16, 18
_NESTED: Final = 0x3FFF  # NLA_TYPE_MASK
_ADDRESS, _IFNAME, _MASTER, _LINKINFO, _AF_SPEC, _EXT_MASK = 1, 3, 10, 18, 26, 29
_INFO_KIND: Final = 1
_SKIP_STATS: Final = 8  # RTEXT_FILTER_SKIP_STATS
_IFF_UP, _IFF_NOARP = 0x1, 0x80
# Where a sysctl stands in IFLA_INET_CONF and IFLA_INET6_CONF: (family, attribute, place).
# include/uapi/linux/ip.h (IPV4_DEVCONF_…, counted from 1), ipv6.h (DEVCONF_…).
_PLACES: Final[Mapping[str, tuple[int, int, int]]] = {
    "ipv4/forwarding": (socket.AF_INET, 1, 0),
    "ipv4/rp_filter": (socket.AF_INET, 1, 7),
    "ipv4/accept_local": (socket.AF_INET, 1, 22),
    "ipv4/src_valid_mark": (socket.AF_INET, 1, 23),
    "ipv6/accept_ra": (socket.AF_INET6, 2, 3),
    "ipv6/disable_ipv6": (socket.AF_INET6, 2, 26),
}
_TRIES: Final = 5
_CHUNK: Final = 1 << 18  # a dump's messages come in 32 KiB at most


@dataclass(frozen=True, slots=True)
class Device:
    """A device. arp: whether the stack speaks ARP there; master: the index of what it is in, or 0

    conf: its sysctls, as `setting` reads them; without those of a family that it has not
    """

    index: int
    up: bool
    arp: bool
    mac: str
    master: int
    kind: str
    conf: Mapping[int, bytes]

    def setting(self, sysctl: str) -> str | None:
        """The value of FAMILY/NAME; None if it has none, or the kernel does not tell."""
        if sysctl not in _PLACES:
            return None
        family, _, place = _PLACES[sysctl]
        values = self.conf.get(family, b"")
        if len(values) < 4 * (place + 1):
            return None
        return str(struct.unpack_from("=i", values, 4 * place)[0])


class Devices:
    """The devices of a network namespace: its name or path; None: ours."""

    def __init__(self, netns: str | None = None) -> None:
        with entered(netns):
            self._socket = socket.socket(
                socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
            )
        self._socket.bind((0, 0))
        self._number = 0

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def listed(self) -> dict[str, Device]:
        """All that there are, by name. Raises OSError."""
        for _ in range(_TRIES):
            found, whole = self._dump()
            if whole:
                break
        return found

    def _dump(self) -> tuple[dict[str, Device], bool]:
        """What one dump lists, and whether nothing changed under it."""
        self._number += 1
        mask = _NLATTR.pack(8, _EXT_MASK) + struct.pack("=I", _SKIP_STATS)
        body = _IFINFOMSG.pack(socket.AF_UNSPEC, 0, 0, 0, 0, 0) + mask
        length = _NLMSGHDR.size + len(body)
        head = _NLMSGHDR.pack(length, _GETLINK, _REQUEST | _DUMP, self._number, 0)
        self._socket.send(head + body)
        found: dict[str, Device] = {}
        whole = True
        while True:
            data = self._socket.recv(_CHUNK)
            at = 0
            while at + _NLMSGHDR.size <= len(data):
                size, kind, flags, number, _ = _NLMSGHDR.unpack_from(data, at)
                if number == self._number:
                    whole = whole and not flags & _INTERRUPTED
                    if kind == _DONE:
                        return found, whole
                    if kind == _ERROR:
                        code = -struct.unpack_from("=i", data, at + _NLMSGHDR.size)[0]
                        raise OSError(code, os.strerror(code))
                    if kind == _NEWLINK:
                        name, device = _device(data, at + _NLMSGHDR.size, at + size)
                        found[name] = device
                at += -(-size // 4) * 4


def _device(data: bytes, at: int, end: int) -> tuple[str, Device]:
    _, _, _, index, flags, _ = _IFINFOMSG.unpack_from(data, at)
    parts = dict(_attributes(data, at + _IFINFOMSG.size, end))
    name, mac, kind = (data[slice(*parts.get(each, (0, 0)))] for each in (_IFNAME, _ADDRESS, 0))
    if _LINKINFO in parts:
        info = dict(_attributes(data, *parts[_LINKINFO]))
        kind = data[slice(*info.get(_INFO_KIND, (0, 0)))]
    master = data[slice(*parts.get(_MASTER, (0, 0)))]
    return os.fsdecode(name.rstrip(b"\0")), Device(
        index=index,
        up=bool(flags & _IFF_UP),
        arp=not flags & _IFF_NOARP,
        mac=mac.hex(":"),
        master=struct.unpack("=I", master)[0] if master else 0,
        kind=kind.rstrip(b"\0").decode(),
        conf=dict(_conf(data, *parts.get(_AF_SPEC, (0, 0)))),
    )


def _conf(data: bytes, at: int, end: int) -> Iterator[tuple[int, bytes]]:
    wanted = {family: attribute for family, attribute, _ in _PLACES.values()}
    for family, place in _attributes(data, at, end):
        if family in wanted:
            inner = dict(_attributes(data, *place))
            if wanted[family] in inner:
                yield family, data[slice(*inner[wanted[family]])]


def _attributes(data: bytes, at: int, end: int) -> Iterator[tuple[int, tuple[int, int]]]:
    """The attributes between two places: (type, (where its value begins, and ends))."""
    while at + _NLATTR.size <= end:
        length, kind = _NLATTR.unpack_from(data, at)
        if length < _NLATTR.size:
            return
        yield kind & _NESTED, (at + _NLATTR.size, at + length)
        at += -(-length // 4) * 4
