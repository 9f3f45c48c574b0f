"""From an overlay to the names and addresses of a lab: pure, nothing is made here."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_network,
)
from pathlib import Path
from typing import Literal

from ovs_lwt.mistakes import Refused, listing
from ovs_lwt.model import Plane
from ovs_lwt.names import PORT_NAME_LIMIT, endpoint_id
from ovs_lwt.residents import port_names
from ovs_lwt.topology import Topology

Address = IPv4Address | IPv6Address
Interface = IPv4Interface | IPv6Interface
Network = IPv4Network | IPv6Network
Controllers = Literal["each", "one"]
Framework = Literal["os-ken", "ryu"]
Datapath = Literal["netdev", "system"]

LABS = Path("/run/ovs-lwt/labs")
BRIDGE = "br-lwt"
TUNNEL_PORT = "vx-lwt"
UNDERLAY_BRIDGE = "underlay"
UPLINK = "u0"
GUEST_INTERFACE = "eth0"

# Locally administered; the low 24 bits count the hosts.
_UNDERLAY_MAC = 0x026C77000000
_LAB_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
# The files of a lab that are not a host's: a host's directory cannot be called like them.
RECORD = "lab.json"
CONTROLLER_FILES = ("controller.log", "controller.ctl", "controller.pid")
STATE = "state"


@dataclass(frozen=True, slots=True)
class HostPlan:
    """One VTEP of the overlay: a namespace of its own, and on plane ovs a switch in it.

    `datapath` is the switch's, None where there is no switch. `network` is the underlay as this
    host sees it: wide enough that every VTEP is on-link. `mac` is that of the interface with the
    VTEP's address; `uplink` is the underlay's end of the host's cable; `rundir` has the host's
    files, and is the OVS_RUNDIR; `labels` is whether MPLS carries one of its tenants.
    An external host has an address only: its namespace is empty.
    """

    name: str
    external: bool
    plane: Plane
    datapath: Datapath | None
    namespace: str
    address: Address
    network: Network
    mac: str
    uplink: str
    rundir: Path
    log: Path
    control: Path
    labels: bool = False

    @property
    def ovsdb(self) -> str:
        """The host's database, the way ``--db`` takes it."""
        return f"unix:{self.rundir / 'db.sock'}"

    @property
    def where(self) -> str:
        """Where a controller finds what forwards: the switch's database, or the namespace."""
        return self.ovsdb if self.plane == "ovs" else self.namespace


@dataclass(frozen=True, slots=True)
class GuestPlan:
    """One endpoint of the overlay: a namespace, whose cable to its host ends there at `port`.

    `routed` is whether its host carries it by routes: IP only, and no address is on-link.
    """

    tenant: str
    name: str
    host: str
    namespace: str
    port: str
    mac: str
    addresses: tuple[Interface, ...]
    routed: bool = False

    @property
    def id(self) -> str:
        """``TENANT/NAME``."""
        return endpoint_id(self.tenant, self.name)


@dataclass(frozen=True, slots=True)
class LabPlan:
    """Everything a lab will be made of.

    `plane` is the one that every host has been put on, None where the overlay says it for each.
    `python` is the interpreter that runs the controllers (its environment has the `framework`).
    """

    name: str
    overlay: Path
    directory: Path
    plane: Plane | None
    controllers: Controllers
    framework: Framework | None
    python: str
    mtu: int
    underlay: str
    hosts: tuple[HostPlan, ...]
    guests: tuple[GuestPlan, ...]

    @property
    def own_hosts(self) -> tuple[HostPlan, ...]:
        """The hosts that get a namespace: all but the external ones."""
        return tuple(host for host in self.hosts if not host.external)

    @property
    def namespaces(self) -> tuple[str, ...]:
        """Every namespace of the lab; guests first, the underlay last."""
        return (
            *(guest.namespace for guest in self.guests),
            *(host.namespace for host in self.own_hosts),
            self.underlay,
        )


def make_plan(
    topology: Topology,
    *,
    name: str,
    overlay: Path,
    plane: Plane | None = None,
    datapath: Datapath = "netdev",
    controllers: Controllers = "each",
    framework: Framework | None = None,
    python: str = sys.executable,
    labs: Path = LABS,
) -> LabPlan:
    """Return the lab called `name` for `topology`; raise `Refused` where none can be.

    `plane`, if given, is every host's, whatever the overlay says; `datapath` is that of the
    switches.
    """
    check_name(name)
    if plane is not None:
        topology = topology.on_plane(plane)
    vteps = topology.vteps
    if not len(vteps):
        raise Refused("the overlay has no hosts: give it at least one under 'vteps'")
    if bool(vteps.external.all()):
        raise Refused(
            "every host of the overlay is external, so there is nothing to bring up:"
            " leave 'external: true' away from at least one"
        )
    directory = labs / name
    addresses = [_vtep_address(topology, index) for index in range(len(vteps))]
    networks: dict[int, Network] = {
        version: underlay_network([a for a in addresses if a.version == version])
        for version in {address.version for address in addresses}
    }
    labelled = topology.tenants.label[topology.endpoints.tenant] != 0
    by_labels = set(topology.endpoints.vtep[labelled].tolist())
    namespaces = {f"{name}-underlay"}
    uplinks = {UNDERLAY_BRIDGE, "lo"}
    directories = {RECORD, STATE, *CONTROLLER_FILES}
    hosts = []
    for index, host in enumerate(vteps.name):
        rundir = directory / _unused(host, directories)
        hosts.append(
            HostPlan(
                name=host,
                external=bool(vteps.external[index]),
                plane=vteps.plane[index],
                datapath=datapath if vteps.plane[index] == "ovs" else None,
                namespace="" if vteps.external[index] else _unused(f"{name}-{host}", namespaces),
                address=addresses[index],
                network=networks[addresses[index].version],
                mac=_mac_text(_UNDERLAY_MAC + index),
                uplink=_unused(host, uplinks, PORT_NAME_LIMIT),
                rundir=rundir,
                log=(rundir if controllers == "each" else directory) / "controller.log",
                control=(rundir if controllers == "each" else directory) / "controller.ctl",
                labels=index in by_labels,
            )
        )
    guests = tuple(_guests(topology, name, namespaces))
    return LabPlan(
        name=name,
        overlay=overlay.absolute(),
        directory=directory,
        plane=plane,
        controllers=controllers,
        framework=framework,
        python=python,
        mtu=topology.underlay.mtu,
        underlay=f"{name}-underlay",
        hosts=tuple(hosts),
        guests=guests,
    )


