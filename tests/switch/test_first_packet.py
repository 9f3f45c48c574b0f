"""docs/first-packet.md, asked of a real Open vSwitch: the page shows what the switch says."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ovs_lwt import offline
from ovs_lwt.backends.openflow import export
from ovs_lwt.backends.openflow.flowfiles import read_flows
from ovs_lwt.backends.openflow.pipeline import pipeline
from ovs_lwt.sources.overlay_file import load
from ovs_lwt.topology import Topology
from ovs_lwt.vswitch import DEFAULT_TUNNEL_PORT, SwitchPlan
from ovs_lwt.vswitch.switch import LocalSwitch
from tests.support.markdown import CHECKOUT, Command, blocks, commands
from tests.support.ovs import OvsHost

PAGE = (CHECKOUT / "docs/first-packet.md").read_text("utf-8")
TRACES = list(commands(PAGE))
BRIDGE = "br-lwt"

_VISIT = re.compile(r"^ {0,1}\d+\. .*", re.MULTILINE)
_COOKIE = re.compile(r"cookie (0x[0-9a-f]+)")
_ENTRY = re.compile(r"^(?P<name>\w+)\(", re.MULTILINE)
_TABLE = re.compile(r"table=(\w+) ")


@pytest.fixture(scope="module")
def overlay(tmp_path_factory: pytest.TempPathFactory) -> Topology:
    """The overlay of the page."""
    file = tmp_path_factory.mktemp("page") / "overlay.yaml"
    (text,) = blocks(PAGE, "yaml")
    file.write_text(text, "utf-8")
    return load(file)


@pytest.fixture(scope="module")
def hosts(
    overlay: Topology, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, OvsHost]]:
    """The page's hosts, each loaded with what `ovs-lwt export` prints for it."""
    with ExitStack() as stack:
        hosts = {}
        for name in overlay.vteps.name:
            hosts[name] = stack.enter_context(OvsHost(f"doc-{os.getpid()}-{name}"))
            load_by_hand(hosts[name], overlay, name, tmp_path_factory.mktemp(name))
        yield hosts


def load_by_hand(host: OvsHost, overlay: Topology, name: str, folder: Path) -> None:
    index = overlay.vtep_index(name)
    with LocalSwitch(host.remote, BRIDGE) as switch:
        switch.prepare(
            SwitchPlan(
                local_vtep=overlay.vteps.address(index),
                udp_port=overlay.underlay.udp_port,
                datapath_id=int(overlay.vteps.datapath_id[index]),
                bridge=BRIDGE,
                datapath_type="netdev",
            )
        )
    snapshot = offline.from_overlay(overlay, name)
    for port in set(snapshot.names.values()) - {DEFAULT_TUNNEL_PORT}:
        host.vsctl("add-port", BRIDGE, port, "--", "set", "interface", port, "type=internal")
    flows, groups = io.StringIO(), io.StringIO()
    export.write_flows(snapshot.view, snapshot.names, flows)
    export.write_groups(snapshot.view, snapshot.names, groups)
    (folder / "flows").write_text(flows.getvalue())
    (folder / "groups").write_text(groups.getvalue())
    host.ofctl("-O", "OpenFlow14", "add-groups", BRIDGE, str(folder / "groups"))
    host.ofctl("-O", "OpenFlow14", "--bundle", "add-flows", BRIDGE, str(folder / "flows"))


def traced(hosts: dict[str, OvsHost], trace: Command) -> list[str]:
    """What the switch says."""
    tool, *arguments = trace.line.split()
    assert tool == "ovs-appctl"
    return hosts[trace.where].appctl(*arguments).splitlines()


@pytest.mark.parametrize("trace", TRACES, ids=lambda trace: trace.where)
def test_a_packet_takes_the_way_that_the_page_shows(
    hosts: dict[str, OvsHost], trace: Command
) -> None:
    said = traced(hosts, trace)

    assert trace.shown, "a trace without a word about what the switch says"
    rest = iter(said)
    for line in trace.shown:
        assert line in rest, f"not said, or not in this order: {line!r}\n" + "\n".join(said)
    visits = _VISIT.findall("\n".join(said))
    assert visits == _VISIT.findall("\n".join(trace.shown)), "the page leaves out a table"


def test_the_page_quotes_every_flow_that_its_packets_meet() -> None:
    entries = {flow.cookie >> 32: id_ for id_, flow in pipeline().flows.items()}
    met = {
        entries[int(cookie, 16) >> 32]
        for trace in TRACES
        for cookie in _COOKIE.findall("\n".join(trace.shown))
    }
    quoted = {
        f"{table}.{name}"
        for block in blocks(PAGE, "flows")
        for table, name in zip(_TABLE.findall(block), _ENTRY.findall(block), strict=True)
    }
    assert quoted == met


def test_the_page_names_the_tables_as_the_files_do() -> None:
    tables = [(file.number, file.name) for file in read_flows() if file.number is not None]
    assert ", ".join(f"{number} {name}" for number, name in tables) in " ".join(PAGE.split())
