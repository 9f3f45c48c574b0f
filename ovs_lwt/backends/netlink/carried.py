"""What planes bridge and route refuse of a host's view, since they cannot carry it.

The overlay's own checks have said it already, unless the plane was chosen by `--plane`.
"""

from __future__ import annotations

import numpy as np

from ovs_lwt.mistakes import Refused
from ovs_lwt.model import Plane
from ovs_lwt.shortcomings import NO_PAIRS, NO_TAGS, PAIRS_MEND, TAGS_MEND
from ovs_lwt.view import View


def check(view: View, plane: Plane) -> None:
    """Raise Refused if a tenant here needs what the plane lacks."""
    tenants = view.topology.tenants
    tagged = np.flatnonzero(view.here & tenants.carry_tagged)
    if plane in NO_TAGS and len(tagged):
        raise Refused(
            f"tenant {tenants.name[tagged[0]]} carries frames with VLAN tags, and plane {plane}"
            f" cannot: {NO_TAGS[plane]}; {TAGS_MEND}"
        )
    if plane not in NO_PAIRS:
        return
    whole = view.topology.whole
    endpoint = np.concatenate([whole.pairs4.endpoint, whole.pairs6.endpoint])
    paired = endpoint[view.here[whole.endpoints.tenant[endpoint]]]
    if len(paired):
        raise Refused(
            f"{view.topology.endpoint_id(int(paired[0]))} has allowed pairs, and plane {plane}"
            f" cannot carry them: {NO_PAIRS[plane]}; {PAIRS_MEND}"
        )
