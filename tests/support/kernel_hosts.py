"""Two hosts on the kernel datapath, driven by one `ovs-lwt run` on the network between them.

Guests are attached as a user would, with marks set by tc on the host's end of their veth.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, Final

from ovs_lwt.lab import namespaces
from ovs_lwt.lab.kernel import settle
from ovs_lwt.names import port_name
from ovs_lwt.sources.overlay_file import load
from ovs_lwt.topology import Topology
from ovs_lwt.veth import attach, plan_attach
from ovs_lwt.vswitch import LocalSwitch
from tests.support.controller import BRIDGE, OF14, Controller, started, write
from tests.support.ovs import OvsHost

UPLINK: Final = "u0"
_UNDERLAY: Final = "knl-underlay"
_BRIDGE: Final = "br-underlay"
_NETWORK: Final = ip_network("192.0.2.0/24")
_CONTROLLER: Final = ip_address("192.0.2.1")
_SLOW: Final = 60.0

# Blue's mark is a number of its own, red's is its VNI: each has its flow in classify. They share
# MACs and addresses, but for what only red has.
OVERLAY: Final[dict[str, Any]] = {
    "vteps": {"host1": {"address": "192.0.2.11"}, "host2": {"address": "192.0.2.12"}},
    "tenants": {
        tenant: {
            **tags,
            "endpoints": {
                name: {
                    "host": host,
                    "mac": f"02:00:00:00:00:{number}",
                    "ip": [f"10.0.0.{number}/24", f"fd00::{number}/64"],
                }
                for name, host, number in endpoints
            },
        }
        for tenant, tags, endpoints in (
            ("blue", {"vni": 1010, "mark": 10}, [("web1", "host1", 11), ("web2", "host2", 12)]),
            (
                "red",
                {"vni": 2020},
                [("web1", "host1", 11), ("web2", "host2", 12), ("db", "host2", 13)],
            ),
        )
    },
}


@dataclass(frozen=True, slots=True)
class KernelHosts:
    """The hosts by name, and the overlay they carry."""

    overlay: Path
    topology: Topology
    hosts: dict[str, OvsHost]

    def attach(self, identity: str) -> str:
        """Attach a guest, or mend what is missing; return its port's name."""
        host = self.host_of(identity)
        plan = plan_attach(self.topology, identity, guest(identity), marking="tc")
        with LocalSwitch(host.remote, BRIDGE) as switch:
            return attach(plan, switch, host_netns=host.netns)

    def host_of(self, identity: str) -> OvsHost:
        endpoint = self.topology.endpoint_index(identity)
        return self.hosts[self.topology.vteps.name[int(self.topology.endpoints.vtep[endpoint])]]

    @contextlib.contextmanager
    def handed(self, *identities: str, match: str) -> Iterator[Callable[[], list[int]]]:
        """Count the packets of this match (a tc classifier) that the switch hands to guests."""
        with contextlib.ExitStack() as stack:
            counts = [
                stack.enter_context(sent(self.host_of(name), port_of(name), match))
                for name in identities
            ]
            yield lambda: [count()[0] for count in counts]

    def flow_packets(self, host: str, pattern: str) -> int:
        """How many packets the flows whose text matches `pattern` have seen; one at least is."""
        flows = [
            line
            for line in self.hosts[host].ofctl(*OF14, "dump-flows", BRIDGE).splitlines()
            if re.search(pattern, line)
        ]
        assert flows, f"no flow has {pattern}"
        return sum(int(re.findall(r"n_packets=(\d+)", flow)[0]) for flow in flows)


def guest(identity: str) -> str:
    """The namespace of a guest."""
    return f"knl-{identity.replace('/', '-')}"


def ping(identity: str, address: str, *options: str) -> bool:
    command = ["ip", "netns", "exec", guest(identity), "ping", "-c1", "-W2", *options, address]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@contextlib.contextmanager
