"""The same story on os-ken and on Ryu: every way to start, and other apps beside ours."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.controller import (
    Controller,
    Ear,
    cli,
    controller,
    difference,
    flows,
    started,
    untouched,
    write,
)
from tests.support.frameworks import Interpreter
from tests.support.overlays import two_tenants
from tests.support.ovs import OvsHost, eventually, network_namespace
from tests.support.packets import Wire, read_advertisement, solicitation, token

WEB1 = ("02:00:00:00:00:01", "fd00::11")
WEB2 = ("02:00:00:00:00:02", "fd00::12")
# What a monitoring app does: asks for flow stats all the time, on the same connection.
MONITOR = """
import os

from ovs_lwt.backends.openflow import framework

FW = framework.current()
PARSER = FW.ofproto_v1_4_parser


class Monitor(FW.App):
    OFP_VERSIONS = (FW.ofproto_v1_4.OFP_VERSION,)

    def start(self):
        super().start()
        self.datapaths = []
        FW.hub.spawn(self.ask)

    def ask(self):
        while True:
            for datapath in self.datapaths:
                datapath.send_msg(PARSER.OFPFlowStatsRequest(datapath))
            FW.hub.sleep(0.02)

    @FW.handles("EventOFPStateChange", "main")
    def connected(self, event):
        self.datapaths.append(event.datapath)

    @FW.handles("EventOFPFlowStatsReply", "main")
    def listed(self, event):
        matched = [flow.match["metadata"] for flow in event.msg.body if "metadata" in flow.match]
        if event.msg.body:
            said = f"monitor: {len(event.msg.body)} flows, {matched.count(1010)} blue\\n"
            os.write(1, said.encode())  # whole: the agent's thread writes to this log, too
