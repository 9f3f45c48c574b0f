"""A host of a tenant that spans very many: one guest here, a router that takes all copies, and any
of the other hosts as a leaf that asks this one to replicate.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from ovs_lwt.backends.openflow import floods
from ovs_lwt.backends.openflow.session import Session, State
from ovs_lwt.view import View
from tests.support.mgmt import SwitchSocket
from tests.support.ovs import OvsHost
from tests.support.packets import (
    BROADCAST,
    REQUEST_PORT,
    VXLAN_PORT,
    Wire,
    encapsulated,
    ethernet,
    read_vxlan,
    token,
)

_PATIENCE = 3.0
ROUTER, ROUTERS_MAC = "192.0.2.2", "02:00:00:00:99:99"


def build(host: OvsHost, *, userspace: bool) -> None:
    """Give it bridge br0 with the guest behind g1 and the shared VXLAN port; u1 is the underlay."""
    for port, peer in (("u0", "u1"), ("g0", "g1")):
        host.run("ip", "link", "add", port, "type", "veth", "peer", "name", peer)
        for end in (port, peer):
            host.run("ip", "link", "set", end, "up")
    datapath, device = ("netdev", "br-phy") if userspace else ("system", "u0")
    if userspace:
        host.vsctl("add-br", "br-phy", "--", "set", "bridge", "br-phy", "datapath_type=netdev",
                   "--", "add-port", "br-phy", "u0")  # fmt: skip
        host.run("ip", "link", "set", "br-phy", "up")
    host.run("ip", "addr", "add", "10.128.0.1/32", "dev", device)
    host.run("ip", "addr", "add", "192.0.2.1/24", "dev", device)
    host.run("ip", "route", "add", "10.128.0.0/12", "via", ROUTER, "dev", device)
    host.vsctl("add-br", "br0", "--", "set", "bridge", "br0", f"datapath_type={datapath}",
               "fail_mode=secure", "--", "add-port", "br0", "g0", "--", "set", "interface",
               "g0", "ofport_request=1", "--", "add-port", "br0", "vx0", "--", "set",
               "interface", "vx0", "type=vxlan", "ofport_request=100", "options:key=flow",
               "options:remote_ip=flow", "options:local_ip=10.128.0.1", "--", "add-port", "br0",
               "vx1", "--", "set", "interface", "vx1", "type=vxlan", "ofport_request=101",
               "options:key=flow", "options:remote_ip=flow", "options:local_ip=10.128.0.1",
               f"options:dst_port={REQUEST_PORT}")  # fmt: skip
    if userspace:
        host.appctl("tnl/arp/set", "br-phy", ROUTER, ROUTERS_MAC)
    else:
        host.run("ip", "neigh", "add", ROUTER, "lladdr", ROUTERS_MAC, "dev", device)


@contextmanager
def listening(host: OvsHost) -> Iterator[tuple[Wire, Wire]]:
    """The guest's end of its cable, and the underlay's."""
    both = Wire(str(host.netns), "g1"), Wire(str(host.netns), "u1")
    try:
        yield both
    finally:
        for wire in both:
            wire.close()


def load(host: OvsHost, of: View) -> None:
    """Give its bridge the flows and groups of a view."""
    with SwitchSocket(host.rundir / "br0.mgmt") as switch:
        session = Session()
        session.desire(of, 0)
        switch.drive(session)
        assert session.state is State.IN_SYNC, session.events


Copies = Counter[tuple[str, int, int]]
"""How many copies went where: (VTEP, UDP port, VNI)."""


def everybody(of: View, but: int = 0) -> Copies:
    """One copy for every other VTEP, but that of a leaf."""
    vteps = of.topology.vteps
    return Counter(
        {
            (vteps.address(index), VXLAN_PORT, 1010): 1
            for index in range(1, len(vteps))
            if index != but
        }
    )


def one_of_each_share(of: View) -> list[int]:
    """Leaves that stand in different shares of the list, by what table peer says of them."""
    (row,) = (rows for rows in floods.shared_rows(of) if rows.entry == "peer.leaf")
    _, first = np.unique(row.columns["leaf_share"], return_index=True)
    return [int(vtep) for vtep in of.peers[first]]


def copies(wires: tuple[Wire, Wire], of: View) -> Copies:
    """Where the copies of a broadcast of the guest go."""
    guest, underlay = wires
    mac = int(of.topology.endpoints.mac[0]).to_bytes(6, "big").hex(":")
    return _copies(underlay, lambda mark: guest.send(ethernet(mac, BROADCAST, mark)))


def copies_asked_for(
    host: OvsHost, wires: tuple[Wire, Wire], of: View, leaf: int, *, vni: int = 1010
) -> tuple[Copies, int]:
    """Where the copies of a broadcast go that the leaf (index of its VTEP) asks for, and how often
    the guest here hears it.
    """
    guest, underlay = wires
    device = "br-phy" if of.userspace else "u0"
    here = host.run("cat", f"/sys/class/net/{device}/address").strip()
    mac = int(of.topology.endpoints.mac[leaf]).to_bytes(6, "big").hex(":")
    ends = (ROUTERS_MAC, of.topology.vteps.address(leaf)), (here, "10.128.0.1")
    said: list[bytes] = []

    def ask(mark: bytes) -> None:
        said.append(mark)
        frame = ethernet(mac, BROADCAST, mark)
        underlay.send(encapsulated(*ends, REQUEST_PORT, vni, frame))

    found = _copies(underlay, ask)
    return found, sum(said[-1] in frame for frame in guest.heard())


def _copies(underlay: Wire, say: Callable[[bytes], None]) -> Copies:
    # The first makes the flow.
    for mark in (token(), token()):
        say(mark)
        before, until = -1, time.monotonic() + _PATIENCE
        while before < (now := sum(mark in frame for frame in underlay.heard())) or (
            not now and time.monotonic() < until
        ):
            before = now
            time.sleep(0.5)
    found = [read_vxlan(frame) for frame in underlay.heard() if mark in frame]
    return Counter((packet.target, packet.port, packet.vni) for packet in found if packet)
