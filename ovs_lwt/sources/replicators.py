"""Replicators that cannot replicate, and tenants that none could serve."""

from __future__ import annotations

from typing import Final

from ovs_lwt.sources.checks import Draft, Place
from ovs_lwt.sources.report import Report

REQUEST_BITS: Final = 4
"""Upper bits of the VNI in which a leaf says what it asks a replicator for: 0 for nothing."""

_VNI_MAX: Final = (1 << 24 - REQUEST_BITS) - 1


def check_replicators(draft: Draft, place: Place, report: Report) -> None:
    """Note replicators that are somebody else's, or on another plane than ovs, and VNIs that would
    look like requests.
    """
    replicators = [name for name, fields in draft.vteps.items() if fields.get("replicator")]
    for name in replicators:
        fields, spot = draft.vteps[name], place("vteps", name, "replicator")
        if fields.get("external"):
            report.add(
                spot,
                "somebody else runs this VTEP (external: true), and ovs-lwt cannot make it"
                " replicate: make one of your own hosts the replicator",
            )
        elif fields.get("plane", "ovs") != "ovs":
            report.add(
                spot,
                f"plane {fields['plane']} cannot replicate for others: put the host on plane ovs,"
                " or make a host of plane ovs the replicator",
            )
    if not replicators:
        return
    for tenant, fields in draft.tenants.items():
        vni = fields.get("vni")
        if vni is not None and vni > _VNI_MAX:
            report.add(
                place("tenants", tenant, "vni"),
                f"VNI {vni} leaves no room for requests to replicators ({replicators[0]} is one),"
                f" which take its upper {REQUEST_BITS} bits: give the tenant a VNI up to"
                f" {_VNI_MAX}, or take 'replicator: true' away",
                "VNI with replicators",
            )
