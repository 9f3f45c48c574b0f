"""Show what an overlay means to a host, for people."""

from __future__ import annotations

from typing import Literal

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from ovs_lwt.backends.openflow.pipeline import COOKIE_VNI_MASK
from ovs_lwt.topology import Topology


def tables(topology: Topology, host: str | None, console: Console) -> None:
    """Mark → tenant → VNI → the tenant's part of every table; of one host's tenants, or of all."""
    tenants, endpoints = topology.tenants, topology.endpoints
    here = np.ones(len(endpoints), np.bool_)
    if host is not None:
        here = endpoints.vtep == topology.vtep_index(host)
    local = np.bincount(endpoints.tenant[here], minlength=len(tenants))
    every = np.bincount(endpoints.tenant, minlength=len(tenants))
    title = f"tenants of {host}" if host else "tenants"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    headings = ("mark", "tenant", "VNI", "table", "endpoints", "unknown", "ARP, ND")
    for heading in headings:
        justify: Literal["left", "right"] = "right" if heading in ("mark", "VNI") else "left"
        table.add_column(heading, justify=justify, no_wrap=True)
    for index, name in enumerate(tenants.name):
        if host is not None and not local[index]:
            continue
        vni = int(tenants.vni[index])
        table.add_row(
            str(tenants.mark[index]),
            name,
            str(vni),
            f"metadata={vni:#x}",
            f"{local[index]} of {every[index]} here" if host else str(every[index]),
            "flood" if tenants.flood_unknown[index] else "drop",
            "answer" if tenants.answer_neighbours[index] else "flood",
        )
    console.print(table)
    mask = f"{COOKIE_VNI_MASK:#x}"
    console.print(
        f"a tenant's flows: ovs-ofctl --names dump-flows br-lwt cookie=VNI/{mask}", highlight=False
    )
