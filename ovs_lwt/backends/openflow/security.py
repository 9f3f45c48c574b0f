"""From a host's view to the rows of the table security: what each port may send.

A port may send from its endpoint's MAC and those of its allowed pairs, and in packets of IP from
any of its addresses. What ARP and neighbour discovery say, that an address is at a MAC, must be one
of its own (address, MAC) or one of its pairs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ovs_lwt.backends.openflow.joins import join, port_columns, unique
from ovs_lwt.backends.openflow.relations import Rows
from ovs_lwt.backends.scope import Scope
from ovs_lwt.columns import U64, Flags, Indices
from ovs_lwt.stencil import Column


def port_rows(scope: Scope) -> Iterator[Rows]:
    """The rows of the ports in the scope."""
    trusted = scope.endpoints.spoofing[scope.endpoint_of(scope.ports)]
    yield _rows(scope, "trusted", scope.ports[trusted])
    held = scope.ports[~trusted]
    owner = scope.endpoint_of(held)
    bare = scope.part.bare[owner]
    for entry in _BARE:
        yield _rows(scope, entry, held[bare])
    answered = scope.tenant_columns.answer_neighbours[scope.endpoints.tenant[owner]]
    macs = _Macs.of(scope, owner)
    four = _Said.of(owner, scope.endpoints.mac, scope.owned4, _pairs(scope, scope.part.pairs4))
    six = _Said.of(owner, scope.endpoints.mac, scope.owned6, _pairs(scope, scope.part.pairs6))
    has4, has6 = four.some(len(held)), six.some(len(held))

    def by_mac(entry: str, ports: Flags) -> Rows:
        chosen = ports[macs.port]
        return _rows(scope, entry, held[macs.port[chosen]], mac=macs.mac[chosen])

    carrying = scope.tenant_columns.carry_tagged
    if carrying.any():
        tagged = carrying[scope.endpoints.tenant[scope.endpoint_of(scope.ports)]]
        yield _rows(scope, "tagged_trusted", scope.ports[trusted & tagged])
        yield by_mac("tagged", tagged[~trusted])
    yield by_mac("without_address", has4)
    yield by_mac("without_address6", has6)
    yield by_mac("arp_probe", has4 & answered)
    yield by_mac("duplicate_detection", has6 & answered)
    yield by_mac("other_protocols", has4 | has6)
    yield _rows(scope, "arp", held[four.port], mac=four.mac, ip=four.ip)
    alone = ~answered[four.port]
    yield _rows(
        scope, "arp_probe_own", held[four.port[alone]], mac=four.mac[alone], ip=four.ip[alone]
    )
    at, ip = join(macs.port, *four.addresses)
    yield _rows(scope, "ipv4", held[macs.port[at]], mac=macs.mac[at], ip=ip)
    for entry in ("solicitation", "solicitation_bare"):
        yield _rows(scope, entry, held[six.port], mac=six.mac, ip6=six.ip)
    alone = ~answered[six.port]
    columns = {"mac": six.mac[alone], "ip6": six.ip[alone]}
    yield _rows(scope, "duplicate_detection_own", held[six.port[alone]], **columns)
    at, ip6 = join(macs.port, *six.addresses)
    yield _rows(scope, "ipv6", held[macs.port[at]], mac=macs.mac[at], ip6=ip6)
    # What it advertises, from every address of its own.
    at, source = join(six.port, *six.addresses)
    columns = {"mac": six.mac[at], "ip6": source, "target": six.ip[at]}
    for entry in ("advertisement", "advertisement_bare"):
        yield _rows(scope, entry, held[six.port[at]], **columns)


_BARE = (
    "mac_only",
    "own_mac_arp",
    "own_mac_solicitation",
    "own_mac_solicitation_bare",
    "own_mac_advertisement",
    "own_mac_advertisement_bare",
)


def guarded_rows(scope: Scope) -> Iterator[Rows]:
    """What a guest that is held to its MAC alone may not say, in the tenants that have one here:
    that it has an address that the overlay lists for another.
    """
    guarded = scope.of_tenants(scope.view.with_bare)
    if guarded.any():
        tenant = scope.endpoints.tenant
        four, six = scope.owned4, scope.owned6
        yield from others(scope, tenant[four[0]], {"ip": four[1]})
        yield from others(scope, tenant[six[0]], {"ip6": six[1]})


def others(scope: Scope, tenant: NDArray[Any], address: dict[str, Column]) -> Iterator[Rows]:
    """The same of these addresses, one slot of them. tenant: whose each is"""
    [(slot, values)] = address.items()
    always, unanswered = _OTHERS[slot]
    guarded = scope.of_tenants(scope.view.with_bare)[tenant]
    floods_them = ~scope.tenant_columns.answer_neighbours[tenant]
    for entries, chosen in ((always, guarded), ((unanswered,), guarded & floods_them)):
        for entry in entries:
            columns = {"vni": scope.vni[tenant[chosen]], slot: values[chosen]}
            yield Rows(f"security.{entry}", int(chosen.sum()), columns)


_OTHERS = {
    "ip": (("anothers_ipv4", "anothers_arp"), "anothers_probed"),
    "ip6": (("anothers_ipv6", "anothers_advertised"), "anothers_detected"),
}


@dataclass(frozen=True, slots=True, eq=False)
class _Macs:
    """The MACs that ports may send from: (port, MAC), ascending by port, each once.

    port: index into the ports that are held
    """

    port: Indices
    mac: U64

    @classmethod
    def of(cls, scope: Scope, owner: Indices) -> _Macs:
        """owner: the endpoints behind the ports."""
        port, mac = np.arange(len(owner)), scope.endpoints.mac[owner]
        for relation in (scope.part.pairs4, scope.part.pairs6):
            if len(relation):
                at, more = join(owner, relation.endpoint.astype(np.intp), relation.mac)
                port, mac = np.concatenate([port, at]), np.concatenate([mac, more])
        return cls(*unique(port, mac)) if len(port) > len(owner) else cls(port, mac)


@dataclass(frozen=True, slots=True, eq=False)
class _Said:
    """What ports may say in one address family: that an address is at a MAC.

    port, mac, ip: ascending by port; addresses: (port, address), ascending by port, each once
    """

    port: Indices
    mac: U64
    ip: NDArray[Any]
    addresses: tuple[Indices, NDArray[Any]]

    @classmethod
    def of(
        cls,
        owner: Indices,
        macs: U64,
        owned: tuple[Indices, NDArray[Any]],
        pairs: tuple[Indices, U64, NDArray[Any]],
    ) -> _Said:
        """owner: the endpoints behind the ports; owned: (endpoint, address); pairs: (endpoint, MAC,
        address).
        """
        port, ip = join(owner, *owned)
        mac = macs[owner[port]]
        if not len(pairs[0]):
            return cls(port, mac, ip, (port, ip))
        at, more = join(owner, pairs[0], pairs[1])
        _, addresses = join(owner, pairs[0], pairs[2])
        port = np.concatenate([port, at])
        order = np.argsort(port, kind="stable")
        mac, ip = np.concatenate([mac, more])[order], np.concatenate([ip, addresses])[order]
        return cls(port[order], mac, ip, unique(port[order], ip))

    def some(self, ports: int) -> Flags:
        """bool[ports]: those that have an address."""
        has = np.zeros(ports, np.bool_)
        has[self.port] = True
        return has


def _pairs(scope: Scope, relation: Any) -> tuple[Indices, U64, NDArray[Any]]:
    return relation.endpoint.astype(np.intp), relation.mac, relation.ip


def _rows(scope: Scope, entry: str, port: Indices, **more: Column) -> Rows:
    return Rows(f"security.{entry}", len(port), port_columns(scope, port) | more)
