"""The overlay changes under a running controller: only the difference reaches the switch.

What reached it is heard in the switch's own log, and seen in the ages of the flows that stay.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ovs_lwt.mistakes import Refused
from tests.support.controller import (
    Controller,
    Ear,
    cli,
    controller,
    difference,
    flows,
    plug,
    switch,
    untouched,
    write,
)
from tests.support.local_switch import committed
from tests.support.overlays import Overlay, two_tenants
from tests.support.ovs import OvsHost, eventually

GUESTS = {"p1": "blue/web1", "p2": "red/web1"}
WEB9 = {"host": "host2", "mac": "02:00:00:00:00:09", "ip": ["10.0.0.19/24"]}
# What one more endpoint elsewhere takes: whoever asks for it is answered, and finds it.
WEB9_FLOWS = [
    "table:3 priority=200,arp,metadata=0x3f2,arp_tpa=10.0.0.19,arp_op=1",
    "table:6 priority=200,metadata=0x3f2,dl_dst=02:00:00:00:00:09",
]


@pytest.fixture(scope="module")
def host() -> Iterator[OvsHost]:
    with OvsHost(f"reload-{os.getpid()}") as host:
        yield host


def heard(ear: Ear) -> list[str]:
    """What the switch was told: the command, and what it is about."""
    return sorted(re.split(" cookie:| actions=", change)[0] for change in ear.changes())


def with_web9() -> Overlay:
    overlay = two_tenants()
    overlay["tenants"]["blue"]["endpoints"]["web9"] = WEB9
    return overlay


def setting(path: str, value: Any) -> Callable[[Overlay], None]:
    """A change that writes one value of the overlay."""

    def change(overlay: Overlay) -> None:
        *way, last = path.split(".")
        place = overlay
        for step in way:
            place = place.setdefault(step, {})
        place[last] = value

    return change


def without(path: str) -> Callable[[Overlay], None]:
    """A change that removes something from the overlay."""

    def change(overlay: Overlay) -> None:
        *way, last = path.split(".")
        for step in way:
            overlay = overlay[step]
        del overlay[last]

    return change


CHANGES = {
    "endpoint moves to another host": setting("tenants.blue.endpoints.web3.host", "host2"),
    "endpoint gets another MAC": setting("tenants.blue.endpoints.web2.mac", "02:00:00:00:00:77"),
    "endpoint gets more addresses": setting(
        "tenants.blue.endpoints.web2.ip", ["10.0.0.12/24", "10.0.0.99/24", "fd00::12/64"]
    ),
    "guest gets another MAC": setting("tenants.blue.endpoints.web1.mac", "02:00:00:00:00:66"),
    "guest may spoof": setting("tenants.blue.endpoints.web1.spoofing", "allow"),
    "guest leaves": without("tenants.red.endpoints.web1"),
    "tenant's last other host leaves": without("tenants.red.endpoints.web2"),
    "tenant leaves": without("tenants.red"),
    "tenant gets another VNI": setting("tenants.red.vni", 3030),
    "tenant gets a mark": setting("tenants.red.mark", 20),
    "tenant drops unknown unicast": setting("tenants.blue.unknown_unicast", "drop"),
    "tenant floods questions": setting("tenants.blue.neighbours", "flood"),
    "VTEP gets another address": setting("vteps.host3.address", "192.0.2.33"),
}
IPV6_UNDERLAY = {f"host{n}": {"address": f"2001:db8::1{n}"} for n in (1, 2, 3)}


@pytest.fixture(scope="module")
def overlay(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("reload") / "overlay.yaml", two_tenants())


@pytest.fixture(scope="module")
def running(host: OvsHost, overlay: Path) -> Iterator[Controller]:
    with controller(host, overlay) as running:
        plug(host, GUESTS)
        assert running.in_sync(*GUESTS.values()), running.log
        yield running


@pytest.fixture(autouse=True)
def afresh(running: Controller, overlay: Path) -> None:
    """Every test begins with the two tenants."""
    write(overlay, two_tenants())
    running.reload()
    assert running.in_sync(*GUESTS.values()), running.log


def test_the_command_tells_what_was_sent(host: OvsHost, running: Controller, overlay: Path) -> None:
    before, ear = flows(host), Ear(host)
    write(overlay, with_web9())
    done = cli("reload", "--control", str(running.control))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("host1: 2 flows written, 0 deleted, ")
    assert done.stdout.endswith("; 0 groups written, 0 deleted\n")
    assert heard(ear) == [f"ADD {flow}" for flow in WEB9_FLOWS]
    after = flows(host)
    assert before.keys() < after.keys()
    assert untouched(before, after)
    assert difference(host, overlay) == ""


def test_a_hangup_signal_does_the_same_and_back(
    host: OvsHost, running: Controller, overlay: Path
) -> None:
    before = switch(host)
    write(overlay, with_web9())
    running.running.send(signal.SIGHUP)
    assert eventually(lambda: len(flows(host)) == len(before[0]) + 2), running.log
    assert difference(host, overlay) == ""
    ear = Ear(host)
    write(overlay, two_tenants())
    running.running.send(signal.SIGHUP)
    assert eventually(lambda: switch(host) == before), running.log
    assert heard(ear) == [f"DEL_STRICT {flow}" for flow in WEB9_FLOWS]


def test_a_storm_of_hangup_signals(host: OvsHost, running: Controller, overlay: Path) -> None:
    """Two scripts in a loop: one signal arrives while the one before is being noted."""
    before = switch(host)
    process = running.running.process.pid
    storm = f"import os\nfor _ in range(20_000): os.kill({process}, {signal.SIGHUP:d})"
    scripts = [subprocess.Popen([sys.executable, "-c", storm]) for _ in range(2)]
    assert [script.wait(60) for script in scripts] == [0, 0]
    write(overlay, with_web9())
    running.running.send(signal.SIGHUP)
    assert eventually(lambda: len(flows(host)) == len(before[0]) + 2), running.log
    assert running.state() == "in-sync"


def test_nothing_has_changed(host: OvsHost, running: Controller) -> None:
    before, ear, database = flows(host), Ear(host), committed(host)
    assert running.reload() == (
        f"host1: 0 flows written, 0 deleted, {len(before)} as they were;"
        " 0 groups written, 0 deleted"
    )
    assert ear.changes() == []
    assert untouched(before, flows(host))
    assert committed(host) == database


def test_a_tenant_without_a_guest_here_is_no_news(
    host: OvsHost, running: Controller, overlay: Path
) -> None:
    ear, changed = Ear(host), two_tenants()
    changed["tenants"]["green"] = {"vni": 5050, "endpoints": {"web9": WEB9}}
    write(overlay, changed)
    running.reload()
    assert ear.changes() == []
    assert difference(host, overlay) == ""


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_only_the_difference_is_sent(
    host: OvsHost, running: Controller, overlay: Path, change: Callable[[Overlay], None]
) -> None:
    before, ear, changed = flows(host), Ear(host), two_tenants()
    change(changed)
    write(overlay, changed)
    written, deleted, _, *groups = map(int, re.findall(r" (\d+) ", running.reload()))
    assert 0 < len(ear.changes()) == written + deleted + sum(groups)
    assert untouched(before, flows(host))
    assert difference(host, overlay) == ""


@pytest.mark.parametrize(
    "change",
    [setting("underlay.udp_port", 4790), setting("vteps", IPV6_UNDERLAY)],
    ids=["UDP port", "IPv6"],
)
def test_the_tunnel_itself_changes(
    host: OvsHost, running: Controller, overlay: Path, change: Callable[[Overlay], None]
) -> None:
    changed = two_tenants()
    change(changed)
    write(overlay, changed)
    running.reload()
    assert eventually(lambda: difference(host, overlay) == ""), difference(host, overlay)


def test_groups_come_before_the_flows_that_use_them_and_deletes_last(
    host: OvsHost, running: Controller, overlay: Path
) -> None:
    ear, changed = Ear(host), two_tenants()
    changed["tenants"]["red"]["vni"] = 3030
    write(overlay, changed)
    running.reload()
    order = [
        (kind, "group" if "group_id=" in change.split(" actions=")[0] else "flow")
        for change in ear.changes()
        for kind in [re.match("ADD|MOD|DEL", change)]
        if kind
    ]
    steps = [(kind[0], what) for kind, what in order]
    assert list(dict.fromkeys(steps)) == [
        ("ADD", "group"),
        ("ADD", "flow"),
        ("DEL", "flow"),
        ("DEL", "group"),
    ]


BROKEN = {
    "a wrong value": (setting("tenants.red.vni", 0), "overlay.yaml:35: tenants.red.vni: "),
    "two of one VNI": (setting("tenants.red.vni", 1010), "overlay.yaml:35: tenants.red.vni: "),
    "no such host": (
        without("vteps.host3"),
        "overlay.yaml:23: tenants.blue.endpoints.web3.host: ",
    ),
    "somebody else's host": (setting("vteps.host1.external", True), "host1 is external"),
    "an endpoints file that is not there": (
        setting("endpoints_file", "gone.csv"),
        "endpoints_file: ",
    ),
}


@pytest.mark.parametrize(("change", "told"), BROKEN.values(), ids=BROKEN)
def test_a_broken_overlay_changes_nothing_until_it_is_mended(
    host: OvsHost,
    running: Controller,
    overlay: Path,
    change: Callable[[Overlay], None],
    told: str,
) -> None:
    before, ear, database = switch(host), Ear(host), committed(host)
    broken = with_web9()
    change(broken)
    write(overlay, broken)
    with pytest.raises(Refused) as refused:
        running.reload()
    assert told in str(refused.value)
    assert told in running.log
    assert "everything stays as it was" in running.log
    assert running.state() == "in-sync"
    assert (switch(host), ear.changes(), committed(host)) == (before, [], database)
    write(overlay, with_web9())
    assert running.reload().startswith("host1: 2 flows written, 0 deleted, ")
    assert difference(host, overlay) == ""


def test_every_mistake_is_told_where_the_reload_was_asked_for(
    host: OvsHost, running: Controller, overlay: Path
) -> None:
    before = switch(host)
    lines = overlay.read_text("utf-8").splitlines()
    places = [number for number, line in enumerate(lines, 1) if "vni:" in line]
    write(overlay, re.sub(r"vni: \d+", "vni: none", overlay.read_text("utf-8")))
    done = cli("reload", "--control", str(running.control))
    assert (done.returncode, done.stdout) == (2, "")
    for number, tenant in zip(places, ("blue", "red"), strict=True):
        assert f"overlay.yaml:{number}: tenants.{tenant}.vni: " in done.stderr
    assert switch(host) == before


def test_an_overlay_that_is_gone(host: OvsHost, running: Controller, overlay: Path) -> None:
    before = switch(host)
    overlay.unlink()
    with pytest.raises(Refused, match="cannot be read: no such file"):
        running.reload()
    assert switch(host) == before


def test_nobody_to_ask(tmp_path: Path) -> None:
    done = cli("reload", "--control", str(tmp_path / "none.ctl"))
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "is `ovs-lwt run` up?" in done.stderr


def test_a_tenant_is_renamed_under_its_guests(
    host: OvsHost, running: Controller, overlay: Path
) -> None:
    """Also while the database does not answer: the ports' claims follow, and no flow is touched."""
    before, ear = flows(host), Ear(host)
    pid = host.ovsdb_pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        for name in ("indigo", "azure"):
            renamed = two_tenants()
            tenants = renamed["tenants"].items()
            renamed["tenants"] = {{"blue": name}.get(each, each): of for each, of in tenants}
            write(overlay, renamed)
            running.reload()
        assert eventually(lambda: "azure/web1" in running.status()["ports"].values())
        assert ear.changes() == []
    finally:
        os.kill(pid, signal.SIGCONT)
    key = "external_ids:ovs-lwt-endpoint"
    assert eventually(lambda: "azure/web1" in host.vsctl("get", "interface", "p1", key), 15)
    assert running.in_sync("azure/web1", "red/web1"), running.log
    assert ear.changes() == []
    assert untouched(before, flows(host))
    # And back, one after the other.
    write(overlay, two_tenants())
    running.reload()
    assert eventually(lambda: "blue/web1" in host.vsctl("get", "interface", "p1", key), 15)
    assert running.in_sync(*GUESTS.values()), running.log
    assert ear.changes() == []
