"""A host on a plane of the kernel, this machine's: devices, claims, drift, and what is refused."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ovs_lwt.backends.netlink import export, links
from ovs_lwt.backends.netlink.setup import Link, Member, Setup
from ovs_lwt.backends.netlink.templates import Devices
from ovs_lwt.backends.netlink.transport import Kernel
from ovs_lwt.netns import entered
from tests.support.kernel_stage import (
    NETNS,
    Make,
    Stage,
    bridge,
    index,
    ip,
    make,
    plug,
    settled,
    shown,
    stage,
)
from tests.support.overlays import endpoint
from tests.support.overlays import view as view_of
from tests.support.ovs import eventually, in_netns
from tests.support.small_plane import SmallPlane

__all__ = ["make", "stage"]

# An endpoint on host3.
FORGET = "bridge fdb del 02:00:00:00:00:03 dev vx-lwt dst 192.0.2.13 src_vni 1010 self"


def test_everything_is_made_and_marked_as_ours(stage: Stage) -> None:
    assert stage.state == "in-sync"
    tunnel = shown("vx-lwt")
    for word in ("external", "vnifilter", "local 192.0.2.11", "dstport 4789", "nolearning"):
        assert word in tunnel
    for word in ("mtu 1400", "02:4c:c0:00:02:0b", "master br-lwt", "UP", "learning off"):
        assert word in tunnel
    for name in ("br-lwt", "vx-lwt"):
        assert re.search(r"alias ovs-lwt$", shown(name), re.MULTILINE)
        assert "inet6" not in ip("addr", "show", name), "the host has no address among tenants"
    assert "master br-lwt" in shown("blue-web1")
    assert bridge("fdb", "show", "dev", "vx-lwt").count("src_vni") == 3
    assert ip("rule").count("proto 76") == 2
    with entered(NETNS):
        assert Path("/proc/sys/net/ipv4/conf/tap0/rp_filter").read_text().strip() == "1"


def test_a_restart_changes_nothing(stage: Stage, make: Make) -> None:
    monitor = subprocess.Popen(
        ["ip", "-n", NETNS, "monitor", "link", "neigh", "rule"], stdout=subprocess.PIPE, text=True
    )
    try:
        again = make()
        again.start()
    finally:
        monitor.terminate()
        said = monitor.communicate()[0]
    assert again.last == "0 written, 0 deleted, 7 as they were"
    assert said == ""


def test_a_port_whose_veth_has_vanished_is_pruned_as_soon_as_the_kernel_tells(
    stage: Stage,
) -> None:
    ip("link", "del", "tap0")
    assert eventually(stage.host.poll, within=5)
    stage.look()
    assert "tap0" not in ip("rule")
    assert stage.host.guests == {"blue-web1": "blue/web1"}
    assert stage.state == "in-sync"


def test_a_device_becomes_a_port_by_its_alias_and_stops_being_one(stage: Stage) -> None:
    ip("link", "set", "tap0", "alias", "")
    stage.quiet()
    assert "master" not in shown("tap0")
    assert "state DOWN" in shown("tap0"), "the host's own stack would hear its guest"
    assert "tap0" not in ip("rule")
    # Of the alias of a device that is down the kernel tells nobody.
    ip("link", "set", "tap0", "up", "alias", "ovs-lwt red/web1")
    stage.quiet()
    assert "master br-lwt" in shown("tap0")
    assert "iif tap0" in ip("rule")


def test_what_others_put_into_our_bridge_stays(stage: Stage) -> None:
    plug("stranger", "uplink to the rack")
    ip("link", "set", "stranger", "master", "br-lwt")
    stage.audit()
    assert "master br-lwt" in shown("stranger")


def test_a_guest_whose_claim_is_wrong_stays_behind_the_bridge(stage: Stage, make: Make) -> None:
    """Out of it, the host's own stack would hear it."""
    ip("link", "set", "tap0", "alias", "ovs-lwt red/nobody")
    again = make()
    again.start()
    assert list(again.host.errors) == ["tap0"]
    assert "master br-lwt" in shown("tap0")


