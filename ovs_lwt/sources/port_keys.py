"""What several endpoints would be known by, so that a port could be either's."""

from __future__ import annotations

import numpy as np

from ovs_lwt.port_keys import repeated_uuids, same_mac_beside, text
from ovs_lwt.sources.checks import Draft
from ovs_lwt.sources.report import Report, Spot
from ovs_lwt.sources.rows import EndpointRows, mac_text


def check_port_keys(rows: EndpointRows, draft: Draft, report: Report) -> None:
    """Note UUIDs that stand twice, in whichever tenants, and endpoints that are known by a MAC
    which another of their host has.
    """
    keys = rows.port_keys
    if not len(keys):
        return
    tenants, hosts = list(draft.tenants), list(draft.vteps)
    owner = keys.endpoint.astype(np.intp)

    def name(row: int) -> str:
        tenant = int(rows.tenant[row])
        return f"{tenants[tenant] if tenant >= 0 else '?'}/{rows.name[row].as_py()}"

    later, first = repeated_uuids(keys)

    def say_uuid(at: int) -> tuple[Spot, str]:
        row, other = int(owner[later[at]]), int(owner[first[at]])
        return rows.find(row, "port", ""), (
            f"port {text(keys.uuid[later[at]])} is already that of {name(other)}"
            f" ({rows.find(other, 'port', '')})"
        )

    report.rows(np.arange(len(later)), say_uuid, "port used twice")
    known, beside = same_mac_beside(rows.host, rows.mac, owner[keys.by_mac])

    def say_mac(at: int) -> tuple[Spot, str]:
        row, other = int(known[at]), int(beside[at])
        return rows.find(row, "attached_mac", ""), (
            f"a port on {hosts[int(rows.host[row])]} with MAC {mac_text(int(rows.mac[row]))} could"
            f" be that of {name(other)} as well ({rows.find(other, 'mac', '')}): list this one's"
            " port by its UUID"
        )

    report.rows(np.arange(len(known)), say_mac, "MAC of two on one host")
