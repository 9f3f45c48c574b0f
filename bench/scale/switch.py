"""What the switch itself pays for many flows: its memory, and how many packets it looks up.

Packets are sent into ports of many tenants, to their endpoints at random. Twice: all of one flow,
which the switch then has in its cache; and each of a flow of its own, with wildcarded cache
entries off, so that all of them go through the tables.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from bench.results import Row
from bench.scale import guests, overlays, stage
from bench.scale.overlays import Fabric, mac_of
from tests.support.ovs import OvsHost

_SECONDS: Final = 3.0
_SMALL: Final = 1000
_PORTS: Final = 100
_LOOKUPS = re.compile(r"lookups: hit:(\d+) missed:(\d+)")


@dataclass(frozen=True, slots=True)
class Rates:
    """Packets a second: of one flow, and each through the tables."""

    cached: float
    looked_up: float


def rows(now: stage.Loaded, fabric: Fabric, folder: Path) -> list[Row]:
    """Its memory, and a full table against a small one."""
    size = fabric.size
    small = overlays.write(folder / "small", _SMALL, tenants=_PORTS)
    many = rates(now, fabric)
    with stage.loaded(small, "-2") as few:
        little = rates(few, small)
    name = f"packets/s through {now.flows:,} flows, against {few.flows:,}"
    memory = (now.switch[1] - now.switch[0]) / now.flows
    return [
        Row.state("ovs-vswitchd's memory per flow (RSS)", size, "bytes", memory),
        Row.state(f"{name}: looked up", size, "per s", many.looked_up, little.looked_up),
        Row.state(f"{name}: cached", size, "per s", many.cached, little.cached),
    ]


def rates(now: stage.Loaded, fabric: Fabric) -> Rates:
    """Send, and count."""
    generator = np.random.default_rng(1)
    tenants = generator.permutation(fabric.tenants)[:_PORTS].tolist()
    with guests.ports(now.host, tenants) as ports:
        guests.await_ports(now.controller, len(ports))
        for port in ports:
            now.host.run("ip", "link", "set", port, "up")
        places = range(1, fabric.size // fabric.tenants)
        each = [[mac_of(p) for p in generator.permutation(places).tolist()] for _ in ports]
        cached = _looked_up(now.host, ports[:1], [[mac_of(1)]], varied=False)
        now.host.appctl("upcall/disable-megaflows")
        looked_up = _looked_up(now.host, ports, each, varied=True)
        now.host.appctl("upcall/enable-megaflows")
    now.controller.settle()
    return Rates(sum(cached) / _SECONDS, looked_up[1] / _SECONDS)


def _looked_up(
    host: OvsHost, ports: Sequence[str], destinations: Sequence[Sequence[str]], *, varied: bool
) -> tuple[int, int]:
    """Packets that hit the cache meanwhile, and that did not."""
    before = _counters(host)
    program = (sys.executable, "-m", "bench.scale.sender", str(_SECONDS), str(int(varied)))
    subprocess.run(
        ["ip", "netns", "exec", str(host.netns), *program, *ports],
        input="\n".join(" ".join(each) for each in destinations),
        text=True,
        stdout=subprocess.DEVNULL,
        check=True,
    )
    after = _counters(host)
    return after[0] - before[0], after[1] - before[1]


def _counters(host: OvsHost) -> tuple[int, int]:
    found = _LOOKUPS.search(host.appctl("dpctl/show"))
    assert found is not None, "dpctl/show says it"
    return int(found[1]), int(found[2])
