"""`make bench-rules`: what it costs a packet to find its table among those of 4,096 tenants.

Real packets: a guest sends small UDP packets through a host to another guest, all three being
network namespaces. The host gives them the mark of one tenant or another. In one run: without
rules; by a plain list of `fwmark` rules; by the tree; with a VRF for each tenant; and for packets
out of the tunnel, by a list of `tun_id` rules, against the tree behind marks by tc's flower.

Measured in user-mode Linux, unless this kernel has all that it needs.

    python -m bench.rules [--size N] [--rounds N] [--here]
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from statistics import mean
from typing import Final

import numpy as np

from bench import results
from bench.machine import elsewhere, slab
from bench.packets import Sender
from ovs_lwt.backends.netlink.program import Program, Rows, stamp
from ovs_lwt.backends.netlink.templates import Devices
from ovs_lwt.backends.netlink.transaction import between
from ovs_lwt.backends.netlink.transport import Kernel
from ovs_lwt.backends.route import tree
from ovs_lwt.backends.route.tree import Shape
from ovs_lwt.columns import U32
from ovs_lwt.stencil import Column
from tests.support.ovs import in_netns, network_namespace

Measured = Callable[[Sequence[int]], list[float]]
"""Marks -> microseconds a packet, for each."""

_PREFIX: Final = f"ovs-lwt-bench-{os.getpid()}"
_HOST, _GUEST, _OTHER, _FAR = (f"{_PREFIX}-{name}" for name in ("host", "a", "b", "far"))
_TARGET: Final = "198.51.100.2"
_NETWORK: Final = 0xC6336400
_FIRST_MARK: Final = 1001
_SAMPLE: Final = 12  # tenants
_PACKETS: Final = 500  # in a turn: few, so that some turns pass undisturbed
_TURNS: Final = 40  # in a round
_NOTHING: Final = stamp([], Devices.of({}))
_HEAD: Final = tree.head(np.array([0xC0000201], np.uint32), "")
_OTHER_SHAPES: Final = (Shape(1, 2), Shape(2, 2), Shape(2, 8), Shape(3, 8), Shape(4, 16))

_NO_RULES: Final = "no rules"
_NO_RULES_TUNNEL: Final = "from the tunnel: no rules"
_LIST: Final = "a list of fwmark rules"
_LIST_WITH_HEAD: Final = "the list, behind the tree's head"
_VRFS: Final = "a VRF for each tenant"
_LIST_TUNNEL: Final = "from the tunnel: a list of tun_id rules"
_TREE_TUNNEL: Final = "from the tunnel: marks by flower, and the tree"

_LINKS: Final = f"""
link add a0 netns {_HOST} type veth peer name eth0 netns {_GUEST}
link add b0 netns {_HOST} type veth peer name eth0 netns {_OTHER}
link add u0 netns {_HOST} type veth peer name u0 netns {_FAR}
"""
_ON_HOST: Final = f"""
address add 203.0.113.1/24 dev a0
address add 198.51.100.1/24 dev b0
address add 192.0.2.1/24 dev u0
link set a0 up
link set b0 up
link set u0 up
link add vx-lwt type vxlan dstport 4789 local 192.0.2.1 nolearning external
link set vx-lwt address 02:00:00:00:00:01 up
neigh add {_TARGET} lladdr 02:66:66:66:66:66 dev b0
"""
_MARKS: Final = """
qdisc add dev a0 clsact
filter add dev a0 ingress matchall action skbedit mark 0 index 1
"""
_ON_GUEST: Final = """
address add 203.0.113.2/24 dev eth0
link set eth0 up
route add default via 203.0.113.1
"""
_FAR_AWAY: Final = """
address add 192.0.2.2/24 dev u0
link set u0 up
link add vx-lwt type vxlan dstport 4789 local 192.0.2.2 nolearning external
link set vx-lwt up
address add 203.0.113.3/32 dev vx-lwt
neigh add 192.0.2.1 lladdr 02:00:00:00:00:01 dev vx-lwt
"""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one way costs.

    each: microseconds a packet, of the sampled tenants, in the order of their rules; setup: s;
    memory: the kernel's small objects, MB
    """

    name: str
    each: Sequence[float]
    setup: float = 0.0
    memory: float = 0.0

    @property
    def mean(self) -> float:
        """Of the sampled tenants."""
        return mean(self.each)


