"""A small overlay that everybody can keep in mind, and views of it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from ipaddress import ip_network
from typing import Any

import numpy as np

from ovs_lwt.names import port_name
from ovs_lwt.ports import resolve
from ovs_lwt.sources.overlay_file import from_dict
from ovs_lwt.topology import Topology
from ovs_lwt.view import View
from ovs_lwt.vswitch import LocalPort

TUNNEL, REQUESTS = 100, 101

Overlay = dict[str, Any]

# Two tenants with the same addresses over three hosts: blue is on all of them, red on two.
TWO_TENANTS: Overlay = {
    "vteps": {
        "host1": {"address": "192.0.2.11"},
        "host2": {"address": "192.0.2.12"},
        "host3": {"address": "192.0.2.13"},
    },
    "tenants": {
        "blue": {
            "vni": 1010,
            "mark": 10,
            "endpoints": {
                "web1": {
                    "host": "host1",
                    "mac": "02:00:00:00:00:01",
                    "ip": ["10.0.0.11/24", "fd00::11/64"],
                },
                "web2": {"host": "host2", "mac": "02:00:00:00:00:02", "ip": ["10.0.0.12/24"]},
                "web3": {"host": "host3", "mac": "02:00:00:00:00:03", "ip": ["10.0.0.13/24"]},
            },
        },
        "red": {
            "vni": 2020,
            "unknown_unicast": "drop",
            "endpoints": {
                "web1": {"host": "host1", "mac": "02:00:00:00:00:01", "ip": ["10.0.0.11/24"]},
                "web2": {"host": "host2", "mac": "02:00:00:00:00:02", "ip": ["10.0.0.12/24"]},
            },
        },
    },
}


def two_tenants() -> Overlay:
    """A copy of TWO_TENANTS to change."""
    return copy.deepcopy(TWO_TENANTS)


def endpoint(overlay: Overlay, identity: str) -> dict[str, Any]:
    """The endpoint TENANT/NAME of an overlay, to change it."""
    tenant, name = identity.split("/")
    found: dict[str, Any] = overlay["tenants"][tenant]["endpoints"][name]
    return found


def spread(hosts: int, replicators: int = 0, *, six: bool = False) -> Overlay:
    """One tenant, blue, with a guest on each of so many hosts; the last of them are replicators."""
    names = [f"host{number:04}" for number in range(1, hosts + 1)]
    network = ip_network("2001:db8::/64" if six else "10.128.0.0/12")
    vteps: Overlay = {
        name: {"address": str(network[number])} for number, name in enumerate(names, 1)
    }
    for name in names[hosts - replicators :]:
        vteps[name]["replicator"] = True
    guests = {
        f"web{number}": {"host": name, "mac": f"02:00:00:00:{number >> 8:02x}:{number & 255:02x}"}
        for number, name in enumerate(names, 1)
    }
    return {"vteps": vteps, "tenants": {"blue": {"vni": 1010, "endpoints": guests}}}


def crowded(guests: int) -> Overlay:
    """One tenant, blue, with so many guests on the first of two hosts."""
    overlay = spread(2)
    for number in range(2, guests + 1):
        mac = f"02:00:00:01:{number >> 8:02x}:{number & 255:02x}"
        overlay["tenants"]["blue"]["endpoints"][f"near{number}"] = {"host": "host0001", "mac": mac}
    return overlay


def claims(topology: Topology, host: str) -> list[LocalPort]:
    """A port for every endpoint of a host, numbered from 1."""
    local = np.flatnonzero(topology.endpoints.vtep == topology.vtep_index(host))
    names = [topology.endpoint_id(int(index)) for index in local]
    return [
        LocalPort(port_name(*name.split("/")), number, name) for number, name in enumerate(names, 1)
    ]


def view(
    overlay: Overlay | None = None,
    host: str = "host1",
    ports: Sequence[LocalPort] | None = None,
    *,
    nd_by_flow: bool = True,
    userspace: bool = True,
    offers: bool | None = None,
) -> View:
    """The view of a host, by default with every guest attached.

    offers: it has a request port; by default where the overlay has a replicator
    """
    topology = from_dict(two_tenants() if overlay is None else overlay)
    index = topology.vtep_index(host)
    found = claims(topology, host) if ports is None else ports
    ports_found = resolve(topology, index, found)[0]
    offered = topology.vteps.replicated if offers is None else offers
    requests = REQUESTS if offered else None
    return View(topology, index, TUNNEL, ports_found, nd_by_flow, userspace, requests)