def sent(host: OvsHost, device: str, match: str) -> Iterator[Callable[[], tuple[int, int]]]:
    """Count what a device of the host sends: (packets of this match, all others).

    `match` is a tc classifier; tc's egress hook sees a packet as the kernel does, mark included.
    """
    add = f"filter add dev {device} egress"
    _tc(
        host,
        f"{add} pref 1 {match} action ok",
        f"{add} pref 2 matchall action ok",
        first=f"tc qdisc add dev {device} clsact 2>/dev/null || true",
    )

    def counts() -> tuple[int, int]:
        found = {"1": 0, "2": 0}
        shown = host.run("tc", "-s", "filter", "show", "dev", device, "egress")
        for part in shown.split("\nfilter "):
            packets = re.search(r"Sent \d+ bytes (\d+) pkt", part)
            preference = re.search(r"pref (\d+)", part)
            if packets and preference:
                found[preference[1]] += int(packets[1])
        return found["1"], found["2"]

    try:
        yield counts
    finally:
        gone = f"filter del dev {device} egress"
        _tc(host, f"{gone} pref 1", f"{gone} pref 2")


def _tc(host: OvsHost, *commands: str, first: str = "") -> None:
    """Run commands of tc at once: under user-mode Linux each process takes a tenth of a second."""
    host.run("sh", "-ec", f"{first}\ntc -batch - <<'END'\n" + "\n".join(commands) + "\nEND")


@contextlib.contextmanager
def kernel_hosts(folder: Path) -> Iterator[KernelHosts]:
    """Both hosts, in sync with all guests attached."""
    overlay = write(folder / "overlay.yaml", OVERLAY)
    topology = load(overlay)
    settle()
    with contextlib.ExitStack() as stack:
        stack.enter_context(_namespace(_UNDERLAY))
        namespaces.make_underlay(_UNDERLAY, _BRIDGE, topology.underlay.mtu)
        namespaces.give_address(_UNDERLAY, _BRIDGE, _CONTROLLER, _NETWORK)
        hosts = {}
        for name in topology.vteps.name:
            namespace = stack.enter_context(_namespace(f"knl-{name}"))
            namespaces.plug(_UNDERLAY, _BRIDGE, namespace, namespace, UPLINK, topology.underlay.mtu)
            address = ip_address(topology.vteps.address(topology.vtep_index(name)))
            namespaces.give_address(namespace, UPLINK, address, _NETWORK)
            hosts[name] = stack.enter_context(OvsHost(namespace, folder / name))
        here = KernelHosts(overlay, topology, hosts)
        controller = stack.enter_context(_controller(here, folder / "lwt.ctl"))
        # A controller takes its time to start: meanwhile, the guests' namespaces.
        identities = [topology.endpoint_id(index) for index in range(len(topology.endpoints))]
        for identity in identities:
            stack.enter_context(_namespace(guest(identity)))
            namespaces.set_sysctl(guest(identity), "net/ipv6/conf/default/accept_dad", "0")
        for name in hosts:
            # The bridge is the controller's to make: on the kernel datapath, as `auto` chooses.
            assert controller.in_sync(host=name, within=_SLOW), controller.log
        for identity in identities:
            here.attach(identity)
        for name, host in hosts.items():
            local = [identity for identity in identities if here.host_of(identity) is host]
            assert controller.in_sync(*local, host=name, within=_SLOW), controller.log
        yield here
        assert controller.running.stop()[0] == 0, controller.log
        assert "Traceback" not in controller.log, controller.log


@contextlib.contextmanager
def _namespace(name: str) -> Iterator[str]:
    namespaces.create(name)
    try:
        yield name
    finally:
        namespaces.remove(name)


def _controller(here: KernelHosts, control: Path) -> contextlib.AbstractContextManager[Controller]:
    command = [sys.executable, "-m", "ovs_lwt.cli", "run", str(here.overlay)]
    for name, host in here.hosts.items():
        command += ["--host", f"{name}={host.remote}"]
    command += ["--listen", f"{_CONTROLLER}:6653", "--control", str(control)]
    return started(command, control, _UNDERLAY)


def port_of(identity: str) -> str:
    return port_name(*identity.split("/"))
