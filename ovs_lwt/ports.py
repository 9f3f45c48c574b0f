"""Which guest is behind which port: the claims of the switch's ports, held against the overlay."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from ovs_lwt.mistakes import Refused
from ovs_lwt.residents import endpoints_on
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
    here = _endpoints_on(topology, host, {port.claim for port in ports if port.claim is not None})
    found: dict[int, LocalPort] = {}
    errors: dict[str, str] = {}
    numbers: dict[int, str] = {}
    for port in sorted(ports, key=lambda port: port.ofport):
        if port.claim is None:
            continue
        if (other := numbers.setdefault(port.ofport, port.name)) != port.name:
            # Two guests' flows would have one match.
            errors[port.name] = f"has the OpenFlow number {port.ofport}, as port '{other}' has"
            continue
        endpoint = here.get(port.claim)
        if endpoint is None:
            errors[port.name] = _why_not(topology, host, port.claim)
            continue
        if (first := found.setdefault(endpoint, port)) is not port:
            errors[port.name] = (
                f"{port.claim} is behind port '{first.name}' already: take one of the claims away"
            )
    claimed = sorted(found.items())
    return LocalPorts(
        np.array([endpoint for endpoint, _ in claimed], np.uint32),
        np.array([port.ofport for _, port in claimed], np.uint32),
        np.array([port.marked for _, port in claimed], np.bool_),
        np.array([port.up for _, port in claimed], np.bool_),
    ), errors


def _endpoints_on(topology: Topology, host: int, claims: Collection[str]) -> dict[str, int]:
    """TENANT/NAME -> index, of the host's endpoints: all that are claimed, and perhaps others."""
    tenants = topology.tenants
    claimed = {claim.partition("/")[0] for claim in claims} & tenants.index.keys()
    slices = sorted({topology.slice_of_tenant(tenants.index[name]) for name in claimed})
    indices, identities = endpoints_on(topology, host, slices)
    return dict(zip(identities, indices.tolist(), strict=True))


def _why_not(topology: Topology, host: int, claim: str) -> str:
    try:
        at = int(topology.taken(np.array([topology.endpoint_index(claim)])).vtep[0])
    except Refused as refused:
        return str(refused)
    names = topology.vteps.name
    return f"{claim} lives on {names[at]}, says the overlay, and this is {names[host]}"
