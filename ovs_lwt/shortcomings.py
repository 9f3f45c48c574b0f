"""What a plane cannot carry of an overlay, and why.

The overlay's checks, the planes themselves and the feature table say it in the same words.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ovs_lwt.model import Plane

IP_ALONE: Final = "routes carry IP alone"

NO_TAGS: Final[Mapping[Plane, str]] = {
    "bridge": "the bridge takes a tag for a VLAN of its own",
    "route": IP_ALONE,
}
"""Plane -> why it has no `vlan_tagged: carry`."""

NO_PAIRS: Final[Mapping[Plane, str]] = {"route": "a route leads to one endpoint"}
"""Plane -> why it has no `allowed_pairs`."""

TAGS_MEND: Final = "write 'vlan_tagged: drop', or put all hosts of the tenant on plane ovs"
PAIRS_MEND: Final = "write the address as the endpoint's own, or take another plane"
