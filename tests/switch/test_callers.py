"""Who calls the controller: the host's switch is let in, whoever else claims to be it is not."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from ovs_lwt.sources.overlay_file import from_dict
from tests.support.controller import (
    BRIDGE,
    Controller,
    cli,
    controller,
    difference,
    flows,
    started,
    untouched,
    write,
)
from tests.support.frameworks import Interpreter
from tests.support.impostor import calling
from tests.support.overlays import two_tenants
from tests.support.ovs import OvsHost, eventually, network_namespace

NOBODY = 65534
LOOPBACK = "127.0.0.1:6653"
TCP = ("--listen", LOOPBACK, "--controller", f"tcp:{LOOPBACK}")
MEGABYTES = 1 << 10  # in kB


def overlay_of_neighbours() -> dict[str, object]:
    """Two guests of blue on host1."""
    overlay = two_tenants()
    overlay["tenants"]["blue"]["endpoints"]["web2"]["host"] = "host1"
    return overlay


@dataclass(frozen=True, slots=True)
class Place:
    """A host for one framework."""

    on: Interpreter
    host: OvsHost
    overlay: Path
    datapath_id: int

    def runs(self, *options: str) -> AbstractContextManager[Controller]:
        """`ovs-lwt run`."""
        return controller(
            self.host, self.overlay, "--framework", self.on.framework, *options,
            python=self.on.python,
        )  # fmt: skip

    def socket(self) -> Path:
        """Where its switch calls."""
        target = self.host.vsctl("get-controller", BRIDGE)
        assert target.startswith("unix:ovs-lwt."), target
        return self.host.rundir / target.removeprefix("unix:")


@pytest.fixture(scope="module")
def place(on: Interpreter, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    overlay = overlay_of_neighbours()
    topology = from_dict(overlay)
    path = write(tmp_path_factory.mktemp(on.package) / "overlay.yaml", overlay)
    with OvsHost(f"call-{on.package}-{os.getpid()}") as host:
        # The folder lets everybody in, as OVS's own does; sockets have to look after themselves.
        host.rundir.chmod(0o755)
        number = int(topology.vteps.datapath_id[topology.vtep_index("host1")])
        yield Place(on, host, path, number)


def memory_of(pid: int) -> int:
    """Peak resident memory of a process, kB."""
    found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1])


def test_an_upgrade_from_the_tcp_row_and_a_restart_lose_no_packet(place: Place) -> None:
    """Open vSwitch forgets all flows when a bridge gets its first controller or loses its last."""
    host = place.host
    with ExitStack() as stack:
        guests = [
            stack.enter_context(network_namespace(f"up-{place.on.package}-{os.getpid()}-{name}"))
            for name in ("web1", "web2")
        ]
        with place.runs(*TCP):
            for guest, name in zip(guests, ("web1", "web2"), strict=True):
                attach = ("attach", str(place.overlay), f"blue/{name}", "--netns", guest)
                done = cli(*attach, "--ovsdb", host.remote, netns=host.netns)
                assert done.returncode == 0, done.stderr
        assert host.vsctl("get-controller", BRIDGE) == f"tcp:{LOOPBACK}"
        before = flows(host)
        ping = subprocess.Popen(
            ["ip", "netns", "exec", guests[0], "ping", "-i", "0.01", "-q", "10.0.0.12"],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            sockets = []
            for _ in range(2):
                with place.runs() as running:
                    assert running.in_sync("blue/web1", "blue/web2")
                    sockets.append(place.socket())
                    assert untouched(before, flows(host))
                    assert difference(host, place.overlay) == ""
            assert sockets[0] != sockets[1]
            assert not any(path.exists() for path in sockets)
        finally:
            ping.send_signal(2)
            said, _ = ping.communicate(timeout=20)
        sent, received = map(int, re.findall(r"(\d+) (?:packets transmitted|received)", said))
        assert sent > 100, said
        assert received == sent, said
        for name in ("web1", "web2"):
            done = cli("detach", f"blue/{name}", "--ovsdb", host.remote, netns=host.netns)
            assert done.returncode == 0, done.stderr


def test_a_user_of_the_machine_is_not_let_in(place: Place) -> None:
    with place.runs("--listen", LOOPBACK) as running:
        before = flows(place.host)
        path = place.socket()
        with calling(str(path), place.datapath_id, "obliging", NOBODY) as caller:
            assert caller.says() == "refused: Permission denied"
        # Whoever gets that far by a mistake of the machine's owner is asked for his name.
        path.chmod(0o777)
        for address in (str(path), LOOPBACK):
            called = (address, place.datapath_id, "obliging", NOBODY, place.host.netns)
            with calling(*called) as caller:
                assert caller.says() == "connected"
                assert caller.says() == "hung up, 0 messages"
        assert running.running.says(f"host1: {path}: hung up on a caller: process "), running.log
        assert f" of uid {NOBODY} is not the switch's owner (uid 0)" in running.log
        whose = f"{LOOPBACK}: hung up on a caller: 127.0.0.1 port "
        assert running.running.says(whose), running.log
        assert running.state() == "in-sync"
        assert untouched(before, flows(place.host))


@pytest.mark.parametrize("manner", ["mute", "obliging"])
def test_one_that_only_claims_the_datapath_id_takes_no_place(place: Place, manner: str) -> None:
    """It comes with root's name; but the switch answers, and is spoken with."""
    with place.runs() as running:
        before = flows(place.host)
        with calling(str(place.socket()), place.datapath_id, manner) as caller:
            assert (caller.says(), caller.says()) == ("connected", "known")
            assert running.running.says("has connected once more"), running.log
            assert running.running.says("its switch answers: the other"), running.log
            assert running.state() == "in-sync"
            assert running.reload().startswith("host1: 0 flows written, 0 deleted")
            assert untouched(before, flows(place.host))
        # And when the switch itself goes, and comes back:
        assert place.host.vswitchd_pid is not None
        place.host.stop_vswitchd()
        assert eventually(lambda: running.state() == "offline"), running.log
        place.host.start_vswitchd()
        assert running.in_sync()


