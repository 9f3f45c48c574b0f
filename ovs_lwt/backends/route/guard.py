"""Where the rules for IPv6 check who sends: the kernel has no reverse path filter there.

For IPv4 the kernel itself drops what comes in by another device than the one that leads back to its
source (rp_filter). For IPv6 the tree of marks leads to a guard of the tenant, and not to its table:

    65535           unreachable           who has no tenant and no route ends here
    65536 + 4 VNI   nop                   where the tree leads to
                    iif vx-lwt lookup M   from the tunnel: the sender's host has checked
    +1              from ADDRESS iif PORT lookup M, for each guest here
    +2              blackhole

All guards stand behind the kernel's own rules, where there is room for one for every VNI: only a
goto leads there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np

from ovs_lwt.backends.netlink.program import Rows
from ovs_lwt.backends.netlink.tunnel import DEVICE
from ovs_lwt.backends.route.plan import Plan, local_addresses
from ovs_lwt.columns import U32, Indices
from ovs_lwt.stencil import Column

NOWHERE: Final = 65535
_FIRST: Final = 65536
_EACH: Final = 4


def place(plan: Plan, tenants: Indices) -> U32:
    """Where the guards of these tenants are."""
    vni = plan.view.topology.tenants.vni[tenants]
    return (_FIRST + _EACH * vni.astype(np.uint32)).astype(np.uint32)


def entered(tree: Iterable[Rows]) -> Iterator[Rows]:
    """A tree whose tables are the places of guards, as one that leads to them."""
    for rows in tree:
        if rows.template == "rule.mark6":
            columns = {name: rows.columns[name] for name in ("preference", "mark", "mask")}
            columns["target"] = rows.columns["table"]
            yield Rows("rule.branch6", rows.count, columns)
        else:
            yield rows


def rules(plan: Plan) -> Iterator[Rows]:
    """The guards of all tenants here."""
    topology, here = plan.view.topology, plan.scope.tenants
    yield Rows("rule.nowhere6", 1, {"preference": np.array([NOWHERE], np.uint32)})
    yield Rows("rule.drop6", len(here), {"preference": place(plan, here) + np.uint32(2)})
    yield Rows("rule.end6", len(here), {"preference": place(plan, here)})
    if plan.marks_tunnels:
        chosen = plan.tunnelled
        columns: dict[str, Column] = {"iif": DEVICE, "table": plan.table[chosen]}
        yield Rows("rule.device_table6", len(chosen), columns | {"preference": place(plan, chosen)})
    endpoint, port, ip = local_addresses(plan.view, "6")
    free = topology.endpoints.spoofing[endpoint]
    yield _senders(plan, "rule.sender6", endpoint[~free], port[~free], {"ip6": ip[~free]})
    ports, which = np.unique(port[free], return_index=True)
    yield _senders(plan, "rule.device_table6", endpoint[free][which], ports, {})


def _senders(
    plan: Plan, template: str, endpoint: U32, port: U32, columns: dict[str, Column]
) -> Rows:
    tenant = plan.view.topology.endpoints.tenant[endpoint].astype(np.intp)
    columns = columns | {
        "preference": place(plan, tenant) + np.uint32(1),
        "iif": port,
        "table": plan.table[tenant],
    }
    return Rows(template, len(endpoint), columns)
