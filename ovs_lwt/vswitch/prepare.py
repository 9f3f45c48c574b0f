"""Make the database say what a `SwitchPlan` wants: first refuse, then write what differs."""

from __future__ import annotations

import subprocess
from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

from ovs_lwt.mistakes import NotNow, Refused
from ovs_lwt.vswitch.database import Database, Row, Transaction
from ovs_lwt.vswitch.plan import HIGHEST_OFPORT, DatapathType, SwitchPlan, TunnelPlan

# Marks the rows that are ours among rows without a name.
_OWNER_KEY: Final = "ovs-lwt"
_CONTROLLER_ROW: Final = "controller"
_TABLE_ROW: Final = "table"
# On the bridge: which agent drives it, for one that comes second.
AGENT_KEY: Final = "ovs-lwt-agent"

_VXLAN_UDP_PORT: Final = "4789"  # what OVS takes where dst_port is not set
_MODULE: Final = "openvswitch"

# Probes and back-off in ms, rates in packets a second. A large bundle keeps ovs-vswitchd's main
# thread busy for seconds: with the default probe of 5 s it would then hang up on its controller.
# The rate limits what one switch can ask of the app that answers neighbour solicitations.
CONTROLLER: Final = {
    "connection_mode": ["out-of-band"],
    "inactivity_probe": [60_000],
    "max_backoff": [1_000],
    "controller_rate_limit": [1_000],
    "controller_burst_limit": [250],
}
# Bundles need 1.4, inserting a group's buckets 1.5.
PROTOCOLS: Final = frozenset({"OpenFlow14", "OpenFlow15"})
# What holds ports still that flows send to: spanning trees, whose messages guests could send.
STILL: Final = ("stp_enable", "rstp_enable")
# Options (ovs-vswitchd.conf.db(5)) by which a VXLAN port takes no more what others send, whatever
# ours say: they outrank `key`, or are of another format than the other hosts'.
CONTRARY: Final = ("in_key", "out_key", "exts", "packet_type")


def is_ours(row: Row) -> bool:
    """Say whether a Controller row is the one that we made or took over."""
    return bool(row.external_ids.get(_OWNER_KEY) == _CONTROLLER_ROW)


