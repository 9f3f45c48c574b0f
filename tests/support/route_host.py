"""A bare host of the route plane in a network namespace: its devices, and a hand on its tables."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from ovs_lwt.backends.netlink import export
from ovs_lwt.backends.netlink.links import Links
from ovs_lwt.backends.netlink.machine import ThisMachine
from ovs_lwt.backends.netlink.program import Program, stamp
from ovs_lwt.backends.netlink.setup import Setup
from ovs_lwt.backends.netlink.templates import Devices
from ovs_lwt.backends.netlink.transaction import Transaction, between
from ovs_lwt.backends.netlink.transport import Kernel
from ovs_lwt.backends.route.plane import RoutePlane
from ovs_lwt.names import port_name
from ovs_lwt.topology import Topology
from ovs_lwt.veth.netlink import inside
from ovs_lwt.view import LocalPorts, View
from tests.support.ovs import in_netns, network_namespace

UPLINK: Final = "u0"


@dataclass(frozen=True, slots=True)
class FakeMachine:
    """A machine that can do what a test says, with the whole underlay on one link."""

    ipv6: bool = True
    marks_tunnels: bool = True
    labels: bool = True
    lacks_for_labels: tuple[str, ...] = ()
    routed: frozenset[str] = frozenset()

    def towards(self, address: str) -> str | None:
        return None if address in self.routed else UPLINK

    def forget(self) -> None:
        pass


@dataclass
class RouteHost:
    """One host, whose guests are veths with nobody behind them.

    names: the guests' ports that are there, in the view's order
    """

    netns: str
    kernel: Kernel
    plane: RoutePlane
    topology: Topology
    host: int
    names: list[str]

    @property
    def view(self) -> View:
        """The host with its guests' ports."""
        return view_of(self.topology, self.host, self.names)

    @property
    def setup(self) -> Setup:
        return self.plane.setup(self.view, self.names)

    def devices(self) -> Devices:
        """The devices as they are, made where they were missing."""
        setup = self.setup
        links = Links(self.kernel, self.netns)
        found = links.apply(setup, links.there())
        return Devices.of({name: found[name].index for name in setup.devices})

    def program(self) -> Program:
        """What the host should hold."""
        return stamp(self.plane.rows(self.view, self.setup), self.devices())

    def due(self) -> Transaction:
        """What leads there from what the kernel lists."""
        program = self.program()
        return between(self.plane.read(self.kernel, program.devices), program)

    def bring(self) -> Transaction:
        """Do what is due; the kernel must not complain."""
        self.plane.check(self.view)
        transaction = self.due()
        outcome = self.kernel.run(transaction)
        assert [str(failure) for failure in outcome.failures] == []
        assert outcome.failed == 0
        return transaction

    def load(self, folder: Path) -> None:
        """Make the same by hand: what is exported, through iproute2."""
        rows, devices = self.plane.rows(self.view, self.setup), self.devices()
        for tool in export.TOOLS:
            batch = folder / tool.replace(" ", "")
            with batch.open("w") as out:
                export.write(tool, rows, devices, out)
            if batch.stat().st_size:
                self.do(f"{tool} -batch {batch}")

    def do(self, *commands: str) -> str:
        """Run commands as an administrator of the host would; return what they print."""
        # By one shell: stepping into the namespace takes long in user-mode Linux.
        return in_netns(self.netns, "sh", "-ec", "\n".join(commands))


def view_of(topology: Topology, host: int, names: list[str]) -> View:
    """A host's view with these ports, numbered from 1."""
    identities = {
        port_name(*topology.endpoint_id(index).split("/")): index
        for index in range(len(topology.endpoints))
    }
    endpoint = np.array([identities[name] for name in names], np.uint32)
    number = np.arange(1, len(endpoint) + 1, dtype=np.uint32)
    ports = LocalPorts(endpoint, number, *[np.ones(len(endpoint), np.bool_)] * 2)
    return View(topology, host, 0, ports)


def guests_of(topology: Topology, host: int) -> list[str]:
    """The ports of all guests of a host, in the view's order."""
    return [
        port_name(*topology.endpoint_id(endpoint).split("/"))
        for endpoint in np.flatnonzero(topology.endpoints.vtep == host).tolist()
    ]


def said(transaction: Transaction) -> list[str]:
    """A transaction in the words of iproute2."""
    return [step.describe(row) for step in transaction.steps for row in range(len(step.rows))]


@contextlib.contextmanager
def route_host(netns: str, topology: Topology, host: str) -> Iterator[RouteHost]:
    """A host with a port for each of its guests; all of it is gone afterwards."""
    index = topology.vtep_index(host)
    names = guests_of(topology, index)
    with contextlib.ExitStack() as stack:
        stack.enter_context(network_namespace(netns))
        ipr: Any = stack.enter_context(inside(netns))
        pairs = [(UPLINK, "u1"), *((name, f"guest{n}") for n, name in enumerate(names))]
        for name, peer in pairs:
            ipr.link("add", ifname=name, kind="veth", peer=peer)
            for device in (name, peer):
                ipr.link("set", index=ipr.link_lookup(ifname=device)[0], state="up")
        six = topology.vteps.family[index] == 6
        ipr.addr(
            "add",
            index=ipr.link_lookup(ifname=UPLINK)[0],
            address=topology.vteps.address(index),
            prefixlen=64 if six else 24,
        )
        kernel = stack.enter_context(Kernel(netns))
        plane = RoutePlane(ThisMachine(netns))
        yield RouteHost(netns, kernel, plane, topology, index, names)
