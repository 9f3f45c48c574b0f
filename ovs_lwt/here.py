"""Which host of the overlay this machine is, as far as it can be told without its agent."""

from __future__ import annotations

import socket
from collections.abc import Collection
from ipaddress import ip_address
from pathlib import Path

from ovs_lwt.mistakes import Refused, listing, suggestion
from ovs_lwt.sources.overlay_file import OverlayFile, planes_in
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
    return _called(machine or socket.gethostname(), vteps.index)


def this_host(names: Collection[str]) -> str:
    """Return which of an overlay's hosts bears this machine's name, whole or up to the first dot.

    Raises Refused if none does.
    """
    whole = socket.gethostname()
    found = _called(whole, names)
    if found is None:
        raise Refused(
            f"the overlay has no host '{whole}', which is this machine's name"
            f"{suggestion(whole, names)}: say --host; it has: {listing(names)}"
        )
    return found


def this_host_in(overlay: Path) -> str:
    """Return the same by the overlay's file, of which only the hosts are looked at if it is sound.

    Raises Refused, and OverlayInvalid.
    """
    return this_host(planes_in(overlay) or OverlayFile(overlay).read().vteps.name)


def _called(machine: str, names: Collection[str]) -> str | None:
    return next((name for name in (machine, machine.partition(".")[0]) if name in names), None)


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