def kernel_datapath() -> bool:
    """Say whether this machine has the kernel datapath, loading its module if it can."""
    if Path("/sys/module", _MODULE).exists():
        return True
    try:
        loaded = subprocess.run(
            ["modprobe", "-q", _MODULE],
            check=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    except OSError:
        return False
    # A module built into the kernel may have no folder under /sys/module; modprobe knows it.
    return loaded.returncode == 0


def refuse_conflicts(
    database: Database, plan: SwitchPlan, made: Collection[str] = frozenset()
) -> None:
    """Raise `Refused` if the plan would take over, or run into, something that is not ours.

    made: bridge and ports that are ours since we made them, whatever type others gave them since
    """
    bridge = database.named("Bridge", plan.bridge)
    if bridge is None:
        taken = database.named("Port", plan.bridge) or database.named("Interface", plan.bridge)
        if taken is not None:
            raise Refused(
                f"'{plan.bridge}' is a port{_of_bridge(database, plan.bridge)}, not a bridge:"
                f" choose another --bridge, or remove it (ovs-vsctl del-port {plan.bridge})"
            )
    elif plan.bridge not in made and plan.datapath_type not in ("auto", datapath_type_of(bridge)):
        raise Refused(
            f"bridge '{plan.bridge}' exists with datapath_type={datapath_type_of(bridge)}, not"
            f" {plan.datapath_type}: remove it (ovs-vsctl del-br {plan.bridge}) or keep its type"
        )
    for tunnel in plan.tunnels:
        _refuse_tunnel_conflicts(database, plan, tunnel, made)
    for other in database.rows("Bridge"):
        if other.name != plan.bridge and other.datapath_id == [plan.datapath_id_text]:
            raise Refused(
                f"bridge '{other.name}' already has datapath id {plan.datapath_id_text}:"
                " give this host another datapath_id in the overlay"
            )


def _refuse_tunnel_conflicts(
    database: Database, plan: SwitchPlan, tunnel: TunnelPlan, made: Collection[str]
) -> None:
    interface = database.named("Interface", tunnel.name)
    port = database.named("Port", tunnel.name)
    owner = bridge_of(database, tunnel.name)
    if interface is None and port is not None:
        raise Refused(
            f"'{tunnel.name}' is a bond{_of_bridge(database, tunnel.name)}:"
            f" remove it (ovs-vsctl del-port {tunnel.name})"
        )
    if interface is not None:
        where = _of_bridge(database, tunnel.name)
        mend = f"remove it (ovs-vsctl del-port {tunnel.name})"
        if interface.type != "vxlan" and tunnel.name not in made:
            kind = interface.type or "system"
            raise Refused(f"port '{tunnel.name}'{where} has type {kind}, it must be vxlan: {mend}")
        if owner is None or owner.name != plan.bridge or port is None:
            raise Refused(
                f"port '{tunnel.name}' belongs to another{where or ' bridge'}, not to"
                f" '{plan.bridge}': {mend}"
            )
    for other in database.rows("Interface"):
        # Those of the plan get UDP ports of their own, or go.
        if other.type != "vxlan" or other.name in {*(t.name for t in plan.tunnels), *plan.absent}:
            continue
        if other.options.get("dst_port", _VXLAN_UDP_PORT) == str(tunnel.udp_port):
            raise Refused(
                f"VXLAN port '{other.name}'{_of_bridge(database, other.name)} already uses UDP"
                f" port {tunnel.udp_port}: remove it (ovs-vsctl del-port {other.name}) or choose"
                f" another {tunnel.overlay_key}"
            )


def write_plan(
    database: Database, transaction: Transaction, plan: SwitchPlan, datapath_type: DatapathType
) -> None:
    """Write the plan into `transaction`, only where the rows differ."""
    bridge = database.named("Bridge", plan.bridge)
    if bridge is None:
        bridge = database.insert(transaction, "Bridge")
        bridge.name = plan.bridge
        root = database.root()
        if root is None:
            raise NotNow("the database lost its Open_vSwitch row: run ovs-vsctl --no-wait init")
        root.addvalue("bridges", bridge)
        add_port_rows(database, transaction, bridge, plan.bridge, "internal")
    if (getattr(bridge, "datapath_type", None) or "system") != datapath_type:
        bridge.datapath_type = datapath_type
    assign(bridge, "fail_mode", ["secure"])
    for column in STILL:
        if getattr(bridge, column, False):
            setattr(bridge, column, False)
    assign_key(bridge, "other_config", "datapath-id", plan.datapath_id_text)
    if plan.agent:
        assign_key(bridge, "external_ids", AGENT_KEY, plan.agent)
    spoken = set(getattr(bridge, "protocols", None) or ())
    if spoken and not spoken >= PROTOCOLS:
        # No protocols at all means all of them.
        bridge.protocols = sorted(spoken | PROTOCOLS)
    for tunnel in plan.tunnels:
        _write_tunnel(database, transaction, bridge, tunnel)
    for name in plan.absent:
        _remove_tunnel(bridge, name)
    _write_controller(database, transaction, bridge, plan.controller)
    _write_table_names(database, transaction, bridge, dict(plan.table_names))


def _write_tunnel(
    database: Database, transaction: Transaction, bridge: Row, tunnel: TunnelPlan
) -> None:
    row = database.named("Interface", tunnel.name)
    if row is None:
        row = add_port_rows(database, transaction, bridge, tunnel.name, "vxlan")
    assign(row, "type", "vxlan")
    for key, value in tunnel.options.items():
        assign_key(row, "options", key, value)
    for key in CONTRARY:
        if key in (getattr(row, "options", None) or {}):
            row.delkey("options", key)
    if tunnel.udp_port <= HIGHEST_OFPORT:
        # A number that a reader of the flows recognises.
        assign(row, "ofport_request", [tunnel.udp_port])


def _remove_tunnel(bridge: Row, name: str) -> None:
    """Take a VXLAN port away; one of that name that is anything else is somebody's own."""
    for port in getattr(bridge, "ports", None) or ():
        if port.name == name and any(row.type == "vxlan" for row in port.interfaces):
            bridge.delvalue("ports", port)


def _write_controller(
    database: Database, transaction: Transaction, bridge: Row, target: str | None
) -> None:
    if target == "":
        return
    rows = list(getattr(bridge, "controller", None) or ())
    ours = [row for row in rows if is_ours(row)]
    keep = next((row for row in rows if row.target == target), None) or next(iter(ours), None)
    if target is None:
        keep = None
    elif keep is None:
        keep = database.insert(transaction, "Controller")
        keep.target = target
        bridge.addvalue("controller", keep)
    for stale in ours:
        if stale is not keep:
            bridge.delvalue("controller", stale)
    if keep is not None and target is not None:
        assign(keep, "target", target)
        assign_key(keep, "external_ids", _OWNER_KEY, _CONTROLLER_ROW)
        for column, value in CONTROLLER.items():
            assign(keep, column, value)


def _write_table_names(
    database: Database, transaction: Transaction, bridge: Row, names: dict[int, str]
) -> None:
    rows: dict[int, Row] = dict(getattr(bridge, "flow_tables", None) or {})
    for number, name in names.items():
        row = rows.get(number)
        if row is None:
            row = database.insert(transaction, "Flow_Table")
            assign_key(row, "external_ids", _OWNER_KEY, _TABLE_ROW)
            bridge.setkey("flow_tables", number, row)
        assign(row, "name", [name])
    for number, row in rows.items():
        # A pipeline of an earlier version named more tables: two of one name print as none.
        if number not in names and row.external_ids.get(_OWNER_KEY) == _TABLE_ROW:
            bridge.delkey("flow_tables", number)


def add_port_rows(
    database: Database, transaction: Transaction, bridge: Row, name: str, kind: str
) -> Row:
    """Insert a Port with one Interface of type `kind` into `bridge`; return the Interface."""
    interface = database.insert(transaction, "Interface")
    interface.name = name
    interface.type = kind
    port = database.insert(transaction, "Port")
    port.name = name
    port.interfaces = [interface]
    bridge.addvalue("ports", port)
    return interface


def bridge_of(database: Database, interface: str) -> Row | None:
    """Return the bridge that has a port or interface called `interface`, or None."""
    for bridge in database.rows("Bridge"):
        for port in bridge.ports:
            if port.name == interface or any(row.name == interface for row in port.interfaces):
                return bridge
    return None


def datapath_type_of(bridge: Row) -> DatapathType:
    """Return the datapath type of a Bridge row; OVSDB also writes "system" as nothing."""
    return "netdev" if bridge.datapath_type == "netdev" else "system"


def assign(row: Row, column: str, value: Any) -> None:
    """Write `column` of `row` unless it already holds `value`."""
    # A row inserted in this very transaction has no attribute yet.
    if getattr(row, column, None) != value:
        setattr(row, column, value)


def assign_key(row: Row, column: str, key: str, value: str) -> None:
    """Write one key of a map column unless it already holds `value`; other keys stay.

    A mutation of that key alone, so that whoever writes another key meanwhile loses nothing.
    """
    if (getattr(row, column, None) or {}).get(key) != value:
        row.setkey(column, key, value)


def _of_bridge(database: Database, interface: str) -> str:
    owner = bridge_of(database, interface)
    return f" of bridge '{owner.name}'" if owner is not None else ""
