"""Whether the switch holds what it should, at this size: compared flow by flow, and traced."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import ovs.unixctl.client

from bench import results
from bench.results import Row
from bench.scale import guests, stage
from bench.scale.overlays import Fabric, mac_of
from ovs_lwt.sources.overlay_file import load
from ovs_lwt.topology import Topology
from tests.support.ovs import OvsHost

_TENANTS: Final = 100
_TRACED: Final = 10_000
_SEED: Final = 1
_DIFFER: Final = 2  # diff-flows's exit status
_SENT = re.compile(r"set_field:([0-9.]+)->tun_dst.*?\n\s+output:(\d+)", re.DOTALL)


def rows(now: stage.Loaded, fabric: Fabric, folder: Path) -> list[Row]:
    """All flows, then some packets."""
    differing = differences(now.host, fabric, folder)
    topology = load(fabric.overlay)
    generator = np.random.default_rng(_SEED)
    tenants = generator.permutation(fabric.tenants)[:_TENANTS]
    with guests.ports(now.host, tenants.tolist()):
        guests.await_ports(now.controller, len(tenants))
        traced = list(_pick(topology, tenants, generator))
        wrong: list[str] = []
        seconds = results.timed(lambda: wrong.extend(_astray(now.host, topology, traced)))
    for line in wrong[:5]:
        print(line)
    now.controller.settle()
    count = f"{len(traced):,}"
    return [
        Row.limit("ovs-ofctl diff-flows against the export", fabric.size, "lines", differing, 0),
        Row.limit(f"of {count} endpoints traced, astray", fabric.size, "astray", len(wrong), 0),
        Row.state("traces", fabric.size, "per s", len(traced) / seconds),
    ]


def differences(host: OvsHost, fabric: Fabric, folder: Path) -> int:
    """How many flows differ from what `ovs-lwt export` prints."""
    file = folder / "export.txt"
    command = ["export", str(fabric.overlay), "--host", stage.HOST, "flows", "--ovsdb", host.remote]
    with file.open("w") as out:
        subprocess.run([sys.executable, "-m", "ovs_lwt.cli", *command], stdout=out, check=True)
    found = subprocess.run(
        ["ip", "netns", "exec", stage.NETNS, *stage.OFCTL, "diff-flows", stage.BRIDGE, file],
        env=host.env,
        capture_output=True,
        text=True,
        check=False,
    )
    if found.returncode not in (0, _DIFFER):
        raise SystemExit(found.stderr)
    lines = found.stdout.splitlines()
    for line in lines[:5]:
        print(line)
    return len(lines)


def _pick(
    topology: Topology, tenants: np.ndarray[Any, np.dtype[np.int64]], generator: np.random.Generator
) -> Iterator[tuple[int, int]]:
    """(tenant's number, endpoint's index) of endpoints on other hosts, picked at random."""
    here = topology.vtep_index(stage.HOST)
    spans = [(int(t), topology.tenant_span(topology.tenant_index(f"t{t}"))) for t in tenants]
    every = [(t, e) for t, span in spans for e in span if topology.endpoints.vtep[e] != here]
    for place in generator.permutation(len(every))[:_TRACED].tolist():
        yield every[place]


def _astray(host: OvsHost, topology: Topology, traced: list[tuple[int, int]]) -> Iterator[str]:
    """What does not go where the overlay says: out of the tunnel, to the endpoint's VTEP, with its
    tenant's VNI.
    """
    tunnel = host.vsctl("get", "interface", "vx-lwt", "ofport")
    source = mac_of(0)
    control = host.rundir / f"ovs-vswitchd.{host.vswitchd_pid}.ctl"
    error, client = ovs.unixctl.client.UnixctlClient.create(str(control))
    if error:
        raise SystemExit(f"ovs-vswitchd does not answer on {control}")
    for tenant, endpoint in traced:
        mac = int(topology.endpoints.mac[endpoint]).to_bytes(6, "big").hex(":")
        flow = f"in_port=p{tenant},dl_src={source},dl_dst={mac},dl_type=0x88b5"
        _, problem, text = client.transact("ofproto/trace", [stage.BRIDGE, flow])
        vtep = topology.vteps.address(int(topology.endpoints.vtep[endpoint]))
        vni = int(topology.tenants.vni[topology.tenant_index(f"t{tenant}")])
        sent = [(to, port) for to, port in _SENT.findall(text or "")]
        if sent != [(vtep, tunnel)] or f"set_field:{vni:#x}->tun_id" not in text:
            yield f"{topology.endpoint_id(endpoint)} should go to {vtep}: {problem or text}"
    client.close()
