"""From one view to the next: only the tenants that differ are compiled, before and after, and
compared.

Equal to comparing everything with everything, byte for byte: a tenant's flows follow from the
tenant's own rows, and the few flows and groups that belong to no tenant are always compiled.
"""

from __future__ import annotations

import numpy as np

from ovs_lwt.backends.openflow import program
from ovs_lwt.backends.openflow.rows import remote_flood_of
from ovs_lwt.backends.openflow.transaction import Transaction, between
from ovs_lwt.backends.scope import Scope
from ovs_lwt.changes import changed_tenants
from ovs_lwt.topology import U32, U64, Flags
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


def _tenant_facts(view: View) -> U64:
    """(VNI, group of its VTEPs) of every tenant here."""
    here = view.here
    return _facts(view.topology.tenants.vni[here], remote_flood_of(view)[here])


def _port_facts(view: View) -> U64:
    """(VNI, MAC, port, marked) of every guest's port."""
    endpoints, ports = view.topology.endpoints, view.ports
    vni = view.topology.tenants.vni[endpoints.tenant[ports.endpoint]]
    return _facts(vni, endpoints.mac[ports.endpoint], ports.port, ports.marked)


def _facts(*columns: U32 | U64 | Flags) -> U64:
    return np.column_stack([column.astype(np.uint64) for column in columns])


def _differing(old: U64, new: U64) -> frozenset[int]:
    """The VNIs of the facts (each row once) that stand on one side only."""
    facts, sides = np.unique(np.concatenate([old, new]), axis=0, return_counts=True)
    return frozenset(facts[sides == 1, 0].tolist())
