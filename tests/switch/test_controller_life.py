"""The life of `ovs-lwt run` beside a real switch: begins, ends, dies, and its neighbours do, too.

Whether anything was sent is heard on the wire (the switch's own log) and seen in the flows' ages,
never taken from the controller's word alone.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.controller import (
    BRIDGE,
    OF14,
    Ear,
    controller,
    difference,
    flows,
    plug,
    switch,
    unplug,
    untouched,
    write,
)
from tests.support.local_switch import committed
from tests.support.overlays import two_tenants
from tests.support.ovs import OvsHost, eventually

GUESTS = ("blue/web1", "red/web1")
MANY = 2_000


@pytest.fixture(scope="module")
def overlay(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("life") / "overlay.yaml", two_tenants())


@pytest.fixture(scope="module")
def host(overlay: Path) -> Iterator[OvsHost]:
    """A host whose controller has been there, and has gone: two guests, and all their flows."""
    with OvsHost(f"life-{os.getpid()}") as host:
        with controller(host, overlay) as first:
            assert sum(map(len, switch(host))) > 0, "an empty bridge gets flows at once"
            plug(host, {"p1": "blue/web1", "p2": "red/web1"})
            assert first.in_sync(*GUESTS), first.log
        yield host


@pytest.fixture
def ear(host: OvsHost) -> Ear:
    return Ear(host)


def send(host: OvsHost, packets: int) -> None:
    """Let blue/web1 send frames that the pipeline forwards."""
    frame = "0200000000020200000000010800" + "45000014" + 4 * "00" + "40000000" + "0a00000b0a00000c"
    for _ in range(packets):
        host.ofctl("packet-out", BRIDGE, "p1", "table", frame.ljust(120, "0"))


def counted(host: OvsHost) -> int:
    """Packets that blue/web1 has sent to web2, as the flow that forwards them counts."""
    (packets,) = (held.packets for text, held in flows(host).items() if "tun_dst" in text
                  and "dl_dst=02:00:00:00:00:02" in text and "metadata=0x3f2" in text)  # fmt: skip
    return packets


def unread(host: OvsHost) -> int:
    """Bytes that its controller has sent and the switch has not read yet."""
    lines = host.run("ss", "-Hxn").splitlines()
    return sum(int(line.split()[3]) for line in lines if f"/ovs-lwt.{BRIDGE}." in line)


def test_an_empty_host_is_prepared(host: OvsHost, overlay: Path) -> None:
    """What a user then sees with OVS's own tools; by now nobody runs there any more."""
    assert host.vsctl("get", "bridge", BRIDGE, "fail_mode") == "secure"
    assert host.vsctl("get", "bridge", BRIDGE, "datapath_type") == "netdev"
    target = host.vsctl("get-controller", BRIDGE)
    assert re.fullmatch(rf"unix:ovs-lwt\.{BRIDGE}\.[0-9a-f]{{8}}", target)
    assert not (host.rundir / target.removeprefix("unix:")).exists()
    assert host.vsctl("get", "interface", "vx-lwt", "type") == "vxlan"
    options = host.vsctl("get", "interface", "vx-lwt", "options")
    assert "key=flow" in options
    assert "remote_ip=flow" in options
    shown = host.ofctl(*OF14, "--names", "dump-flows", BRIDGE)
    assert "table=classify" in shown
    assert "goto_table:bum" in shown
    assert "output:p1" in shown
    assert difference(host, overlay) == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_nothing_is_sent_at_a_restart_and_nothing_goes_at_the_end(
    host: OvsHost, overlay: Path, ear: Ear, number: signal.Signals
) -> None:
    send(host, 3)
    before, sent, (commits, _) = flows(host), counted(host), committed(host)
    assert sent >= 3
    with controller(host, overlay) as again:
        told = f"0 flows written, 0 deleted, {len(before)} as they were; 0 groups written, 0 del"
        assert again.running.says(told), again.log
        assert again.in_sync(*GUESTS)
        assert again.running.stop(number)[0] == 0, again.log
        assert "Traceback" not in again.log
        assert not again.control.exists()
    after = flows(host)
    assert ear.changes() == []
    assert after.keys() == before.keys()
    assert untouched(before, after)
    assert counted(host) == sent
    assert committed(host)[0] == commits + 2, "who it is, and where it listens"
    send(host, 1)
    assert counted(host) == sent + 1, "the flows work on without a controller"


