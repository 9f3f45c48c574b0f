"""What an endpoint costs in memory: in the controller, in its columns alone, and as an object.

    python -m bench.scale.memory objects|columns OVERLAY

prints the bytes of all endpoints, as a Python program would keep them or in columns.
"""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields
from ipaddress import IPv4Interface
from os import getpid
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from bench.results import Row
from bench.scale import stage
from bench.scale.overlays import Fabric
from ovs_lwt.sources.overlay_file import load


def rows(now: stage.Loaded, fabric: Fabric) -> list[Row]:
    """Bytes for each endpoint."""
    size = fabric.size
    objects, columns = (_elsewhere(what, fabric) / size for what in WAYS)
    agent = (now.agent[1] - now.agent[0]) / size
    return [
        Row.limit("controller's memory per endpoint (RSS)", size, "bytes", agent, 200),
        Row.state("the same against a dict of dataclasses", size, "bytes", agent, objects),
        Row.state("its columns alone, without stamped rows", size, "bytes", columns, objects),
    ]


@dataclass(frozen=True, slots=True)
class _Endpoint:
    """What the overlay says of an endpoint, as one would write it down."""

    tenant: str
    name: str
    mac: str
    address: IPv4Interface
    host: str


def objects(overlay: Path) -> int:
    """A dict of them, by tenant and name; what is the same in many is kept once."""
    before = stage.memory(getpid())
    with (overlay.parent / "endpoints.csv").open(newline="") as file:
        lines = csv.reader(file)
        next(lines)
        found = {
            (sys.intern(tenant), sys.intern(name)): _Endpoint(
                sys.intern(tenant),
                sys.intern(name),
                sys.intern(mac),
                IPv4Interface(ip),
                sys.intern(host),
            )
            for tenant, name, mac, ip, host in lines
        }
    assert found, "they are to be counted"
    return stage.memory(getpid()) - before


def columns(overlay: Path) -> int:
    """The arrays that a topology consists of."""
    topology = load(overlay)
    parts = (topology.endpoints, topology.addresses4, topology.addresses6)
    return sum(_bytes(getattr(part, field.name)) for part in parts for field in fields(part))


def _bytes(column: np.ndarray | pa.Array) -> int:
    return int(column.nbytes)


WAYS: Final[dict[str, Callable[[Path], int]]] = {"objects": objects, "columns": columns}


def _elsewhere(what: str, fabric: Fabric) -> int:
    command = [sys.executable, "-m", "bench.scale.memory", what, str(fabric.overlay)]
    return int(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


if __name__ == "__main__":
    print(WAYS[sys.argv[1]](Path(sys.argv[2])))
