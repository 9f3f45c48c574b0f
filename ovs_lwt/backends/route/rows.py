"""What one host's kernel needs to route for its tenants: every row of its view. No I/O, no clock.

    rules        mark -> table            (tree.py; guard.py for IPv6)
    routes       in the tenant's table: its endpoints, here and on other hosts, and the end
    neighbours   guests behind their ports; the shared devices of other hosts, once each
    filters      VNI -> mark, for what comes out of a tunnel; where tc lacks it, rules (tree.py)

A tenant's table has the number of its mark.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from ovs_lwt.backends.netlink import tunnel, vteps
from ovs_lwt.backends.netlink.program import Rows
from ovs_lwt.backends.route import guard, labels, tree
from ovs_lwt.backends.route.plan import Plan, local_addresses
from ovs_lwt.columns import Flags
from ovs_lwt.stencil import Column

LOCAL: Final = 32765
"""Where the host's own addresses are looked up, instead of at 0: the last before `main`."""


def rows(plan: Plan) -> list[Rows]:
    """All entries. Raises Refused if there are more tenants than rules have places for."""
    families = ("", "6") if plan.six else ("",)
    return [
        *_tunnel(plan),
        *(row for suffix in families for row in _rules(plan, suffix)),
        *(row for suffix in families for row in _routes(plan, suffix)),
        # With or without tenants that use it: what is read is what is wanted.
        *(_local_rule(suffix) for suffix in (("", "6") if plan.ipv6 else ("",))),
        *labels.tenants(plan),
        *_vtep_neighbours(plan),
    ]


def _tunnel(plan: Plan) -> Iterator[Rows]:
    tenants, chosen = plan.view.topology.tenants, plan.tunnelled
    vni = tenants.vni[chosen]
    yield Rows("vni.member", len(vni), {"vni": vni, "dev": tunnel.DEVICE})
    if plan.marks_tunnels:
        yield from tunnel.filters(plan.view)
        columns: dict[str, Column] = {"handle": vni, "vni": vni, "mark": tenants.mark[chosen]}
        yield Rows("filter.tunnel_mark", len(vni), columns | {"dev": tunnel.DEVICE})


def _rules(plan: Plan, suffix: str) -> Iterator[Rows]:
    topology, here = plan.view.topology, plan.scope.tenants
    vtep: Column = getattr(topology.vteps, f"ipv{plan.over or 4}")[[plan.view.host]]
    yield from tree.head(vtep, plan.over, suffix)
    mark = topology.tenants.mark[here]
    if suffix:
        # First what the tree leads to: a goto to nowhere would be passed over.
        yield from guard.rules(plan)
        yield from guard.entered(tree.tree(mark, guard.place(plan, here), suffix))
    else:
        yield from tree.tree(mark, plan.table[here])
    chosen = plan.tunnelled
    if len(chosen) and not plan.marks_tunnels:
        yield from tree.from_tunnel(topology.tenants.vni[chosen], plan.table[chosen], 0, suffix)
    end = np.array([tree.END], np.uint32)
    yield Rows(f"rule.device_drop{suffix}", 1, {"preference": end, "iif": tunnel.DEVICE})


def _local_rule(suffix: str) -> Rows:
    return Rows(f"rule.local{suffix}", 1, {"preference": np.array([LOCAL], np.uint32)})


def _routes(plan: Plan, suffix: str) -> Iterator[Rows]:
    topology, here = plan.view.topology, plan.scope.tenants
    yield Rows(f"route.unreachable{suffix}", len(here), {"table": plan.table[here]})
    addresses = topology.addresses6 if suffix else topology.addresses4
    tenant = topology.endpoints.tenant[addresses.endpoint]
    host = topology.endpoints.vtep[addresses.endpoint]
    wanted, labelled = plan.view.here[tenant], topology.tenants.label[tenant] != 0
    remote = wanted & (host != plan.view.host)
    yield from _local(plan, suffix)
    yield _remote(plan, suffix, remote & ~labelled)
    yield from labels.routes(plan, suffix, remote & labelled)


def _local(plan: Plan, suffix: str) -> Iterator[Rows]:
    topology = plan.view.topology
    endpoint, port, ip = local_addresses(plan.view, suffix)
    columns: dict[str, Column] = {
        "table": plan.table[topology.endpoints.tenant[endpoint]],
        f"prefix{suffix}": ip,
        "length": _whole(suffix),
        "dev": port,
    }
    yield Rows(f"route.local_prefix{suffix}", len(ip), columns)
    columns = {f"ip{suffix}": ip, "mac": topology.endpoints.mac[endpoint], "dev": port}
    yield Rows(f"neighbour.permanent{suffix}", len(ip), columns)


def _remote(plan: Plan, suffix: str, chosen: Flags) -> Rows:
    topology, over = plan.view.topology, plan.over
    addresses = topology.addresses6 if suffix else topology.addresses4
    endpoint = addresses.endpoint[chosen]
    tenant, host = topology.endpoints.tenant[endpoint], topology.endpoints.vtep[endpoint]
    vtep: Column = getattr(topology.vteps, f"ipv{over or 4}")
    columns: dict[str, Column] = {
        "table": plan.table[tenant],
        f"prefix{suffix}": addresses.ip[chosen],
        "length": _whole(suffix),
        "vni": topology.tenants.vni[tenant],
        f"local{over}": vtep[[plan.view.host]],
        f"vtep{over}": vtep[host],
        "dev": tunnel.DEVICE,
    }
    if suffix or over:
        columns["via6"] = vteps.next_hops6(topology.vteps)[host]
    template = f"route.remote_prefix{suffix}{over and '_over6'}"
    return Rows(template, len(endpoint), columns)


def _vtep_neighbours(plan: Plan) -> Iterator[Rows]:
    """Once for each VTEP, whatever the number of tenants that it shares with this host."""
    every, peers = plan.view.topology.vteps, plan.view.peers
    mac = vteps.macs(every)[peers]
    if not plan.over:
        columns: dict[str, Column] = {"ip": every.ipv4[peers], "mac": mac, "dev": tunnel.DEVICE}
        yield Rows("neighbour.permanent", len(peers), columns)
    if plan.six:
        # Two addresses may have one hash; then they share the neighbour too.
        different = np.unique(mac, return_index=True)[1]
        via6 = vteps.next_hops6(every)[peers[different]]
        columns = {"ip6": via6, "mac": mac[different], "dev": tunnel.DEVICE}
        yield Rows("neighbour.permanent6", len(different), columns)


def _whole(suffix: str) -> Column:
    return np.array([128 if suffix else 32], np.uint8)
