"""`python -m bench.fleet`: one agent for 10 to 1,000 hosts; what a host and a change cost it.

The agent is the one that `ovs-lwt run` starts, down to the bytes that it sends; the switches are in
memory (tests/support/quick_switch.py), and what they do is not counted. Every host has as many
tenants and guests as any other, and every tenant spans ten hosts: the overlay grows with the hosts.
Measured, in seconds of the processor and of the clock:

- the cold start: all switches connect, empty, and get their flows and groups
- a change (an endpoint is added, moves, is removed): from the change to the last commit, of a
  tenant on ten hosts while the hosts become more, and of tenants on more and more of 1,000 hosts
- a look at all hosts while nothing happens (every `agent.POLL`), and the process's memory

Afterwards every switch concerned, and twenty others, must hold what a fresh start gives them.

    python -m bench.fleet [--rounds N]
"""

from __future__ import annotations

import argparse
import logging
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from ipaddress import IPv4Address
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import Any, Final

import matplotlib
import numpy as np
import pyarrow as pa
from matplotlib import pyplot

from bench import results
from ovs_lwt.columns import Addresses4, Addresses6, EndpointColumns
from ovs_lwt.edit import Changes, changed
from ovs_lwt.model import Endpoint, Tenant, Underlay, Vtep
from ovs_lwt.names import port_name
from ovs_lwt.topology import TenantColumns, Topology, VtepColumns
from ovs_lwt.vswitch import LocalPort
from tests.support.fleet import Fleet, Story
from tests.support.quick_switch import QuickSwitch

SIZES: Final = (10, 30, 100, 300, 1000)
SPAN: Final = 10  # hosts of an ordinary tenant
TENANTS: Final = 10  # on a host, and among ten hosts
GUESTS: Final = 2  # of a tenant on a host
SPANS: Final = (1, 3, 10, 30, 100, 300, 1000)
_SPOT_CHECKS: Final = 20
_LOOKS: Final = 20
_MORE: Final = 2.0  # slices fill up with hosts (to 8,192 endpoints), and all are visited
_EACH: Final = 1.5
_UNDERLAY, _TENANT_NETWORK = IPv4Address("10.0.0.1"), 0xAC100000  # 172.16.0.0/12
_NEW_PORT: Final = 60_000
PLOT: Final = Path(__file__).parents[1] / "docs" / "fleet.svg"


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds: of the processor, and of the clock."""

    cpu: float
    wall: float

    def __sub__(self, other: Cost) -> Cost:
        return Cost(self.cpu - other.cpu, self.wall - other.wall)

    def __truediv__(self, by: float) -> Cost:
        return Cost(self.cpu / by, self.wall / by)


@dataclass(frozen=True, slots=True)
class Measured:
    """What one fleet costs. changes: hosts that the change concerns -> in the middle of many;
    look: at all hosts; memory: of the process, without the switches' tables, bytes
    """

    hosts: int
    flows: int
    cold: Cost
    changes: dict[int, Cost]
    look: Cost
    memory: int


@dataclass(slots=True)
class Meter:
    """The agent's time: it stands still while somebody else's work is done."""

    _aside: Cost = field(default_factory=lambda: Cost(0.0, 0.0))

    def read(self) -> Cost:
        """What the agent has used so far."""
        return Cost(time.process_time(), time.perf_counter()) - self._aside

    def clock(self) -> float:
        """The agent's clock."""
        return self.read().wall

    @contextmanager
    def aside(self) -> Iterator[None]:
        """What is done in here is not the agent's."""
        before = self.read()
        try:
            yield
        finally:
            spent = self.read() - before
            self._aside = Cost(self._aside.cpu + spent.cpu, self._aside.wall + spent.wall)


@dataclass(slots=True)
class Uncounted(QuickSwitch):
    """A switch whose work is not counted."""

    meter: Meter = field(default_factory=Meter)

    def take(self, data: bytes) -> bytes:
        with self.meter.aside():
            return QuickSwitch.take(self, data)


