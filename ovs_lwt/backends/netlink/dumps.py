"""What is installed, as the kernel lists it: one dump for each part of it, in blocks to compare.

Routes are asked for by their protocol, so the kernel leaves out what is not ours; of what else is
listed, `Listed.mine` knows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from socket import AF_BRIDGE
from typing import Final

import numpy as np
from pyroute2.common import AF_MPLS
from pyroute2.netlink import rtnl
from pyroute2.netlink.rtnl import TC_H_CLSACT
from pyroute2.netlink.rtnl.fibmsg import fibmsg
from pyroute2.netlink.rtnl.ndmsg import NTF_SELF, ndmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg
from pyroute2.netlink.rtnl.tcmsg import tcmsg

from ovs_lwt.backends.netlink import wire
from ovs_lwt.backends.netlink.kinds import (
    BRIDGE_FDB,
    EGRESS,
    FDB,
    FILTER,
    FLOOD,
    HEADER,
    INGRESS,
    LABEL,
    LOCAL_RULE,
    NDA_LLADDR,
    NEIGHBOUR,
    PROTOCOL,
    QDISC,
    ROUTE,
    RULE,
    Kind,
)
from ovs_lwt.backends.netlink.missing import RTM_GETTUNNEL, label_msg, tunnel_msg
from ovs_lwt.backends.netlink.program import Rows, stamp
from ovs_lwt.backends.netlink.templates import Devices
from ovs_lwt.backends.netlink.transport import Kernel
from ovs_lwt.backends.netlink.wire import Listed
from ovs_lwt.stencil import Bytes

_NDM_IFINDEX: Final = slice(HEADER + 4, HEADER + 8)
_NDM_FLAGS: Final = HEADER + 10
_RULE_TABLE: Final = HEADER + 4
_TCM_INDEX: Final = slice(HEADER + 4, HEADER + 8)
_TCM_HANDLE: Final = slice(HEADER + 8, HEADER + 12)
_TCM_PARENT: Final = slice(HEADER + 12, HEADER + 16)
RT_TABLE_LOCAL: Final = 255  # include/uapi/linux/rtnetlink.h


def fdb(kernel: Kernel, device: int, bridge: int = 0) -> list[Listed]:
    """The FDB of a VXLAN device that is a port of a bridge: its own entries, flood lists, and those
    that the bridge has for it (given the bridge: and for all its other ports).
    """
    request = (
        _request(ndmsg, [("NDA_MASTER", bridge)], family=AF_BRIDGE)
        if bridge
        else _request(ndmsg, family=AF_BRIDGE, ifindex=device)
    )
    found: list[Listed] = []
    for rows in kernel.dump(rtnl.RTM_GETNEIGH, request).values():
        own = (rows[:, _NDM_FLAGS] & NTF_SELF).astype(np.bool_)
        found += wire.entries(BRIDGE_FDB, rows[~own])
        # What the bridge's other ports have of their own is what their drivers listen to.
        own &= wire.numbers(rows, _NDM_IFINDEX) == device
        for listed in wire.entries(FDB, rows[own]):
            found += _flood_apart(listed)
    return found


def neighbours(kernel: Kernel, family: int, device: int = 0) -> list[Listed]:
    """The neighbours on a device (0: on all)."""
    attributes = [("NDA_IFINDEX", device)] if device else []
    request = _request(ndmsg, attributes, family=family)
    return _entries(NEIGHBOUR, kernel.dump(rtnl.RTM_GETNEIGH, request))


def routes(kernel: Kernel, family: int) -> list[Listed]:
    """Our routes, of all tables."""
    request = _request(rtmsg, family=family, proto=PROTOCOL)
    return _entries(ROUTE, kernel.dump(rtnl.RTM_GETROUTE, request))


def labels(kernel: Kernel) -> list[Listed]:
    """Our routes by MPLS label."""
    request = _request(label_msg, family=AF_MPLS, proto=PROTOCOL)
    return _entries(LABEL, kernel.dump(rtnl.RTM_GETROUTE, request))


def rules(kernel: Kernel, family: int) -> list[Listed]:
    """All rules but those that look up the host's own addresses."""
    return _rules(kernel, family, RULE)


