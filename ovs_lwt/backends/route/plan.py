"""What all rows of the route plane are made from: a host's view, and what its machine adds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ovs_lwt.backends.scope import Scope
from ovs_lwt.columns import U32, Flags, Indices
from ovs_lwt.stencil import Column
from ovs_lwt.view import View


@dataclass(frozen=True, eq=False)
class Plan:
    """What the rows are made from.

    marks_tunnels: tc marks what comes out of a tunnel
    ipv6: the kernel has IPv6; six: it is forwarded here
    underlay: the numbers of the devices towards the VTEPs, uint32[V], where labels are used
    vrfs: the numbers of the VRF devices of the labelled tenants here, ascending by tenant
    """

    view: View
    marks_tunnels: bool
    ipv6: bool
    six: bool
    underlay: U32
    vrfs: U32

    @cached_property
    def scope(self) -> Scope:
        """All of the view."""
        return Scope.everything(self.view)

    @property
    def over(self) -> str:
        """ "6" where the tunnels run over IPv6, else ""."""
        return "6" if self.view.topology.vteps.family[self.view.host] == 6 else ""

    @property
    def table(self) -> U32:
        """uint32[T]: the tenants' tables."""
        return self.view.topology.tenants.mark

    @property
    def tunnelled(self) -> Indices:
        """The tenants here that VXLAN carries."""
        return np.flatnonzero(self.view.here & (self.view.topology.tenants.label == 0))


def carries_ipv6(view: View) -> bool:
    """Whether a tenant here has an IPv6 address, or the underlay is IPv6."""
    topology = view.topology
    tenants = topology.endpoints.tenant[topology.addresses6.endpoint]
    return bool(view.here[tenants].any() or topology.vteps.family[view.host] == 6)


def local_addresses(view: View, suffix: str) -> tuple[U32, U32, Column]:
    """The addresses of the guests whose ports are here: (endpoint, port, address)."""
    addresses = view.topology.addresses6 if suffix else view.topology.addresses4
    ports = view.ports
    if not len(ports):
        return ports.endpoint, ports.port, addresses.ip[:0]
    place = np.searchsorted(ports.endpoint, addresses.endpoint).clip(max=len(ports) - 1)
    found: Flags = ports.endpoint[place] == addresses.endpoint
    return addresses.endpoint[found], ports.port[place[found]], addresses.ip[found]