class Host:
    """A host with a table for each of `size` tenants, between two guests and another host."""

    def __init__(self, kernel: Kernel, size: int, rounds: int) -> None:
        self._kernel = kernel
        self._rounds = rounds
        self._devices = Devices.of({name: _index(name) for name in ("b0", "vx-lwt")})
        self.marks: U32 = np.arange(_FIRST_MARK, _FIRST_MARK + size, dtype=np.uint32)
        others = np.random.default_rng(1).choice(self.marks[1:-1], _SAMPLE - 2, replace=False)
        self.sample: list[int] = sorted([*self.marks[[0, -1]].tolist(), *others.tolist()])
        tables: dict[str, Column] = {
            "table": self.marks,
            "prefix": np.array([_NETWORK], np.uint32),
            "length": np.array([24], np.uint8),
            "dev": np.array([0]),
        }
        self._load(Rows("route.local_prefix", size, tables))

    def without(self, name: str, measured: Measured) -> Cost:
        """No rules: every packet is routed by `main`."""
        return Cost(name, measured([0]))

    def by_rules(self, name: str, measured: Measured, *relations: Rows) -> Cost:
        """With these rules, and with them only."""
        loaded: list[Program] = []
        before = slab()
        seconds = results.timed(lambda: loaded.append(self._load(*relations)))
        memory = (slab() - before) / (1 << 20)
        cost = Cost(name, measured(self.sample), seconds, memory)
        self._kernel.run(between(loaded[0].entries, _NOTHING))
        return cost

    def by_vrfs(self, name: str) -> Cost:
        """With a VRF for each tenant, of which the guest's port is a part."""
        before = slab()
        lines = [
            f"link add vrf{mark} type vrf table {mark}\nlink set vrf{mark} up"
            for mark in self.marks.tolist()
        ]
        seconds = results.timed(lambda: _batch(_HOST, "\n".join(lines)))
        memory = (slab() - before) / (1 << 20)
        each = []
        for mark in self.sample:
            _on_host("ip", "link", "set", "a0", "master", f"vrf{mark}")
            each.append(self._measured(_GUEST))
        _on_host("ip", "link", "set", "a0", "nomaster")
        return Cost(name, each, seconds, memory)

    def from_guest(self, marks: Sequence[int]) -> list[float]:
        """Microseconds of a packet from a guest, for each of these tenants."""
        found = []
        for mark in marks:
            change = f"tc actions change action skbedit mark {mark} index 1"
            _on_host(*change.split())
            found.append(self._measured(_GUEST))
        return found

    def from_tunnel(self, vnis: Sequence[int]) -> list[float]:
        """Microseconds of a packet out of the tunnel, for each of these tenants."""
        found = []
        for vni in vnis:
            encap = f"encap ip id {vni} src 192.0.2.2 dst 192.0.2.1"
            route = f"ip route replace {_TARGET} {encap} via 192.0.2.1 dev vx-lwt onlink"
            in_netns(_FAR, *route.split())
            found.append(self._measured(_FAR))
        return found

    def mark_from_tunnel(self) -> None:
        """From now on packets out of the tunnel bear their tenant's mark."""
        tunnel = {"dev": np.array([1])}
        filters: dict[str, Column] = {
            **dict.fromkeys(("handle", "vni", "mark"), self.marks),
            **tunnel,
        }
        size = len(self.marks)
        self._load(Rows("qdisc.clsact", 1, tunnel), Rows("filter.tunnel_mark", size, filters))

    def plain(self, template: str, slot: str) -> Rows:
        """A rule for each tenant, one behind the other."""
        columns: dict[str, Column] = {
            slot: self.marks,
            "mask": np.array([0xFFFFFFFF], np.uint32),
            "table": self.marks,
            "preference": tree.FIRST + np.arange(len(self.marks)),
        }
        return Rows(template, len(self.marks), columns)

    def tree(self, shape: Shape) -> list[Rows]:
        """The tree, with its head."""
        return [*_HEAD, *tree.tree(self.marks, self.marks, shape=shape)]

    def _load(self, *relations: Rows) -> Program:
        program = stamp(relations, self._devices)
        outcome = self._kernel.run(between([], program))
        if outcome.failed:
            raise SystemExit("\n".join(map(str, outcome.failures)))
        return program

    def _measured(self, sender: str) -> float:
        before, turns = _received(), _TURNS * self._rounds
        with Sender(sender, _TARGET) as packets:
            found = packets.microseconds(_PACKETS, turns)
        arrived = _received() - before
        if arrived < packets.sent:
            raise SystemExit(f"of {packets.sent} packets {arrived} arrived")
        return found


