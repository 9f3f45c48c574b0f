"""The whole overlay in numpy columns, cut into slices of whole tenants.

Nothing here is a Python object per endpoint: a million endpoints are a handful of arrays. Rows
refer to each other by index, so an index means something within one `Topology` only; what is
compared across two of them is compared by VNI, MAC, address and name. A change makes a new
topology, which shares with the old one all slices that it does not concern.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from ipaddress import IPv4Address, IPv6Address
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ovs_lwt.columns import (
    NO_PAIRS4,
    NO_PAIRS6,
    NO_PORT_KEYS,
    U8,
    U32,
    U64,
    Addresses4,
    Addresses6,
    EndpointColumns,
    Flags,
    Indices,
    Pairs4,
    Pairs6,
    PortKeys,
    stacked,
)
from ovs_lwt.mistakes import Refused, listing, suggestion
from ovs_lwt.model import Plane, Tenant, Underlay, Vtep
from ovs_lwt.names import default_datapath_id, endpoint_id
from ovs_lwt.slices import EMPTY, Slice, cut, joined, ordered
from ovs_lwt.values import prefix_and_mask

_Columns = TypeVar("_Columns", "VtepColumns", "TenantColumns")


OF_NO_TENANT: Mapping[str, Any] = {"concerns": "no tenant"}
"""What a column of hosts says that no tenant's rows follow from: see `changes.compare`."""


@dataclass(frozen=True, eq=False)
class VtepColumns:
    """V hosts, ascending by name.

    `family` is 4 or 6; `ipv4` (host byte order) is 0 for an IPv6 VTEP; `ipv6` is ``[V, 16]``,
    network byte order, all zero for an IPv4 VTEP. `plane` is what forwards there. `mac_prefix` and
    `mac_mask` (48 bits) are what its guests' MACs begin with; both 0 where nothing is said.
    `replicator` is True where it replicates for others.
    """

    name: tuple[str, ...]
    family: U8
    ipv4: U32
    ipv6: U8
    external: Flags
    datapath_id: U64 = field(metadata=OF_NO_TENANT)
    plane: tuple[Plane, ...]
    mac_prefix: U64
    mac_mask: U64
    replicator: Flags = field(metadata=OF_NO_TENANT)

    @property
    def replicated(self) -> bool:
        """Whether any host replicates for others."""
        return bool(self.replicator.any())

    @classmethod
    def build(cls, vteps: Mapping[str, Vtep]) -> VtepColumns:
        """Return the columns of `vteps`, in their order."""
        addresses = [vtep.address for vtep in vteps.values()]
        four = [int(address) if address.version == 4 else 0 for address in addresses]
        six = [address.packed if address.version == 6 else bytes(16) for address in addresses]
        datapaths = [
            int(vtep.datapath_id, 16) if vtep.datapath_id else default_datapath_id(name)
            for name, vtep in vteps.items()
        ]
        prefixes = [
            prefix_and_mask(vtep.mac_prefix) if vtep.mac_prefix else (0, 0)
            for vtep in vteps.values()
        ]
        return cls(
            name=tuple(vteps),
            family=np.array([address.version for address in addresses], np.uint8),
            ipv4=np.array(four, np.uint32),
            ipv6=np.frombuffer(b"".join(six), np.uint8).reshape(-1, 16),
            external=np.array([vtep.external for vtep in vteps.values()], np.bool_),
            datapath_id=np.array(datapaths, np.uint64),
            plane=tuple(vtep.plane for vtep in vteps.values()),
            mac_prefix=np.array([prefix for prefix, _ in prefixes], np.uint64),
            mac_mask=np.array([mask for _, mask in prefixes], np.uint64),
            replicator=np.array([vtep.replicator for vtep in vteps.values()], np.bool_),
        )

    def address(self, index: int) -> str:
        """Return the address of the VTEP at `index` as text."""
        if self.family[index] == 4:
            return str(IPv4Address(int(self.ipv4[index])))
        return str(IPv6Address(self.ipv6[index].tobytes()))

    @cached_property
    def index(self) -> Mapping[str, int]:
        """Name -> index."""
        return {name: index for index, name in enumerate(self.name)}

    @cached_property
    def kind(self) -> U8:
        """uint8[V]: only hosts of one kind (address family, routed or not) reach each other."""
        return self.family * np.uint8(2) + np.array([p == "route" for p in self.plane], np.uint8)

    def taken(self, rows: Indices) -> VtepColumns:
        """Return these rows, in this order."""
        return _taken(self, rows)

    def fits(self, vtep: U32, mac: U64) -> Flags:
        """Say of each MAC whether it lies under its VTEP's prefix. vtep: indices, ``[n]``."""
        mask = self.mac_mask[vtep]
        fits: Flags = (mask != 0) & (mac & mask == self.mac_prefix[vtep])
        return fits

    def __len__(self) -> int:
        return len(self.name)


