"""What the local switch should be, and what it says of its ports: values only."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Final, Literal

from ovs_lwt.claims import KERNEL_MARKINGS
from ovs_lwt.mistakes import Refused
from ovs_lwt.unixsockets import refuse_other

RUN_DIRECTORY: Final = Path(os.environ.get("OVS_RUNDIR") or "/var/run/openvswitch")
DEFAULT_OVSDB: Final = f"unix:{RUN_DIRECTORY}/db.sock"
"""Where OVS's own tools look, too: ovs-vsctl(8), OVS_RUNDIR."""

DEFAULT_BRIDGE: Final = "br-lwt"
DEFAULT_TUNNEL_PORT: Final = "vx-lwt"
DEFAULT_REQUEST_PORT: Final = "vx-lwt-ar"

# IFNAMSIZ is 16 with the closing zero byte; '/' cannot stand in a file name, and OVS makes some.
_NAME_LIMIT: Final = 15
# The highest port number OpenFlow 1.0 leaves to physical ports, hence OVSDB's for ofport_request.
HIGHEST_OFPORT: Final = 0xFEFF

# A name or an address, that of IPv6 in brackets.
_SERVER: Final = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+(%[^\]\s]+)?\]):[0-9]{1,9}")

DatapathType = Literal["system", "netdev"]


@dataclass(frozen=True, slots=True)
class TunnelPlan:
    """A VXLAN port as it should be; overlay_key: where the overlay says its UDP port."""

    name: str
    udp_port: int
    options: Mapping[str, str]
    overlay_key: str


@dataclass(frozen=True, slots=True)
class SwitchPlan:
    """The local switch as it should be.

    `local_vtep` is this host's VTEP address (IPv4 or IPv6), `udp_port` the VXLAN port,
    `replication_udp_port` that of the request port; None means that there is no such port, unless
    `keep_requests` says that one which is there stays.
    `datapath_id` a number of 64 bits, not 0. `controller` is an OVSDB target such as
    ``unix:ovs-lwt.br-lwt.01234567``, a socket in the switch's own run directory; None means that
    the bridge has no controller of ours, and "" that it keeps what it has. `agent` says in words
    whose the bridge is. `table_names` are (OpenFlow table number, name). `datapath_type` "auto"
    takes the kernel's datapath where the openvswitch module is there, else the userspace one; a
    bridge that exists keeps its own.

    Raises `Refused` for names, addresses and numbers that no switch could have.
    """

    local_vtep: str
    udp_port: int
    datapath_id: int
    controller: str | None = None
    table_names: tuple[tuple[int, str], ...] = ()
    bridge: str = DEFAULT_BRIDGE
    tunnel_port: str = DEFAULT_TUNNEL_PORT
    datapath_type: Literal["auto", "system", "netdev"] = "auto"
    replication_udp_port: int | None = None
    request_port: str = DEFAULT_REQUEST_PORT
    keep_requests: bool = False
    agent: str = ""

    def __post_init__(self) -> None:
        named = {"bridge": self.bridge, "tunnel port": self.tunnel_port}
        named["request port"] = self.request_port
        for what, name in named.items():
            check_port_name(what, name)
        if self.bridge == self.tunnel_port:
            raise Refused(f"the bridge and its tunnel port are both called '{self.bridge}'")
        if self.request_port in (self.bridge, self.tunnel_port):
            raise Refused(
                f"'{self.request_port}' is the name of the port that requests to replicators come"
                " by: call the bridge, or its tunnel port, another name"
            )
        try:
            ip_address(self.local_vtep)
        except ValueError:
            raise Refused(f"'{self.local_vtep}' is not an IPv4 or IPv6 VTEP address") from None
        for tunnel in self.tunnels:
            if not 0 < tunnel.udp_port < 1 << 16:
                raise Refused(f"UDP port {tunnel.udp_port} is not within 1..65535")
        if self.replication_udp_port == self.udp_port:
            raise Refused(f"UDP port {self.udp_port} cannot be both the tunnel's and the requests'")
        if not 0 < self.datapath_id < 1 << 64:
            raise Refused(f"datapath id {self.datapath_id:#x} is not within 1..2^64-1")

    @property
    def datapath_id_text(self) -> str:
        """The datapath id as OVSDB writes it: 16 hex digits."""
        return f"{self.datapath_id:016x}"

    @property
    def tunnels(self) -> tuple[TunnelPlan, ...]:
        """The VXLAN ports that the bridge has."""
        shared = self._tunnel(self.tunnel_port, self.udp_port, "underlay.udp_port")
        if self.replication_udp_port is None:
            return (shared,)
        key = "underlay.replication_udp_port"
        return shared, self._tunnel(self.request_port, self.replication_udp_port, key)

    @property
    def absent(self) -> tuple[str, ...]:
        """The names of VXLAN ports that it does not have."""
        kept = self.keep_requests or self.replication_udp_port is not None
        return () if kept else (self.request_port,)

    def _tunnel(self, name: str, udp_port: int, overlay_key: str) -> TunnelPlan:
        return TunnelPlan(name, udp_port, self._options(udp_port), overlay_key)

    def _options(self, udp_port: int) -> dict[str, str]:
        """A VXLAN port's options: VNI and tunnel destination come from the flows."""
        options = {
            "key": "flow",
            "remote_ip": "flow",
            "local_ip": str(ip_address(self.local_vtep)),
            "dst_port": str(udp_port),
        }
        if ip_address(self.local_vtep).version == 6:
            # A receiver drops UDP over IPv6 without a checksum unless told otherwise (RFC 6935);
            # over IPv4 whatever the port already says stays, the default being none (RFC 7348).
            options["csum"] = "true"
        return options


