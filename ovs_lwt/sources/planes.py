"""Tenants that the planes of their hosts cannot carry."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from ovs_lwt.columns import Flags
from ovs_lwt.model import LABEL_MAX, LABEL_MIN
from ovs_lwt.shortcomings import NO_PAIRS, NO_TAGS, PAIRS_MEND, TAGS_MEND
from ovs_lwt.sources.checks import Draft, Place
from ovs_lwt.sources.report import Report, Spot
from ovs_lwt.sources.rows import EndpointRows

RESERVED_TABLES: Final = range(252, 256)
"""Routing tables that are the kernel's own: a mark of that number could not be a table's."""


def check_planes(rows: EndpointRows, draft: Draft, place: Place, report: Report) -> None:
    """Note tenants that lie on planes which do not meet, or cannot carry or number them."""
    _check_labels(draft, place, report)
    _check_tags(rows, draft, place, report)
    _check_pairs(rows, draft, report)
    names = list(draft.vteps)
    # The last element answers for host -1, the last column for tenant -1.
    routes = np.array([draft.vteps[name].get("plane") == "route" for name in names] + [False])
    placed = rows.host >= 0
    routed = placed & routes[rows.host]
    uses = np.zeros((2, len(draft.tenants) + 1), np.bool_)
    uses[0, rows.tenant[placed & ~routed]] = True
    uses[1, rows.tenant[routed]] = True

    def example(tenant: int, chosen: Flags) -> tuple[str, str]:
        row = int(np.flatnonzero(chosen & (rows.tenant == tenant))[0])
        return rows.name[row].as_py(), names[int(rows.host[row])]

    for number, (tenant, fields) in enumerate(draft.tenants.items()):
        switched, by_routes = uses[:, number].tolist()
        if switched and by_routes:
            one, other = example(number, routed), example(number, placed & ~routed)
            report.add(
                place("tenants", tenant),
                f"has endpoints on plane route ({one[0]} on {one[1]}) and on another plane"
                f" ({other[0]} on {other[1]}): routes carry IP, the others Ethernet; put all hosts"
                " of the tenant on plane route, or none",
                "tenant on route and other planes",
            )
        elif switched and fields.get("encapsulation") == "mpls":
            _, host = example(number, placed)
            report.add(
                place("tenants", tenant, "encapsulation"),
                f"mpls needs plane route on every host of the tenant, and {host} is not: write"
                f" 'plane: route' under vteps.{host}",
                "mpls on another plane",
            )
        mark = fields.get("mark") or fields.get("vni")
        if by_routes and mark in RESERVED_TABLES:
            step = "mark" if fields.get("mark") else "vni"
            report.add(
                place("tenants", tenant, step),
                f"mark {mark} would be the number of the tenant's routing table on plane route, and"
                " 252 to 255 are the kernel's own: give the tenant another mark",
                "mark of a reserved table",
            )


def _planes(draft: Draft) -> NDArray[np.str_]:
    """The plane of every host; of host -1, none."""
    return np.array([vtep.get("plane", "ovs") for vtep in draft.vteps.values()] + [""])


def _check_tags(rows: EndpointRows, draft: Draft, place: Place, report: Report) -> None:
    carrying = [fields.get("vlan_tagged") == "carry" for fields in draft.tenants.values()]
    if not any(carrying):
        return
    names, planes = list(draft.vteps), _planes(draft)
    unfit = np.isin(planes, list(NO_TAGS))[rows.host] & np.array([*carrying, False])[rows.tenant]
    tenants, firsts = np.unique(rows.tenant[unfit], return_index=True)
    for number, row in zip(tenants.tolist(), np.flatnonzero(unfit)[firsts].tolist(), strict=True):
        host = names[int(rows.host[row])]
        plane = draft.vteps[host]["plane"]
        report.add(
            place("tenants", list(draft.tenants)[number], "vlan_tagged"),
            f"{host} is on plane {plane}, which cannot carry VLAN tags: {NO_TAGS[plane]};"
            f" {TAGS_MEND}",
            "VLAN tags on a plane without them",
        )


def _check_pairs(rows: EndpointRows, draft: Draft, report: Report) -> None:
    endpoint = np.concatenate([rows.pairs4.endpoint, rows.pairs6.endpoint])
    if not len(endpoint):
        return
    names, planes = list(draft.vteps), _planes(draft)
    paired = np.unique(endpoint.astype(np.intp))
    unfit = paired[np.isin(planes[rows.host[paired]], list(NO_PAIRS))]

    def say(row: int) -> tuple[Spot, str]:
        host = names[int(rows.host[row])]
        plane = draft.vteps[host]["plane"]
        return rows.find(row, "allowed_pairs", ""), (
            f"{host} is on plane {plane}, which cannot carry allowed pairs: {NO_PAIRS[plane]};"
            f" {PAIRS_MEND}"
        )

    report.rows(unfit, say, "allowed pairs on a plane without them")


def _check_labels(draft: Draft, place: Place, report: Report) -> None:
    owners: dict[int, str] = {}
    for tenant, fields in draft.tenants.items():
        if fields.get("encapsulation") != "mpls":
            continue
        given, vni = fields.get("label"), fields.get("vni")
        label = vni if given is None else given
        if label is None:
            continue
        step = "vni" if given is None else "label"
        if not LABEL_MIN <= label <= LABEL_MAX:
            report.add(
                place("tenants", tenant, step),
                f"VNI {label} cannot be the MPLS label too, which lies in {LABEL_MIN}..{LABEL_MAX}:"
                " give the tenant a label",
            )
        elif (other := owners.setdefault(label, tenant)) != tenant:
            report.add(
                place("tenants", tenant, step),
                f"MPLS label {label} is already that of tenant {other}: give one of them another",
            )