def test_whoever_lists_without_end_is_hung_up_on(place: Place) -> None:
    with place.runs() as running:
        path = place.socket()
        place.host.stop_vswitchd()
        try:
            assert eventually(lambda: running.state() == "offline"), running.log
            before = memory_of(running.running.process.pid)
            with calling(str(path), place.datapath_id, "endless") as caller:
                assert (caller.says(), caller.says()) == ("connected", "known")
                while (said := caller.says()) == "known":
                    pass
                assert said.startswith("hung up")
            grown = memory_of(running.running.process.pid) - before
            assert grown < 900 * MEGABYTES, f"{grown} kB"
            told = r"the switch has listed \d+ MB of flows|sends more than"
            # It hangs up first, and then says why.
            assert eventually(lambda: re.search(told, running.log) is not None), running.log
        finally:
            place.host.start_vswitchd()
        assert running.in_sync(within=60), running.log


def test_idle_callers_do_not_keep_the_switch_out(place: Place, tmp_path: Path) -> None:
    """More of them than there are files for."""
    host, control = place.host, place.host.rundir / "lwt.ctl"
    limit = ("prlimit", "--nofile=96:96")
    command = [*limit, place.on.python, "-m", "ovs_lwt.cli", "run", str(place.overlay)]
    command += ["--host", "host1", "--framework", place.on.framework, "--ovsdb", host.remote]
    command += ["--control", str(control), "--datapath", "netdev", *TCP]
    idle = (
        "import socket, sys, time\n"
        "every = [socket.create_connection(('127.0.0.1', 6653)) for _ in range(200)]\n"
        "print('called', flush=True)\ntime.sleep(60)\n"
    )
    with started(command, control, host.netns) as running:
        assert running.in_sync()
        with subprocess.Popen(
            ["ip", "netns", "exec", str(host.netns), sys.executable, "-c", idle],
            stdout=subprocess.PIPE,
        ) as callers:
            try:
                assert callers.stdout is not None
                assert callers.stdout.readline() == b"called\n"
                assert running.running.says("cannot take calls: Too many open files"), running.log
                host.stop_vswitchd()
                host.start_vswitchd()
                assert running.running.says("in sync after", times=2, within=60), running.log
            finally:
                callers.kill()
        assert running.in_sync()
        assert running.running.stop()[0] == 0


def test_sockets_of_agents_that_were_killed_are_removed_and_nothing_else(place: Place) -> None:
    rundir = place.host.rundir
    with place.runs() as killed:
        left = place.socket()
        killed.running.process.kill()
        killed.running.process.wait()
    assert left.is_socket()
    for name in (f"ovs-lwt.{BRIDGE}.12345678", f"ovs-lwt.{BRIDGE}.notes", "ovs-lwt.txt"):
        (rundir / name).write_text("precious")
    with place.runs():
        assert not left.exists()
        assert place.socket().is_socket()
    for name in (f"ovs-lwt.{BRIDGE}.12345678", f"ovs-lwt.{BRIDGE}.notes", "ovs-lwt.txt"):
        assert (rundir / name).read_text() == "precious"
        (rundir / name).unlink()


def test_a_socket_that_is_removed_is_made_again(place: Place) -> None:
    """As when Open vSwitch's run directory is made anew at its restart."""
    with place.runs() as running:
        first = place.socket()
        first.unlink()
        assert eventually(lambda: place.socket() != first and place.socket().is_socket())
        place.host.stop_vswitchd()
        place.host.start_vswitchd()
        assert running.running.says("in sync after", times=2, within=30), running.log
