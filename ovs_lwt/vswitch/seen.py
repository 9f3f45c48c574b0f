"""What the database says of a bridge: everything an agent asks of its switch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ovs_lwt.claims import (
    ATTACHED_MAC_KEY,
    ERROR_KEY,
    IFACE_ID_KEY,
    MARKING_KEY,
    claimed_endpoint,
)
from ovs_lwt.vswitch.database import Database, Row
from ovs_lwt.vswitch.plan import DatapathType, LocalPort
from ovs_lwt.vswitch.prepare import datapath_type_of


@dataclass(frozen=True, slots=True)
class Seen:
    """A bridge as it was last seen.

    connected: whether ovsdb-server answers; errors: interface -> what is said to be wrong with it
    """

    connected: bool = False
    datapath_id: int | None = None
    datapath_type: DatapathType | None = None
    tunnel_ofport: int | None = None
    request_ofport: int | None = None
    ports: tuple[LocalPort, ...] = ()
    errors: Mapping[str, str] = field(default_factory=dict)


def seen(database: Database, bridge: str, tunnel_port: str, request_port: str) -> Seen:
    """Return what the database says of `bridge`, whose VXLAN ports are called so."""
    connected, row = database.connected, database.named("Bridge", bridge)
    if row is None:
        return Seen(connected)
    ports: list[LocalPort] = []
    errors: dict[str, str] = {}
    tunnel_ofport = request_ofport = None
    for interface in (each for port in row.ports for each in port.interfaces):
        if (error := interface.external_ids.get(ERROR_KEY)) is not None:
            errors[interface.name] = error
        ofport = next(iter(interface.ofport), 0)
        if ofport <= 0 or interface.name == bridge:
            continue
        if interface.name == tunnel_port:
            tunnel_ofport = ofport
        elif interface.name == request_port and interface.type == "vxlan":
            request_ofport = ofport
        else:
            ports.append(_local_port(interface, ofport))
    ports.sort(key=lambda port: port.name)
    datapath_id = next(iter(row.datapath_id), None)
    return Seen(
        connected,
        None if datapath_id is None else int(datapath_id, 16),
        datapath_type_of(row),
        tunnel_ofport,
        request_ofport,
        tuple(ports),
        errors,
    )


def _local_port(interface: Row, ofport: int) -> LocalPort:
    external_ids: dict[str, str] = interface.external_ids
    return LocalPort(
        name=interface.name,
        ofport=ofport,
        claim=claimed_endpoint(external_ids),
        marking=external_ids.get(MARKING_KEY),
        error=external_ids.get(ERROR_KEY),
        up="down" not in interface.link_state,
        iface_id=external_ids.get(IFACE_ID_KEY),
        attached_mac=external_ids.get(ATTACHED_MAC_KEY),
        device=_device(interface),
    )


def _device(interface: Row) -> tuple[int, str] | None:
    """Index and MAC of the machine's own device that a port is."""
    index, mac = next(iter(interface.ifindex), 0), next(iter(interface.mac_in_use), "")
    own = interface.type in ("", "system")
    return (index, mac) if own and index > 0 and mac else None
