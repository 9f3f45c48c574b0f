"""Where a check learns what to expect: from an overlay file, or from the agent that runs here."""

from __future__ import annotations

import json
from pathlib import Path

from ovs_lwt.control import ask
from ovs_lwt.here import this_host
from ovs_lwt.mistakes import Refused, listing
from ovs_lwt.topology import Topology
from ovs_lwt.underlay.expected import Expected
from ovs_lwt.vswitch.plan import DEFAULT_REQUEST_PORT, DEFAULT_TUNNEL_PORT


def of_overlay(topology: Topology, host: str | None, ovsdb: str, bridge: str) -> Expected:
    """What an overlay expects of this machine. host: which it is; None: the one of its name.

    Raises Refused if the overlay has no such host, or if somebody else runs it.
    """
    name = host if host is not None else this_host(topology.vteps.name)
    index = topology.own_index(name)
    where = ovsdb if topology.vteps.plane[index] == "ovs" else ""
    return Expected.of(topology, name, where, bridge, DEFAULT_TUNNEL_PORT, DEFAULT_REQUEST_PORT)


def of_agent(control: Path, host: str | None) -> list[Expected]:
    """What the agent behind a control socket expects of its hosts, or of one of them."""
    every = [Expected.loaded(json.dumps(value)) for value in json.loads(ask(control, "expects"))]
    chosen = [expected for expected in every if host in (None, expected.host)]
    if not chosen:
        names = listing(expected.host for expected in every)
        raise Refused(f"the agent behind {control} does not drive {host}: it drives {names}")
    return chosen
