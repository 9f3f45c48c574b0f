"""The MACs that endpoints have by their allowed pairs, beside their own.

A bridge knows one port for a MAC. One that a single endpoint of the tenant has is its own in all
but name. One that several have, so that it can move between them, is nobody's: frames to it are
flooded, as to any MAC that the bridge does not know, and tc holds the ports that may send from it,
since `locked` wants a MAC to be known at its port.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ovs_lwt.columns import U32, U64, Flags, Indices
from ovs_lwt.view import View


@dataclass(frozen=True, slots=True, eq=False)
class FurtherMacs:
    """n MACs that are not their endpoints' own, of tenants here, ascending by endpoint, each once.

    endpoint, mac: uint32[n], uint64[n]; shared: bool[n], whether others of the tenant have it too
    """

    endpoint: U32
    mac: U64
    shared: Flags

    @classmethod
    def of(cls, view: View) -> FurtherMacs:
        """Those of a view. Costs nothing where the overlay has no pairs."""
        whole = view.topology.whole
        endpoint = np.concatenate([whole.pairs4.endpoint, whole.pairs6.endpoint])
        mac = np.concatenate([whole.pairs4.mac, whole.pairs6.mac])
        tenant = whole.endpoints.tenant[endpoint]
        further = view.here[tenant] & (mac != whole.endpoints.mac[endpoint])
        rows = np.unique(np.stack([endpoint[further].astype(np.uint64), mac[further]]), axis=1)
        endpoint, mac = rows[0].astype(np.uint32), rows[1]
        keys = np.stack([whole.endpoints.tenant[endpoint].astype(np.uint64), mac])
        _, which, holders = np.unique(keys, axis=1, return_inverse=True, return_counts=True)
        return cls(endpoint, mac, holders[which.reshape(-1)] > 1)

    def __len__(self) -> int:
        return len(self.endpoint)

    def at(self, ports: U32) -> tuple[Indices, Indices]:
        """(which MAC, which port) of those whose endpoint is behind a port here. ports: the
        endpoints behind the view's, ascending
        """
        place = np.searchsorted(ports, self.endpoint)
        place[place == len(ports)] = 0
        found = np.flatnonzero(ports[place] == self.endpoint) if len(ports) else np.arange(0)
        return found, place[found]

    def sharing(self, endpoints: U32) -> Flags:
        """Say of each of these endpoints whether it has a MAC that others have too."""
        sharing: Flags = np.isin(endpoints, self.endpoint[self.shared])
        return sharing

    def shared_by(self, tenants: int, tenant: U32) -> Flags:
        """Say of each of the topology's tenants whether it has a MAC that several endpoints have.

        tenant: of every endpoint
        """
        flags = np.zeros(tenants, np.bool_)
        flags[tenant[self.endpoint[self.shared]]] = True
        return flags
