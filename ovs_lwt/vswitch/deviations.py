"""Where the database is not what a `SwitchPlan` says, in sentences: for whoever repairs it, and for
whoever only looks.
"""

from __future__ import annotations

from collections.abc import Iterator

from ovs_lwt.names import kernel_half
from ovs_lwt.vswitch.database import Database, Row
from ovs_lwt.vswitch.plan import HIGHEST_OFPORT, DatapathType, SwitchPlan, TunnelPlan
from ovs_lwt.vswitch.prepare import (
    CONTRARY,
    CONTROLLER,
    PROTOCOLS,
    STILL,
    datapath_type_of,
    is_ours,
)


def deviations(
    database: Database, plan: SwitchPlan, datapath_type: DatapathType | None = None
) -> list[str]:
    """Return what of the plan is not so. Settings that the plan says nothing of are anybody's.

    datapath_type: what the bridge's is to be; None: anything
    """
    bridge = database.named("Bridge", plan.bridge)
    if bridge is None:
        return [f"there was no bridge {plan.bridge}"]
    if datapath_type is not None and datapath_type_of(bridge) != datapath_type:
        # Nothing else of it can be so.
        return [f"{plan.bridge} had datapath {datapath_type_of(bridge)}, not {datapath_type}"]
    return [*_bridge(bridge, plan), *_tunnels(bridge, plan), *_controller(bridge, plan)]


def halves_gone(database: Database, plan: SwitchPlan) -> dict[str, str]:
    """Return the VXLAN ports whose device in the kernel has gone: name -> what of it, a sentence.

    ovs-vswitchd makes that device when the port comes, and does not look after it: it only writes
    down that there is none.
    """
    bridge = database.named("Bridge", plan.bridge)
    if bridge is None or datapath_type_of(bridge) != "system":
        return {}
    there = {row.name: row for port in bridge.ports for row in port.interfaces}
    return {
        tunnel.name: f"{kernel_half(tunnel.udp_port)}, the kernel's half of {tunnel.name}, was gone"
        for tunnel in plan.tunnels
        if tunnel.name in there and _has_lost_half(there[tunnel.name])
    }


def _has_lost_half(row: Row) -> bool:
    """Whether ovs-vswitchd has the port, and found no device of its. Without any index it has not
    looked yet.
    """
    return next(iter(row.ofport), 0) > 0 and row.ifindex == [0]


def _bridge(bridge: Row, plan: SwitchPlan) -> Iterator[str]:
    name = bridge.name
    if bridge.fail_mode != ["secure"]:
        yield f"{name} had fail_mode {next(iter(bridge.fail_mode), 'standalone')}, not secure"
    said = bridge.other_config.get("datapath-id")
    if said != plan.datapath_id_text:
        yield f"{name} had datapath id {said or 'of its own'}, not {plan.datapath_id_text}"
    spoken = set(bridge.protocols)
    if spoken and not spoken >= PROTOCOLS:
        yield f"{name} spoke {' and '.join(sorted(spoken))} alone"
    for column in STILL:
        if getattr(bridge, column):
            yield f"{name} had {column}=true, which holds ports still"
    rows = {number: list(row.name) for number, row in bridge.flow_tables.items()}
    if any(rows.get(number) != [table] for number, table in plan.table_names):
        yield f"tables of {name} had lost their names"


def _tunnels(bridge: Row, plan: SwitchPlan) -> Iterator[str]:
    there = {row.name: row for port in bridge.ports for row in port.interfaces}
    for tunnel in plan.tunnels:
        if tunnel.name not in there:
            yield f"{bridge.name} had no port {tunnel.name}"
        else:
            yield from _tunnel(there[tunnel.name], tunnel)
    for name in plan.absent:
        if name in there and there[name].type == "vxlan":
            yield f"{bridge.name} had a port {name}"


def _tunnel(row: Row, tunnel: TunnelPlan) -> Iterator[str]:
    if row.type != "vxlan":
        yield f"{tunnel.name} had type {row.type or 'system'}, not vxlan"
    options = dict(row.options)
    for key in CONTRARY:
        if key in options:
            yield f"{tunnel.name} had {key}={options[key]}"
    for key, value in tunnel.options.items():
        if options.get(key) != value:
            yield f"{tunnel.name} had {key}={options.get(key, 'nothing')}, not {value}"
    if tunnel.udp_port <= HIGHEST_OFPORT and row.ofport_request != [tunnel.udp_port]:
        yield f"{tunnel.name} asked for another number than {tunnel.udp_port}"


def _controller(bridge: Row, plan: SwitchPlan) -> Iterator[str]:
    if plan.controller == "":
        return
    targets = {row.target: row for row in bridge.controller}
    if plan.controller is None:
        if any(map(is_ours, targets.values())):
            yield f"{bridge.name} had a controller of ours"
        return
    row = targets.get(plan.controller)
    if row is None:
        yield f"{bridge.name} did not have {plan.controller} as controller"
    elif any(getattr(row, column) != value for column, value in CONTROLLER.items()):
        yield f"the settings of controller {plan.controller} were others"