def check_name(name: str) -> None:
    """Raise `Refused` unless `name` can name a lab (and so begin a namespace's name)."""
    if _LAB_NAME.fullmatch(name) is None:
        raise Refused(
            f"a lab cannot be called {name!r}: take 1 to 32 letters, digits, '.', '_' or '-',"
            " beginning with a letter or digit"
        )


def underlay_network(addresses: Iterable[Address]) -> Network:
    """Return the smallest network that holds all `addresses` (of one family) as hosts.

    OVS picks the source of a native tunnel from the addresses whose *network* holds the remote
    VTEP (ovs-router.c, get_src_addr) and finds none for a /32 with a default route. So every VTEP
    must be on-link, however far apart they are: 10.1.2.3 and 192.0.2.7 give 0.0.0.0/0. Never
    smaller than /24 or /64, so that there is room for a foreign VTEP or a controller.
    """
    known = set(addresses)
    low, high = min(known, key=int), max(known, key=int)
    common = low.max_prefixlen - (int(low) ^ int(high)).bit_length()
    for prefix in range(min(common, 24 if low.version == 4 else 64), -1, -1):
        network = ip_network(f"{low}/{prefix}", strict=False)
        if not known & {network.network_address, network.broadcast_address}:
            return network
    raise AssertionError("0.0.0.0/0 holds every unicast address as a host")


def _vtep_address(topology: Topology, index: int) -> Address:
    vteps = topology.vteps
    if vteps.family[index] == 4:
        return IPv4Address(int(vteps.ipv4[index]))
    return IPv6Address(vteps.ipv6[index].tobytes())


def _guests(topology: Topology, lab: str, namespaces: set[str]) -> Iterable[GuestPlan]:
    endpoints, vteps = topology.endpoints, topology.vteps
    addresses = _addresses(topology)
    ports = {
        vtep: port_names(topology, vtep) for vtep in range(len(vteps)) if not vteps.external[vtep]
    }
    for index in range(len(endpoints)):
        vtep = int(endpoints.vtep[index])
        if vteps.external[vtep]:
            continue
        tenant = topology.tenants.name[int(endpoints.tenant[index])]
        name = str(endpoints.name[index])
        yield GuestPlan(
            tenant=tenant,
            name=name,
            host=vteps.name[vtep],
            namespace=_unused(f"{lab}-{tenant}-{name}", namespaces),
            port=ports[vtep][endpoint_id(tenant, name)],
            mac=_mac_text(int(endpoints.mac[index])),
            addresses=tuple(addresses.get(index, ())),
            routed=vteps.plane[vtep] == "route",
        )


def _addresses(topology: Topology) -> dict[int, list[Interface]]:
    found: dict[int, list[Interface]] = {}
    four, six = topology.addresses4, topology.addresses6
    for row in range(len(four)):
        address = IPv4Interface((int(four.ip[row]), int(four.prefix[row])))
        found.setdefault(int(four.endpoint[row]), []).append(address)
    for row in range(len(six)):
        address6 = IPv6Interface((six.ip[row].tobytes(), int(six.prefix[row])))
        found.setdefault(int(six.endpoint[row]), []).append(address6)
    return found


def _mac_text(mac: int) -> str:
    return mac.to_bytes(6, "big").hex(":")


def _unused(wanted: str, taken: set[str], limit: int = 200) -> str:
    """Return `wanted`, or where it is taken or too long its head, ``~`` and a hash; take it."""
    name, salt = wanted, 0
    while name in taken or len(name) > limit:
        digest = blake2b(f"{wanted}\0{salt}".encode(), digest_size=2).hexdigest()
        name, salt = f"{wanted[: limit - 5]}~{digest}", salt + 1
    taken.add(name)
    return name


def guest_of(plan: LabPlan, endpoint: str) -> GuestPlan | None:
    """Return the guest called ``TENANT/NAME``, or None."""
    return next((guest for guest in plan.guests if guest.id == endpoint), None)


def host_of(plan: LabPlan, name: str) -> HostPlan | None:
    """Return the host called `name`, or None."""
    return next((host for host in plan.hosts if host.name == name), None)


def inhabitants(plan: LabPlan) -> str:
    """Return the names that ``exec`` knows, for a message."""
    names = [*(guest.id for guest in plan.guests), *(host.name for host in plan.own_hosts)]
    return listing(names, limit=24)