"""


@dataclass(frozen=True, slots=True)
class Place:
    """A host for one framework, with the guest blue/web1 in a namespace of its own."""

    on: Interpreter
    host: OvsHost
    guest: str
    overlay: Path
    control: Path

    def run(self, *options: str) -> AbstractContextManager[Controller]:
        """`ovs-lwt run` on this framework."""
        framework = ("--framework", self.on.framework)
        return controller(self.host, self.overlay, *framework, *options, python=self.on.python)

    def manage(self, *arguments: str) -> AbstractContextManager[Controller]:
        """`ovs-lwt manager` on this framework."""
        command = [self.on.python, "-m", "ovs_lwt.cli", "manager"]
        command += ["--framework", self.on.framework, *arguments]
        return started(command, self.control, self.host.netns)

    def knows(self, neighbour: tuple[str, str]) -> bool:
        """Whether the guest that asks for a neighbour is told its MAC."""
        mark = token()
        with closing(Wire(self.guest, "eth0")) as wire:
            wire.send(solicitation(WEB1, neighbour[1], mark))

            def told() -> bool:
                heard = map(read_advertisement, wire.heard())
                return any(said and (said.about, said.link_layer) == neighbour[::-1]
                           and said.checksum_right for said in heard)  # fmt: skip

            return eventually(told)


@pytest.fixture(scope="module")
def place(on: Interpreter, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder, name = tmp_path_factory.mktemp(on.package), f"fw-{os.getpid()}"
    with ExitStack() as stack:
        host = stack.enter_context(OvsHost(f"{name}-h"))
        guest = stack.enter_context(network_namespace(f"{name}-g"))
        overlay = two_tenants()
        overlay["tenants"]["blue"]["endpoints"]["web2"]["ip"].append("fd00::12/64")
        yield Place(
            on, host, guest, write(folder / "overlay.yaml", overlay), host.rundir / "lwt.ctl"
        )


def test_cold_start_change_and_restart(place: Place) -> None:
    host, overlay = place.host, place.overlay
    original = overlay.read_text("utf-8")
    with place.run() as running:
        assert f"{place.on.package}.base.app_manager" in running.log, "it is this framework"
        assert difference(host, overlay) == ""
        attach = ("attach", str(overlay), "blue/web1", "--netns", place.guest)
        attached = cli(*attach, "--ovsdb", host.remote, netns=host.netns)
        assert attached.returncode == 0, attached.stderr
        assert running.in_sync("blue/web1"), running.log
        assert difference(host, overlay) == ""
        assert place.knows(WEB2), "a flow answers"

        before, ear = flows(host), Ear(host)
        write(overlay, original.replace("10.0.0.12/24", "10.0.0.112/24"))
        assert running.reload().startswith("host1: 2 flows written, 2 deleted, ")
        assert len(ear.changes()) == 4
        assert untouched(before, flows(host))
        assert difference(host, overlay) == ""
        write(overlay, original)
        running.reload()
        assert running.running.stop()[0] == 0, running.log
    before = flows(host)
    ear.listen()
    with place.run() as running:
        assert running.in_sync("blue/web1")
    assert ear.changes() == []
    assert untouched(before, flows(host))
    assert flows(host).keys() == before.keys()


def test_the_manager_takes_options_and_a_configuration_file(place: Place, tmp_path: Path) -> None:
    """As a Ryu app among others: `ovs-lwt manager ovs_lwt.app …`, one way and the other."""
    options = {
        "overlay": str(place.overlay),
        "overlay-host": f"host1={place.host.remote}",
        "overlay-control": str(place.control),
        "overlay-datapath": "netdev",
        "ofp-listen-host": "127.0.0.1",
    }
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    with place.manage("ovs_lwt.app", *words) as running:
        assert running.in_sync("blue/web1"), running.log
        assert difference(place.host, place.overlay) == ""
        assert running.running.stop()[0] == 0, running.log
    ear = Ear(place.host)
    lines = [f"{name.replace('-', '_')} = {value}" for name, value in options.items()]
    file = tmp_path / "manager.conf"
    file.write_text("\n".join(["[DEFAULT]", "app_lists = ovs_lwt.app", *lines]), "utf-8")
    by_module = place.on.manager("--config-file", str(file))
    with started(by_module, place.control, place.host.netns) as running:
        assert running.in_sync("blue/web1"), running.log
        assert running.running.stop()[0] == 0, running.log
    assert ear.changes() == []


def test_exit_ends_the_process_and_leaves_the_flows(place: Place) -> None:
    with place.run() as running:
        before = flows(place.host)
        assert place.host.run("ovs-appctl", "-t", str(place.control), "exit") == ""
        assert running.running.process.wait(10) == 0, running.log
        assert "Traceback" not in running.log
        assert not place.control.exists()
    assert untouched(before, flows(place.host))


def test_an_app_beside_ours_gets_flow_stats_as_ever(place: Place, tmp_path: Path) -> None:
    """Ours reads its own lists raw; what others asked for is parsed for them, and only that."""
    monitor = tmp_path / "monitor.py"
    monitor.write_text(MONITOR, "utf-8")
    words = ["--overlay", str(place.overlay), "--overlay-host", f"host1={place.host.remote}"]
    words += ["--overlay-control", str(place.control), "--ofp-listen-host", "127.0.0.1"]
    with place.manage("ovs_lwt.app", str(monitor), *words) as running:
        assert running.in_sync("blue/web1"), running.log
        held = flows(place.host)
        blue = sum("metadata=0x3f2" in flow.split(" actions=")[0] for flow in held)
        said = f"monitor: {len(held)} flows, {blue} blue"
        for round_ in range(1, 6):
            assert running.reload().startswith("host1: 0 flows written, 0 deleted, ")
            assert running.running.says(said, 3 * round_), running.log
        assert running.running.stop()[0] == 0, running.log
        assert "Traceback" not in running.log, running.log
        assert {line for line in running.log.splitlines() if line.startswith("monitor")} <= {
            said,
            "monitor: 0 flows, 0 blue",
        }
