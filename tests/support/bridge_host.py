"""A bare host of the bridge plane in a network namespace: its devices, and a hand on its tables."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ovs_lwt.backends.bridge.plane import BridgePlane
from ovs_lwt.backends.bridge.vlans import VlanStore
from ovs_lwt.backends.netlink import export
from ovs_lwt.backends.netlink.links import Links
from ovs_lwt.backends.netlink.program import Program, stamp
from ovs_lwt.backends.netlink.setup import Setup
from ovs_lwt.backends.netlink.templates import Devices
from ovs_lwt.backends.netlink.transaction import Transaction, between
from ovs_lwt.backends.netlink.transport import Kernel
from ovs_lwt.names import port_name
from ovs_lwt.topology import Topology
from ovs_lwt.veth.netlink import inside
from ovs_lwt.view import LocalPorts, View
from tests.support.ovs import in_netns, network_namespace


@dataclass
class BridgeHost:
    """One host, whose guests are veths with nobody behind them.

    names: the guests' ports that are there, in the view's order
    """

    netns: str
    kernel: Kernel
    plane: BridgePlane
    topology: Topology
    host: int
    names: list[str]
    _devices: Devices | None = None

    @property
    def view(self) -> View:
        """The host with its guests' ports."""
        identities = {
            port_name(*identity.split("/")): index
            for index in range(len(self.topology.endpoints))
            for identity in [self.topology.endpoint_id(index)]
        }
        endpoint = np.array([identities[name] for name in self.names], np.uint32)
        number = np.arange(1, len(endpoint) + 1, dtype=np.uint32)
        ports = LocalPorts(endpoint, number, *[np.ones(len(endpoint), np.bool_)] * 2)
        return View(self.topology, self.host, 0, ports)

    @property
    def setup(self) -> Setup:
        return self.plane.setup(self.view, self.names)

    def devices(self) -> Devices:
        """The devices as they are, made where they were missing."""
        setup = self.setup
        if self._devices is None or self._devices.names != setup.devices:
            there = Links(self.kernel, self.netns)
            found = there.apply(setup, there.there())
            self._devices = Devices.of({name: found[name].index for name in setup.devices})
        return self._devices

    def program(self) -> Program:
        """What the host should hold."""
        return stamp(self.plane.rows(self.view, self.setup), self.devices())

    def due(self) -> Transaction:
        """What leads there from what the kernel lists."""
        program = self.program()
        return between(self.plane.read(self.kernel, program.devices), program)

    def bring(self) -> Transaction:
        """Do what is due; the kernel must not complain."""
        transaction = self.due()
        outcome = self.kernel.run(transaction)
        assert [str(failure) for failure in outcome.failures] == []
        assert outcome.failed == 0
        return transaction

    def load(self, folder: Path) -> None:
        """Make the same by hand: what is exported, through iproute2."""
        rows, devices = self.plane.rows(self.view, self.setup), self.devices()
        batches = {tool: folder / tool for tool in ("bridge", "ip", "tc")}
        for tool, batch in batches.items():
            with batch.open("w") as out:
                export.write(tool, rows, devices, out)
        self.do(*(f"{tool} -batch {batch}" for tool, batch in batches.items()))

    def do(self, *commands: str) -> str:
        """Run commands as an administrator of the host would; return what they print."""
        # By one shell: stepping into the namespace takes long in user-mode Linux.
        return in_netns(self.netns, "sh", "-ec", "\n".join(commands))


def said(transaction: Transaction) -> list[str]:
    """A transaction in the words of `ip` and `bridge`."""
    return [step.describe(row) for step in transaction.steps for row in range(len(step.rows))]


@contextlib.contextmanager
def bridge_host(
    netns: str, topology: Topology, host: str, vlans: VlanStore | None = None
) -> Iterator[BridgeHost]:
    """A host with a port for each of its guests; all of it is gone afterwards."""
    index = topology.vtep_index(host)
    names = [
        port_name(*topology.endpoint_id(endpoint).split("/"))
        for endpoint in np.flatnonzero(topology.endpoints.vtep == index).tolist()
    ]
    with contextlib.ExitStack() as stack:
        stack.enter_context(network_namespace(netns))
        ipr: Any = stack.enter_context(inside(netns))
        for number, name in enumerate(names):
            ipr.link("add", ifname=name, kind="veth", peer=f"guest{number}")
            for device in (name, f"guest{number}"):
                ipr.link("set", index=ipr.link_lookup(ifname=device)[0], state="up")
        kernel = stack.enter_context(Kernel(netns))
        plane = BridgePlane(vlans or VlanStore(None))
        yield BridgeHost(netns, kernel, plane, topology, index, names)
