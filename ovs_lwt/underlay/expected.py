"""What the overlay expects of a host's machine, so small that it can be handed to another process:
no columns, no endpoints.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ovs_lwt.topology import Topology


@dataclass(frozen=True, slots=True)
class Expected:
    """One host of the overlay.

    where: its OVSDB on plane ovs, else its network namespace, as `--host HOST=WHERE` takes it
    tunnels: its VXLAN ports -> their UDP ports; vtep: its VTEP's address; mtu: of the underlay
    peers: host -> VTEP's address, of those that share a tenant with it
    others: VTEP's address -> host, of all other hosts of the overlay
    """

    host: str
    plane: str
    where: str
    bridge: str
    tunnels: Mapping[str, int]
    vtep: str
    mtu: int
    peers: Mapping[str, str]
    others: Mapping[str, str]

    @classmethod
    def of(
        cls, topology: Topology, host: str, where: str, bridge: str, tunnel: str, requests: str
    ) -> Expected:
        """What `topology` expects of `host`. Raises Refused if it has no such host.

        tunnel, requests: the names of the shared port, and of that for requests to replicators
        """
        vteps, index = topology.vteps, topology.vtep_index(host)
        every = (part.seen_from(index) for part in topology.slices)
        peers = sorted({peer for seen in every if seen is not None for peer in seen.peers.tolist()})
        tunnels = {tunnel: topology.underlay.udp_port}
        if vteps.plane[index] == "ovs" and vteps.replicated:
            tunnels[requests] = topology.underlay.replication_udp_port
        return cls(
            host=host,
            plane=vteps.plane[index],
            where=where,
            bridge=bridge,
            tunnels=tunnels,
            vtep=vteps.address(index),
            mtu=topology.underlay.mtu,
            peers={vteps.name[peer]: vteps.address(peer) for peer in peers},
            others={
                vteps.address(other): name
                for other, name in enumerate(vteps.name)
                if other != index
            },
        )

    @property
    def here(self) -> bool:
        """Whether it is on this machine, where it can be looked at."""
        return self.plane != "ovs" or self.where.startswith("unix:")

    def dumped(self) -> str:
        """As one line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def loaded(cls, line: str) -> Expected:
        """The reverse of `dumped`."""
        fields: dict[str, Any] = json.loads(line)
        return cls(**fields)
