"""Changes of a running overlay: one at a time, ten thousand at once, a thousand a second.

python -m bench.scale.changes single|churn RESULT OVERLAY OPTIONS of `ovs-lwt run`
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Interface
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bench.results import Row
from bench.scale import stage
from bench.scale.driven import Driven, Script, memory
from bench.scale.overlays import HOSTS, PODS, Fabric
from ovs_lwt.columns import U32, Addresses4
from ovs_lwt.edit import Changes, changed
from ovs_lwt.manager import launch
from ovs_lwt.model import Endpoint
from ovs_lwt.slices import Slice
from ovs_lwt.topology import Topology
from tests.support.ovs import OvsHost

_ONE_BY_ONE: Final = 1000
_RATE: Final = 1000.0  # changes a second
_CHURN: Final = 60.0  # s
_SAMPLES: Final = (10.0, 50.0)  # s: once everything has been done a few times; before the audit
_NEW_MAC: Final = 0x02FF00000000
_NEW_ADDRESS: Final = 0x0A008000  # 10.0.128.0


Coming = tuple[dict[str, Endpoint], dict[str, None]]
"""Endpoints that are put, and names that go."""


class Edits:
    """Endlessly: an endpoint of some tenant is added, moved to another host, and removed again.

    apart: so many others come in between, which may be taken together without cancelling out
    """

    def __init__(self, topology: Topology, apart: int = 1) -> None:
        self._topology, self._apart = topology, apart
        self._tenants = np.random.default_rng(1).permutation(len(topology.tenants))
        self._count = 0

    def coming(self, count: int) -> Coming:
        """The next `count` changes."""
        put: dict[str, Endpoint] = {}
        gone: dict[str, None] = {}
        for number in range(self._count, self._count + count):
            turns, rest = divmod(number, 3 * self._apart)
            step, place = divmod(rest, self._apart)
            turn = turns * self._apart + place
            tenant = int(self._tenants[turn % len(self._tenants)])
            name = f"{self._topology.tenants.name[tenant]}/new{turn}"
            if step == 2:
                put.pop(name, None)
                gone[name] = None
            else:
                put[name] = _endpoint(self._topology, tenant, turn, step)
        self._count += count
        return put, gone

    def happen(self, coming: Coming) -> Topology:
        """Let these changes happen, together."""
        self._topology = changed(self._topology, Changes.of(self._topology, *coming))
        return self._topology


def _endpoint(topology: Topology, tenant: int, turn: int, step: int) -> Endpoint:
    """It is on a host of its tenant's pod, then on the next."""
    pod = int(topology.tenants.vni[tenant] - 1) % PODS
    host = pod * (HOSTS // PODS) + 1 + (turn + step) % (HOSTS // PODS - 1)
    return Endpoint(
        host=f"h{host}",
        mac=(_NEW_MAC + turn).to_bytes(6, "big").hex(":"),
        ip=(IPv4Interface((_NEW_ADDRESS + turn % 0x4000, 16)),),
    )


def single(topology: Topology) -> Script:
    """1,000 changes one by one, then a hundredth of the endpoints at once: picked at random, and as
    whole tenants.
    """
    number = len(topology.endpoints) // 100
    edits, taken = Edits(topology), []
    for _ in range(_ONE_BY_ONE):
        coming = edits.coming(1)
        began = time.perf_counter()
        topology = edits.happen(coming)
        yield topology
        taken.append(time.perf_counter() - began)
    found: dict[str, Any] = {"single": taken}
    every = np.flatnonzero(topology.endpoints.vtep != topology.vtep_index(stage.HOST))
    random = np.random.default_rng(2).permutation(every)[:number]
    for name, rows in (("random", random), ("tenants", every[:number])):
        moves = _moves(topology, rows)
        began = time.perf_counter()
        topology = changed(topology, moves)
        yield topology
        found[name] = time.perf_counter() - began
    return found


def _moves(topology: Topology, rows: NDArray[np.intp]) -> Changes:
    """Each of these endpoints is now on the next host of its pod, but never on h0."""
    rows = np.sort(rows)
    old = topology.taken(rows)
    four = topology.addresses4  # one each, in the endpoints' order
    put = Slice(
        len(topology.tenants),
        replace(old, vtep=_next_hosts(topology)[old.vtep]),
        Addresses4(np.arange(len(rows), dtype=np.uint32), four.ip[rows], four.prefix[rows]),
        topology.addresses6,  # none
    )
    none = np.zeros(0, np.uint32)
    return Changes(put, none, none.astype(np.uint64))


def _next_hosts(topology: Topology) -> U32:
    """For every host the one after it in its pod."""
    pod = HOSTS // PODS
    index = {name: place for place, name in enumerate(topology.vteps.name)}
    following = [
        max(number // pod * pod + (number + 1) % pod, 1)
        for number in (int(name[1:]) for name in topology.vteps.name)
    ]
    return np.array([index[f"h{number}"] for number in following], np.uint32)


def churn(topology: Topology) -> Script:
    """Changes that come at their time, whether or not the ones before are done: then those that
    have come meanwhile are taken together.
    """
    edits = Edits(topology, apart=int(_RATE))
    late: list[float] = []
    held: list[int] = []
    began, count = time.perf_counter(), 0
    while (now := time.perf_counter()) < began + _CHURN:
        if len(held) < len(_SAMPLES) and now > began + _SAMPLES[len(held)]:
            held.append(memory())
        due = int((now - began) * _RATE) + 1 - count
        if not due:
            yield began + count / _RATE
            continue
        yield edits.happen(edits.coming(due))
        done = time.perf_counter()
        late += [done - began - number / _RATE for number in range(count, count + due)]
        count += due
    seconds = time.perf_counter() - began
    return {
        "rate": count / seconds,
        "behind": max(0.0, _CHURN - count / _RATE),
        "late": late,
        "memory": held,
    }


SCRIPTS: Final[dict[str, Callable[[Topology], Script]]] = {"single": single, "churn": churn}


def rows_of_single(fabric: Fabric, cold: float) -> list[Row]:
    """One at a time, and many at once. cold: seconds that a cold start with as many takes"""
    size, found = fabric.size, _drive("single", fabric)
    p50, p99 = np.percentile(np.array(found["single"]) * 1e3, [50, 99]).tolist()
    many = size // 100
    return [
        Row.limit(f"one endpoint changed, of {_ONE_BY_ONE:,}: p50", size, "ms", p50, 5),
        Row.limit(f"one endpoint changed, of {_ONE_BY_ONE:,}: p99", size, "ms", p99, 20),
        *(
            Row.compare(f"{many:,} moved at once, {what}", size, "s", found[name], cold, 2)
            for name, what in (("random", "at random"), ("tenants", "whole tenants"))
        ),
    ]


def rows_of_churn(fabric: Fabric) -> list[Row]:
    """Changes that do not wait."""
    size, found = fabric.size, _drive("churn", fabric)
    p50, p99, worst = np.percentile(np.array(found["late"]) * 1e3, [50, 99, 100]).tolist()
    first, last = found["memory"]
    name = f"churn, {_RATE:,.0f} changes/s for {_CHURN:.0f} s"
    return [
        Row.limit(f"{name}: behind at the end", size, "s", found["behind"], 1),
        Row.state(f"{name}: done", size, "per s", found["rate"]),
        Row.state(f"{name}: p50 until the switch has it", size, "ms", p50),
        Row.state(f"{name}: p99", size, "ms", p99),
        Row.limit(f"{name}: the longest", size, "ms", worst, 1000),
        Row.compare(f"{name}: memory after 50 s, against 10 s", size, "bytes", last, first, 1.05),
    ]


def _drive(script: str, fabric: Fabric) -> dict[str, Any]:
    fabric.fill()
    with OvsHost(stage.NETNS) as host:
        result = host.rundir / "result.json"
        program = ("bench.scale.changes", script, result, fabric.overlay)
        with stage.Controller(host, program) as controller:
            controller.wait()
        return dict(json.loads(result.read_text()))


def main() -> int:
    """Run the driven controller."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("script", choices=SCRIPTS)
    parser.add_argument("result", type=Path)
    parser.add_argument("overlay", type=Path)
    for option in ("--host", "--ovsdb", "--control"):
        parser.add_argument(option, required=True)
    chosen = parser.parse_args()
    Driven.script = staticmethod(SCRIPTS[chosen.script])
    Driven.result = chosen.result
    overrides = {
        "overlay": str(chosen.overlay),
        "overlay_host": [f"{chosen.host}={chosen.ovsdb}"],
        "overlay_control": chosen.control,
    }
    return launch(["bench.scale.driven"], [], None, overrides)


if __name__ == "__main__":
    sys.exit(main())