@dataclass(frozen=True, slots=True)
class LocalPort:
    """A port of the bridge that the datapath knows (`ofport` > 0); none of its VXLAN ports.

    `claim` is the endpoint it says it is (``TENANT/NAME``), `iface_id` and `attached_mac` are what
    its ``external_ids`` of these names say, as they stand, `marking` is who sets the tenant's mark
    on what it receives ("tc", "nft" or "flow"; None: nobody has said), `error` what its
    ``external_ids:ovs-lwt-error`` says; `up` is False while its link is down. `device` is the
    device of the switch's machine that it is, by index and MAC: None where that is not known yet,
    and where there is none, or it is the guest's own (an internal port, a tap that Open vSwitch
    made).
    """

    name: str
    ofport: int
    claim: str | None = None
    marking: str | None = None
    error: str | None = None
    up: bool = True
    iface_id: str | None = None
    attached_mac: str | None = None
    device: tuple[int, str] | None = field(default=None, compare=False)

    @property
    def marked(self) -> bool:
        """Whether the kernel marks what the guest sends."""
        return self.marking in KERNEL_MARKINGS


def socket_of(remote: str) -> Path | None:
    """Return the socket that `remote` names, which is in OVS's run directory unless it says where.

    None if it is none of this machine's (``tcp:``, ``ssl:``).
    """
    kind, _, path = remote.partition(":")
    return RUN_DIRECTORY / path if kind == "unix" else None


def run_directory(remote: str) -> Path | None:
    """Return the run directory of the switch whose OVSDB is at `remote`: where its socket lies.

    None if it is not on this machine, or not known (``tcp:``, ``ssl:``).
    """
    socket = socket_of(remote)
    return None if socket is None else socket.parent


def check_remote(remote: str) -> None:
    """Raise `Refused` if `remote` cannot be where an OVSDB listens, whether or not one does."""
    mend = f"write it like {DEFAULT_OVSDB}, tcp:127.0.0.1:6640 or ssl:192.0.2.11:6640"
    kind, _, place = remote.partition(":")
    if kind == "unix" and place:
        refuse_other(RUN_DIRECTORY / place, "the database's socket", "name another with --ovsdb")
    elif kind not in ("tcp", "ssl") or _SERVER.fullmatch(place) is None:
        raise Refused(f"'{remote}' is not an OVSDB address: {mend}")
    elif not 0 < int(place.rpartition(":")[2]) < 1 << 16:
        raise Refused(f"'{remote}' has no port from 1 to 65535: {mend}")


def check_port_name(what: str, name: str) -> None:
    """Raise `Refused` if `name` cannot name a network device; `what` says whose name it is."""
    unfit = not 0 < len(os.fsencode(name)) <= _NAME_LIMIT or name in (".", "..")
    if unfit or not name.isprintable() or any(character in " /" for character in name):
        raise Refused(
            f"'{name}' cannot name a {what}: 1 to {_NAME_LIMIT} visible characters, no '/', no"
            " spaces"
        )
