"""What a host should hold, as text: to be read, to be compared, or to be loaded by hand.

Each part is what one tool reads: `ovs-ofctl` on plane ovs, a batch of iproute2 on the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TextIO

import numpy as np

from ovs_lwt import offline
from ovs_lwt.mistakes import Refused
from ovs_lwt.model import Plane
from ovs_lwt.plane import Options
from ovs_lwt.planes import forwarding
from ovs_lwt.topology import Topology

ALL: Final = "all"

OVS_PARTS: Final = {
    "groups": "ovs-ofctl -O OpenFlow14 add-groups BRIDGE FILE",
    "flows": "ovs-ofctl -O OpenFlow14 --bundle add-flows BRIDGE FILE",
}
KERNEL_PARTS: Final = {
    "links": "ip -batch FILE",
    "sysctl": "sysctl -p FILE",
    # What drops stands before what lets through.
    "tc": "tc -batch FILE",
    "bridge": "bridge -batch FILE",
    "ip": "ip -batch FILE",
    "ip6": "ip -6 -batch FILE",
    "mpls": "ip -f mpls -batch FILE",
}
"""Part -> what loads it, in the order in which they are to be loaded."""

_TOOLS: Final = {
    "bridge": "bridge",
    "ip": "ip",
    "ip6": "ip -6",
    "mpls": "ip -f mpls",
    "tc": "tc",
}


def write(
    topology: Topology,
    host: str,
    part: str,
    options: Options,
    out: TextIO,
    *,
    ovsdb: str | None = None,
) -> None:
    """Print a part, or all of them one after the other.

    part: "all", or one of the plane's parts; ovsdb: take the guests' ports of plane ovs from there;
    None: every guest of the overlay is attached, by the name that `attach` gives its port
    Raises Refused if the plane has no such part, or cannot carry the host's tenants.
    """
    plane = topology.vteps.plane[topology.vtep_index(host)]
    parts = _chosen(plane, host, part)
    if plane == "ovs":
        _write_flows(topology, host, parts, options, out, ovsdb)
    else:
        _write_entries(topology, host, plane, parts, options, out)


def _chosen(plane: Plane, host: str, part: str) -> Mapping[str, str]:
    known = OVS_PARTS if plane == "ovs" else KERNEL_PARTS
    if part == ALL:
        return known
    if part not in known:
        raise Refused(
            f"{host} is on plane {plane}, which has no part '{part}': take {', '.join(known)} or"
            f" {ALL}"
        )
    return {part: known[part]}


def _write_flows(
    topology: Topology,
    host: str,
    parts: Mapping[str, str],
    options: Options,
    out: TextIO,
    ovsdb: str | None,
) -> None:
    from ovs_lwt.backends.openflow import export

    nd = options.neighbour_discovery
    if ovsdb is None:
        snapshot = offline.from_overlay(topology, host, nd, {options.bridge})
        names = snapshot.names
    else:
        snapshot, names = offline.from_switch(topology, host, ovsdb, options.bridge, nd), {}
    if "groups" in parts:
        export.write_groups(snapshot.view, names, out)
    if "flows" in parts:
        export.write_flows(snapshot.view, names, out)


def _write_entries(
    topology: Topology,
    host: str,
    plane: Plane,
    parts: Mapping[str, str],
    options: Options,
    out: TextIO,
) -> None:
    from ovs_lwt.backends.netlink import export, links
    from ovs_lwt.backends.netlink.templates import Devices

    snapshot = offline.from_overlay(topology, host)
    view = snapshot.view
    kernel = forwarding(plane, host, options, keep=False)
    kernel.check(view)
    setup = kernel.setup(view, [snapshot.names[int(port)] for port in view.ports.port])
    rows = kernel.rows(view, setup)
    devices = Devices(setup.devices, np.zeros(len(setup.devices), np.uint32))
    for part, loaded_by in parts.items():
        if len(parts) > 1:
            out.write(f"# {part}: {loaded_by}\n")
        if part == "links":
            out.writelines(f"{line}\n" for line in links.commands(setup))
        elif part == "sysctl":
            out.writelines(f"{line}\n" for line in links.sysctl_lines(setup))
        else:
            export.write(_TOOLS[part], rows, devices, out)
