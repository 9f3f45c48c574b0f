"""The whole overlay in numpy columns, and what changed between two of them.

Nothing here is a Python object per endpoint: a million endpoints are a handful of arrays. Rows
refer to each other by index, so an index means something within one `Topology` only; what is
compared across two of them is compared by VNI, MAC, address and name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from ipaddress import IPv4Address, IPv6Address

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ovs_lwt.mistakes import Refused, listing, suggestion
from ovs_lwt.model import Plane, Tenant, Underlay, Vtep
from ovs_lwt.names import default_datapath_id, endpoint_id

U8 = NDArray[np.uint8]
U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class VtepColumns:
    """V hosts, ascending by name.

    `family` is 4 or 6; `ipv4` (host byte order) is 0 for an IPv6 VTEP; `ipv6` is ``[V, 16]``,
    network byte order, all zero for an IPv4 VTEP. `plane` is what forwards there.
    """

    name: tuple[str, ...]
    family: U8
    ipv4: U32
    ipv6: U8
    external: Flags
    datapath_id: U64
    plane: tuple[Plane, ...]

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
        return cls(
            name=tuple(vteps),
            family=np.array([address.version for address in addresses], np.uint8),
            ipv4=np.array(four, np.uint32),
            ipv6=np.frombuffer(b"".join(six), np.uint8).reshape(-1, 16),
            external=np.array([vtep.external for vtep in vteps.values()], np.bool_),
            datapath_id=np.array(datapaths, np.uint64),
            plane=tuple(vtep.plane for vtep in vteps.values()),
        )

    def address(self, index: int) -> str:
        """Return the address of the VTEP at `index` as text."""
        if self.family[index] == 4:
            return str(IPv4Address(int(self.ipv4[index])))
        return str(IPv6Address(self.ipv6[index].tobytes()))

    def __len__(self) -> int:
        return len(self.name)


@dataclass(frozen=True, slots=True, eq=False)
class TenantColumns:
    """T tenants, ascending by VNI. `label` is the MPLS label, 0 where VXLAN carries the tenant."""

    name: tuple[str, ...]
    vni: U32
    mark: U32
    flood_unknown: Flags
    answer_neighbours: Flags
    label: U32

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
        )

    def __len__(self) -> int:
        return len(self.name)


@dataclass(frozen=True, slots=True, eq=False)
class EndpointColumns:
    """E endpoints, ascending by (tenant, mac).

    `tenant` and `vtep` are indices; `mac` is the 48-bit number; `spoofing` is True where the
    port may send from any address; `name` is the name within the tenant.
    """

    tenant: U32
    mac: U64
    vtep: U32
    spoofing: Flags
    name: pa.StringArray

    def __len__(self) -> int:
        return len(self.mac)


@dataclass(frozen=True, slots=True, eq=False)
class Addresses4:
    """IPv4 addresses of endpoints, ascending by (endpoint, ip); `ip` in host byte order."""

    endpoint: U32
    ip: U32
    prefix: U8

    def __len__(self) -> int:
        return len(self.endpoint)


@dataclass(frozen=True, slots=True, eq=False)
class Addresses6:
    """IPv6 addresses of endpoints, ascending by (endpoint, ip); `ip` is ``[A, 16]`` bytes."""

    endpoint: U32
    ip: U8
    prefix: U8

    def __len__(self) -> int:
        return len(self.endpoint)


@dataclass(frozen=True, slots=True, eq=False)
class Topology:
    """One overlay at one moment. Compare two with `same` or `changed_tenants`, not ``==``."""

    underlay: Underlay
    vteps: VtepColumns
    tenants: TenantColumns
    endpoints: EndpointColumns
    addresses4: Addresses4
    addresses6: Addresses6

    @classmethod
    def from_columns(
        cls,
        underlay: Underlay,
        vteps: VtepColumns,
        tenants: TenantColumns,
        endpoints: EndpointColumns,
        addresses4: Addresses4,
        addresses6: Addresses6,
    ) -> Topology:
        """Return the topology of valid columns that may stand in any order.

        Indices refer to the columns as given. The same overlay gives the same bytes, whatever
        the order it was written in. The arrays of the result cannot be written to.
        """
        by_name = np.array(sorted(range(len(vteps)), key=vteps.name.__getitem__), dtype=np.int64)
        by_vni = np.argsort(tenants.vni, kind="stable")
        tenant = _inverse(by_vni)[endpoints.tenant]
        order = _endpoint_order(tenant, endpoints.mac)
        place = _inverse(order)
        topology = cls(
            underlay,
            VtepColumns(
                name=tuple(vteps.name[index] for index in by_name),
                family=vteps.family[by_name],
                ipv4=vteps.ipv4[by_name],
                ipv6=vteps.ipv6[by_name],
                external=vteps.external[by_name],
                datapath_id=vteps.datapath_id[by_name],
                plane=tuple(vteps.plane[index] for index in by_name),
            ),
            TenantColumns(
                name=tuple(tenants.name[index] for index in by_vni),
                vni=tenants.vni[by_vni],
                mark=tenants.mark[by_vni],
                flood_unknown=tenants.flood_unknown[by_vni],
                answer_neighbours=tenants.answer_neighbours[by_vni],
                label=tenants.label[by_vni],
            ),
            EndpointColumns(
                tenant=tenant[order],
                mac=endpoints.mac[order],
                vtep=_inverse(by_name)[endpoints.vtep[order]],
                spoofing=endpoints.spoofing[order],
                name=endpoints.name.take(pa.array(order)),
            ),
            _sorted4(addresses4, place, order),
            _sorted6(addresses6, place),
        )
        _seal(topology)
        return topology

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

    def vtep_index(self, name: str) -> int:
        """Return the index of the VTEP called `name`; raise `Refused` if there is none."""
        return _index(self.vteps.name, name, "host")

    def tenant_index(self, name: str) -> int:
        """Return the index of the tenant called `name`; raise `Refused` if there is none."""
        return _index(self.tenants.name, name, "tenant")

    def endpoint_id(self, index: int) -> str:
        """Return ``TENANT/NAME`` of the endpoint at `index`."""
        tenant = self.tenants.name[int(self.endpoints.tenant[index])]
        return endpoint_id(tenant, str(self.endpoints.name[index]))

    def endpoint_index(self, identity: str) -> int:
        """Return the index of the endpoint ``TENANT/NAME``; raise `Refused` if there is none."""
        tenant_name, slash, name = identity.partition("/")
        if not slash or not name:
            raise Refused(f"'{identity}' is not an endpoint: write it TENANT/NAME, like blue/web1")
        span = self.tenant_span(self.tenant_index(tenant_name))
        names = self.endpoints.name[span.start : span.stop]
        found = names.index(name).as_py() if len(names) else -1
        if found < 0:
            known = names.to_pylist()
            raise Refused(
                f"tenant '{tenant_name}' has no endpoint '{name}'{suggestion(name, known)};"
                f" it has: {listing(known)}"
            )
        return span.start + int(found)

    def tenant_span(self, index: int) -> range:
        """Return the indices of all endpoints of the tenant at `index`: one unbroken range."""
        low, high = np.searchsorted(
            # Of the column's own type, or the whole column is converted first.
            self.endpoints.tenant,
            np.array([index, index + 1], np.uint32),
        )
        return range(int(low), int(high))


def _index(names: tuple[str, ...], name: str, what: str) -> int:
    try:
        return names.index(name)
    except ValueError:
        raise Refused(
            f"the overlay has no {what} '{name}'{suggestion(name, names)}; it has: {listing(names)}"
        ) from None


def _inverse(order: NDArray[np.int64]) -> U32:
    """Return where each old index has gone."""
    place = np.empty(len(order), np.uint32)
    place[order] = np.arange(len(order), dtype=np.uint32)
    return place


def _endpoint_order(tenant: U32, mac: U64) -> NDArray[np.int64]:
    if len(tenant) == 0 or int(tenant.max()) < 1 << 16:
        return np.argsort((tenant.astype(np.uint64) << np.uint64(48)) | mac)
    return np.lexsort((mac, tenant))


def _sorted4(addresses: Addresses4, place: U32, order: NDArray[np.int64]) -> Addresses4:
    count = len(addresses)
    if count == len(order) and (addresses.endpoint == np.arange(count, dtype=np.uint32)).all():
        # One address each, the usual case: they go where their endpoints go.
        endpoint = np.arange(count, dtype=np.uint32)
    else:
        endpoint = place[addresses.endpoint]
        order = np.argsort((endpoint.astype(np.uint64) << np.uint64(32)) | addresses.ip)
        endpoint = endpoint[order]
    return Addresses4(endpoint, addresses.ip[order], addresses.prefix[order])


def _sorted6(addresses: Addresses6, place: U32) -> Addresses6:
    endpoint = place[addresses.endpoint]
    words = np.ascontiguousarray(addresses.ip).view(">u8").reshape(-1, 2)
    order = np.lexsort((words[:, 1], words[:, 0], endpoint))
    return Addresses6(endpoint[order], addresses.ip[order], addresses.prefix[order])


def _seal(topology: Topology) -> None:
    for part in fields(topology)[1:]:
        columns = getattr(topology, part.name)
        for column in fields(columns):
            array = getattr(columns, column.name)
            if isinstance(array, np.ndarray):
                array.setflags(write=False)
