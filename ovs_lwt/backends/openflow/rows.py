"""From a host's view to the rows of every flow and group: which values stand in the slots of
`flows/`.

One function per table of the pipeline. They only select and join columns; nothing here does I/O,
and nothing loops over endpoints. A scope narrows the rows to some tenants, so that a change costs
what it touches.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ovs_lwt.backends.openflow import floods
from ovs_lwt.backends.openflow.answers import answers4, answers6
from ovs_lwt.backends.openflow.relations import Rows, tunnel_of
from ovs_lwt.backends.scope import Scope
from ovs_lwt.columns import Flags, Indices
from ovs_lwt.stencil import Column
from ovs_lwt.view import View

_T = TypeVar("_T", bound=np.generic)


def tenant_rows(scope: Scope) -> Iterator[Rows]:
    """The flows of the tenants and endpoints in the scope."""
    # Where nothing is wanted of a table, a small change shall not pay for it.
    if len(scope.tenants) or len(scope.ports):
        yield from _classify(scope)
    if len(scope.ports):
        yield from _security(scope)
    if scope.endpoints_wanted.any():
        yield from _spoken_for(scope)
        yield from _respond(scope)
    yield from _forward(scope)
    if scope.relisted.any():
        yield from floods.tenant_rows(scope)


def shared_rows(view: View) -> Iterator[Rows]:
    """The flows that are no tenant's, without those that have one row on every host."""
    tenants = view.topology.tenants
    renamed = view.here & (tenants.mark != tenants.vni)
    nobodys = tenants.vni[renamed & ~np.isin(tenants.vni, tenants.mark[view.here])]
    yield Rows("classify.not_a_mark", len(nobodys), {"vni": nobodys})
    vteps, peers = view.topology.vteps, view.peers
    four, six = peers[vteps.family[peers] == 4], peers[vteps.family[peers] == 6]
    yield Rows("peer.known_vtep", len(four), {"vtep": vteps.ipv4[four]})
    yield Rows("peer.known_vtep6", len(six), {"vtep6": vteps.ipv6[six]})
    four, six = (of_family[vteps.mac_mask[of_family] != 0] for of_family in (four, six))
    columns = _prefix_columns(view, four) | {"vtep": vteps.ipv4[four]}
    yield Rows("forward.remote_prefix", len(four), columns)
    columns = _prefix_columns(view, six) | {"vtep6": vteps.ipv6[six]}
    yield Rows("forward.remote_prefix6", len(six), columns)
    yield from floods.shared_rows(view)


def _prefix_columns(view: View, vtep: Indices) -> dict[str, Column]:
    vteps = view.topology.vteps
    columns = {"mac_prefix": vteps.mac_prefix[vtep], "mac_mask": vteps.mac_mask[vtep]}
    return columns | tunnel_of(view)


def _classify(scope: Scope) -> Iterator[Rows]:
    tenants, vni = scope.tenant_columns, scope.vni[scope.tenants]
    yield Rows("classify.from_tunnel", len(vni), {"vni": vni} | tunnel_of(scope.view))
    renamed = scope.tenants[tenants.mark[scope.tenants] != vni]
    yield Rows(
        "classify.from_mark",
        len(renamed),
        {"mark": tenants.mark[renamed], "vni": scope.vni[renamed]},
    )
    by_port = scope.ports[~scope.view.ports.marked[scope.ports]]
    columns = _port_columns(scope, by_port)
    yield Rows("classify.from_port", len(by_port), columns)


def _security(scope: Scope) -> Iterator[Rows]:
    trusted = scope.endpoints.spoofing[scope.endpoint_of(scope.ports)]
    yield _port_rows(scope, "trusted", scope.ports[trusted])
    held = scope.ports[~trusted]
    has4, has6 = _has_address(scope, scope.owned4[0]), _has_address(scope, scope.owned6[0])
    owner = scope.endpoint_of(held)
    four, six, bare = has4[owner], has6[owner], scope.part.bare[owner]
    answered = scope.tenant_columns.answer_neighbours[scope.endpoints.tenant[owner]]
    for entry in _BARE:
        yield _port_rows(scope, entry, held[bare])
    yield _port_rows(scope, "without_address", held[four])
    yield _port_rows(scope, "without_address6", held[six])
    yield _port_rows(scope, "arp_probe", held[four & answered])
    yield _port_rows(scope, "duplicate_detection", held[six & answered])
    yield _port_rows(scope, "other_protocols", held[four | six])
    port, ip = _join(owner, *scope.owned4)
    for entry in ("arp", "ipv4"):
        yield _port_rows(scope, entry, held[port], ip=ip)
    alone = ~answered[port]
    yield _port_rows(scope, "arp_probe_own", held[port[alone]], ip=ip[alone])
    port, ip6 = _join(owner, *scope.owned6)
    for entry in ("solicitation", "solicitation_bare", "ipv6"):
        yield _port_rows(scope, entry, held[port], ip6=ip6)
    alone = ~answered[port]
    yield _port_rows(scope, "duplicate_detection_own", held[port[alone]], ip6=ip6[alone])
    # Every address of an endpoint with every address: what it advertises, and what it sends from.
    pair, target = _join(owner[port], *scope.owned6)
    for entry in ("advertisement", "advertisement_bare"):
        yield _port_rows(scope, entry, held[port[pair]], ip6=ip6[pair], target=target)


_BARE = (
    "mac_only",
    "own_mac_arp",
    "own_mac_solicitation",
    "own_mac_solicitation_bare",
    "own_mac_advertisement",
    "own_mac_advertisement_bare",
)