def test_a_guest_left_in_the_bridge_by_an_earlier_run_leaves_it_mute(
    stage: Stage, make: Make
) -> None:
    ip("link", "set", "tap0", "alias", "ovs-lwt")
    make().start()
    assert "master" not in shown("tap0")
    assert "state DOWN" in shown("tap0")


@pytest.mark.parametrize(
    ("broken", "written"),
    [
        (FORGET, 1),
        ("bridge vni delete vni 2020 dev vx-lwt", 1),
        ("ip rule del priority 100 iif tap0 fwmark 2020 lookup 2020", 1),
        ("bridge link set dev vx-lwt learning on", 0),
        ("ip link set vx-lwt nomaster", 0),
        ("ip link set vx-lwt mtu 1300", 0),
        ("ip link set vx-lwt address 02:66:66:66:66:66", 0),
        ("ip link set vx-lwt down", 0),
        ("ip link set br-lwt type bridge mcast_snooping 1", 0),
        ("sysctl -q net.ipv4.conf.tap0.rp_filter=0", 0),
    ],
)
def test_what_was_changed_by_hand_is_put_right(stage: Stage, broken: str, written: int) -> None:
    before, number = everything(), index("vx-lwt")
    in_netns(NETNS, *broken.split())
    assert everything() != before
    stage.quiet()
    stage.audit()
    assert everything() == before
    assert stage.state == "in-sync"
    assert not written or str(stage.last) == f"{written} written, 0 deleted, 6 as they were"
    assert index("vx-lwt") == number, "mended in place"


def everything() -> tuple[list[str], ...]:
    """What iproute2 shows of all that is ours, but for what ages."""
    link = settled(ip("-d", "link", "show"))
    with entered(NETNS):
        strict = Path("/proc/sys/net/ipv4/conf/tap0/rp_filter").read_text()
    return (
        sorted(link.splitlines()),
        sorted(line for line in bridge("fdb", "show").splitlines() if "src_vni" in line),
        sorted(bridge("vni", "show").split()),
        sorted(ip("rule").splitlines()),
        [strict],
    )


def test_a_bridge_deleted_by_hand_is_made_again_with_all_in_it(stage: Stage) -> None:
    ip("link", "del", "br-lwt")
    stage.quiet()
    assert "master br-lwt" in shown("vx-lwt")
    assert "master br-lwt" in shown("tap0")
    assert stage.state == "in-sync"


def test_what_the_kernel_drops_when_a_device_goes_down_is_there_when_it_is_up_again(
    stage: Stage,
) -> None:
    """It is read at once: the next audit is a minute away."""
    in_netns(NETNS, *FORGET.split())
    ip("link", "set", "vx-lwt", "down")
    stage.quiet()
    assert "UP" in shown("vx-lwt")
    assert bridge("fdb", "show", "dev", "vx-lwt").count("src_vni") == 3


def test_a_new_guest_costs_no_reading(stage: Stage) -> None:
    reads = stage.plane.reads
    ip("link", "del", "tap0")
    plug("tap1", "ovs-lwt red/web1")
    stage.quiet()
    assert (stage.plane.reads, list(stage.host.guests)) == (reads, ["blue-web1", "tap1"])


def test_a_tunnel_deleted_by_hand_is_made_again_with_all_on_it(stage: Stage) -> None:
    ip("link", "del", "vx-lwt")
    stage.quiet()
    assert bridge("fdb", "show", "dev", "vx-lwt").count("src_vni") == 3
    assert "2020" in bridge("vni", "show")
    assert stage.state == "in-sync"