@contextmanager
def hosts() -> Iterator[Kernel]:
    """The namespaces, and the host's kernel."""
    with ExitStack() as stack:
        for name in (_HOST, _GUEST, _OTHER, _FAR):
            stack.enter_context(network_namespace(name))
        _batch(None, _LINKS)
        _on_host("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv4.conf.all.rp_filter=0")
        for netns, lines in ((_HOST, _ON_HOST), (_GUEST, _ON_GUEST), (_FAR, _FAR_AWAY)):
            _batch(netns, lines)
        in_netns(_OTHER, "ip", "link", "set", "eth0", "up")
        _batch(_HOST, _MARKS, "tc")
        yield stack.enter_context(Kernel(_HOST))


def measure(host: Host) -> Iterator[Cost]:
    """One way after the other: first ours, while the kernel's memory is fresh, and VRFs last,
    which leave much behind.
    """
    plain = host.plain("rule.mark", "mark")
    yield host.by_rules(_named(Shape()), host.from_guest, *host.tree(Shape()))
    yield host.without(_NO_RULES, host.from_guest)
    yield host.by_rules(_LIST, host.from_guest, plain)
    yield host.by_rules(_LIST_WITH_HEAD, host.from_guest, *_HEAD, plain)
    for shape in _OTHER_SHAPES:
        yield host.by_rules(_named(shape), host.from_guest, *host.tree(shape))
    yield host.without(_NO_RULES_TUNNEL, host.from_tunnel)
    aside = tree.from_tunnel(host.marks, host.marks, device=1)
    yield host.by_rules(_LIST_TUNNEL, host.from_tunnel, *host.tree(Shape()), *aside)
    host.mark_from_tunnel()
    yield host.by_rules(_TREE_TUNNEL, host.from_tunnel, *host.tree(Shape()))
    yield host.by_vrfs(_VRFS)


def compare(costs: Mapping[str, Cost], size: int) -> list[results.Row]:
    """The tree against the other ways."""
    ours, plain, vrfs = costs[_named(Shape())], costs[_LIST_WITH_HEAD], costs[_VRFS]
    nothing = costs[_NO_RULES].mean
    tunnel = costs[_TREE_TUNNEL].mean, costs[_LIST_TUNNEL].mean
    rules = max(ours.mean - nothing, 0.0), plain.mean - nothing
    return [
        results.Row.compare("a packet: tree against list", size, "us", ours.mean, plain.mean, 0.5),
        results.Row.compare("of that, the rules alone", size, "us", *rules, 0.2),
        results.Row.compare("a packet: tree against no rules", size, "us", ours.mean, nothing, 2),
        results.Row.compare(
            "a packet from the tunnel: marks and tree against list", size, "us", *tunnel, 0.5
        ),
        results.Row.compare("a packet: tree against VRFs", size, "us", ours.mean, vrfs.mean, 2),
        results.Row.compare("set-up: tree against VRFs", size, "s", ours.setup, vrfs.setup, 0.5),
        results.Row.compare("memory: tree against VRFs", size, "MB", ours.memory, vrfs.memory, 0.2),
    ]


def show(costs: Iterable[Cost]) -> dict[str, Cost]:
    """Print each as soon as there is one."""
    heading = ("us a packet", "first", "last", "loaded in", "memory")
    print(f"{'':45}" + "".join(f"{word:>13}" for word in heading))
    found = {}
    for cost in costs:
        words = (
            *(f"{micro:.2f}" for micro in (cost.mean, cost.each[0], cost.each[-1])),
            f"{cost.setup:.2f} s",
            f"{cost.memory:.1f} MB",
        )
        print(f"{cost.name:45}" + "".join(f"{word:>13}" for word in words), flush=True)
        found[cost.name] = cost
    return found


def _named(shape: Shape) -> str:
    return f"a tree: {shape.bits} bits a node, at most {shape.bucket} tenants"


def _received() -> int:
    shown = in_netns(_OTHER, "cat", "/sys/class/net/eth0/statistics/rx_packets")
    return int(shown)


def _index(name: str) -> int:
    return int(_on_host("cat", f"/sys/class/net/{name}/ifindex"))


def _on_host(*command: str) -> str:
    return in_netns(_HOST, *command)


def _batch(netns: str | None, lines: str, tool: str = "ip") -> None:
    with tempfile.NamedTemporaryFile("w", prefix="ovs-lwt-bench-") as file:
        file.write(lines)
        file.flush()
        in_netns(netns, tool, "-batch", file.name, timeout=600)


def main() -> int:
    """Measure, print, save."""
    chosen = results.arguments(__doc__, size=4096)
    done = elsewhere("bench.rules", chosen.here, memory=1024, timeout=1800)
    if done is not None:
        return done
    with hosts() as kernel:
        costs = show(measure(Host(kernel, chosen.size, chosen.rounds)))
    return results.report("rules", compare(costs, chosen.size))


if __name__ == "__main__":
    sys.exit(main())
