"""Which guest is behind which port: the claims of the switch's ports, held against the overlay."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Final
from uuid import UUID

import numpy as np

from ovs_lwt.claims import Renamed
from ovs_lwt.columns import Indices
from ovs_lwt.mistakes import Refused
from ovs_lwt.port_keys import owners_of
from ovs_lwt.residents import endpoints_on
from ovs_lwt.topology import Topology
from ovs_lwt.view import LocalPorts
from ovs_lwt.vswitch.plan import LocalPort

_UUID: Final = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_MAC: Final = re.compile(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}")
_BEHIND: Final = 10.0
"""Seconds for which a name that was given up may still be seen after the one that is to stay."""


def identified(topology: Topology, host: int, ports: Sequence[LocalPort]) -> tuple[LocalPort, ...]:
    """Return the ports, those that claim nothing by name with the endpoint that they are known by.

    First by the UUID in ``iface-id``, wherever the overlay says that its endpoint lives: `resolve`
    then tells of one that lives elsewhere. Then by ``attached-mac``, of the endpoints of `host` (an
    index) that take it: no other endpoint there has that MAC.
    """
    if not topology.with_port_keys:
        return tuple(ports)
    unsaid = [port for port in ports if port.claim is None]
    uuids = [octets for port in unsaid if (octets := _uuid(port.iface_id)) is not None]
    wanted = np.frombuffer(b"".join(uuids), np.uint8).reshape(-1, 16)
    by_uuid = {uuids[which]: endpoint for which, endpoint in owners_of(topology, wanted)}
    by_mac = _known_by_mac(topology, host)
    known: dict[str, str] = {}
    for port in unsaid:
        endpoint = by_uuid.get(_uuid(port.iface_id) or b"")
        if endpoint is None:
            endpoint = by_mac.get(_mac(port.attached_mac) or 0)
        if endpoint is not None:
            known[port.name] = topology.endpoint_id(endpoint)
    return tuple(
        replace(port, claim=known[port.name]) if port.name in known else port for port in ports
    )


class Renaming:
    """Ports whose claims are written anew. What is known of the database may be behind: it shows
    the old name for a while, and of two renames in a row the name between them as well.
    """

    def __init__(self) -> None:
        # Port -> (what it may be seen to claim meanwhile, what it is to claim, since when).
        self._ports: dict[str, tuple[frozenset[str], str, float]] = {}

    def note(self, renamed: Renamed, now: float) -> None:
        """These ports are to claim something else from now on."""
        for port, (before, claim) in renamed.items():
            former, between, _ = self._ports.get(port, (frozenset(), before, now))
            self._ports[port] = (former | {before, between}) - {claim}, claim, now

    def over(self, ports: Sequence[LocalPort], now: float) -> tuple[LocalPort, ...]:
        """Return the ports with the claims that they are to have."""
        seen = {port.name: port.claim for port in ports}
        self._ports = {
            name: (former, claim, since)
            for name, (former, claim, since) in self._ports.items()
            if seen.get(name) in former or (seen.get(name) == claim and now < since + _BEHIND)
        }
        return tuple(
            replace(port, claim=self._ports[port.name][1]) if port.name in self._ports else port
            for port in ports
        )


def strangers(ports: Sequence[LocalPort]) -> dict[str, str]:
    """Return the ports that nothing says to be an endpoint's, after `identified`: name ->
    their ``iface-id`` ("": none).
    """
    return {port.name: port.iface_id or "" for port in ports if port.claim is None}


def portless(topology: Topology, host: int, ports: LocalPorts) -> list[str]:
    """Return TENANT/NAME of the endpoints of `host` (an index) that have no port."""
    indices, identities = endpoints_on(topology, host)
    missing = ~np.isin(indices, ports.endpoint)
    return [identities[at] for at in np.flatnonzero(missing).tolist()]


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


def _known_by_mac(topology: Topology, host: int) -> dict[int, int]:
    """MAC -> index of the host's endpoints that are known by it."""
    found: list[Indices] = [np.empty(0, np.intp)]
    for first, part in topology.with_port_keys:
        rows = part.known_by_mac
        found.append(first + rows[part.endpoints.vtep[rows] == host])
    indices = np.concatenate(found)
    return dict(zip(topology.taken(indices).mac.tolist(), indices.tolist(), strict=True))


def _uuid(text: str | None) -> bytes | None:
    if text is None or _UUID.fullmatch(text) is None:
        return None
    return UUID(text).bytes


def _mac(text: str | None) -> int | None:
    if text is None or _MAC.fullmatch(text) is None:
        return None
    return int(text.replace(":", ""), 16)


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
