"""Which guest is behind which port: the claims of the switch's ports, held against the overlay."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ovs_lwt.mistakes import Refused
from ovs_lwt.topology import Topology
from ovs_lwt.view import LocalPorts
from ovs_lwt.vswitch.plan import LocalPort


def resolve(
    topology: Topology, host: int, ports: Sequence[LocalPort]
) -> tuple[LocalPorts, dict[str, str]]:
    """Match claims with the endpoints of `host` (an index).

    Returns the guests' ports, and what is wrong with the claims of the others: port name -> a
    sentence for whoever made it. Of two ports that claim one endpoint, the one with the lower
    OpenFlow number has it.
    """
    found: dict[int, LocalPort] = {}
    errors: dict[str, str] = {}
    for port in sorted(ports, key=lambda port: port.ofport):
        if port.claim is None:
            continue
        try:
            endpoint = _endpoint(topology, host, port.claim)
        except Refused as refused:
            errors[port.name] = str(refused)
            continue
        if (other := found.setdefault(endpoint, port)) is not port:
            errors[port.name] = (
                f"{port.claim} is behind port '{other.name}' already: take one of the claims away"
            )
    claimed = sorted(found.items())
    return LocalPorts(
        np.array([endpoint for endpoint, _ in claimed], np.uint32),
        np.array([port.ofport for _, port in claimed], np.uint32),
        np.array([port.marked for _, port in claimed], np.bool_),
    ), errors


def _endpoint(topology: Topology, host: int, claim: str) -> int:
    endpoint = topology.endpoint_index(claim)
    at = int(topology.taken(np.array([endpoint])).vtep[0])
    if at != host:
        names = topology.vteps.name
        raise Refused(f"{claim} lives on {names[at]}, says the overlay, and this is {names[host]}")
    return endpoint
