"""From a host's view to the rows of every flow and group: which values stand in the slots of
`flows/`.

One function per table of the pipeline. They only select and join columns; nothing here does I/O,
and nothing loops over endpoints. A scope narrows the rows to some tenants, so that a change costs
what it touches.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ovs_lwt.backends.openflow import floods, pairs, security
from ovs_lwt.backends.openflow.answers import answers4, answers6
from ovs_lwt.backends.openflow.joins import endpoint_columns, join, port_columns, unique
from ovs_lwt.backends.openflow.relations import Rows, requests_of, tunnel_of
from ovs_lwt.backends.scope import Scope
from ovs_lwt.columns import Indices
from ovs_lwt.stencil import Column
from ovs_lwt.view import View


def tenant_rows(scope: Scope) -> Iterator[Rows]:
    """The flows of the tenants and endpoints in the scope."""
    # Where nothing is wanted of a table, a small change shall not pay for it.
    if len(scope.tenants) or len(scope.ports):
        yield from _classify(scope)
    if len(scope.ports):
        yield from security.port_rows(scope)
    if scope.endpoints_wanted.any():
        yield from security.guarded_rows(scope)
        yield from _respond(scope)
    yield from _forward(scope)
    if len(scope.tenants):
        yield from pairs.tenant_rows(scope)
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
    columns = port_columns(scope, by_port)
    yield Rows("classify.from_port", len(by_port), columns)
    if tenants.carry_tagged.any():
        yield from _tagged(scope, by_port)


def _tagged(scope: Scope, by_port: Indices) -> Iterator[Rows]:
    """The same of frames with VLAN tags, in the tenants that carry them."""
    carrying = scope.tenant_columns.carry_tagged
    tenants = scope.tenants[carrying[scope.tenants]]
    vni: dict[str, Column] = {"vni": scope.vni[tenants]}
    yield Rows("classify.tagged_from_tunnel", len(tenants), vni | tunnel_of(scope.view))
    if scope.view.requests is not None:
        yield Rows("classify.tagged_asked", len(tenants), vni | requests_of(scope.view))
    mark = {"mark": scope.tenant_columns.mark[tenants]}
    yield Rows("classify.tagged_from_mark", len(tenants), vni | mark)
    carried = by_port[carrying[scope.endpoints.tenant[scope.endpoint_of(by_port)]]]
    yield Rows("classify.tagged_from_port", len(carried), port_columns(scope, carried))


def _respond(scope: Scope) -> Iterator[Rows]:
    if not (answering := scope.tenant_columns.answer_neighbours).any():
        return
    answers = answering[scope.endpoints.tenant]
    if len(scope.ports):
        asking = scope.ports[answers[scope.endpoint_of(scope.ports)]]
        port, ip = join(scope.endpoint_of(asking), *_announced(scope, scope.owned4, 4))
        yield Rows("respond.announce", len(port), port_columns(scope, asking[port]) | {"ip": ip})
        port, ip6 = join(scope.endpoint_of(asking), *_announced(scope, scope.owned6, 6))
        columns = port_columns(scope, asking[port]) | {"ip6": ip6}
        yield Rows("respond.announce6", len(port), columns)
    four = answers4(scope)
    columns = endpoint_columns(scope, four.endpoint) | {"ip": four.ip}
    yield Rows("respond.arp_reply", len(four.ip), columns)
    # Who may send from any address may take this one over, and says so to all.
    taken = scope.of_tenants(scope.view.with_trusted)[scope.endpoints.tenant[four.endpoint]]
    columns = {"vni": columns["vni"][taken], "ip": four.ip[taken]}
    yield Rows("respond.gratuitous", int(taken.sum()), columns)
    yield from _advertised(scope)


def _announced(
    scope: Scope, owned: tuple[Indices, NDArray[Any]], version: int
) -> tuple[Indices, NDArray[Any]]:
    """(endpoint, address) of what endpoints have, allowed pairs included, ascending, each once."""
    pairs = scope.part.pairs4 if version == 4 else scope.part.pairs6
    if not len(pairs):
        return owned
    endpoint = np.concatenate([owned[0], pairs.endpoint.astype(np.intp)])
    return unique(endpoint, np.concatenate([owned[1], pairs.ip]))


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
        columns = endpoint_columns(scope, six.endpoint[some]) | {"ip6": six.ip[some]}
        yield Rows(f"respond.{entry}", int(some.sum()), columns)


def _forward(scope: Scope) -> Iterator[Rows]:
    topology = scope.view.topology
    columns = port_columns(scope, scope.ports)
    mark = scope.tenant_columns.mark[scope.endpoints.tenant[scope.endpoint_of(scope.ports)]]
    yield Rows("forward.local_endpoint", len(scope.ports), columns | {"mark": mark})
    vtep, mac = scope.endpoints.vtep[scope.remote], scope.endpoints.mac[scope.remote]
    # The others are reached by their VTEP's MAC prefix.
    exact = ~topology.vteps.fits(vtep, mac)
    vtep = vtep[exact]
    columns = endpoint_columns(scope, scope.remote[exact]) | tunnel_of(scope.view)
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
