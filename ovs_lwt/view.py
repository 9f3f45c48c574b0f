"""What one host needs of the overlay: the tenants that have an endpoint on it, and no others.

A view joins the topology (what shall be) with the host's own facts: which local port each endpoint
has, and what the switch can do. It is all that a backend compiles.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ovs_lwt.topology import U32, Flags, Topology

Indices = NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class LocalPorts:
    """The guests' ports on this host, ascending by endpoint.

    endpoint: index in the topology; port: OpenFlow port; marked: the kernel marks what the guest
    sends
    """

    endpoint: U32
    port: U32
    marked: Flags

    def __len__(self) -> int:
        return len(self.endpoint)

    def same(self, other: LocalPorts) -> bool:
        """Whether both list the same guests, on the same ports."""
        return (
            np.array_equal(self.endpoint, other.endpoint)
            and np.array_equal(self.port, other.port)
            and np.array_equal(self.marked, other.marked)
        )


@dataclass(frozen=True)
class FloodLists:
    """Which VTEPs get a copy of a tenant's BUM frames; tenants that span the same hosts share one
    list.

    owner: for every tenant of the topology the lowest tenant index with the same list (its own
    where it is not here)
    members: owner -> indices of the remote VTEPs, ascending
    """

    owner: Indices
    members: dict[int, Indices]


@dataclass(frozen=True, eq=False)
class View:
    """One host's part of a topology.

    host: index of its VTEP; tunnel: OpenFlow port of the shared VXLAN port
    nd_by_flow: the datapath can turn a neighbour solicitation into an advertisement by itself
    """

    topology: Topology
    host: int
    tunnel: int
    ports: LocalPorts
    nd_by_flow: bool = True

    def same(self, other: View) -> bool:
        """Whether it is the same topology object, seen with the same facts."""
        return (
            self.topology is other.topology
            and (self.host, self.tunnel, self.nd_by_flow)
            == (other.host, other.tunnel, other.nd_by_flow)
            and self.ports.same(other.ports)
        )

    @cached_property
    def here(self) -> Flags:
        """bool[T]: the tenants with an endpoint on this host."""
        here = np.zeros(len(self.topology.tenants), np.bool_)
        endpoints = self.topology.endpoints
        here[endpoints.tenant[endpoints.vtep == self.host]] = True
        return here

    @cached_property
    def spans(self) -> tuple[Indices, Indices]:
        """(tenant, VTEP) for every tenant here and every remote host of it, ascending, each pair
        once.
        """
        endpoints, hosts = self.topology.endpoints, len(self.topology.vteps)
        wanted = self.here[endpoints.tenant] & (endpoints.vtep != self.host)
        pairs = np.unique(
            endpoints.tenant[wanted].astype(np.int64) * hosts + endpoints.vtep[wanted]
        )
        tenant, vtep = np.divmod(pairs, max(hosts, 1))
        return tenant, vtep

    @cached_property
    def peers(self) -> Indices:
        """Indices of the remote VTEPs that share a tenant with this host, ascending."""
        return np.unique(self.spans[1])

    @cached_property
    def flood_lists(self) -> FloodLists:
        """The flood lists of the tenants here."""
        tenant, vtep = self.spans
        owner = np.arange(len(self.topology.tenants))
        members: dict[int, Indices] = {}
        seen: dict[bytes, int] = {}
        here = np.flatnonzero(self.here)
        edges = np.searchsorted(tenant, [here, here + 1])
        for index, low, high in zip(here.tolist(), *edges.tolist(), strict=True):
            owner[index] = seen.setdefault(vtep[low:high].tobytes(), index)
            if owner[index] == index:
                members[index] = vtep[low:high]
        return FloodLists(owner, members)
