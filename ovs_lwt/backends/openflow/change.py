"""From one view to the next: only the tenants that differ are compiled, before and after, and
compared.

Equal to comparing everything with everything, byte for byte: a tenant's flows follow from the
tenant's own rows, and
the few flows and groups that belong to no tenant are always compiled.
"""

from __future__ import annotations

import numpy as np

from ovs_lwt.backends.openflow import program
from ovs_lwt.backends.openflow.rows import remote_flood_of
from ovs_lwt.backends.openflow.transaction import Transaction, between
from ovs_lwt.backends.scope import Scope
from ovs_lwt.changes import changed_tenants
from ovs_lwt.view import View


def transaction(old: View, new: View) -> Transaction:
    """What leads from the flows and groups of `old` to those of `new`."""
    if _rewritten(old, new):
        before, after = program.full(old), program.full(new)
    else:
        vnis = affected(old, new)
        before, after = (program.part(Scope.of(view, vnis)) for view in (old, new))
    return between(before.blocks, before.groups, after)


def affected(old: View, new: View) -> frozenset[int]:
    """The VNIs of the tenants whose flows or groups may differ."""
    changed = (
        frozenset() if old.topology is new.topology else changed_tenants(old.topology, new.topology)
    )
    return (
        changed
        | _differing(_tenant_facts(old), _tenant_facts(new))
        | _differing(_port_facts(old), _port_facts(new))
    )


def _rewritten(old: View, new: View) -> bool:
    """Whether something differs that every flow may bear: the host's own address family, the
    tunnel's port.
    """
    families = (view.topology.vteps.family[view.host] for view in (old, new))
    return old.tunnel != new.tunnel or old.nd_by_flow != new.nd_by_flow or len(set(families)) > 1


def _tenant_facts(view: View) -> set[tuple[int, ...]]:
    """(VNI, group of its VTEPs) of every tenant here."""
    vni, here = view.topology.tenants.vni, view.here
    return set(zip(vni[here].tolist(), remote_flood_of(view)[here].tolist(), strict=True))


def _port_facts(view: View) -> set[tuple[int, ...]]:
    """(VNI, MAC, port, marked) of every guest's port."""
    endpoints, ports = view.topology.endpoints, view.ports
    vni = view.topology.tenants.vni[endpoints.tenant[ports.endpoint]]
    columns = (vni, endpoints.mac[ports.endpoint], ports.port, ports.marked)
    return set(zip(*(column.astype(np.int64).tolist() for column in columns), strict=True))


def _differing(old: set[tuple[int, ...]], new: set[tuple[int, ...]]) -> frozenset[int]:
    return frozenset(fact[0] for fact in old ^ new)
