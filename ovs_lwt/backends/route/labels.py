"""Tenants that MPLS carries: a label instead of a tunnel, and no header in between.

A packet that arrives with the tenant's label goes to a VRF device whose table is the tenant's: the
kernel cannot look up a popped label's packet in any other table than `main`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from ovs_lwt.backends.netlink.machine import Machine
from ovs_lwt.backends.netlink.program import Rows
from ovs_lwt.backends.netlink.setup import Link
from ovs_lwt.backends.route.plan import Plan
from ovs_lwt.columns import Flags, Indices
from ovs_lwt.mistakes import Refused
from ovs_lwt.stencil import Column
from ovs_lwt.view import View

_LIMIT: Final = 1048575
"""net.mpls.platform_labels, at most: labels are below it. Not less, or another's would be lost."""


def labelled(view: View) -> Indices:
    """The tenants here that MPLS carries."""
    return np.flatnonzero(view.here & (view.topology.tenants.label != 0))


def peers(view: View) -> Indices:
    """The VTEPs that share such a tenant with this host."""
    tenant, vtep = view.spans
    return np.unique(vtep[view.topology.tenants.label[tenant] != 0])


def check(view: View, machine: Machine) -> None:
    """Raise Refused if labels cannot carry these tenants here."""
    chosen = labelled(view)
    if not len(chosen):
        return
    topology = view.topology
    names, host = topology.tenants.name, topology.vteps.name[view.host]
    over4 = topology.vteps.family[view.host] == 4
    if lacks := machine.lacks_for_labels:
        raise Refused(
            f"tenant {names[chosen[0]]} is carried by MPLS, and the kernel of {host} lacks"
            f" {' and '.join(lacks)}: load what is missing (modprobe {' '.join(lacks)}), or take"
            " 'encapsulation: mpls' away"
        )
    highest = int(chosen[topology.tenants.label[chosen].argmax()])
    if topology.tenants.label[highest] >= _LIMIT:
        raise Refused(
            f"tenant {names[highest]} has MPLS label {topology.tenants.label[highest]}, and the"
            f" kernel takes labels up to {_LIMIT - 1}: give it another"
        )
    six = topology.endpoints.tenant[topology.addresses6.endpoint]
    both = np.intersect1d(chosen, six)
    if over4 and len(both):
        raise Refused(
            f"tenant {names[both[0]]} has IPv6 addresses and is carried by MPLS over IPv4: the"
            " kernel's IPv6 routes know no IPv4 next hop; give the hosts IPv6 addresses, or take"
            " 'encapsulation: mpls' away"
        )
    for peer in peers(view).tolist():
        if machine.towards(topology.vteps.address(peer)) is None:
            raise Refused(
                f"{topology.vteps.name[peer]} ({topology.vteps.address(peer)}) is not on a link of"
                f" {host}, and routers between would have to know the labels of MPLS: put both on"
                " one link, or take 'encapsulation: mpls' away"
            )


def links(view: View) -> list[Link]:
    """A VRF device for each tenant."""
    marks = view.topology.tenants.mark[labelled(view)].tolist()
    return [Link(vrf_name(mark), "vrf", {"vrf_table": mark}, f"table {mark}") for mark in marks]


def vrf_name(mark: int) -> str:
    """The tenant's VRF device: at most 14 characters."""
    return f"lwt-{mark}"


def sysctls(devices: list[str]) -> dict[str, str]:
    """What makes the kernel take labels in. devices: towards the other hosts"""
    return {
        "net/mpls/platform_labels": str(_LIMIT),
        **{f"net/mpls/conf/{device}/input": "1" for device in devices},
    }


def tenants(plan: Plan) -> Iterator[Rows]:
    """What arrives by label."""
    chosen = labelled(plan.view)
    columns = {"label": plan.view.topology.tenants.label[chosen], "dev": plan.vrfs}
    yield Rows("label.tenant", len(chosen), columns)


def routes(plan: Plan, suffix: str, chosen: Flags) -> Iterator[Rows]:
    """What leaves by label. chosen: of the addresses"""
    topology, over = plan.view.topology, plan.over
    addresses = topology.addresses6 if suffix else topology.addresses4
    endpoint = addresses.endpoint[chosen]
    if not len(endpoint):
        return
    tenant, host = topology.endpoints.tenant[endpoint], topology.endpoints.vtep[endpoint]
    columns: dict[str, Column] = {
        "table": plan.table[tenant],
        f"prefix{suffix}": addresses.ip[chosen],
        "length": np.array([128 if suffix else 32], np.uint8),
        "label": topology.tenants.label[tenant],
        "dev": plan.underlay[host],
    }
    if over:
        columns["via6"] = topology.vteps.ipv6[host]
    else:
        columns["via"] = topology.vteps.ipv4[host]
    template = f"route.labelled_prefix{suffix}{'_over6' if over and not suffix else ''}"
    yield Rows(template, len(endpoint), columns)
