"""docs/planes.md, "Without an agent": what is exported, loaded by hand, makes working hosts."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from ovs_lwt import desired, veth
from ovs_lwt.lab import namespaces
from ovs_lwt.model import Plane
from ovs_lwt.plane import Options
from ovs_lwt.sources.overlay_file import load
from ovs_lwt.topology import Topology
from tests.support.markdown import CHECKOUT, blocks, commands
from tests.support.ovs import in_netns, network_namespace

PAGE = (CHECKOUT / "docs/planes.md").read_text("utf-8")
(OVERLAY,) = blocks((CHECKOUT / "README.md").read_text("utf-8"), "yaml")
# A stranger with web2's addresses; and IPv6 on both ends.
OVERLAY = (
    OVERLAY.replace("ip: [10.0.0.12/24]", 'ip: [10.0.0.12/24, "fd00::12/64"]')
    + """\
  red:
    vni: 2020
    endpoints:
      web2: {host: host2, mac: "02:00:00:00:00:02", ip: [10.0.0.12/24]}
"""
)
NETWORK = ip_network("192.0.2.0/24")
PLANES: tuple[Plane, ...] = ("bridge", "route")
GUESTS = {"blue/web1": "host1", "blue/web2": "host2", "red/web2": "host2"}


@pytest.fixture
def topology(tmp_path: Path) -> Topology:
    (tmp_path / "overlay.yaml").write_text(OVERLAY, "utf-8")
    return load(tmp_path / "overlay.yaml")


@pytest.fixture
def hosts(topology: Topology) -> Iterator[None]:
    """Namespaces host1 and host2 with nothing but an uplink; and those of the guests."""
    with ExitStack() as stack:
        underlay = stack.enter_context(network_namespace("byh-underlay"))
        namespaces.make_underlay(underlay, "br-underlay", topology.underlay.mtu)
        for name in topology.vteps.name:
            netns = stack.enter_context(network_namespace(f"byh-{name}"))
            namespaces.plug(underlay, "br-underlay", name, netns, "u0", topology.underlay.mtu)
            address = topology.vteps.address(topology.vtep_index(name))
            namespaces.give_address(netns, "u0", ip_address(address), NETWORK)
        yield


def load_all(topology: Topology, host: str, folder: Path) -> None:
    """Every part of a host, by the command that the export itself names."""
    for part, loaded_by in desired.KERNEL_PARTS.items():
        text = io.StringIO()
        desired.write(topology, host, part, Options("br-lwt", None, state=folder), text)
        file = folder / f"{host}.{part}"
        file.write_text(text.getvalue(), "utf-8")
        if text.getvalue():
            in_netns(f"byh-{host}", *loaded_by.replace("FILE", str(file)).split())


def attach(topology: Topology, identity: str, host: str) -> str:
    """Make a guest and give it its cable to the host; return its namespace."""
    netns = f"byh-{identity.replace('/', '-')}"
    namespaces.create(netns)
    namespaces.set_sysctl(netns, "net/ipv6/conf/default/accept_dad", "0")
    veth.attach(veth.plan_attach(topology, identity, netns), None, host_netns=f"byh-{host}")
    return netns


def pings(netns: str, *addresses: str) -> list[bool]:
    command = ["ip", "netns", "exec", netns, "ping", "-c1", "-W3"]
    return [
        subprocess.run([*command, address], capture_output=True, check=False).returncode == 0
        for address in addresses
    ]


@pytest.mark.parametrize("plane", PLANES)
def test_hosts_that_were_loaded_by_hand_carry_their_tenants(
    hosts: None, topology: Topology, tmp_path: Path, plane: Plane
) -> None:
    topology = topology.on_plane(plane)
    with ExitStack() as stack:
        for identity, host in (
            ("blue/web1", "host1"),
            ("blue/web2", "host2"),
            ("red/web2", "host2"),
        ):
            stack.callback(namespaces.remove, attach(topology, identity, host))
        for host in topology.vteps.name:
            load_all(topology, host, tmp_path)
        with namespaces.entered("byh-red-web2"):
            before = heard()
        assert pings("byh-blue-web1", "10.0.0.12", "fd00::12") == [True, True]
        with namespaces.entered("byh-red-web2"):
            assert heard() == before, "red has the same address, and hears nothing of it"


def heard() -> int:
    """How many echo requests this thread's namespace has had."""
    lines = [line.split() for line in Path("/proc/thread-self/net/snmp").read_text().splitlines()]
    names, values = (line for line in lines if line[0] == "Icmp:")
    return int(dict(zip(names, values, strict=True))["InEchos"])


def test_the_page_itself_makes_one(hosts: None, topology: Topology, tmp_path: Path) -> None:
    """host2 by the very lines of the page; host1 on plane bridge as well."""
    lines = [command.line for command in commands(PAGE) if command.where == "host2"]
    assert len(lines) > 2
    program = tmp_path / "ovs-lwt"
    program.write_text(
        f'#!/bin/sh\ncase "$1" in export) set -- "$@" --state {tmp_path} ;; esac\n'
        f'exec {sys.executable} -m ovs_lwt.cli "$@"\n'
    )
    program.chmod(0o755)
    topology = topology.on_plane("bridge")
    with ExitStack() as stack:
        stack.callback(namespaces.remove, attach(topology, "blue/web1", "host1"))
        load_all(topology, "host1", tmp_path)
        stack.callback(subprocess.run, ["ip", "netns", "del", "web2"], check=False)
        # red's guest is attached, too: what is exported is of a host with all its guests.
        stack.callback(namespaces.remove, attach(topology, "red/web2", "host2"))
        environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
        # Unlike `ip netns exec`, this leaves the mounts alone: `ip netns add` must be seen outside.
        typed = ["nsenter", "--net=/run/netns/byh-host2", "sh", "-ec", "\n".join(lines)]
        done = subprocess.run(
            typed, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Error" not in done.stderr
        assert pings("byh-blue-web1", "10.0.0.12") == [True]
