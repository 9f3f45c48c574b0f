"""Replicators that cannot replicate."""

from __future__ import annotations

from ovs_lwt.sources.checks import Draft, Place
from ovs_lwt.sources.report import Report


def check_replicators(draft: Draft, place: Place, report: Report) -> None:
    """Note replicators that are somebody else's, or on another plane than ovs."""
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
