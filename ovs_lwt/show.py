"""Show what an overlay means to a host, for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from ovs_lwt import offline
from ovs_lwt.backends.bridge.vlans import VlanStore
from ovs_lwt.backends.netlink.setup import TUNNEL
from ovs_lwt.backends.openflow.pipeline import COOKIE_VNI_MASK
from ovs_lwt.columns import U32
from ovs_lwt.plane import Options
from ovs_lwt.tables import show_table
from ovs_lwt.topology import Topology


def tables(topology: Topology, host: str | None, options: Options, console: Console) -> None:
    """Mark → tenant → VNI → the tenant's table on each plane; of one host's tenants, or of all.

    A VLAN is a host's own affair: it is shown with a host only, as the host has it on record, or
    would give it. Raises Refused for a host that the overlay does not have.
    """
    tenants, endpoints = topology.tenants, topology.endpoints
    here = np.ones(len(endpoints), np.bool_)
    if host is not None:
        here = endpoints.vtep == topology.vtep_index(host)
    local = np.bincount(endpoints.tenant[here], minlength=len(tenants))
    every = np.bincount(endpoints.tenant, minlength=len(tenants))
    title = f"tenants of {host}" if host else "tenants"
    table = Table(
        title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0)
    )
    vlans = _vlans(topology, host, options)
    numbers = ("mark", "VNI", "ovs\nmetadata", "bridge\nVLAN", "route\ntable")
    endpoints_here = "endpoints\nhere" if host else "endpoints"
    headings = ("mark", "tenant", *numbers[1:], endpoints_here, "unknown\nunicast", "ARP,\nND")
    for heading in headings:
        justify: Literal["left", "right"] = "right" if heading in numbers else "left"
        table.add_column(heading, justify=justify, no_wrap=True)
    for index, name in enumerate(tenants.name):
        if host is not None and not local[index]:
            continue
        vni = int(tenants.vni[index])
        table.add_row(
            str(tenants.mark[index]),
            name,
            str(vni),
            f"{vni:#x}",
            str(vlans[index]) if vlans is not None else "-",
            str(tenants.mark[index]),
            f"{local[index]} of {every[index]}" if host else str(every[index]),
            "flood" if tenants.flood_unknown[index] else "drop",
            "answer" if tenants.answer_neighbours[index] else "flood",
        )
    show_table(console, table)
    console.print("\n".join(_further(topology, host)), highlight=False, soft_wrap=True)


def _vlans(topology: Topology, host: str | None, options: Options) -> U32 | None:
    if host is None:
        return None
    store = VlanStore(options.state / f"{host}.vlans", keep=False)
    return store.of(offline.from_overlay(topology, host).view)


def _further(topology: Topology, host: str | None) -> Iterator[str]:
    """What to type to see a tenant's entries, on the planes that there are."""
    planes = set(topology.vteps.plane)
    if host is not None:
        planes = {topology.vteps.plane[topology.vtep_index(host)]}
    yield "a tenant's entries:"
    if "ovs" in planes:
        mask = f"{COOKIE_VNI_MASK:#x}"
        yield f"  ovs     ovs-ofctl --names dump-flows br-lwt cookie=VNI/{mask}"
    if "bridge" in planes:
        yield f"  bridge  bridge fdb show dev {TUNNEL} | grep 'src_vni VNI '"
    if "route" in planes:
        yield "  route   ip route show table TABLE; ip -6 route show table TABLE"
