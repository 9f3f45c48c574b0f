"""What a real switch lists is byte for byte what was sent, for every flow and group of `flows/`.

The difference between desired and installed rests on it: see encode.py.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ovs_lwt.backends.openflow import program
from ovs_lwt.backends.openflow.pipeline import pipeline
from ovs_lwt.backends.openflow.session import Session, State
from ovs_lwt.backends.outcome import Synced
from ovs_lwt.sources.overlay_file import from_dict, parse_text
from ovs_lwt.topology import Topology
from ovs_lwt.view import LocalPorts, View
from tests.support.mgmt import SwitchSocket
from tests.support.overlays import spread
from tests.support.ovs import OvsHost

# Every entry of flows/ has a row on one of these hosts: a port with addresses, one without, a
# trusted and a marked one; a tenant with a mark of its own; answers and floods; a MAC prefix, and
# MACs under it and not.
OVERLAY = """
vteps:
  host1: {{address: {0}}}
  host2: {{address: {1}, mac_prefix: 02:00:02:00:00:00/24}}
tenants:
  blue:
    vni: 1010
    mark: 10
    endpoints:
      web1: {{host: host1, mac: "02:00:00:00:00:01", ip: [10.0.0.11/24, "fd00::11/64"]}}
      bare: {{host: host1, mac: "02:00:00:00:00:02"}}
      router: {{host: host1, mac: "02:00:00:00:00:03", ip: 10.0.0.1/24, spoofing: allow}}
      gw: {{host: host2, mac: "02:00:00:00:00:04", ip: "fd00::4/64", spoofing: allow, router: true}}
      silent: {{host: host2, mac: "02:00:00:00:00:05", ip: "fd00::5/64", spoofing: allow}}
      web2: {{host: host2, mac: "02:00:00:00:00:12", ip: [10.0.0.12/24, "fd00::12/64"]}}
      vip1: {{host: host1, mac: "02:00:00:00:00:21", ip: 10.0.0.21/24, allowed_pairs: {2}}}
      vip2: {{host: host2, mac: "02:00:00:00:00:22", ip: 10.0.0.22/24, allowed_pairs: {2}}}
  red:
    vni: 1020
    vlan_tagged: carry
    unknown_unicast: drop
    neighbours: flood
    endpoints:
      web1: {{host: host1, mac: "02:00:00:00:00:01", ip: [10.0.0.11/24, "fd00::11/64"]}}
      bare: {{host: host1, mac: "02:00:00:00:00:02"}}
      free: {{host: host1, mac: "02:00:00:00:00:03", spoofing: allow}}
      web2: {{host: host2, mac: "02:00:02:00:00:12", ip: 10.0.0.12/24}}
