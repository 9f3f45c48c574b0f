"""`make bench-netlink`: FDB entries and encap routes into a real kernel, against iproute2.

Ours: columns are stamped into messages, sent, and every acknowledgement read. Theirs: `bridge
-batch` and `ip -batch` load the very same entries, exported to a file beforehand. In turns, each
time into a network namespace of its own; medians. The kernel's listing is then compared with what
was to be there: both must leave nothing to do.

    python -m bench.netlink [--size N] [--rounds N]
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from socket import AF_INET

import numpy as np

from bench import results
from ovs_lwt.backends.netlink import dumps, export
from ovs_lwt.backends.netlink.program import Rows, stamp
from ovs_lwt.backends.netlink.templates import Devices
from ovs_lwt.backends.netlink.transaction import between
from ovs_lwt.backends.netlink.transport import Kernel
from ovs_lwt.backends.netlink.wire import Listed
from ovs_lwt.stencil import Column
from ovs_lwt.veth.netlink import inside
from tests.support.ovs import in_netns, network_namespace

_BAR = 0.5
_NETNS = f"ovs-lwt-bench-{os.getpid()}"
_TENANTS, _VTEPS = 1200, 200
_TABLES = 4  # `ip rule` tables do not come free: the kernel allocates each


@dataclass(frozen=True, slots=True)
class Load:
    """What is loaded, by whom, and how it is read back."""

    name: str
    tool: str
    rows: Callable[[int], Rows]
    listed: Callable[[Kernel, int], list[Listed]]


def _endpoints(size: int) -> Rows:
    number = np.arange(size)
    columns: dict[str, Column] = {
        "vni": 1 + number % _TENANTS,
        "mac": (0x020000000000 + number // _TENANTS).astype(np.uint64),
        "vtep": 0x0A000001 + number % _VTEPS,
        "dev": np.array([0]),
    }
    return Rows("fdb.remote_endpoint", size, columns)


def _prefixes(size: int) -> Rows:
    number = np.arange(size)
    columns: dict[str, Column] = {
        "table": 1000 + number % _TABLES,
        "prefix": 0x14000000 + number // _TABLES,
        "length": np.array([32], np.uint8),
        "vni": 1000 + number % _TABLES,
        "local": np.array([0x0A000000]),
        "vtep": 0x0A000001 + number % _VTEPS,
        "dev": np.array([0]),
    }
    return Rows("route.remote_prefix", size, columns)


LOADS = (
    Load("FDB entries", "bridge", _endpoints, dumps.fdb),
    Load("encap routes", "ip", _prefixes, lambda kernel, _: dumps.routes(kernel, AF_INET)),
)


@contextmanager
def shared_device() -> Iterator[Devices]:
    """An empty host with one shared device."""
    with network_namespace(_NETNS), inside(_NETNS) as links:
        kind = {"kind": "vxlan", "vxlan_collect_metadata": 1, "vxlan_learning": 0}
        links.link("add", ifname="vxlan0", vxlan_port=4789, **kind)
        index = links.link_lookup(ifname="vxlan0")[0]
        links.link("set", index=index, state="up")
        yield Devices.of({"vxlan0": index})
        # The kernel clears a namespace away behind our back, and would do so during the next turn.
        links.link("del", index=index)


def measure(load: Load, size: int, rounds: int, folder: Path) -> results.Row:
    """Take turns, `rounds` times."""
    rows = load.rows(size)
    batch = folder / load.tool
    with batch.open("w") as out:
        export.write(load.tool, [rows], Devices.of({"vxlan0": 0}), out)
    ours, theirs, reads = [], [], []
    command = (load.tool, "-batch", str(batch))
    for turn in range(rounds):
        with shared_device() as devices, Kernel(_NETNS) as kernel:
            ours.append(results.timed(lambda: _stamped(kernel, rows, devices)))
            reads.append(results.timed(lambda: _left_to_do(load, kernel, rows, devices)))
        with shared_device() as devices, Kernel(_NETNS) as kernel:
            theirs.append(results.timed(lambda: in_netns(_NETNS, *command, timeout=600)))
            if not turn:
                _left_to_do(load, kernel, rows, devices)
    print(f"{size:,} {load.name}; {rounds} rounds, in turns:")
    print("  ours  ", *(f"{seconds:.2f}" for seconds in ours), "s")
    print("  theirs", *(f"{seconds:.2f}" for seconds in theirs), "s")
    print("  a restart (stamped, read back, compared, nothing sent)", *(f"{s:.2f}" for s in reads))
    middle = statistics.median(ours), statistics.median(theirs)
    return results.Row.compare(f"{load.name} to the kernel", size, "s", *middle, _BAR)


def _stamped(kernel: Kernel, rows: Rows, devices: Devices) -> None:
    outcome = kernel.run(between([], stamp([rows], devices)))
    if outcome.failed:
        raise SystemExit("\n".join(map(str, outcome.failures)))


def _left_to_do(load: Load, kernel: Kernel, rows: Rows, devices: Devices) -> None:
    found = between(load.listed(kernel, int(devices.index[0])), stamp([rows], devices))
    if len(found) or found.counts.unchanged != rows.count:
        raise SystemExit(f"the kernel does not hold what it was given: {found.counts}")


def main() -> int:
    """Measure, print, save."""
    chosen = results.arguments(__doc__, size=300_000)
    with tempfile.TemporaryDirectory(prefix="ovs-lwt-bench-") as name:
        rows = [measure(load, chosen.size, chosen.rounds, Path(name)) for load in LOADS]
    return results.report("netlink", rows)


if __name__ == "__main__":
    sys.exit(main())
