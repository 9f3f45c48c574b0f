"""Which host of the overlay this machine is, as far as it can be told without its agent."""

from __future__ import annotations

import socket
from ipaddress import ip_address

from ovs_lwt.topology import Topology
from ovs_lwt.veth.netlink import inside, link_named
from ovs_lwt.vswitch.plan import DEFAULT_TUNNEL_PORT


def host_here(topology: Topology, tunnel_address: str | None, machine: str = "") -> str | None:
    """Return the name of the host that this machine is, None where nothing says so.

    tunnel_address: what its shared VXLAN port has as its own, which says it best; None: it has none
    machine: the machine's name; "": as `hostname` prints it, with its domain or without
    """
    vteps = topology.vteps
    if tunnel_address is not None:
        here = _normal(tunnel_address)
        for index, name in enumerate(vteps.name):
            if vteps.address(index) == here:
                return name
    whole = machine or socket.gethostname()
    return next((name for name in (whole, whole.partition(".")[0]) if name in vteps.index), None)


def kernel_tunnel_address(netns: str | None = None) -> str | None:
    """Return the address of the VXLAN device that the agent makes on planes bridge and route."""
    with inside(netns) as ipr:
        link = link_named(ipr, DEFAULT_TUNNEL_PORT)
    if link is None or link.get(("linkinfo", "kind")) != "vxlan":
        return None
    found = (link.get(("linkinfo", "data", f"vxlan_{key}")) for key in ("local", "local6"))
    return next((str(address) for address in found if address), None)


def _normal(address: str) -> str:
    try:
        return str(ip_address(address))
    except ValueError:  # "flow": one port for several addresses
        return address