"""
PAIRS = '[{mac: "00:00:5e:00:01:01", ip: 10.0.0.100}, {ip: "fe80::100"}]'
IPV4 = ("192.0.2.11", "192.0.2.12", PAIRS)
IPV6 = ("2001:db8::11", "2001:db8::12", PAIRS)
TUNNEL, REQUESTS = 4789, 14789


@pytest.fixture(scope="module")
def host() -> Iterator[OvsHost]:
    with OvsHost("ovs-lwt-listed") as host:
        yield host


@pytest.fixture
def bridge(host: OvsHost) -> Iterator[Path]:
    """The management socket of an empty bridge with a tunnel port."""
    host.run("ovs-vsctl", "add-br", "br0", "--", "set", "bridge", "br0", "datapath_type=netdev",
             "fail_mode=secure", "--", "add-port", "br0", "vx0", "--", "set", "interface", "vx0",
             "type=vxlan", f"ofport_request={TUNNEL}", "options:key=flow",
             "options:remote_ip=flow", "--", "add-port", "br0", "vx1", "--", "set", "interface",
             "vx1", "type=vxlan", f"ofport_request={REQUESTS}", "options:key=flow",
             "options:remote_ip=flow", f"options:dst_port={REQUESTS}")  # fmt: skip
    yield host.rundir / "br0.mgmt"
    host.run("ovs-vsctl", "del-br", "br0")


def view(topology: Topology, *, nd_by_flow: bool = True) -> View:
    local = np.flatnonzero(topology.endpoints.vtep == 0).astype(np.uint32)
    marked = np.arange(len(local)) % 2 == 1
    ports = LocalPorts(local, np.arange(1, len(local) + 1, dtype=np.uint32), marked, local >= 0)
    return View(topology, 0, TUNNEL, ports, nd_by_flow)


def flooding(
    hosts: int,
    replicators: int = 0,
    *,
    six: bool = False,
    userspace: bool = True,
    offers: bool = False,
) -> View:
    """The first of so many hosts that share a tenant, the last of which are replicators."""
    topology = from_dict(spread(hosts, replicators, six=six))
    requests = REQUESTS if replicators or offers else None
    return replace(view(topology), userspace=userspace, requests=requests)


def small(addresses: Sequence[str], *, nd_by_flow: bool = True) -> View:
    """Host1 of the overlay above."""
    return view(parse_text(OVERLAY.format(*addresses)), nd_by_flow=nd_by_flow)


# Made when they are needed, once: a topology of thousands of hosts takes a while.
VIEWS: dict[str, Callable[[], View]] = {
    "ipv4": lambda: small(IPV4),
    "tags, requests": lambda: replace(small(IPV4), requests=REQUESTS),
    "nd-by-app": lambda: small(IPV4, nd_by_flow=False),
    "ipv6": lambda: small(IPV6),
    "replicators": lambda: flooding(4, 2),
    "replicators, ipv6": lambda: flooding(4, 2, six=True),
    "wide": lambda: flooding(550),
    "wide, for replicators": lambda: flooding(1200, 3),
    "wider": lambda: flooding(3000),
    "wider, ipv6": lambda: flooding(1300, six=True),
    "wider, kernel": lambda: flooding(1300, userspace=False),
    "wider, kernel, ipv6": lambda: flooding(1300, six=True, userspace=False),
    "wider, kernel, offering": lambda: flooding(1300, userspace=False, offers=True),
    "wider, kernel, ipv6, offering": lambda: flooding(1300, six=True, userspace=False, offers=True),
}


@functools.cache
def made(name: str) -> View:
    return VIEWS[name]()


def test_the_views_use_every_entry_of_the_pipeline() -> None:
    used = {flows.rows.entry for name in VIEWS for flows in program.full(made(name)).flows}
    assert used == set(pipeline().flows)


@pytest.mark.parametrize("name", VIEWS)
def test_what_was_sent_is_listed_and_nothing_is_sent_again(bridge: Path, name: str) -> None:
    wanted = made(name)
    with SwitchSocket(bridge) as switch:
        cold = Session()
        cold.desire(wanted, 0)
        switch.drive(cold)
        assert cold.state is State.IN_SYNC, cold.events
        full = program.full(wanted)
        assert (cold.flow_count, cold.group_count) == (full.flow_count, len(full.groups))
    with SwitchSocket(bridge) as switch:
        again = Session()
        again.desire(wanted, 0)
        switch.drive(again)
    (event,) = again.events
    assert isinstance(event, Synced)
    assert event.counts.changes == 0, event.counts
    assert event.counts.unchanged == full.flow_count


def test_from_view_to_view_and_back_leaves_the_first(bridge: Path, host: OvsHost) -> None:
    """Flows whose actions differ in length, and deletes, on one bridge: IPv4, IPv6, IPv4."""
    session = Session()
    with SwitchSocket(bridge) as switch:
        listings = []
        for name in ("ipv4", "ipv6", "wider", "wide", "wider, kernel", "nd-by-app", "ipv4"):
            session.desire(made(name), 0)
            switch.drive(session)
            assert session.state is State.IN_SYNC, session.events
            listed = host.run("ovs-ofctl", "-O", "OpenFlow14", "--no-stats", "dump-flows", "br0")
            listings.append(sorted(listed.splitlines()))
    assert listings[0] == listings[-1]
    assert listings[0] != listings[1]