@pytest.mark.parametrize(
    ("change", "setting", "shows"),
    [
        ("udp_port", "vxlan_port", "dstport 8472"),
        ("address", "vxlan_local", "local 192.0.2.99"),
    ],
)
def test_what_cannot_be_changed_in_place_is_made_anew(
    stage: Stage, caplog: pytest.LogCaptureFixture, change: str, setting: str, shows: str
) -> None:
    caplog.set_level("INFO", "ovs_lwt")
    number = index("vx-lwt")
    if change == "udp_port":
        stage.overlay["underlay"] = {"udp_port": 8472}
    else:
        stage.overlay["vteps"]["host1"]["address"] = "192.0.2.99"
    stage.reload()
    assert shows in shown("vx-lwt")
    assert index("vx-lwt") != number
    assert f"vx-lwt is made anew: {setting} cannot be changed in place" in caplog.text
    assert bridge("fdb", "show", "dev", "vx-lwt").count("src_vni") == 3
    assert "master br-lwt" in shown("vx-lwt")
    assert stage.state == "in-sync"


def test_a_link_that_is_not_wanted_any_more_goes(make: Make) -> None:
    extra = Link("br-lwt-2", "bridge", {}, "")
    first = make(SmallPlane(extra=(extra,)))
    first.start()
    ip("link", "add", "br-lwt-3", "type", "bridge")
    make().start()
    assert "br-lwt-2" not in ip("link")
    assert "br-lwt-3" in ip("link"), "that one is not ours"


def test_an_endpoint_that_moves_is_written_alone(stage: Stage) -> None:
    endpoint(stage.overlay, "blue/web2")["host"] = "host3"
    stage.reload()
    assert stage.last == "1 written, 0 deleted, 6 as they were"


def test_what_is_exported_makes_the_same_by_hand(make: Make, tmp_path: Path) -> None:
    plug("blue-web1", "ovs-lwt blue/web1")
    plug("red-web1", "ovs-lwt red/web1")
    plane = SmallPlane()
    view = view_of()
    setup = plane.setup(view, ["blue-web1", "red-web1"])
    names = Devices.of(dict.fromkeys(setup.devices, 0))
    for number, (tool, lines) in enumerate(
        [("ip -batch", links.commands(setup)), ("sysctl -q -p", links.sysctl_lines(setup))]
    ):
        batch = tmp_path / str(number)
        batch.write_text("\n".join(lines) + "\n")
        in_netns(NETNS, *tool.split(), str(batch))
    for tool in export.TOOLS:
        batch = tmp_path / tool.replace(" ", "")
        with batch.open("w") as out:
            export.write(tool, plane.rows(view, setup), names, out)
        in_netns(NETNS, *tool.split(), "-batch", str(batch))
    before = settled(shown("vx-lwt"))
    stage = make(plane)
    stage.start()
    assert stage.last == "0 written, 0 deleted, 7 as they were"
    assert settled(shown("vx-lwt")) == before


def test_many_guests_are_looked_at_in_one_list(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is asked per guest when nothing has changed."""
    lines = []
    for number in range(200):
        lines += [f"link add t{number} type veth peer name p{number}"]
        lines += [f"link set t{number} alias 'ovs-lwt blue/web{number}'"]
    subprocess.run(
        ["ip", "-n", NETNS, "-batch", "-"], input="\n".join(lines), text=True, check=True
    )
    stage = make()
    stage.start()
    asked: list[str] = []
    kernel = stage.host._kernel

    def counting(name: str, call: Callable[..., object]) -> Callable[..., object]:
        def counted(*arguments: object) -> object:
            asked.append(name)
            return call(*arguments)

        return counted

    for name in ("dump", "run"):
        monkeypatch.setattr(kernel, name, counting(name, getattr(kernel, name)))
    stage.host.look(stage.topology, stage.now)
    stage.host.flush()
    assert asked == ["dump"]


@pytest.mark.usefixtures("make")
def test_a_member_that_is_gone_meanwhile_is_passed_over() -> None:
    plug("tap0", "ovs-lwt blue/web1")
    bridge_link = Link("br-lwt", "bridge", {}, "")
    setup = Setup(("tap0",), (bridge_link,), (Member("tap0", "br-lwt", {"learning": False}),))
    with entered(NETNS):
        kernel = Kernel()
    with kernel:
        made = links.Links(kernel, NETNS)
        there = made.there()
        ip("link", "del", "tap0")
        assert "br-lwt" in made.apply(setup, there)
