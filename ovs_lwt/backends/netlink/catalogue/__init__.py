"""Every template, by name: the entries of the bridge plane and of the route plane, as data.

Attributes stand in the order in which the kernel lists them (vxlan_fdb_info, fdb_fill_info,
neigh_fill_info, fib_dump_info, rt6_fill_node, fib_nl_fill_rule), with all that it lists, so that
an entry reads back as it was sent.
"""

from __future__ import annotations

from typing import Final

from ovs_lwt.backends.netlink.catalogue import (
    bridge,
    filter,
    guest_port,
    neighbour,
    route,
    rule,
)
from ovs_lwt.backends.netlink.templates import Template

TEMPLATES: Final[dict[str, Template]] = {
    **dict(bridge.templates()),
    **dict(neighbour.templates()),
    **dict(route.templates()),
    **dict(filter.templates()),
    **dict(guest_port.templates()),
    **dict(rule.templates()),
}
"""Name -> template. Addresses are IPv4 unless the name ends in 6; `_over6` names the underlay."""
