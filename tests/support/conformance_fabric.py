"""What the conformance suite looks at: two hosts of any planes on this kernel, and their guests.

A `Fabric` is asked and told the same whatever forwards; `Hand` alone knows the planes, for an
entry is removed by each plane's own tool.
"""

from __future__ import annotations

import contextlib
import copy
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from ipaddress import ip_address
from itertools import count
from pathlib import Path
from typing import Any, Final

import yaml

from ovs_lwt.control import ask
from ovs_lwt.lab import controllers, hosts, lifecycle, namespaces
from ovs_lwt.lab.matrix import Matrix
from ovs_lwt.lab.plan import (
    BRIDGE,
    GUEST_INTERFACE,
    TUNNEL_PORT,
    Datapath,
    GuestPlan,
    HostPlan,
    LabPlan,
)
from ovs_lwt.lab.plan import make_plan as plan_of
from ovs_lwt.lab.processes import inside, run
from ovs_lwt.mistakes import Refused
from ovs_lwt.model import Plane
from ovs_lwt.sources.overlay_file import from_dict
from ovs_lwt.veth import detach, plan_attach
from ovs_lwt.veth.plan import GATEWAY_MAC
from ovs_lwt.vswitch.switch import LocalSwitch
from tests.support.inhabited import Inhabited
from tests.support.overlays import Overlay
from tests.support.ovs import eventually
from tests.support.packets import ForeignVtep, ethernet, ip
from tests.support.wires import Wires

BLUE_VNI, BLUE_MARK, RED_VNI = 1010, 10, 2020
_NUMBERS: Final = count(1)
# A machine in user-mode Linux takes its time.
_SLOW: Final = 60.0
_NEVER_SEEN: Final = 0xA000


FABRICS: Final[Mapping[str, tuple[tuple[Plane, Plane], int]]] = {
    "ovs": (("ovs", "ovs"), 4),
    "bridge": (("bridge", "bridge"), 4),
    "route": (("route", "route"), 4),
    "ovs+bridge": (("ovs", "bridge"), 4),
    "ovs+bridge over IPv6": (("ovs", "bridge"), 6),
    "route over IPv6": (("route", "route"), 6),
}
"""The fabrics that are looked at: the planes of host1 and host2, and the underlay's IP version."""


def overlay_of(planes: tuple[Plane, Plane], family: int = 4) -> Overlay:
    """Blue and red on two hosts, and on somebody else's machine.

    They share MACs and addresses, of which one is on host1 in blue, and on host2 in red. Blue's
    mark is a number of its own, red's is its VNI.
    """
    network = {4: "192.0.2.", 6: "2001:db8::"}[family]

    def guest(host: str, number: int) -> dict[str, Any]:
        return {
            "host": host,
            "mac": f"02:00:00:00:00:{number}",
            "ip": [f"10.0.0.{number}/24", f"fd00::{number}/64"],
        }

    return {
        "vteps": {
            "host1": {"address": f"{network}11", "plane": planes[0]},
            "host2": {"address": f"{network}12", "plane": planes[1]},
            "theirs": {"address": f"{network}14", "plane": planes[0], "external": True},
        },
        "tenants": {
            "blue": {
                "vni": BLUE_VNI,
                "mark": BLUE_MARK,
                "endpoints": {
                    "web1": guest("host1", 11),
                    "web2": guest("host2", 12),
                    "app1": guest("host1", 13),
                    "app2": guest("host2", 14),
                    "away": guest("theirs", 19),
                },
            },
            "red": {
                "vni": RED_VNI,
                "endpoints": {"web1": guest("host1", 11), "app1": guest("host2", 13)},
            },
        },
    }


@dataclass(frozen=True, slots=True)
class Hand:
    """What an administrator types on a host: to see its entries, and to remove one."""

    show: Sequence[str]
    remove: Sequence[str]


