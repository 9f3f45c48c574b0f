"""The VLANs that are installed: the kernel lists ranges, told apart here into entries as we send
them.

A host has a port for every guest, and a VLAN for every tenant: nothing here loops over them.
"""

from __future__ import annotations

from collections.abc import Iterator
from socket import AF_BRIDGE
from typing import Final, NamedTuple

import numpy as np
from pyroute2.netlink import rtnl
from pyroute2.netlink.rtnl.br_vlan import br_vlan_query

from ovs_lwt.backends.netlink import wire
from ovs_lwt.backends.netlink.kinds import HEADER, VLAN
from ovs_lwt.backends.netlink.program import Rows, stamp
from ovs_lwt.backends.netlink.templates import Devices
from ovs_lwt.backends.netlink.transport import Kernel
from ovs_lwt.backends.netlink.wire import Listed, Shape
from ovs_lwt.columns import U32
from ovs_lwt.stencil import Bytes, Column

_IFINDEX: Final = slice(HEADER + 4, HEADER + 8)  # struct br_vlan_msg
_HEAD: Final = 4  # struct nlattr
# enum BRIDGE_VLANDB_ENTRY_* (include/uapi/linux/if_bridge.h)
_INFO, _RANGE, _TUNNEL_INFO = 1, 2, 4


class _Vlans(NamedTuple):
    """VLANs that ports are in, as columns: interface index, number, BRIDGE_VLAN_INFO_*, VNI or 0"""

    device: U32
    number: U32
    flags: U32
    vni: U32


def vlans(kernel: Kernel, devices: U32) -> list[Listed]:
    """The VLANs that these ports are in (interface indices), and the VNIs that the VLANs are."""
    request = br_vlan_query()
    request.update({"family": AF_BRIDGE, "ifindex": 0})
    request.encode()
    listed = kernel.dump(rtnl.RTM_GETVLAN, bytes(request.data)[HEADER:])
    found = [each for rows in listed.values() for each in _ranges(rows)]
    if not found:
        return []
    every = _Vlans(*map(np.concatenate, zip(*found, strict=True)))
    ours = np.isin(every.device, devices)
    return _entries(_Vlans(*(column[ours] for column in every)))


def _ranges(rows: Bytes) -> Iterator[_Vlans]:
    """What listed messages of one length hold."""
    for which, entries in wire.attributes(rows[:, VLAN.body :]):
        device = wire.numbers(rows, _IFINDEX).astype(np.uint32)[which]
        for chosen, shape in wire.shapes(entries, _HEAD):
            yield _shaped(device[chosen], entries[chosen], shape)


def _shaped(device: U32, entries: Bytes, shape: Shape) -> _Vlans:
    """What attributes of one shape, each a VLAN or a range of them, hold."""

    def values(kind: int, at: int, width: int) -> U32:
        start = shape[kind].start + at
        return wire.numbers(entries, slice(start, start + width)).astype(np.uint32)

    first = values(_INFO, _HEAD + 2, 2)
    last = values(_RANGE, _HEAD, 2) if _RANGE in shape else first
    # In the nest stands BRIDGE_VLANDB_TINFO_ID alone.
    vni = values(_TUNNEL_INFO, 2 * _HEAD, 4) if _TUNNEL_INFO in shape else np.zeros_like(first)
    return _apart(_Vlans(device, first, values(_INFO, _HEAD, 2), vni), last)


def _apart(first: _Vlans, last: U32) -> _Vlans:
    """Every VLAN of these ranges, both ends included; the VNIs go up with the VLANs."""
    count = last - first.number + 1
    device, number, flags, vni = (np.repeat(column, count) for column in first)
    step = np.arange(len(number), dtype=np.uint32) - np.repeat(np.cumsum(count) - count, count)
    return _Vlans(device, number + step, flags, np.where(vni > 0, vni + step, 0))


def _entries(every: _Vlans) -> list[Listed]:
    index, dev = np.unique(every.device, return_inverse=True)
    mapped = every.vni > 0
    members: dict[str, Column] = {"dev": dev, "vlan": every.number}
    vnis: dict[str, Column] = {
        "dev": dev[mapped],
        "vlan": every.number[mapped],
        "vni": every.vni[mapped],
    }
    program = stamp(
        [Rows("vlan.tunnel", len(dev), members), Rows("vlan.vni", int(mapped.sum()), vnis)],
        Devices(("",) * len(index), index),
    )
    for listed in program.entries:
        if listed.kind is VLAN:
            # What was stamped has no flags.
            (place,) = listed.block.value
            flags = np.ascontiguousarray(every.flags, "=u2").view(np.uint8).reshape(-1, 2)
            listed.block.rows[:, place] = flags
    return program.entries
