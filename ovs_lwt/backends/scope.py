"""Some tenants of a view, or some of their endpoints: what every plane selects its rows from.

A scope narrows the rows, so that a change costs what it touches. It lies within one slice of the
overlay, or takes the whole as one; tenants and endpoints are numbered from the slice's own first.
Nothing here loops over endpoints.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ovs_lwt.columns import U32, EndpointColumns, Flags, Indices
from ovs_lwt.slices import Slice
from ovs_lwt.stencil import Bytes
from ovs_lwt.topology import TenantColumns
from ovs_lwt.view import View


@dataclass(frozen=True, eq=False)
class Scope:
    """A slice of a view, and whose rows are wanted of it.

    first_tenant, first_endpoint: where the slice begins in the overlay
    wanted: bool[T], the tenants whose own rows are wanted; endpoints_wanted: bool[E], the endpoints
    whose rows are; relisted: bool[T], the tenants whose rows about flood lists are
    """

    view: View
    part: Slice
    first_tenant: int
    first_endpoint: int
    wanted: Flags
    endpoints_wanted: Flags
    relisted: Flags

    @classmethod
    def everything(cls, view: View) -> Scope:
        """All that the host needs, as one."""
        return cls._whole(view, view.here)

    @classmethod
    def of(cls, view: View, vnis: Iterable[int]) -> Scope:
        """Only these tenants; those that are not in the view have no rows."""
        vni = view.topology.tenants.vni
        return cls._whole(view, view.here & np.isin(vni, np.fromiter(vnis, np.uint32)))

    @classmethod
    def of_tenant(cls, view: View, vni: int) -> Scope:
        """Only this tenant, within its slice; no rows if it is not in the view."""
        found = int(np.searchsorted(view.topology.tenants.vni, vni))
        number = min(view.topology.slice_of_tenant(found), len(view.topology.slices) - 1)
        low, high = view.topology.tenant_edges[number : number + 2].tolist()
        wanted = view.here[low:high] & (view.topology.tenants.vni[low:high] == vni)
        part = view.topology.slices[number]
        return cls._in_slice(view, number, wanted, wanted[part.endpoints.tenant])

    @classmethod
    def slices(cls, view: View) -> Iterator[Scope]:
        """All that the host needs, slice by slice; slices that it needs nothing of are left out."""
        for number, seen in enumerate(view.seen):
            if seen is not None:
                tenant = view.topology.slices[number].endpoints.tenant
                yield cls._in_slice(view, number, seen.here, seen.here[tenant])

    @classmethod
    def narrowed(
        cls, view: View, tenants: Indices, endpoints: Indices, relisted: Indices
    ) -> Iterator[Scope]:
        """Of these tenants and endpoints (ascending) what the host needs, slice by slice, and of
        the tenants `relisted` the rows about flood lists.
        """
        topology = view.topology
        # Both ascend, so each slice has a span of them.
        some_at = np.searchsorted(tenants, topology.tenant_edges)
        rows_at = np.searchsorted(endpoints, topology.endpoint_edges)
        listed_at = np.searchsorted(relisted, topology.tenant_edges)
        concerned = np.diff(some_at + rows_at + listed_at) > 0
        for number in np.flatnonzero(concerned).tolist():
            if (seen := view.seen[number]) is None:
                continue
            part = topology.slices[number]
            low, high = some_at[number : number + 2]
            some = tenants[low:high] - topology.tenant_edges[number]
            low, high = rows_at[number : number + 2]
            rows = endpoints[low:high] - topology.endpoint_edges[number]
            wanted = np.zeros(part.tenants, np.bool_)
            wanted[some] = seen.here[some]
            low, high = listed_at[number : number + 2]
            some = relisted[low:high] - topology.tenant_edges[number]
            also = wanted.copy()
            also[some] = seen.here[some]
            wanted_endpoints = np.zeros(len(part), np.bool_)
            wanted_endpoints[rows] = seen.here[part.endpoints.tenant[rows]]
            yield cls._in_slice(view, number, wanted, wanted_endpoints, also)

    @classmethod
    def _in_slice(
        cls,
        view: View,
        number: int,
        wanted: Flags,
        endpoints: Flags,
        relisted: Flags | None = None,
    ) -> Scope:
        topology = view.topology
        first_tenant = int(topology.tenant_edges[number])
        first_endpoint = int(topology.endpoint_edges[number])
        part = topology.slices[number]
        listed = wanted if relisted is None else relisted
        return cls(view, part, first_tenant, first_endpoint, wanted, endpoints, listed)

    @classmethod
    def _whole(cls, view: View, wanted: Flags) -> Scope:
        part = view.topology.whole
        return cls(view, part, 0, 0, wanted, wanted[part.endpoints.tenant], wanted)

    @cached_property
    def tenants(self) -> Indices:
        """The tenants wanted."""
        return np.flatnonzero(self.wanted)

    @cached_property
    def tenant_columns(self) -> TenantColumns:
        """The slice's tenants."""
        first = self.first_tenant
        return self.view.topology.tenants.span(first, first + self.part.tenants)

    @property
    def vni(self) -> U32:
        """uint32[T], by tenant index."""
        return self.tenant_columns.vni

    @property
    def endpoints(self) -> EndpointColumns:
        """The slice's endpoints."""
        return self.part.endpoints

    @cached_property
    def remote(self) -> Indices:
        """The endpoints wanted that live on other hosts."""
        return np.flatnonzero(self.endpoints_wanted & (self.endpoints.vtep != self.view.host))

    @cached_property
    def ports(self) -> Indices:
        """The ports here of the endpoints wanted, as indices into the view's ports."""
        low, high = self._ports
        return low + np.flatnonzero(self.endpoints_wanted[self.endpoint_of(np.arange(low, high))])

    @cached_property
    def every_port(self) -> Indices:
        """All ports here of the slice, as indices into the view's ports."""
        return np.arange(*self._ports)

    @cached_property
    def tenant_ports(self) -> Indices:
        """All ports here of the tenants wanted, as indices into the view's ports."""
        low, high = self._ports
        owner = self.endpoints.tenant[self.endpoint_of(np.arange(low, high))]
        return low + np.flatnonzero(self.wanted[owner])

    def endpoint_of(self, ports: Indices) -> Indices:
        """Return the endpoints behind these of the view's ports."""
        return self.view.ports.endpoint[ports].astype(np.intp) - self.first_endpoint

    @cached_property
    def _ports(self) -> tuple[int, int]:
        """The first of the view's ports in this slice, and the first behind it."""
        edges = np.array([0, len(self.part)]) + self.first_endpoint
        low, high = np.searchsorted(self.view.ports.endpoint, edges)
        return int(low), int(high)

    def of_tenants(self, flags: Flags) -> Flags:
        """bool[T]: what is said of all tenants of the view, of those in the slice."""
        return flags[self.first_tenant : self.first_tenant + self.part.tenants]

    @cached_property
    def owned4(self) -> tuple[Indices, U32]:
        """The IPv4 addresses of the endpoints wanted: (endpoint, address), ascending."""
        addresses = self.part.addresses4
        wanted = self.endpoints_wanted[addresses.endpoint]
        return addresses.endpoint[wanted].astype(np.intp), addresses.ip[wanted]

    @cached_property
    def owned6(self) -> tuple[Indices, Bytes]:
        """The IPv6 addresses of the endpoints wanted, link-local ones included: (endpoint,
        address), ascending by endpoint. See `Slice.owned6`.
        """
        owner, address = self.part.owned6
        wanted = self.endpoints_wanted[owner]
        return owner[wanted].astype(np.intp), address[wanted]

    @cached_property
    def shared4(self) -> Flags:
        """Of each of `owned4`, whether several endpoints may have it: see `Slice.shared4`."""
        return self.part.shared4[self.endpoints_wanted[self.part.addresses4.endpoint]]

    @cached_property
    def shared6(self) -> Flags:
        """The same of each of `owned6`."""
        return self.part.shared6[self.endpoints_wanted[self.part.owned6[0]]]
