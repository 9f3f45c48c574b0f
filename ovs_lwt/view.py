"""What one host needs of the overlay: the tenants that have an endpoint on it, and no others.

A view joins the topology (what shall be) with the host's own facts: which local port each endpoint
has, and what the switch can do. It is all that a backend compiles.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ovs_lwt.columns import U32, EndpointColumns, Flags, Indices
from ovs_lwt.slices import Seen
from ovs_lwt.topology import Topology

__all__ = ["VTEP_SIZE", "FloodLists", "Indices", "LocalPorts", "View", "members"]


@dataclass(frozen=True, slots=True, eq=False)
class LocalPorts:
    """The guests' ports on this host, ascending by endpoint.

    endpoint: index in the topology; port: OpenFlow port; marked: the kernel marks what the guest
    sends; up: its link is not down
    """

    endpoint: U32
    port: U32
    marked: Flags
    up: Flags

    def __len__(self) -> int:
        return len(self.endpoint)

    def same(self, other: LocalPorts) -> bool:
        """Whether both list the same guests, on the same ports."""
        return (
            np.array_equal(self.endpoint, other.endpoint)
            and np.array_equal(self.port, other.port)
            and np.array_equal(self.marked, other.marked)
            and np.array_equal(self.up, other.up)
        )


_FEW = 16

VTEP_SIZE = 4
"""Bytes of a VTEP in a flood list."""


@dataclass(frozen=True, eq=False)
class FloodLists:
    """Which VTEPs get a copy of a tenant's BUM frames; tenants that span the same hosts share one
    list.

    parts: (first tenant, what is seen) of every slice with tenants here
    owners: list (VTEP indices, uint32, as bytes) -> the lowest tenant that has it
    """

    tenants: int
    parts: tuple[tuple[int, Seen], ...]
    owners: Mapping[bytes, int]

    @cached_property
    def owner(self) -> Indices:
        """For every tenant of the topology the owner of its list; its own where it is not here."""
        return self.owner_of(np.arange(self.tenants))

    def owner_of(self, tenants: Indices) -> Indices:
        """The owners of the lists of these tenants (ascending)."""
        owner = tenants.copy()
        firsts = np.array([first for first, _ in self.parts])
        at = np.searchsorted(firsts, tenants, "right") - 1
        for number in np.unique(at[at >= 0]).tolist():
            first, seen = self.parts[number]
            some = tenants[at == number] - first
            known = some < len(seen.here)
            known[known] = seen.here[some[known]]
            of_lists = np.array([self.owners[vteps] for vteps in seen.lists])
            place = np.cumsum(seen.here) - 1
            owner[np.flatnonzero(at == number)[known]] = of_lists[seen.chosen[place[some[known]]]]
        return owner


def members(vteps: bytes) -> Indices:
    """Return the VTEPs of a flood list: their indices, ascending."""
    return np.frombuffer(vteps, np.uint32).astype(np.intp)


@dataclass(frozen=True, eq=False)
class View:
    """One host's part of a topology.

    host: index of its VTEP; tunnel: OpenFlow port of the shared VXLAN port
    requests: OpenFlow port of the request port, by which leaves ask to have frames replicated; None
    where it has none: it then serves nobody, and asks nobody
    nd_by_flow: the datapath can turn a neighbour solicitation into an advertisement by itself
    userspace: it is Open vSwitch's own datapath, not the kernel's
    """

    topology: Topology
    host: int
    tunnel: int
    ports: LocalPorts
    nd_by_flow: bool = True
    userspace: bool = True
    requests: int | None = None

    def same(self, other: View) -> bool:
        """Whether it is the same topology object, seen with the same facts."""
        return (
            self.topology is other.topology
            and (self.host, self.tunnel, self.requests, self.nd_by_flow, self.userspace)
            == (other.host, other.tunnel, other.requests, other.nd_by_flow, other.userspace)
            and self.ports.same(other.ports)
        )

    @cached_property
    def seen(self) -> tuple[Seen | None, ...]:
        """What this host sees of every slice; None where no tenant is here."""
        return tuple([part.seen_from(self.host) for part in self.topology.slices])

    @cached_property
    def guests(self) -> EndpointColumns:
        """The endpoints behind `ports`, row by row."""
        return self.topology.taken(self.ports.endpoint.astype(np.intp))

    @cached_property
    def with_bare(self) -> Flags:
        """bool[T]: the tenants with a guest here that is held to its MAC alone."""
        bare = self.topology.bare(self.ports.endpoint.astype(np.intp))
        return self._tenants_of(bare & ~self.guests.spoofing)

    @cached_property
    def with_trusted(self) -> Flags:
        """bool[T]: the tenants with a guest here that may send from any address."""
        return self._tenants_of(self.guests.spoofing)

    def _tenants_of(self, ports: Flags) -> Flags:
        tenants = np.zeros(len(self.topology.tenants), np.bool_)
        tenants[self.guests.tenant[ports]] = True
        return tenants

    @cached_property
    def here(self) -> Flags:
        """bool[T]: the tenants with an endpoint on this host."""
        here = np.zeros(len(self.topology.tenants), np.bool_)
        for first, seen in self._parts:
            here[first : first + len(seen.here)] = seen.here
        return here

    @cached_property
    def spans(self) -> tuple[Indices, Indices]:
        """(tenant, VTEP) for every tenant here and every remote host of it, ascending, each pair
        once.
        """
        tenants, vteps = [np.empty(0, np.intp)], [np.empty(0, np.intp)]
        for first, seen in self._parts:
            tenants.append(seen.tenant.astype(np.intp) + first)
            vteps.append(seen.vtep.astype(np.intp))
        return np.concatenate(tenants), np.concatenate(vteps)

    @cached_property
    def peers(self) -> Indices:
        """Indices of the remote VTEPs that share a tenant with this host, ascending."""
        peers = np.zeros(len(self.topology.vteps), np.bool_)
        if self._parts:
            peers[np.concatenate([seen.peers for _, seen in self._parts])] = True
        return np.flatnonzero(peers)

    @cached_property
    def flood_lists(self) -> FloodLists:
        """The flood lists of the tenants here."""
        owners: dict[bytes, int] = {}
        for first, seen in self._parts:
            for vteps, tenant in zip(seen.lists, (seen.first + first).tolist(), strict=True):
                owners.setdefault(vteps, tenant)
        return FloodLists(len(self.topology.tenants), self._parts, owners)

    def learn(self, old: View) -> None:
        """Take over what `old` knows, where both see the same of a slice; else nothing.

        It saves time, and changes no answer.
        """
        one, other = old.topology, self.topology
        if "flood_lists" in vars(self) or not (
            self.host == old.host
            and one.vteps is other.vteps
            and one.tenants is other.tenants
            and np.array_equal(one.tenant_edges, other.tenant_edges)
        ):
            return
        firsts = other.tenant_edges.tolist()
        fresh = [
            (first, was, now)
            for first, was, now in zip(firsts, old.seen, self.seen, strict=False)
            if was is not now
        ]
        if len(fresh) > _FEW or any(was is None or now is None for _, was, now in fresh):
            return
        here, peers_same = old.here, True
        owners = dict(old.flood_lists.owners)
        for first, was, now in fresh:
            assert was is not None
            assert now is not None
            if not np.array_equal(was.here, now.here):
                here = here.copy()
                here[first : first + len(now.here)] = now.here
            peers_same &= np.array_equal(was.peers, now.peers)
            _pass_on(owners, first, was, now, self._parts)
        known = vars(self)
        known["here"] = here
        known["flood_lists"] = FloodLists(len(other.tenants), self._parts, owners)
        if peers_same:
            known["peers"] = old.peers

    @cached_property
    def _parts(self) -> tuple[tuple[int, Seen], ...]:
        """(first tenant, what is seen) of the slices with tenants here."""
        firsts = self.topology.tenant_edges.tolist()
        return tuple((first, seen) for first, seen in zip(firsts, self.seen, strict=False) if seen)


def _pass_on(
    owners: dict[bytes, int],
    first: int,
    was: Seen,
    now: Seen,
    parts: tuple[tuple[int, Seen], ...],
) -> None:
    """Correct the owners of flood lists for what is seen now of the slice beginning at `first`."""
    before = dict(zip(was.lists, (was.first + first).tolist(), strict=True))
    after = dict(zip(now.lists, (now.first + first).tolist(), strict=True))
    for vteps, tenant in before.items():
        if owners.get(vteps) == tenant and after.get(vteps) != tenant:
            heirs = [
                start + int(seen.first[seen.lists.index(vteps)])
                for start, seen in parts
                if vteps in seen.lists
            ]
            del owners[vteps]
            owners.update({vteps: min(heirs)} if heirs else {})
    for vteps, tenant in after.items():
        owners[vteps] = min(owners.get(vteps, tenant), tenant)