def _spoken_for(scope: Scope) -> Iterator[Rows]:
    """What a guest that is held to its MAC alone may not say, in the tenants that have one here."""
    guarded = scope.of_tenants(scope.view.with_bare)[scope.endpoints.tenant]
    if not guarded.any():
        return
    floods_them = ~scope.tenant_columns.answer_neighbours[scope.endpoints.tenant]
    for slot, (owner, address), always, unanswered in (
        ("ip", scope.owned4, ("anothers_ipv4", "anothers_arp"), "anothers_probed"),
        ("ip6", scope.owned6, ("anothers_ipv6", "anothers_advertised"), "anothers_detected"),
    ):
        for entries, chosen in ((always, guarded), ((unanswered,), guarded & floods_them)):
            known = chosen[owner]
            vni = scope.vni[scope.endpoints.tenant[owner[known]]]
            for entry in entries:
                columns = {"vni": vni, slot: address[known]}
                yield Rows(f"security.{entry}", int(known.sum()), columns)


def _respond(scope: Scope) -> Iterator[Rows]:
    if not (answering := scope.tenant_columns.answer_neighbours).any():
        return
    answers = answering[scope.endpoints.tenant]
    if len(scope.ports):
        asking = scope.ports[answers[scope.endpoint_of(scope.ports)]]
        port, ip = _join(scope.endpoint_of(asking), *scope.owned4)
        yield Rows("respond.announce", len(port), _port_columns(scope, asking[port]) | {"ip": ip})
        port, ip6 = _join(scope.endpoint_of(asking), *scope.owned6)
        columns = _port_columns(scope, asking[port]) | {"ip6": ip6}
        yield Rows("respond.announce6", len(port), columns)
    four = answers4(scope)
    columns = _endpoint_columns(scope, four.endpoint) | {"ip": four.ip}
    yield Rows("respond.arp_reply", len(four.ip), columns)
    # Who may send from any address may take this one over, and says so to all.
    taken = scope.of_tenants(scope.view.with_trusted)[scope.endpoints.tenant[four.endpoint]]
    columns = {"vni": columns["vni"][taken], "ip": four.ip[taken]}
    yield Rows("respond.gratuitous", int(taken.sum()), columns)
    yield from _advertised(scope)


def _advertised(scope: Scope) -> Iterator[Rows]:
    """The answers to neighbour solicitations."""
    six = answers6(scope)
    if scope.view.nd_by_flow:
        chosen = {
            "nd_reply": ~six.router & ~six.detection,
            "nd_reply_router": six.router,
            "nd_reply_detection": six.detection,
        }
    else:
        chosen = {"nd_to_app": ~six.detection, "nd_to_app_detection": six.detection}
    for entry, some in chosen.items():
        columns = _endpoint_columns(scope, six.endpoint[some]) | {"ip6": six.ip[some]}
        yield Rows(f"respond.{entry}", int(some.sum()), columns)


def _forward(scope: Scope) -> Iterator[Rows]:
    topology = scope.view.topology
    columns = _port_columns(scope, scope.ports)
    mark = scope.tenant_columns.mark[scope.endpoints.tenant[scope.endpoint_of(scope.ports)]]
    yield Rows("forward.local_endpoint", len(scope.ports), columns | {"mark": mark})
    vtep, mac = scope.endpoints.vtep[scope.remote], scope.endpoints.mac[scope.remote]
    # The others are reached by their VTEP's MAC prefix.
    exact = ~topology.vteps.fits(vtep, mac)
    vtep = vtep[exact]
    columns = _endpoint_columns(scope, scope.remote[exact]) | tunnel_of(scope.view)
    if topology.vteps.family[scope.view.host] == 6:
        yield Rows(
            "forward.remote_endpoint6", len(vtep), columns | {"vtep6": topology.vteps.ipv6[vtep]}
        )
    else:
        yield Rows(
            "forward.remote_endpoint", len(vtep), columns | {"vtep": topology.vteps.ipv4[vtep]}
        )
    flooded = scope.tenants[scope.tenant_columns.flood_unknown[scope.tenants]]
    yield Rows("forward.unknown_unicast", len(flooded), {"vni": scope.vni[flooded]})


def _endpoint_columns(scope: Scope, endpoint: Indices) -> dict[str, Column]:
    endpoints = scope.endpoints
    return {"vni": scope.vni[endpoints.tenant[endpoint]], "mac": endpoints.mac[endpoint]}


def _port_columns(scope: Scope, port: Indices) -> dict[str, Column]:
    return _endpoint_columns(scope, scope.endpoint_of(port)) | {"port": scope.view.ports.port[port]}


def _port_rows(scope: Scope, entry: str, port: Indices, **more: Column) -> Rows:
    return Rows(f"security.{entry}", len(port), _port_columns(scope, port) | more)


def _has_address(scope: Scope, owner: Indices) -> Flags:
    has = np.zeros(len(scope.part), np.bool_)
    has[owner] = True
    return has


def _join(endpoint: Indices, owner: Indices, address: NDArray[_T]) -> tuple[Indices, NDArray[_T]]:
    """Every address of these endpoints: (index into `endpoint`, address). owner: ascending, the
    address's endpoint.
    """
    low, high = np.searchsorted(owner, endpoint), np.searchsorted(owner, endpoint, "right")
    count = high - low
    left = np.repeat(np.arange(len(endpoint)), count)
    right = (
        np.arange(int(count.sum()))
        - np.repeat(np.cumsum(count) - count, count)
        + np.repeat(low, count)
    )
    return left, address[right]
