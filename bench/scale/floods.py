"""4,096 tenants with the same 1,000 VTEPs: how many flood lists a host holds, and what it takes
when a VTEP joins all of them.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from bench.results import Row
from bench.scale import columns
from ovs_lwt.backends.openflow import change, program
from ovs_lwt.edit import Changes, changed
from ovs_lwt.slices import Slice
from ovs_lwt.topology import Topology

TENANTS: Final = 4096
VTEPS: Final = 1000


def rows(tenants: int) -> list[Row]:
    """Count them."""
    few = _overlay(tenants)
    many = changed(few, _joining(few))
    old, new = (columns.view(overlay, 0) for overlay in (few, many))
    lists, groups = len(old.flood_lists.owners), len(program.full(old).groups) - tenants
    joined = change.transaction(old, new)
    while joined.take(lambda _: 1):
        pass
    messages = joined.counts.groups_written + joined.counts.groups_deleted
    name = f"{tenants:,} tenants with the same {VTEPS:,} VTEPs"
    return [
        Row.limit(f"{name}: flood lists", len(few.endpoints), "lists", lists, 1, tenants),
        # One that is too long for one action list of the datapath is kept in shares.
        Row.state(f"{name}: groups that hold it", len(few.endpoints), "groups", groups),
        Row.limit(
            f"{name}: group messages when a VTEP joins them all",
            len(many.endpoints),
            "sent",
            messages,
            1,
            tenants,
        ),
    ]


def _overlay(tenants: int) -> Topology:
    """Each tenant has a guest on every VTEP but the last."""
    tenant, vtep = np.divmod(np.arange(tenants * (VTEPS - 1)), VTEPS - 1)
    return columns.topology(VTEPS, tenants, tenant, vtep)


def _joining(overlay: Topology) -> Changes:
    """Each tenant gets a guest on the last VTEP."""
    tenants = len(overlay.tenants)
    each = np.arange(tenants)
    put = columns.endpoints(each, np.full(tenants, VTEPS - 1), np.full(tenants, VTEPS))
    none = np.zeros(0, np.uint32)
    whole = Slice(tenants, put, overlay.addresses4, overlay.addresses6)
    return Changes(whole, none, none.astype(np.uint64))
