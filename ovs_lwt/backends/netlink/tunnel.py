"""Rows about the shared device that planes bridge and route have in common: whom it lets in.

They only select and join columns; nothing here does I/O.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from ovs_lwt.backends.netlink.program import Rows
from ovs_lwt.columns import U32, Indices
from ovs_lwt.stencil import Column
from ovs_lwt.view import View

DEVICE: Final = np.zeros(1, np.uint32)
"""The shared device's number among the devices, as a column."""


def filters(view: View) -> Iterator[Rows]:
    """What comes from a VTEP that we know may pass, and no mark leaves with what is sent."""
    handles: dict[str, Column] = {"handle": _handles(view), "dev": DEVICE}
    alone: dict[str, Column] = {"handle": np.ones(1, np.uint32), "dev": DEVICE}
    yield Rows("qdisc.clsact", 1, {"dev": DEVICE})
    yield towards(view, "filter.known_vtep", handles, view.peers)
    yield Rows("filter.other_vteps", 1, alone)
    yield Rows("filter.outer_mark", 1, alone)


def _handles(view: View) -> U32:
    """A number for each VTEP that we know: its own, so that it stays when others come and go."""
    vteps, peers = view.topology.vteps, view.peers
    if vteps.family[view.host] == 4:
        return vteps.ipv4[peers]
    words = np.ascontiguousarray(vteps.ipv6[peers]).view(">u4").reshape(-1, 4)
    found: dict[int, None] = {}
    for number in np.bitwise_xor.reduce(words, axis=1).tolist():
        # Where it happens to be another's, or 0, which is none: the next.
        while not number or number in found:
            number = (number + 1) & 0xFFFFFFFF
        found[number] = None
    return np.array(list(found), np.uint32)


def towards(view: View, name: str, columns: dict[str, Column], vtep: Indices) -> Rows:
    """Rows about VTEPs, of the address family that the host's own is of."""
    vteps = view.topology.vteps
    if vteps.family[view.host] == 6:
        return Rows(f"{name}6", len(vtep), columns | {"vtep6": vteps.ipv6[vtep]})
    return Rows(name, len(vtep), columns | {"vtep": vteps.ipv4[vtep]})
