"""What is valid in an overlay, and most likely not meant: `ovs-lwt validate` says it.

What flows in: a topology. What flows out: sentences, with the tenant or endpoint they are about.
Whole columns are looked at; only what is named is looked up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ovs_lwt.backends.openflow import limits
from ovs_lwt.columns import U8, U32, YES
from ovs_lwt.slices import Slice
from ovs_lwt.stencil import Bytes, big_endian
from ovs_lwt.topology import Topology
from ovs_lwt.veth.plan import LEAST_MTU_IPV4, LEAST_MTU_IPV6, VLAN_TAG, tunnel_mtu

_SHOWN: Final = 20  # of one kind
_NETWORKS: Final = 1000  # of one tenant that are looked at


@dataclass(frozen=True, slots=True)
class Caution:
    """One of them. path: the way through the document, as mistakes have it (tenants.blue)"""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


def cautions(topology: Topology) -> list[Caution]:
    """All that is to be said of this overlay, kind by kind; of many of one kind the first."""
    kinds: tuple[Callable[[Topology], Iterator[Caution]], ...] = (
        _apart,
        _small_mtu,
        _keys_for_nothing,
        _wide,
    )
    found: list[Caution] = []
    for kind in kinds:
        every = list(kind(topology))
        found += every[:_SHOWN]
        if len(every) > _SHOWN:
            found.append(Caution("tenants", f"… and {len(every) - _SHOWN:,} more of this kind"))
    return found


def _apart(topology: Topology) -> Iterator[Caution]:
    """Prefixes of one tenant that cannot meet: nobody routes between them.

    On plane route the host does; elsewhere an endpoint may, if the overlay lets it send from any
    address or says that it is a router.
    """
    for first, part in zip(topology.tenant_edges.tolist(), topology.slices, strict=False):
        alone = ~_routed(topology, part)
        for networks in (_networks4(part), _networks6(part)):
            for tenant, apart in _meetings(networks):
                if len(apart) > 1 and alone[tenant]:
                    more = f" and {len(apart) - 2:,} more networks" if len(apart) > 2 else ""
                    yield Caution(
                        f"tenants.{topology.tenants.name[first + tenant]}",
                        f"endpoints in {apart[0]} and {apart[1]}{more} cannot meet: give them one"
                        " prefix, or the tenant a router (an endpoint with `router: true` or"
                        " `spoofing: allow`)",
                    )


def _routed(topology: Topology, part: Slice) -> NDArray[np.bool_]:
    """bool[T]: tenants that have a router, or lie on plane route."""
    endpoints = part.endpoints
    plane = np.array([plane == "route" for plane in topology.vteps.plane])
    routers = endpoints.spoofing | (endpoints.router == YES) | plane[endpoints.vtep]
    found = np.zeros(part.tenants, np.bool_)
    found[endpoints.tenant[routers]] = True
    return found


def _networks4(part: Slice) -> Bytes:
    addresses = part.addresses4
    octets = big_endian(addresses.ip, 4)
    return _networks(part.endpoints.tenant[addresses.endpoint], octets, addresses.prefix)


def _networks6(part: Slice) -> Bytes:
    addresses = part.addresses6
    return _networks(part.endpoints.tenant[addresses.endpoint], addresses.ip, addresses.prefix)


def _networks(tenant: U32, octets: Bytes, prefix: U8) -> Bytes:
    """uint8[n, 5 + octets], ascending, each once: tenant, network, prefix length."""
    width = octets.shape[1]
    bits = np.arange(width * 8) < np.arange(width * 8 + 1)[:, None]
    masks = np.packbits(bits, axis=1)
    rows = np.concatenate(
        [big_endian(tenant, 4), octets & masks[prefix], prefix.astype(np.uint8)[:, None]], axis=1
    )
    whole = np.ascontiguousarray(rows).view(f"V{rows.shape[1]}").ravel()
    return np.unique(whole).view(np.uint8).reshape(-1, rows.shape[1])


def _meetings(networks: Bytes) -> Iterator[tuple[int, list[IPv4Network | IPv6Network]]]:
    """(tenant, its networks that are in no other), of tenants with several networks."""
    tenant = np.ascontiguousarray(networks[:, :4]).view(">u4").ravel()
    edges = np.flatnonzero(np.diff(tenant, prepend=-1, append=-1))
    for low, high in pairwise(edges.tolist()):
        if high - low == 1:
            continue
        apart: list[IPv4Network | IPv6Network] = []
        # A network stands before those inside of it.
        for row in networks[low : min(high, low + _NETWORKS)]:
            network = ip_network((row[4:-1].tobytes(), int(row[-1])))
            if not apart or network.network_address > apart[-1].broadcast_address:  # type: ignore[operator]
                apart.append(network)
        yield int(tenant[low]), apart


def _small_mtu(topology: Topology) -> Iterator[Caution]:
    """Endpoints whose addresses need a larger MTU than the tunnel leaves: none can be attached."""
    for number, part in enumerate(topology.slices):
        endpoints = part.endpoints
        family = topology.vteps.family[endpoints.vtep]
        mtu = np.where(family == 4, tunnel_mtu(topology.underlay.mtu, 4), 0)
        mtu = np.where(family == 6, tunnel_mtu(topology.underlay.mtu, 6), mtu)
        first = int(topology.tenant_edges[number])
        mtu -= VLAN_TAG * topology.tenants.carry_tagged[endpoints.tenant + first]
        needs = np.zeros(len(part), np.int64)
        needs[part.addresses4.endpoint] = LEAST_MTU_IPV4
        needs[part.addresses6.endpoint] = LEAST_MTU_IPV6
        first = int(topology.endpoint_edges[number])
        for row in np.flatnonzero(mtu < needs)[: _SHOWN + 1].tolist():
            tenant, _, name = topology.endpoint_id(first + row).partition("/")
            yield Caution(
                f"tenants.{tenant}.endpoints.{name}",
                f"its MTU would be {mtu[row]} and its addresses need {needs[row]}, so it cannot be"
                f" attached: raise underlay.mtu to {topology.underlay.mtu + needs[row] - mtu[row]}",
            )


def _keys_for_nothing(topology: Topology) -> Iterator[Caution]:
    """Ports known by UUID or MAC where nothing says either: a device has no more than an alias."""
    planes = topology.vteps.plane
    for first, part in topology.with_port_keys:
        rows = part.port_keys.endpoint.astype(np.intp)
        for row in rows[_on_a_kernel(topology, part.endpoints.vtep[rows])][: _SHOWN + 1].tolist():
            tenant, _, name = topology.endpoint_id(first + row).partition("/")
            plane = planes[int(part.endpoints.vtep[row])]
            yield Caution(
                f"tenants.{tenant}.endpoints.{name}",
                f"`port` and `attached_mac` mean nothing on plane {plane}: there the device's alias"
                f" is the claim (ip link set DEVICE alias 'ovs-lwt {tenant}/{name}')",
            )


def _on_a_kernel(topology: Topology, vtep: U32) -> NDArray[np.bool_]:
    kernels: NDArray[np.bool_] = np.array([plane != "ovs" for plane in topology.vteps.plane])
    return kernels[vtep]


def _wide(topology: Topology) -> Iterator[Caution]:
    """Tenants on so many hosts that a broadcast is more than the datapath takes at once."""
    replicates = topology.vteps.replicator
    ovs = np.array([plane == "ovs" for plane in topology.vteps.plane])
    for first, part in zip(topology.tenant_edges.tolist(), topology.slices, strict=False):
        tenant, vtep = part.spans
        wide = np.bincount(tenant, minlength=part.tenants)
        served = np.zeros(part.tenants, np.bool_)
        served[tenant[replicates[vtep]]] = True
        sends = np.zeros(part.tenants, np.bool_)
        sends[tenant[ovs[vtep]]] = True
        # The host itself is no copy.
        for index in np.flatnonzero((wide - 1 > limits.ONE_PASS) & ~served & sends).tolist():
            yield Caution(
                f"tenants.{topology.tenants.name[first + index]}",
                limits.wide_flood(int(wide[index]) - 1, userspace=True, replicator=False),
            )
