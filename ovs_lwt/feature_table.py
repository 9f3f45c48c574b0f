"""What a tenant can count on, plane by plane: the table in README.md.

It is not a promise but a finding: tests/kernel/test_conformance.py tries each feature on each
plane, and on hosts of different planes with one another, and fails if a plane cannot do what is
said here, or can do what is said it cannot.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from ovs_lwt.model import PLANES, Plane
from ovs_lwt.shortcomings import IP_ALONE, NO_PAIRS, NO_TAGS


@dataclass(frozen=True, slots=True)
class Feature:
    """One row.

    key: the name of its check; says: what a plane does that has it; lacking: plane -> why it does
    not; joint: it takes the planes of both hosts, where two guests are on different ones
    """

    key: str
    says: str
    lacking: Mapping[Plane, str] = field(default_factory=dict)
    joint: bool = True

    def why_not(self, near: Plane, far: Plane) -> str | None:
        """Say why a guest on a host of plane `near` does without it towards one of plane `far`.

        None: it has it.
        """
        return self.lacking.get(near) or (self.lacking.get(far) if self.joint else None)


_MACS_ALONE: Final = "the bridge looks at MACs alone"
_NO_LABELS: Final = "only routes take labels"

FEATURES: Final = (
    Feature("ipv4", "IPv4 between a tenant's guests"),
    Feature("ipv6", "IPv6 between a tenant's guests"),
    Feature("isolation", "Tenants with the same MACs and addresses kept apart"),
    Feature("ethernet", "Any Ethernet frame", {"route": IP_ALONE}),
    Feature("bum", "Broadcast and multicast, to each member once", {"route": IP_ALONE}),
    Feature("unknown-unicast", "Unknown unicast, to each member once", {"route": IP_ALONE}),
    Feature("neighbours", "ARP and neighbour discovery kept off the underlay"),
    Feature(
        "announcements",
        "Announcements and address probes, to each member once",
        {"route": IP_ALONE},
    ),
    Feature("allowed-pairs", "A MAC and address that several guests may have", NO_PAIRS),
    Feature("vlan-carried", "`vlan_tagged: carry`", NO_TAGS),
    Feature("vlan-tagged", "Frames with a VLAN tag: dropped"),
    Feature("spoofed-mac", "False source MAC: heard by nobody", joint=False),
    Feature(
        "spoofed-ipv4",
        "False IPv4 source: dropped",
        {"bridge": _MACS_ALONE},
        joint=False,
    ),
    Feature(
        "spoofed-ipv6",
        "False IPv6 source: dropped",
        {"bridge": _MACS_ALONE},
        joint=False,
    ),
    Feature("spoofed-arp", "False ARP: dropped", {"bridge": _MACS_ALONE}, joint=False),
    Feature(
        "spoofed-nd", "False neighbour discovery: dropped", {"bridge": _MACS_ALONE}, joint=False
    ),
    Feature("unknown-vtep", "Unknown VTEP: dropped", joint=False),
    Feature("unknown-vni", "Unknown VNI: dropped", joint=False),
    Feature("mute-host", "The host hears nothing of its guests", joint=False),
    Feature("mark", "The tenant's mark on packets handed to a guest", joint=False),
    Feature("unmarked-underlay", "No mark on the underlay's packets", joint=False),
    Feature("mtu", "Packets that fill the underlay's MTU, unfragmented"),
    Feature("tcp", "TCP, whatever the offloads"),
    Feature("live", "Guests added, moved and removed live"),
    Feature("restart", "A restart that changes nothing and interrupts nobody", joint=False),
    Feature("drift", "An entry removed by hand: put back", joint=False),
    Feature("mark-drift", "A mark removed by hand: put back", joint=False),
    Feature("mpls", "MPLS as encapsulation", {"ovs": _NO_LABELS, "bridge": _NO_LABELS}),
    Feature("underlay6", "IPv6 underlay"),
)


def markdown() -> str:
    """Return the table in Markdown: a row per feature, a column per plane."""
    lines = ["| | " + " | ".join(PLANES) + " |", "| --- |" + " --- |" * len(PLANES)]
    for feature in FEATURES:
        cells = [_cell(feature.lacking.get(plane)) for plane in PLANES]
        lines.append(f"| {feature.says} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(lacking: str | None) -> str:
    return "yes" if lacking is None else f"no: {lacking}"
