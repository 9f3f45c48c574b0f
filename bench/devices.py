"""`make bench-devices`: 4,094 tenants on one shared device, against devices for each of them.

Ours: the bridge plane, as `ovs-lwt run` sets it up: one VLAN-aware bridge, one VXLAN device for all
VNIs; once without and once with neighbours answered, for which each tenant has a VLAN device.
Theirs: a VXLAN device and a bridge per VNI, made by one `ip -batch`. Neither has a guest yet.

Each on a kernel that has just booted (user-mode Linux): the time that it takes, and how much more
memory the kernel keeps afterwards.

    python -m bench.devices [--size N] [--rounds N]
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Final

from bench import results
from bench.machine import kernel_memory
from ovs_lwt.backends.bridge.plane import BridgePlane
from ovs_lwt.backends.bridge.vlans import LAST, VlanStore
from ovs_lwt.kernel_host import KernelHost
from ovs_lwt.lab.kernel import find, run_in_kernel
from ovs_lwt.sources.overlay_file import parse_text

_MEMORY: Final = 1024  # MB
_SECONDS: Final = 1800.0
_ADDRESS: Final = "192.0.2.1"
_INSIDE: Final = "inside"


@dataclass(frozen=True, slots=True)
class Cost:
    """What a way costs. seconds: to set up; memory: that the kernel keeps, MB"""

    seconds: float
    memory: float


def shared(size: int, neighbours: str) -> Callable[[], object]:
    """The bridge plane with `size` tenants."""
    guest = '{host: host1, mac: "02:00:00:00:00:01", ip: [10.0.0.1/24]}'
    lines = [
        f"vteps: {{host1: {{address: {_ADDRESS}, plane: bridge}}}}",
        "tenants:",
        *(
            f"  t{vni}: {{vni: {vni}, neighbours: {neighbours}, endpoints: {{web: {guest}}}}}"
            for vni in range(1, size + 1)
        ),
    ]
    topology = parse_text("\n".join(lines), "overlay.yaml")

    def setup() -> None:
        host = KernelHost("host1", None, BridgePlane(VlanStore(None)))
        host.prepare(topology)
        host.look(topology, time.monotonic())
        host.flush()
        if host.refusals() or host.session.entries < 3 * size:
            raise SystemExit(f"not set up: {host.status()}")
        host.close()

    return setup


def each_its_own(size: int) -> Callable[[], object]:
    """A VXLAN device and a bridge for each of `size` VNIs."""
    lines = [
        f"link add br{vni} type bridge mcast_snooping 0\n"
        f"link add vx{vni} type vxlan id {vni} dstport 4789 local {_ADDRESS} nolearning\n"
        f"link set vx{vni} master br{vni}\n"
        f"link set vx{vni} type bridge_slave learning off neigh_suppress on\n"
        f"link set br{vni} up\n"
        f"link set vx{vni} up\n"
        for vni in range(1, size + 1)
    ]

    def setup() -> None:
        with tempfile.NamedTemporaryFile("w", prefix="ovs-lwt-bench-") as file:
            file.writelines(lines)
            file.flush()
            subprocess.run(["ip", "-batch", file.name], check=True)

    return setup


WAYS: Final[dict[str, Callable[[int], Callable[[], object]]]] = {
    "shared": lambda size: shared(size, "flood"),
    "answering": lambda size: shared(size, "answer"),
    "theirs": each_its_own,
}


def measure(way: str, size: int) -> Cost:
    """On this kernel, which is nobody else's."""
    subprocess.run(["ip", "address", "add", f"{_ADDRESS}/32", "dev", "lo"], check=True)
    setup = WAYS[way](size)
    before = kernel_memory()
    return Cost(results.timed(setup), (kernel_memory() - before) / (1 << 20))


def on_a_fresh_kernel(way: str, size: int) -> Cost:
    """Boot one for it."""
    command = [sys.executable, "-m", "bench.devices", _INSIDE, way, str(size)]
    done = run_in_kernel(find("uml"), command, memory=_MEMORY, timeout=_SECONDS)
    if done.status:
        raise SystemExit(f"{way}: status {done.status}\n{done.output}")
    cost = Cost(**json.loads(done.output.splitlines()[-1]))
    print(f"{way:12} {cost.seconds:8.2f} s {cost.memory:8.1f} MB", flush=True)
    return cost


def compare(costs: dict[str, list[Cost]], size: int) -> list[results.Row]:
    """What is in the middle of the rounds."""

    def middle(way: str, what: str) -> float:
        return float(statistics.median(getattr(cost, what) for cost in costs[way]))

    return [
        results.Row.compare(
            f"{name}: {words}", size, unit, middle(way, what), middle("theirs", what), bar
        )
        for way, words, bar in (
            ("shared", "one shared device", 0.1),
            ("answering", "the same, answering neighbours", 0.6),
        )
        for name, what, unit in (("set-up", "seconds", "s"), ("memory", "memory", "MB"))
    ]


def main(arguments: Sequence[str]) -> int:
    """Measure, print, save."""
    if arguments[:1] == [_INSIDE]:
        print(json.dumps(asdict(measure(arguments[1], int(arguments[2])))))
        return 0
    chosen = results.arguments(__doc__, size=LAST, rounds=1)
    costs: dict[str, list[Cost]] = {way: [] for way in WAYS}
    for _ in range(chosen.rounds):
        for way in WAYS:
            costs[way].append(on_a_fresh_kernel(way, chosen.size))
    return results.report("devices", compare(costs, chosen.size))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
