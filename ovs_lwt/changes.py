"""What differs between two overlays, compared by VNI, MAC, address and name.

An index means something within one `Topology` only; so renumbering is no change.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ovs_lwt.topology import U32, Flags, Topology, VtepColumns


def changed_tenants(old: Topology, new: Topology) -> frozenset[int]:
    """Return the VNIs of all tenants that are not the same in `old` and `new`.

    A tenant differs if it stands in only one of them, or if its own row, one of its endpoints or
    addresses, or name, address, `external` or plane of a VTEP it has endpoints on differ.
    Renumbering is no change. The underlay and datapath ids belong to no tenant and are not
    compared.
    """
    rows_old, rows_new = _tenant_rows(old), _tenant_rows(new)
    changed = {vni for vni, row in rows_old.items() if rows_new.get(vni) != row}
    changed |= rows_new.keys() - rows_old.keys()
    hosts: dict[tuple[Any, ...], int] = {}
    relations_old, relations_new = _relations(old, hosts), _relations(new, hosts)
    for (vni_old, columns_old), (vni_new, columns_new) in zip(
        relations_old, relations_new, strict=True
    ):
        differing = _other_counts(vni_old, vni_new)
        changed.update(differing.tolist())
        # Those left have as many rows on either side, in the same order of VNI and key: row by
        # row they can be laid side by side.
        side_old, side_new = ~np.isin(vni_old, differing), ~np.isin(vni_new, differing)
        unlike = np.zeros(int(side_old.sum()), np.bool_)
        for column_old, column_new in zip(columns_old, columns_new, strict=True):
            unlike |= _unlike(column_old, column_new, side_old, side_new)
        changed.update(np.unique(vni_old[side_old][unlike]).tolist())
    return frozenset(changed)


def same(old: Topology, new: Topology) -> bool:
    """Say whether two topologies are one overlay: underlay, hosts, tenants, endpoints."""
    return (
        old.underlay == new.underlay
        and _vtep_rows(old.vteps) == _vtep_rows(new.vteps)
        and np.array_equal(old.vteps.datapath_id, new.vteps.datapath_id)
        and not changed_tenants(old, new)
    )


def _vtep_rows(vteps: VtepColumns) -> list[tuple[Any, ...]]:
    addresses = (vteps.address(index) for index in range(len(vteps)))
    return list(zip(vteps.name, addresses, vteps.external.tolist(), vteps.plane, strict=True))


def _tenant_rows(topology: Topology) -> dict[int, tuple[Any, ...]]:
    tenants = topology.tenants
    columns = (
        *(tenants.mark, tenants.flood_unknown, tenants.answer_neighbours),
        tenants.label,
    )
    rows = zip(tenants.name, *(column.tolist() for column in columns), strict=True)
    return dict(zip(tenants.vni.tolist(), rows, strict=True))


def _relations(
    topology: Topology, hosts: dict[tuple[Any, ...], int]
) -> list[tuple[U32, list[Any]]]:
    """Return, for each relation, the VNI of every row and its columns, free of indices.

    `hosts` numbers the VTEPs of both topologies alike.
    """
    vteps = _vtep_rows(topology.vteps)
    numbers = np.array([hosts.setdefault(row, len(hosts)) for row in vteps], np.uint32)
    endpoints, four, six = topology.endpoints, topology.addresses4, topology.addresses6
    vni = topology.tenants.vni[endpoints.tenant]
    host = numbers[endpoints.vtep]
    return [
        (vni, [endpoints.mac, host, endpoints.spoofing, endpoints.name]),
        (vni[four.endpoint], [endpoints.mac[four.endpoint], four.ip, four.prefix]),
        (vni[six.endpoint], [endpoints.mac[six.endpoint], six.ip, six.prefix]),
    ]


def _other_counts(old: U32, new: U32) -> U32:
    """Return the VNIs that do not have the same number of rows in both."""
    every, counts_old = np.unique(old, return_counts=True)
    other, counts_new = np.unique(new, return_counts=True)
    union = np.union1d(every, other)
    totals = np.zeros((2, len(union)), np.int64)
    totals[0, np.searchsorted(union, every)] = counts_old
    totals[1, np.searchsorted(union, other)] = counts_new
    differing: U32 = union[totals[0] != totals[1]].astype(np.uint32)
    return differing


def _unlike(old: Any, new: Any, side_old: Flags, side_new: Flags) -> Flags:
    if isinstance(old, pa.Array):
        pair = old.filter(pa.array(side_old)), new.filter(pa.array(side_new))
        return np.asarray(pc.not_equal(*pair).to_numpy(zero_copy_only=False), np.bool_)
    difference: Flags = old[side_old] != new[side_new]
    return np.asarray(difference.any(axis=1)) if difference.ndim == 2 else difference