def overlay(hosts: int, spans: Sequence[int] = ()) -> Topology:
    """`hosts` hosts, ten tenants on every ten of them, and for every n of `spans` one tenant on the
    first n.
    """
    names = [f"t{number}" for number in range(hosts // SPAN * TENANTS)]
    number = np.arange(hosts * TENANTS * GUESTS)
    place = number // GUESTS
    vtep = [place // TENANTS, *(np.arange(span) for span in spans)]
    tenant = [
        place // TENANTS // SPAN * TENANTS + place % TENANTS,
        *(np.full(span, len(names) + index) for index, span in enumerate(spans)),
    ]
    guest = [place // TENANTS % SPAN * GUESTS + number % GUESTS, *(vtep[1:])]
    guests = np.concatenate(guest)
    count = len(guests)
    names += [f"wide{span}" for span in spans]
    vteps = {f"h{host:04}": Vtep(address=_UNDERLAY + host) for host in range(hosts)}
    return Topology.from_columns(
        Underlay(),
        VtepColumns.build(vteps),
        TenantColumns.build({name: Tenant(vni=vni) for vni, name in enumerate(names, 1)}),
        EndpointColumns(
            tenant=np.concatenate(tenant).astype(np.uint32),
            mac=(0x020000000000 + guests).astype(np.uint64),
            vtep=np.concatenate(vtep).astype(np.uint32),
            spoofing=np.zeros(count, np.bool_),
            router=np.zeros(count, np.uint8),
            name=pa.array([f"e{each}" for each in guests.tolist()], pa.string()),
        ),
        Addresses4(
            np.arange(count, dtype=np.uint32),
            (_TENANT_NETWORK + 1 + guests).astype(np.uint32),
            np.full(count, 12, np.uint8),
        ),
        Addresses6(np.empty(0, np.uint32), np.empty((0, 16), np.uint8), np.empty(0, np.uint8)),
    )


class Run:
    """One fleet, from its cold start to the last check."""

    def __init__(self, hosts: int, rounds: int, spans: Sequence[int] = ()) -> None:
        self._rounds, self._spans = rounds, spans
        self._random = Random(hosts)
        self._meter = Meter()
        topology = overlay(hosts, self._spans)
        self._fleet = Fleet(topology, partial(Uncounted, meter=self._meter), self._meter.clock)
        self._names = topology.vteps.name
        self._changes: dict[int, Cost] = {}
        self._concerned: set[str] = set()
        self._cold = self._look = Cost(0.0, 0.0)

    def measure(self) -> Measured:
        """Run it."""
        self._begin = self._meter.read()
        self._fleet.run(self._story())
        switches = self._fleet.switch.values()
        return Measured(
            len(self._names),
            sum(len(switch.flows) for switch in switches),
            self._cold,
            self._changes,
            self._look,
            _memory() - sum(switch.memory() for switch in switches),
        )

    def _story(self) -> Story:
        self._fleet.connect(self._names)
        yield
        self._cold = self._meter.read() - self._begin
        if self._spans:
            for span in self._spans:
                rounds = max(1, self._rounds * SPAN // max(span, SPAN))
                yield from self._series([(f"wide{span}", self._names[:span])] * rounds)
        else:
            pods = [self._random.randrange(len(self._names) // SPAN) for _ in range(self._rounds)]
            yield from self._series(
                [(f"t{pod * TENANTS}", self._names[pod * SPAN : (pod + 1) * SPAN]) for pod in pods]
            )
        before = self._meter.read()
        for _ in range(_LOOKS):
            yield
        self._look = (self._meter.read() - before) / _LOOKS
        others = self._random.sample(self._names, min(_SPOT_CHECKS, len(self._names)))
        self._check(sorted(self._concerned | set(others)))

    def _series(self, where: Sequence[tuple[str, Sequence[str]]]) -> Story:
        """An endpoint of each of these tenants, on these hosts, comes, moves and goes; the last one
        stays.
        """
        costs = []
        for number, (tenant, hosts) in enumerate(where, 1):
            for host in (hosts[0], hosts[-1], None)[: 2 if number == len(where) else 3]:
                commits = self._commits()
                self._plug(tenant, hosts, host)
                before = self._meter.read()
                self._fleet.change(self._changed(tenant, host))
                yield
                spent = self._meter.read() - before
                if len(hosts) == 1 and commits == self._commits():
                    continue  # it has moved from its only host to its only host
                costs.append(spent)
                now = zip(self._names, commits, self._commits(), strict=True)
                if {name for name, one, other in now if one != other} != set(hosts):
                    raise SystemExit(f"{tenant}: others than its {len(hosts)} hosts have changed")
            self._concerned.update(hosts)
        self._changes[len(hosts)] = Cost(
            statistics.median(cost.cpu for cost in costs),
            statistics.median(cost.wall for cost in costs),
        )

    def _commits(self) -> list[int]:
        return [switch.commits for switch in self._fleet.switch.values()]

    def _plug(self, tenant: str, hosts: Sequence[str], host: str | None) -> None:
        """The guest's port is on this host, and no other."""
        for name in hosts:
            facts = self._fleet.ovsdb[name]
            facts.found = [port for port in facts.found if port.ofport != _NEW_PORT]
            if name == host:
                port = LocalPort(port_name(tenant, "new"), _NEW_PORT, f"{tenant}/new")
                facts.found.append(port)

    def _changed(self, tenant: str, host: str | None) -> Topology:
        topology, name = self._fleet.source.topology, f"{tenant}/new"
        if host is None:
            return changed(topology, Changes.of(topology, {}, [name]))
        put = Endpoint(host=host, mac="02:ff:00:00:00:01", ip=("172.31.0.1/12",))
        return changed(topology, Changes.of(topology, {name: put}))

    def _check(self, names: Sequence[str]) -> None:
        with self._meter.aside():
            for name in names:
                held, fresh = self._fleet.switch[name], self._fleet.fresh(name)
                if (held.flows, held.groups) != (fresh.flows, fresh.groups):
                    raise SystemExit(f"{name} does not hold what a fresh start gives it")


def measure(hosts: int, rounds: int, spans: Sequence[int] = ()) -> Measured:
    """Measure one fleet: changes of ordinary tenants, or of the wide ones if there are some."""
    logging.disable()
    Run(SPAN, 1).measure()  # what is encoded once a process
    return Run(hosts, rounds, spans).measure()


def alone(*arguments: Any) -> Measured:
    """The same in a process of its own, whose memory is measured, too."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(measure, *arguments).result()


def _memory() -> int:
    """Bytes of memory that this process holds now."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmRSS:"))


def show(fleets: Sequence[Measured], wide: Measured) -> None:
    """Print what was measured."""
    heading = ("hosts", "flows", "cold start", "a host", "a change", "wall", "a look", "memory")
    print("".join(f"{word:>12}" for word in heading))
    for fleet in fleets:
        change = fleet.changes[SPAN]
        words = (
            *(f"{fleet.hosts:,}", f"{fleet.flows:,}", f"{fleet.cold.cpu:.2f} s"),
            f"{fleet.cold.cpu / fleet.hosts * 1e3:.2f} ms",
            *(f"{change.cpu * 1e3:.1f} ms", f"{change.wall * 1e3:.1f} ms"),
            *(f"{fleet.look.cpu * 1e3:.2f} ms", f"{fleet.memory / (1 << 20):.0f} MB"),
        )
        print("".join(f"{word:>12}" for word in words))
    print(f"a change, by how many of {wide.hosts:,} hosts it concerns ({wide.flows:,} flows):")
    for span, cost in wide.changes.items():
        each = f"{cost.cpu * 1e3:.1f} ms", f"{cost.cpu / span * 1e3:.2f} ms a host"
        print(f"{span:12,}" + "".join(f"{word:>20}" for word in each))
    print(f"its cost grows with their number to the power of {exponent(wide):.2f}")


def exponent(wide: Measured) -> float:
    """k, where the cost of a change goes as (hosts concerned)**k, from ten of them on."""
    spans = [span for span in wide.changes if span >= SPAN]
    costs = [wide.changes[span].cpu for span in spans]
    return float(np.polyfit(np.log(spans), np.log(costs), 1)[0])


def compare(fleets: Sequence[Measured], wide: Measured) -> list[results.Row]:
    """The largest fleet against the smallest, and the widest change against that of ten hosts."""
    least, most = fleets[0], fleets[-1]
    widest = max(wide.changes)
    return [
        results.Row.compare(name, size, "ms", ours * 1e3, theirs * 1e3, bar)
        for name, size, ours, theirs, bar in (
            (
                f"fleet: cold start of a host, among {most.hosts:,} against among {least.hosts}",
                *(most.hosts, most.cold.cpu / most.hosts, least.cold.cpu / least.hosts, _MORE),
            ),
            (
                f"fleet: a change on {SPAN} hosts, of {most.hosts:,} against of {least.hosts}",
                *(most.hosts, most.changes[SPAN].cpu, least.changes[SPAN].cpu, _MORE),
            ),
            (
                f"fleet: a change, for each of {widest:,} hosts against of {SPAN}",
                *(widest, wide.changes[widest].cpu / widest, wide.changes[SPAN].cpu / SPAN, _EACH),
            ),
        )
    ]


def draw(fleets: Sequence[Measured], wide: Measured) -> None:
    """Draw the cost against the number of hosts, and of hosts concerned."""
    matplotlib.use("svg")
    # The same numbers give the same file.
    matplotlib.rcParams.update({"svg.hashsalt": "ovs-lwt", "svg.fonttype": "none"})
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9.6, 3.8), layout="constrained")
    hosts = [fleet.hosts for fleet in fleets]
    for label, marker, costs in (
        (f"a change that concerns {SPAN}", "o", [fleet.changes[SPAN].cpu for fleet in fleets]),
        ("the cold start of one", "s", [fleet.cold.cpu / fleet.hosts for fleet in fleets]),
    ):
        left.plot(hosts, [cost * 1e3 for cost in costs], marker=marker, label=label)
    left.set(xscale="log", xlabel="hosts", ylabel="ms of the agent's processor")
    left.set_ylim(0, 1.5 * 1e3 * max(fleet.changes[SPAN].cpu for fleet in fleets))
    left.set_title("What it costs as hosts become more", fontsize="medium")
    spans = np.array(list(wide.changes))
    measured = np.array([cost.cpu * 1e3 for cost in wide.changes.values()])
    each = (measured[-1] - measured[0]) / (spans[-1] - spans[0])
    once = measured[0] - each * spans[0]
    line = f"{once:.0f} ms, and {each:.1f} ms a host"
    right.plot(spans, once + each * spans, "-", lw=1, color="gray", label=line)
    right.plot(spans, measured, "o", label="measured")
    right.set(xscale="log", yscale="log", xlabel="hosts that the change concerns")
    right.set_title(f"One change among {wide.hosts:,} hosts", fontsize="medium")
    for axes in (left, right):
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    figure.savefig(PLOT, metadata={"Date": None})


def rows(rounds: int = 5) -> list[results.Row]:
    """Measure every size, print, draw; return what is compared."""
    twice = [[alone(size, rounds) for size in SIZES] for _ in range(2)]
    # The quieter of two: other work on the machine shows in the processor's time, too.
    fleets = [
        min(pair, key=lambda fleet: fleet.changes[SPAN].cpu) for pair in zip(*twice, strict=True)
    ]
    wide = alone(SIZES[-1], rounds, SPANS)
    show(fleets, wide)
    draw(fleets, wide)
    return compare(fleets, wide)


def main() -> int:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    return results.report("fleet", rows(chosen.rounds))


if __name__ == "__main__":
    sys.exit(main())
