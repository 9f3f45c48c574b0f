"""A host's view without its agent: from the switch's OVSDB where it can be asked, from the overlay
alone elsewhere.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from ovs_lwt.mistakes import NotNow
from ovs_lwt.ports import identified, resolve
from ovs_lwt.residents import port_names
from ovs_lwt.topology import Topology
from ovs_lwt.view import LocalPorts, View
from ovs_lwt.vswitch import DEFAULT_REQUEST_PORT, DEFAULT_TUNNEL_PORT, LocalPort


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A view, and the names of its ports (OpenFlow port -> name)."""

    view: View
    names: dict[int, str]


def from_switch(
    topology: Topology, host: str, ovsdb: str, bridge: str, nd: str = "auto"
) -> Snapshot:
    """The view that the agent has: ports as the switch has them. Raises Refused."""
    from ovs_lwt.vswitch.switch import LocalSwitch

    index = topology.vtep_index(host)
    with LocalSwitch(ovsdb, bridge) as switch:
        tunnel = switch.tunnel_ofport()
        if tunnel is None:
            raise NotNow(f"bridge {bridge} has no tunnel port yet: `ovs-lwt run` makes it")
        ports = identified(topology, index, switch.ports())
        requests = switch.request_ofport()
        userspace = switch.datapath_type() == "netdev"
    by_flow = userspace if nd == "auto" else nd == "flow"
    names = {port.ofport: port.name for port in ports} | {tunnel: DEFAULT_TUNNEL_PORT}
    names |= {} if requests is None else {requests: DEFAULT_REQUEST_PORT}
    found: LocalPorts = resolve(topology, index, ports)[0]
    return Snapshot(View(topology, index, tunnel, found, by_flow, userspace, requests), names)


def from_overlay(
    topology: Topology, host: str, nd: str = "auto", taken: Collection[str] = ()
) -> Snapshot:
    """The view of a host whose every guest is attached, each by the port name that `attach` gives
    it, and that has a request port where the overlay has a replicator.

    taken: the names of its bridge and tunnel port, where they are not ours by default
    """
    index = topology.vtep_index(host)
    given = port_names(topology, index, taken)
    ports = [
        LocalPort(name, number, identity)
        for number, (identity, name) in enumerate(given.items(), 1)
    ]
    names = {port.ofport: port.name for port in ports} | {0: DEFAULT_TUNNEL_PORT}
    requests = len(ports) + 1 if topology.vteps.replicated else None
    names |= {} if requests is None else {requests: DEFAULT_REQUEST_PORT}
    found: LocalPorts = resolve(topology, index, ports)[0]
    # Nobody knows its datapath here; where the app is to answer, it is the kernel's.
    userspace = by_flow = nd != "app"
    return Snapshot(View(topology, index, 0, found, by_flow, userspace, requests), names)
