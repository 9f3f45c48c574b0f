"""What a lab is made of and how it is, as ``lab status --json`` prints it."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ovs_lwt.lab import controllers, namespaces
from ovs_lwt.lab.kernel.maker import How, we_are_in
from ovs_lwt.lab.plan import (
    BRIDGE,
    GUEST_INTERFACE,
    TUNNEL_PORT,
    UNDERLAY_BRIDGE,
    Datapath,
    GuestPlan,
    HostPlan,
    LabPlan,
)
from ovs_lwt.model import Plane


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
    """A host's controller process: `pid` is None if it does not run, `state` if it is silent.

    `installed` counts by kind: flows and groups, or entries of the kernel's tables.
    """

    pid: int | None
    state: str | None
    installed: Mapping[str, int]
    log: str
    control: str


@dataclass(frozen=True, slots=True)
class HostStatus:
    """A VTEP of the overlay: for an external one, `namespace` and what lives in it are None.

    `datapath`, and what speaks to a switch, are None where there is none. `prefix` is the length of
    the underlay network that `addresses` are in; `uplink` is, on the underlay's bridge, the end of
    the host's cable (for an external one, a name that is free).
    """

    external: bool
    plane: Plane
    datapath: Datapath | None
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
    """A guest: `interface` is its end of the veth, `port` its host's.

    `host` is where its port is now, as that host's controller says; while none says so, where the
    lab has put it, and `port` is None if that host has a controller which knows nothing of it.
    `marking` is who sets the tenant's mark: tc, nft or flow; None while its host does not say. `up`
    is whether its interface is there and up.
    """

    namespace: str
    host: str
    interface: str
    port: str | None
    mac: str
    addresses: list[str]
    marking: str | None
    up: bool


@dataclass(frozen=True, slots=True)
class KernelStatus:
    """The kernel that the lab is on: this machine's, or that of a `machine` of the lab's own."""

    release: str
    machine: How | None


@dataclass(frozen=True, slots=True)
class LabStatus:
    """A whole lab, as it is now.

    `state` is "up" if every namespace is there, every guest up with a port on a host, and every
    controller in sync.
    """

    name: str
    kernel: KernelStatus
    overlay: str
    directory: str
    state: Literal["up", "damaged"]
    controllers: str
    underlay: UnderlayStatus
    hosts: dict[str, HostStatus]
    endpoints: dict[str, EndpointStatus]


def lab_status(plan: LabPlan) -> LabStatus:
    """Look at the lab of `plan` and return how it is."""
    said = {host.name: controllers.status(host) for host in plan.own_hosts}
    hosts = {host.name: _host(host, said.get(host.name)) for host in plan.hosts}
    endpoints = {guest.id: _endpoint(guest, said) for guest in plan.guests}
    well = (
        all(namespaces.exists(namespace) for namespace in plan.namespaces)
        and all(guest.up and guest.port is not None for guest in endpoints.values())
        and all(
            host.controller is None or host.controller.state == "in-sync" for host in hosts.values()
        )
    )
    return LabStatus(
        name=plan.name,
        kernel=KernelStatus(platform.release(), we_are_in()),
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


def _host(host: HostPlan, about: controllers.HostStatus | None) -> HostStatus:
    addresses = [str(host.address)]
    if host.external:
        return HostStatus(
            external=True,
            plane=host.plane,
            datapath=None,
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
    switch = host.plane == "ovs"
    return HostStatus(
        external=False,
        plane=host.plane,
        datapath=host.datapath,
        namespace=host.namespace,
        addresses=addresses,
        prefix=host.network.prefixlen,
        uplink=host.uplink,
        bridge=None if host.plane == "route" else BRIDGE,
        tunnel_port=TUNNEL_PORT,
        ovs_rundir=str(host.rundir) if switch else None,
        ovsdb=host.ovsdb if switch else None,
        controller=ControllerStatus(
            pid=controllers.running(host),
            state=about.state if about else None,
            installed=about.installed if about else {},
            log=str(host.log),
            control=str(host.control),
        ),
    )


def _endpoint(
    guest: GuestPlan, said: Mapping[str, controllers.HostStatus | None]
) -> EndpointStatus:
    # A guest may have moved since the lab came up.
    host = next((name for name, about in said.items() if about and guest.id in about.ports), None)
    about = said[host or guest.host]
    port = guest.port if about is None else about.ports.get(guest.id)
    return EndpointStatus(
        namespace=guest.namespace,
        host=host or guest.host,
        interface=GUEST_INTERFACE,
        port=port,
        mac=guest.mac,
        addresses=[str(address) for address in guest.addresses],
        marking=about.marking.get(port) if about is not None and port is not None else None,
        up=namespaces.has_up(guest.namespace, GUEST_INTERFACE),
    )
