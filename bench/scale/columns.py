"""Overlays that no switch is loaded with, straight as columns: what is counted is what a host would
hold.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ovs_lwt.columns import Addresses4, Addresses6, EndpointColumns
from ovs_lwt.model import Tenant, Underlay, Vtep
from ovs_lwt.topology import TenantColumns, Topology, VtepColumns
from ovs_lwt.view import LocalPorts, View

Numbers = NDArray[np.int64]


def topology(hosts: int, tenants: int, tenant: Numbers, host: Numbers) -> Topology:
    """An overlay with an endpoint for each pair. tenant, host: their numbers"""
    order = np.lexsort((np.arange(len(tenant)), tenant))
    first = np.searchsorted(tenant[order], tenant[order])
    place = np.empty(len(tenant), np.int64)
    place[order] = np.arange(len(tenant)) - first
    vteps = {f"h{n:04}": Vtep(address=f"192.0.{n // 250}.{n % 250 + 1}") for n in range(hosts)}
    return Topology.from_columns(
        Underlay(),
        VtepColumns.build(vteps),
        TenantColumns.build(
            {f"t{n}": Tenant(vni=n + 1, neighbours="flood") for n in range(tenants)}
        ),
        endpoints(tenant, host, place),
        Addresses4(np.zeros(0, np.uint32), np.zeros(0, np.uint32), np.zeros(0, np.uint8)),
        Addresses6(np.zeros(0, np.uint32), np.zeros((0, 16), np.uint8), np.zeros(0, np.uint8)),
    )


def endpoints(tenant: Numbers, host: Numbers, place: Numbers) -> EndpointColumns:
    """An endpoint for each triple. place: which of its tenant's it is"""
    return EndpointColumns(
        tenant.astype(np.uint32),
        (0x020000000000 + place).astype(np.uint64),
        host.astype(np.uint32),
        np.zeros(len(tenant), np.bool_),
        np.zeros(len(tenant), np.uint8),
        pc.binary_join_element_wise("e", pa.array(place).cast(pa.string()), ""),
    )


def view(overlay: Topology, host: int) -> View:
    """What a host needs of it, as if no guest were attached yet."""
    none = np.zeros(0, np.uint32)
    return View(overlay, host, 1, LocalPorts(none, none, *[np.zeros(0, np.bool_)] * 2))