def test_a_switch_that_died_gets_its_flows_again(host: OvsHost, overlay: Path) -> None:
    with controller(host, overlay) as here:
        assert here.in_sync(*GUESTS)
        before = switch(host)
        assert host.vswitchd_pid is not None
        os.kill(host.vswitchd_pid, signal.SIGKILL)
        host.stop_vswitchd()
        assert eventually(lambda: here.state() == "offline"), here.log
        host.start_vswitchd()
        assert here.running.says("in sync after", times=2), here.log
        assert here.in_sync(*GUESTS)
        assert eventually(lambda: switch(host) == before), "the same ports, the same numbers"
        assert difference(host, overlay) == ""


def test_a_database_that_died_is_found_again(host: OvsHost, overlay: Path, ear: Ear) -> None:
    before = flows(host)
    with controller(host, overlay) as here:
        assert host.ovsdb_pid is not None
        os.kill(host.ovsdb_pid, signal.SIGKILL)
        host.restart_ovsdb()
        unplug(host, "p2")
        assert here.in_sync("blue/web1"), here.log
        assert difference(host, overlay) == ""
        plug(host, {"p2": "red/web1"})
        assert here.in_sync(*GUESTS), here.log
        assert difference(host, overlay) == ""
    assert untouched({flow: held for flow, held in before.items() if "0x7e4" not in flow},
                     flows(host))  # fmt: skip
    assert not any("0x3f2" in change for change in ear.changes())


def test_a_switch_whose_controller_was_taken_away(host: OvsHost, overlay: Path) -> None:
    """Open vSwitch then forgets its flows. The agent puts the row back, and they come back."""
    before = switch(host)
    with controller(host, overlay) as here:
        host.vsctl("del-controller", BRIDGE)
        assert here.running.says("as controller"), here.log
        assert eventually(lambda: switch(host) == before, 20), here.log
        assert host.vsctl("get-controller", BRIDGE).startswith(f"unix:ovs-lwt.{BRIDGE}.")
        assert here.in_sync(*GUESTS), here.log


def test_killed_in_the_middle_of_a_change_it_leaves_the_old_state_whole(
    host: OvsHost, overlay: Path, ear: Ear
) -> None:
    before = switch(host)
    larger = write(overlay.with_name("larger.yaml"), two_tenants() | {"endpoints_file": "many.csv"})
    rows = [f"blue,m{n},06:00:00:00:{n >> 8:02x}:{n & 255:02x},,host2" for n in range(MANY)]
    write(overlay.with_name("many.csv"), "tenant,name,mac,ip,host\n")
    with controller(host, larger) as killed:
        assert killed.in_sync(*GUESTS)
        assert switch(host) == before
        write(overlay.with_name("many.csv"), "\n".join(("tenant,name,mac,ip,host", *rows)))
        # A switch that does not read: the change is on its way, the commit is not.
        assert host.vswitchd_pid is not None
        os.kill(host.vswitchd_pid, signal.SIGSTOP)
        try:
            killed.running.send(signal.SIGHUP)
            assert eventually(lambda: unread(host) > 10_000), killed.log
            assert killed.state() == "loading"
            killed.running.stop(signal.SIGKILL)
            assert killed.control.exists(), "nobody was there to take it away"
        finally:
            os.kill(host.vswitchd_pid, signal.SIGCONT)
        # It answers the bundle's beginning, finds nobody there, and forgets what it has not read.
        assert eventually(lambda: ear.heard("OPEN_REQUEST")), "it has heard of the change"
        assert switch(host) == before
    ear.listen()
    with controller(host, larger) as again:
        assert again.in_sync(*GUESTS)
        assert len(ear.changes()) == MANY
        assert difference(host, larger) == ""
