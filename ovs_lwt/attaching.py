"""`ovs-lwt attach` and `detach`: which host this is, and whether a switch forwards on it."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np

from ovs_lwt import veth
from ovs_lwt.here import host_here, kernel_tunnel_address
from ovs_lwt.mistakes import Refused
from ovs_lwt.model import Plane
from ovs_lwt.names import tenant_and_name
from ovs_lwt.topology import Topology
from ovs_lwt.veth import Marking, plan_attach
from ovs_lwt.veth.plan import refuse_elsewhere
from ovs_lwt.vswitch.switch import LocalSwitch


@dataclass(frozen=True, slots=True)
class Place:
    """Where a guest is: its host's OVSDB and bridge; host: the host's name, None to find it out."""

    ovsdb: str
    bridge: str
    host: str | None = None


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the user may choose of an attachment: see `ovs_lwt.veth.plan.AttachPlan`."""

    interface: str = "eth0"
    marking: Marking = "auto"
    port: str | None = None


def attach(topology: Topology, identity: str, netns: str, place: Place, wishes: Wishes) -> str:
    """Attach a guest on this machine; return what has been done. Raises Refused."""
    index = topology.endpoint_index(identity)
    plane = topology.vteps.plane[int(topology.taken(np.array([index])).vtep[0])]
    address = kernel_tunnel_address()
    # Before a database is asked that only the endpoint's own host may have.
    here = place.host or (host_here(topology, address) if address else None)
    if here is not None:
        refuse_elsewhere(topology, identity, here)
    if plane == "ovs":
        with LocalSwitch(place.ovsdb, place.bridge) as switch:
            address = address or switch.tunnel_address()
            return _attach(topology, identity, netns, place, wishes, address, switch)
    return _attach(topology, identity, netns, place, wishes, address, None)


def _attach(
    topology: Topology,
    identity: str,
    netns: str,
    place: Place,
    wishes: Wishes,
    address: str | None,
    switch: LocalSwitch | None,
) -> str:
    here = place.host or host_here(topology, address)
    plan = plan_attach(
        topology,
        identity,
        netns,
        interface=wishes.interface,
        marking=wishes.marking,
        port=wishes.port,
        host=here,
        taken={place.bridge},
    )
    attached = veth.attach(plan, switch)
    if here is None:
        print(
            "ovs-lwt: nothing here says which host of the overlay this is; --host does",
            file=sys.stderr,
        )
    return (
        f"{identity}: {plan.interface} in {netns}, port {attached.port} on plane {plan.plane},"
        f" marked by {attached.marking}, MTU {plan.mtu}"
    )


def detach(identity: str, place: Place, plane: Plane | None) -> str:
    """Detach a guest on this machine; return what has been done.

    plane: what forwards here; None: a switch, unless this host's own devices say otherwise

    Raises Refused, with nothing removed, if a switch forwards here and its OVSDB does not answer:
    the port would stay in it.
    """
    tenant, name = tenant_and_name(identity)
    gone = _detach(identity, tenant, name, place, plane)
    return f"{identity}: {'detached' if gone else 'was not attached'}"


def _detach(identity: str, tenant: str, name: str, place: Place, plane: Plane | None) -> bool:
    if plane in (None, "ovs"):
        try:
            switch = LocalSwitch(place.ovsdb, place.bridge)
        except Refused as away:
            # Planes bridge and route have a VXLAN device of that name; a switch has a port.
            if plane == "ovs" or kernel_tunnel_address() is None:
                raise type(away)(
                    f"{identity} is not detached, since its port would stay in the switch: {away}"
                    " (where no switch forwards, say --plane bridge or --plane route)"
                ) from away
        else:
            with switch:
                return veth.detach(tenant, name, switch)
    return veth.detach(tenant, name, None)