def hand(host: HostPlan, guest: GuestPlan, vtep: str) -> Hand:
    """The hand for a host and its entry for blue's `guest` behind `vtep`."""
    address = next(str(a.ip) for a in guest.addresses if a.version == 4)
    match host.plane:
        case "ovs":
            flow = f"table=forward,metadata={BLUE_VNI},dl_dst={guest.mac}"
            return Hand(
                ("ovs-ofctl", "--names", "--no-stats", "dump-flows", BRIDGE),
                ("ovs-ofctl", "--names", "del-flows", BRIDGE, flow),
            )
        case "bridge":
            entry = (guest.mac, "dev", TUNNEL_PORT, "dst", vtep, "src_vni", str(BLUE_VNI), "self")
            return Hand(("bridge", "fdb", "show"), ("bridge", "fdb", "del", *entry))
        case "route":
            return Hand(
                ("ip", "route", "show", "table", "all"),
                ("ip", "route", "del", f"{address}/32", "table", str(BLUE_MARK)),
            )


class Fabric(Inhabited):
    """Two hosts that are up, in sync, all guests attached.

    wires: the ears of all guests that were there in the beginning
    """

    wires: Wires

    def __init__(self, plan: LabPlan, overlay: Overlay, stack: ExitStack) -> None:
        super().__init__(plan, overlay)
        self._stack = stack
        self._kinds = count(_NEVER_SEEN)

    def on(self, host: str, tenant: str = "blue") -> list[str]:
        """The guests of a tenant on a host."""
        return [g.id for g in self.guests.values() if (g.host, g.tenant) == (host, tenant)]

    def door(self, sender: str, receiver: str) -> str:
        """The MAC that a guest's IP packets for another go to."""
        return GATEWAY_MAC if self.guests[sender].routed else self.mac(receiver)

    def packet(self, sender: str, receiver: str, mark: bytes, version: int = 4) -> bytes:
        """A guest's IP packet for another that nobody answers."""
        there = (self.door(sender, receiver), self.ip(receiver, version))
        return ip(self.at(sender, version), there, mark)

    def followers(self, sender: str, mark: bytes) -> Sequence[bytes]:
        """Frames of a guest that all of its tenant are sure to hear, with this token.

        Of an EtherType that was never seen, where frames are carried: a datapath that knows a kind
        of frame already would let it overtake one that ovs-vswitchd still thinks about.
        """
        if self.guests[sender].routed:
            return [self.packet(sender, peer, mark) for peer in self.peers(sender)]
        kind = next(self._kinds)
        return [
            ethernet(self.mac(sender), self.mac(peer), mark, kind) for peer in self.peers(sender)
        ]

    @cached_property
    def matrix(self) -> Matrix:
        """Who reached whom before anything was changed."""
        return self.reach()

    def mtu(self, guest: str) -> int:
        """The MTU of a guest's interface."""
        with namespaces.links(self.guests[guest].namespace) as netlink:
            (link,) = netlink.get_links(ifname=GUEST_INTERFACE)
            return int(link.get_attr("IFLA_MTU"))

    def forget_neighbours(self, guest: str) -> None:
        """Let a guest forget what it has found out about others."""
        run(inside(self.guests[guest].namespace, ["ip", "neigh", "flush", "all"]))

    # Its hosts

    def run(self, host: str, *command: str) -> str:
        """Run a command on a host; it must succeed."""
        there = self.host(host)
        return run(inside(there.namespace, command), env=hosts.environment(there))

    def hand(self, host: str, guest: str) -> Hand:
        """What removes a host's entry for a guest elsewhere."""
        there = self.guests[guest]
        return hand(self.host(host), there, self.vtep(there.host))

    def entries(self, host: str) -> list[str]:
        """What a host forwards by, as the plane's own tool prints it."""
        guest = next(g for g in self.guests if self.guests[g].host != host)
        lines = self.run(host, *self.hand(host, guest).show).splitlines()
        return sorted(line.strip() for line in lines if line.strip())

    def in_sync(self, host: str) -> None:
        """Wait until a host is in sync, with all the guests it has now."""
        here = [g.id for g in self.guests.values() if g.host == host]
        until = time.monotonic() + _SLOW
        controllers.wait_in_sync(self.host(host), here, until=until, give_up=threading.Event())

    def reload(self) -> None:
        """Let every host's agent read the overlay, and what is installed, again."""
        for host in self.plan.own_hosts:
            ask(host.control, "reload")

    def change(self, edit: Callable[[Overlay], object]) -> None:
        """Edit the overlay, and let every host's agent read it again.

        Raises Refused, with the overlay as it was, if they refuse it.
        """
        before = copy.deepcopy(self.overlay)
        edit(self.overlay)
        _write(self.plan.overlay, self.overlay)
        try:
            self.reload()
        except Refused:
            self.overlay = before
            _write(self.plan.overlay, before)
            raise

    def stop(self, host: str) -> None:
        """End a host's agent as systemd would."""
        pid = controllers.running(self.host(host))
        assert pid is not None, f"the agent of {host} does not run"
        os.kill(pid, signal.SIGTERM)
        assert eventually(lambda: controllers.running(self.host(host)) is None, _SLOW)

    @contextlib.contextmanager
    def paused(self, host: str) -> Iterator[None]:
        """Keep a host's agent from doing anything for a while."""
        pid = controllers.running(self.host(host))
        assert pid is not None, f"the agent of {host} does not run"
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def start(self, host: str) -> str:
        """Start a host's agent, and return how it came out once the host is in sync."""
        there = self.host(host)
        controllers.start(self.plan, [there])
        # What has been spawned is not yet the agent.
        assert eventually(lambda: controllers.running(there) is not None, _SLOW)
        self.in_sync(host)
        status = re.search(r'"last": "(.*)"', ask(there.control, "status"))
        assert status is not None
        return status[1]

    # Its guests

    def attach(self, identity: str) -> None:
        """Start the guest of an endpoint where the overlay has it."""
        topology = from_dict(self.overlay)
        wanted = plan_of(topology, name=self.plan.name, overlay=self.plan.overlay)
        guest = next(g for g in wanted.guests if g.id == identity)
        self._stack.callback(namespaces.remove, guest.namespace)
        plan = plan_attach(topology, identity, guest.namespace)
        hosts.add_guests(self.host(guest.host), [plan])
        self.guests[identity] = guest
        self.in_sync(guest.host)

    def detach(self, identity: str) -> None:
        """Take a guest away, and with it all that it had."""
        guest = self.guests.pop(identity)
        host = self.host(guest.host)
        with ExitStack() as stack:
            switch = None
            if host.plane == "ovs":
                switch = stack.enter_context(LocalSwitch(host.ovsdb, BRIDGE))
            stack.enter_context(namespaces.entered(host.namespace))
            detach(guest.tenant, guest.name, switch)
        namespaces.remove(guest.namespace)

    # Machines that are not ours

    def theirs(self) -> contextlib.AbstractContextManager[ForeignVtep]:
        """The machine of somebody else that the overlay knows."""
        return self.foreign(self.host("theirs").address)

    def stranger(self) -> contextlib.AbstractContextManager[ForeignVtep]:
        """A machine on the underlay that the overlay does not know."""
        return self.foreign(ip_address(int(self.host("theirs").address) + 1))


@contextlib.contextmanager
def fabric_up(overlay: Overlay, folder: Path, datapath: Datapath = "system") -> Iterator[Fabric]:
    """Bring a fabric up, every guest within earshot of its tenant, and take it down again.

    datapath: of the hosts on plane ovs
    """
    name = f"cf{os.getpid()}-{next(_NUMBERS)}"
    with ExitStack() as stack:
        stack.callback(_down, name)
        path = _write(folder / "overlay.yaml", overlay)
        plan = lifecycle.up(path, name=name, datapath=datapath, sync_seconds=2 * _SLOW)
        fabric = Fabric(plan, overlay, stack)
        fabric.wires = stack.enter_context(fabric.listening())
        for guest in fabric.guests:
            fabric.wires.settle(guest)
        yield fabric
        for host in plan.own_hosts:
            assert "Traceback" not in host.log.read_text(), host.log.read_text()


def _down(name: str) -> None:
    with lifecycle.shielded():
        lifecycle.down(name)


def _write(path: Path, overlay: Overlay) -> Path:
    path.write_text(yaml.safe_dump(overlay, sort_keys=False), "utf-8")
    return path
