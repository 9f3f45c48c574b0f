"""What a lab is made of and how it is, as ``lab status --json`` prints it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ovs_lwt.lab import controllers, namespaces
from ovs_lwt.lab.plan import (
    BRIDGE,
    GUEST_INTERFACE,
    TUNNEL_PORT,
    UNDERLAY_BRIDGE,
    GuestPlan,
    HostPlan,
    LabPlan,
)


@dataclass(frozen=True, slots=True)
class UnderlayStatus:
    """The plain Linux bridge that stands for the network between the hosts."""

    namespace: str
    bridge: str
    mtu: int
    networks: list[str]
    up: bool


@dataclass(frozen=True, slots=True)
class ControllerStatus:
    """A host's controller process: `pid` is None if it does not run, `state` if it is silent."""

    pid: int | None
    state: str | None
    flows: int
    groups: int
    log: str
    control: str


@dataclass(frozen=True, slots=True)
class HostStatus:
    """A VTEP of the overlay: for an external one, `namespace` and what lives in it are None.

    `prefix` is the length of the underlay network that `addresses` are in; `uplink` is, on the
    underlay's bridge, the end of the host's cable (for an external one, a name that is free).
    """

    external: bool
    namespace: str | None
    addresses: list[str]
    prefix: int
    uplink: str
    bridge: str | None
    tunnel_port: str | None
    ovs_rundir: str | None
    ovsdb: str | None
    controller: ControllerStatus | None


@dataclass(frozen=True, slots=True)
class EndpointStatus:
    """A guest: `interface` is its end of the veth, `port` the switch's."""

    namespace: str
    host: str
    interface: str
    port: str
    mac: str
    addresses: list[str]
    up: bool


@dataclass(frozen=True, slots=True)
class LabStatus:
    """A whole lab; `state` is "up" if every namespace is there and every controller in sync."""

    name: str
    overlay: str
    directory: str
    state: Literal["up", "damaged"]
    controllers: str
    underlay: UnderlayStatus
    hosts: dict[str, HostStatus]
    endpoints: dict[str, EndpointStatus]


def lab_status(plan: LabPlan) -> LabStatus:
    """Look at the lab of `plan` and return how it is."""
    hosts = {host.name: _host(host) for host in plan.hosts}
    endpoints = {guest.id: _endpoint(guest) for guest in plan.guests}
    well = all(namespaces.exists(namespace) for namespace in plan.namespaces) and all(
        host.controller is None or host.controller.state == "in-sync" for host in hosts.values()
    )
    return LabStatus(
        name=plan.name,
        overlay=str(plan.overlay),
        directory=str(plan.directory),
        state="up" if well else "damaged",
        controllers=plan.controllers,
        underlay=UnderlayStatus(
            namespace=plan.underlay,
            bridge=UNDERLAY_BRIDGE,
            mtu=plan.mtu,
            networks=sorted({str(host.network) for host in plan.hosts}),
            up=namespaces.exists(plan.underlay),
        ),
        hosts=hosts,
        endpoints=endpoints,
    )


def _host(host: HostPlan) -> HostStatus:
    addresses = [str(host.address)]
    if host.external:
        return HostStatus(
            external=True,
            namespace=None,
            addresses=addresses,
            prefix=host.network.prefixlen,
            uplink=host.uplink,
            bridge=None,
            tunnel_port=None,
            ovs_rundir=None,
            ovsdb=None,
            controller=None,
        )
    about = controllers.status(host)
    return HostStatus(
        external=False,
        namespace=host.namespace,
        addresses=addresses,
        prefix=host.network.prefixlen,
        uplink=host.uplink,
        bridge=BRIDGE,
        tunnel_port=TUNNEL_PORT,
        ovs_rundir=str(host.rundir),
        ovsdb=host.ovsdb,
        controller=ControllerStatus(
            pid=controllers.running(host),
            state=about.state if about else None,
            flows=about.flows if about else 0,
            groups=about.groups if about else 0,
            log=str(host.log),
            control=str(host.control),
        ),
    )


def _endpoint(guest: GuestPlan) -> EndpointStatus:
    return EndpointStatus(
        namespace=guest.namespace,
        host=guest.host,
        interface=GUEST_INTERFACE,
        port=guest.port,
        mac=guest.mac,
        addresses=[str(address) for address in guest.addresses],
        up=namespaces.exists(guest.namespace),
    )