@dataclass(frozen=True, eq=False)
class TenantColumns:
    """T tenants, ascending by VNI. `label` is the MPLS label, 0 where VXLAN carries the tenant;
    `carry_tagged` is True where frames with VLAN tags pass.
    """

    name: tuple[str, ...]
    vni: U32
    mark: U32
    flood_unknown: Flags
    answer_neighbours: Flags
    label: U32
    carry_tagged: Flags

    @classmethod
    def build(cls, tenants: Mapping[str, Tenant]) -> TenantColumns:
        """Return the columns of `tenants`, in their order."""
        every = tenants.values()
        return cls(
            name=tuple(tenants),
            vni=np.array([tenant.vni for tenant in every], np.uint32),
            mark=np.array([tenant.effective_mark for tenant in every], np.uint32),
            flood_unknown=np.array(
                [tenant.unknown_unicast == "flood" for tenant in every], np.bool_
            ),
            answer_neighbours=np.array(
                [tenant.neighbours == "answer" for tenant in every], np.bool_
            ),
            label=np.array([tenant.effective_label for tenant in every], np.uint32),
            carry_tagged=np.array([tenant.vlan_tagged == "carry" for tenant in every], np.bool_),
        )

    @cached_property
    def index(self) -> Mapping[str, int]:
        """Name -> index."""
        return {name: index for index, name in enumerate(self.name)}

    def taken(self, rows: Indices) -> TenantColumns:
        """Return these rows, in this order."""
        return _taken(self, rows)

    def span(self, low: int, high: int) -> TenantColumns:
        """Return the rows from `low` up to `high`, without copying columns."""
        return TenantColumns(
            **{column.name: getattr(self, column.name)[low:high] for column in fields(self)}
        )

    def __len__(self) -> int:
        return len(self.name)


