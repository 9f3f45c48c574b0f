"""A host holds only its tenants: flows per host as the fabric grows, with a tenant that is on all
of its hosts.

Each host brings 16 guests. One is of the tenant that is everywhere; the others are of 15 tenants
out of as many as there are hosts, each of which is on 15 hosts. Against a host that has them all.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from bench.results import Row
from bench.scale import columns
from ovs_lwt.backends.openflow import program
from ovs_lwt.topology import Topology

_GUESTS: Final = 16
_SIZES: Final = (10, 30, 100, 300, 1000)


def rows() -> list[Row]:
    """Flows per host."""
    return [
        Row.state(
            f"flows on one of {hosts} hosts, against all tenants everywhere",
            hosts * _GUESTS,
            "flows",
            *flows(hosts),
        )
        for hosts in _SIZES
    ]


def flows(hosts: int) -> tuple[int, int]:
    """On a host with its own tenants, and on one with all."""
    host = np.repeat(np.arange(hosts), _GUESTS)
    turn = np.tile(np.arange(_GUESTS), hosts)
    # Tenant 0 is everywhere; the others are on some hosts in a row.
    tenant = np.where(turn == 0, 0, 1 + (host + turn) % hosts)
    full = hosts
    overlay = columns.topology(
        hosts + 1,
        hosts + 1,
        np.concatenate([tenant, np.arange(hosts + 1)]),
        np.concatenate([host, np.full(hosts + 1, full)]),
    )
    return _flows(overlay, 0), _flows(overlay, full)


def _flows(overlay: Topology, host: int) -> int:
    return program.full(columns.view(overlay, host)).flow_count
