"""A view, or some of its tenants: what every plane selects its rows from.

A scope narrows the rows to some tenants, so that a change costs what it touches. Nothing here loops
over endpoints.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ovs_lwt.stencil import Bytes
from ovs_lwt.topology import U32, U64, Flags
from ovs_lwt.view import Indices, View


@dataclass(frozen=True, eq=False)
class Scope:
    """A view, and the tenants (bool[T], by index) whose rows are wanted."""

    view: View
    wanted: Flags

    @classmethod
    def everything(cls, view: View) -> Scope:
        """All that the host needs."""
        return cls(view, view.here)

    @classmethod
    def of(cls, view: View, vnis: Iterable[int]) -> Scope:
        """Only these tenants; those that are not in the view have no rows."""
        return cls(
            view, view.here & np.isin(view.topology.tenants.vni, np.fromiter(vnis, np.uint32))
        )

    @cached_property
    def tenants(self) -> Indices:
        """The tenants wanted."""
        return np.flatnonzero(self.wanted)

    @cached_property
    def vni(self) -> U32:
        """uint32[T], by tenant index."""
        return self.view.topology.tenants.vni

    @cached_property
    def remote(self) -> Indices:
        """Their endpoints on other hosts."""
        endpoints = self.view.topology.endpoints
        return np.flatnonzero(self.wanted[endpoints.tenant] & (endpoints.vtep != self.view.host))

    @cached_property
    def ports(self) -> Indices:
        """Their ports on this host, as indices into the view's ports."""
        return np.flatnonzero(
            self.wanted[self.view.topology.endpoints.tenant[self.view.ports.endpoint]]
        )

    @cached_property
    def owned4(self) -> tuple[Indices, U32]:
        """Their IPv4 addresses: (endpoint, address), ascending by endpoint."""
        addresses = self.view.topology.addresses4
        wanted = self.wanted[self.view.topology.endpoints.tenant[addresses.endpoint]]
        return addresses.endpoint[wanted].astype(np.intp), addresses.ip[wanted]

    @cached_property
    def owned6(self) -> tuple[Indices, Bytes]:
        """Their IPv6 addresses: (endpoint, address), ascending by endpoint.

        An endpoint with an IPv6 address has its link-local one too, unless another of its tenant
        lists that one.
        """
        topology = self.view.topology
        addresses = topology.addresses6
        wanted = self.wanted[topology.endpoints.tenant[addresses.endpoint]]
        listed, ip = addresses.endpoint[wanted].astype(np.intp), addresses.ip[wanted]
        dual = np.unique(listed)
        owner = np.concatenate([listed, dual])
        every = np.concatenate([ip, link_local(topology.endpoints.mac[dual])])
        key = np.concatenate(
            [topology.endpoints.tenant[owner].astype(">u4").view(np.uint8).reshape(-1, 4), every],
            axis=1,
        )
        _, first = np.unique(np.ascontiguousarray(key).view("V20").ravel(), return_index=True)
        first = first[np.argsort(owner[first], kind="stable")]
        return owner[first], every[first]


def link_local(mac: U64) -> Bytes:
    """The link-local addresses that follow from these MACs (RFC 4291, appendix A): uint8[n, 16]."""
    octets = mac.astype(">u8").view(np.uint8).reshape(-1, 8)[:, 2:]
    address = np.zeros((len(mac), 16), np.uint8)
    address[:, 0:2] = 0xFE, 0x80
    address[:, 8:11] = octets[:, 0:3]
    address[:, 8] ^= 0x02
    address[:, 11:13] = 0xFF, 0xFE
    address[:, 13:16] = octets[:, 3:6]
    return address