def local_rules(kernel: Kernel, family: int) -> list[Listed]:
    """The rules that look up the host's own addresses. Only for who desires one of them: without
    any, nobody reaches the host.
    """
    return _rules(kernel, family, LOCAL_RULE)


def _rules(kernel: Kernel, family: int, kind: Kind) -> list[Listed]:
    found: list[Listed] = []
    for rows in kernel.dump(rtnl.RTM_GETRULE, _request(fibmsg, family=family)).values():
        local = rows[:, _RULE_TABLE] == RT_TABLE_LOCAL
        found += wire.entries(kind, rows[local if kind is LOCAL_RULE else ~local])
    return found


def filters(kernel: Kernel, device: int) -> list[Listed]:
    """What tc has on a device: clsact, and the filters on its ingress and egress."""
    found: list[Listed] = []
    for rows in kernel.dump(rtnl.RTM_GETQDISC, _request(tcmsg, index=device)).values():
        here = wire.numbers(rows, _TCM_INDEX) == device
        clsact = wire.numbers(rows, _TCM_PARENT) == TC_H_CLSACT
        found += wire.entries(QDISC, rows[here & clsact])
    if not found:
        return []
    for hook in (INGRESS, EGRESS):
        request = _request(tcmsg, index=device, parent=hook)
        for rows in kernel.dump(rtnl.RTM_GETTFILTER, request).values():
            # Each preference is listed as well, without a handle.
            found += wire.entries(FILTER, rows[wire.numbers(rows, _TCM_HANDLE) != 0])
    return found


def vnis(kernel: Kernel, device: int) -> list[Listed]:
    """The VNIs that a VXLAN device takes part in.

    The kernel lists ranges; they are told apart here, into entries as we send them.
    """
    request = _request(tunnel_msg, family=AF_BRIDGE, ifindex=device)
    ranges = [
        entry
        for rows in kernel.dump(RTM_GETTUNNEL, request).values()
        for row in rows
        for entry in _ranges(row)
    ]
    members = [np.arange(first, last + 1, dtype=np.uint32) for first, last in ranges]
    vni = np.concatenate([np.empty(0, np.uint32), *members])
    devices = Devices(("",), np.array([device], np.uint32))
    columns = {"vni": vni, "dev": np.zeros(1, np.uint32)}
    program = stamp([Rows("vni.member", len(vni), columns)], devices)
    return program.entries


def _request(message: type, attributes: Sequence[tuple[str, int]] = (), **fields: int) -> bytes:
    """What follows struct nlmsghdr in a request; fields that are not given are 0."""
    request = message()
    request["attrs"] = list(attributes)
    request.update({name: 0 for name, _ in request.fields if not name.startswith("__")} | fields)
    request.encode()
    return bytes(request.data)[HEADER:]


def _entries(kind: Kind, messages: dict[int, Bytes]) -> list[Listed]:
    return list(chain.from_iterable(wire.entries(kind, rows) for rows in messages.values()))


def _flood_apart(listed: Listed) -> Iterator[Listed]:
    """Entries of the all-zero MAC are members of flood lists: one each, not one in all."""
    rows = listed.block.rows
    place = listed.shape[NDA_LLADDR]
    flood = ~rows[:, place.stop - 6 : place.stop].any(axis=1)
    for kind, which in ((FDB, ~flood), (FLOOD, flood)):
        if which.any():
            yield Listed.of(kind, rows if which.all() else rows[which], listed.shape)


def _ranges(row: Bytes) -> Iterator[tuple[int, int]]:
    """(first, last) VNI of every entry of a listed message."""
    message = tunnel_msg(row.tobytes())
    message.decode()
    for entry in message.get_attrs("VXLAN_VNIFILTER_ENTRY"):
        first = entry.get_attr("VXLAN_VNIFILTER_ENTRY_START")
        yield first, entry.get_attr("VXLAN_VNIFILTER_ENTRY_END") or first