@dataclass(frozen=True, eq=False)
class Topology:
    """One overlay at one moment. Compare two with `changes.same` or `changes.compare`, not ``==``.

    slices: all tenants with their endpoints, in the order of `tenants`
    """

    underlay: Underlay
    vteps: VtepColumns
    tenants: TenantColumns
    slices: tuple[Slice, ...]

    @classmethod
    def from_columns(
        cls,
        underlay: Underlay,
        vteps: VtepColumns,
        tenants: TenantColumns,
        endpoints: EndpointColumns,
        addresses4: Addresses4,
        addresses6: Addresses6,
        pairs4: Pairs4 = NO_PAIRS4,
        pairs6: Pairs6 = NO_PAIRS6,
        port_keys: PortKeys = NO_PORT_KEYS,
    ) -> Topology:
        """Return the topology of valid columns that may stand in any order.

        Indices refer to the columns as given. The same overlay gives the same bytes, whatever
        the order it was written in. The arrays of the result cannot be written to.
        """
        by_name = np.array(sorted(range(len(vteps)), key=vteps.name.__getitem__), dtype=np.int64)
        by_vni = np.argsort(tenants.vni, kind="stable")
        sorted_endpoints = replace(
            endpoints,
            tenant=_inverse(by_vni)[endpoints.tenant],
            vtep=_inverse(by_name)[endpoints.vtep],
        )
        whole = Slice(
            len(tenants), sorted_endpoints, addresses4, addresses6, pairs4, pairs6, port_keys
        )
        return cls(underlay, vteps.taken(by_name), tenants.taken(by_vni), cut(ordered(whole)))

    def on_plane(self, plane: Plane) -> Topology:
        """Return the same overlay with all hosts on `plane`; raise `Refused` if they cannot be."""
        labelled = np.flatnonzero(self.tenants.label)
        if plane != "route" and len(labelled):
            name = self.tenants.name[int(labelled[0])]
            raise Refused(
                f"tenant {name} is carried by MPLS, which plane {plane} cannot do: choose plane"
                " route, or take 'encapsulation: mpls' away"
            )
        planes = (plane,) * len(self.vteps)
        return replace(self, vteps=replace(self.vteps, plane=planes))

    # All endpoints in one row of columns: what needs them all at once reads these.

    @cached_property
    def whole(self) -> Slice:
        """All slices as one."""
        return joined(self.slices)

    @property
    def endpoints(self) -> EndpointColumns:
        """All endpoints."""
        return self.whole.endpoints

    @property
    def addresses4(self) -> Addresses4:
        """All IPv4 addresses."""
        return self.whole.addresses4

    @property
    def addresses6(self) -> Addresses6:
        """All IPv6 addresses."""
        return self.whole.addresses6

    # Where a slice stands among all tenants and endpoints.

    @cached_property
    def tenant_edges(self) -> Indices:
        """intp[S + 1]: the first tenant of every slice, and how many there are."""
        return np.cumsum([0, *[part.tenants for part in self.slices]])

    @cached_property
    def endpoint_edges(self) -> Indices:
        """intp[S + 1]: the first endpoint of every slice, and how many there are."""
        return np.cumsum([0, *[len(part.endpoints.mac) for part in self.slices]])

    @cached_property
    def with_port_keys(self) -> tuple[tuple[int, Slice], ...]:
        """(first endpoint, slice) of the slices of which an endpoint has `PortKeys`."""
        found = zip(self.endpoint_edges.tolist(), self.slices, strict=False)
        return tuple((first, part) for first, part in found if len(part.port_keys.endpoint))

    def slice_of_tenant(self, index: int) -> int:
        """Return the number of the slice that holds the tenant at `index`."""
        return int(np.searchsorted(self.tenant_edges, index, "right")) - 1

    # Single things, by name and by index.

    def vtep_index(self, name: str) -> int:
        """Return the index of the VTEP called `name`; raise `Refused` if there is none."""
        return _index(self.vteps.index, name, "host")

    def own_index(self, name: str) -> int:
        """Return the index of a VTEP that is ours to run; raise `Refused` if it is somebody else's,
        or if there is none.
        """
        index = self.vtep_index(name)
        if self.vteps.external[index]:
            raise Refused(f"{name} is external, says the overlay: somebody else runs it")
        return index

    def tenant_index(self, name: str) -> int:
        """Return the index of the tenant called `name`; raise `Refused` if there is none."""
        return _index(self.tenants.index, name, "tenant")

    def taken(self, endpoints: Indices) -> EndpointColumns:
        """Return the rows of these endpoints (ascending), without a look at any other slice."""
        found = []
        for number, rows in self._by_slice(endpoints):
            columns = self.slices[number].endpoints.taken(rows)
            shift = np.uint32(self.tenant_edges[number])
            found.append(replace(columns, tenant=columns.tenant + shift))
        return stacked(found or [EMPTY.endpoints])

    def bare(self, endpoints: Indices) -> Flags:
        """Say of these endpoints (ascending) whether they are `Slice.bare`."""
        found = [self.slices[number].bare[rows] for number, rows in self._by_slice(endpoints)]
        return np.concatenate(found or [np.empty(0, np.bool_)])

    def known_by_mac(self, endpoints: Indices) -> Flags:
        """Say of these endpoints (ascending) whether they are `Slice.known_by_mac`."""
        found = [
            np.isin(rows, self.slices[number].known_by_mac)
            for number, rows in self._by_slice(endpoints)
        ]
        return np.concatenate(found or [np.empty(0, np.bool_)])

    def with_pairs(self, endpoints: Indices) -> Indices:
        """Return those tenants of these endpoints (ascending) that have allowed pairs."""
        found = [np.empty(0, np.intp)]
        for number, rows in self._by_slice(endpoints):
            part = self.slices[number]
            if len(part.pairs4) or len(part.pairs6):
                tenant = part.endpoints.tenant
                owners = np.concatenate([part.pairs4.endpoint, part.pairs6.endpoint])
                both = np.intersect1d(tenant[owners], tenant[rows]).astype(np.intp)
                found.append(both + self.tenant_edges[number])
        return np.concatenate(found)

    def tenants_of(self, endpoints: Indices) -> Indices:
        """Return the tenants of these endpoints (ascending), each once."""
        found = [np.empty(0, np.intp)]
        for number, rows in self._by_slice(endpoints):
            owners = self.slices[number].endpoints.tenant[rows].astype(np.intp)
            found.append(owners[np.diff(owners, prepend=-1) > 0] + self.tenant_edges[number])
        return np.concatenate(found)

    def _by_slice(self, endpoints: Indices) -> Iterator[tuple[int, Indices]]:
        """(slice, rows within it) of endpoints (ascending)."""
        at = np.searchsorted(endpoints, self.endpoint_edges)
        for number in np.flatnonzero(np.diff(at)).tolist():
            low, high = at[number : number + 2]
            yield number, endpoints[low:high] - self.endpoint_edges[number]

    def endpoint_id(self, index: int) -> str:
        """Return ``TENANT/NAME`` of the endpoint at `index`."""
        row = self.taken(np.array([index]))
        return endpoint_id(self.tenants.name[int(row.tenant[0])], str(row.name[0]))

    def endpoint_index(self, identity: str) -> int:
        """Return the index of the endpoint ``TENANT/NAME``; raise `Refused` if there is none."""
        found = self.find(identity)
        if found is None:
            tenant, _, name = identity.partition("/")
            known = self._names(self.tenant_span(self.tenant_index(tenant))).to_pylist()
            raise Refused(
                f"tenant '{tenant}' has no endpoint '{name}'{suggestion(name, known)};"
                f" it has: {listing(known)}"
            )
        return found

    def find(self, identity: str) -> int | None:
        """Return the index of the endpoint ``TENANT/NAME``, None if its tenant has none of that
        name; raise `Refused` if there is no such tenant.
        """
        tenant, slash, name = identity.partition("/")
        if not slash or not name:
            raise Refused(f"'{identity}' is not an endpoint: write it TENANT/NAME, like blue/web1")
        span = self.tenant_span(self.tenant_index(tenant))
        found = self._names(span).index(name).as_py() if span else -1
        return span.start + int(found) if found >= 0 else None

    def _names(self, span: range) -> pa.StringArray:
        """The names of one tenant's endpoints."""
        number = int(np.searchsorted(self.endpoint_edges, span.start, "right")) - 1
        first = int(self.endpoint_edges[number])
        if not span:
            return EMPTY.endpoints.name
        return self.slices[number].endpoints.name[span.start - first : span.stop - first]

    def tenant_span(self, index: int) -> range:
        """Return the indices of all endpoints of the tenant at `index`: one unbroken range."""
        number = self.slice_of_tenant(index)
        within = index - int(self.tenant_edges[number])
        low, high = np.searchsorted(
            # Of the column's own type, or the whole column is converted first.
            self.slices[number].endpoints.tenant,
            np.array([within, within + 1], np.uint32),
        )
        first = int(self.endpoint_edges[number])
        return range(first + int(low), first + int(high))


def _index(names: Mapping[str, int], name: str, what: str) -> int:
    try:
        return names[name]
    except KeyError:
        raise Refused(
            f"the overlay has no {what} '{name}'{suggestion(name, names)}; it has: {listing(names)}"
        ) from None


def _taken(columns: _Columns, rows: Indices) -> _Columns:
    """The rows of columns that are arrays or tuples."""
    taken: dict[str, Any] = {}
    for column in fields(columns):
        values = getattr(columns, column.name)
        if isinstance(values, tuple):
            taken[column.name] = tuple(values[row] for row in rows.tolist())
        else:
            taken[column.name] = values[rows]
            taken[column.name].setflags(write=False)
    return type(columns)(**taken)


def _inverse(order: NDArray[np.int64]) -> U32:
    """Return where each old index has gone."""
    place = np.empty(len(order), np.uint32)
    place[order] = np.arange(len(order), dtype=np.uint32)
    return place
