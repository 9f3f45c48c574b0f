"""What a host on a plane of the kernel refuses to touch, on this machine's kernel."""

from __future__ import annotations

import re
import socket
import subprocess

import pytest

from ovs_lwt.backends.netlink.setup import Link
from ovs_lwt.kernel_host import KernelHost
from ovs_lwt.mistakes import Refused
from ovs_lwt.netns import entered
from tests.support.kernel_stage import NETNS, Make, Stage, bridge, ip, make, shown, stage
from tests.support.small_plane import SmallPlane

__all__ = ["make", "stage"]


def refused(make: Make, plane: SmallPlane | None = None) -> str:
    """What a start is refused with; nothing of ours may be there then."""
    before = ip("link")
    stage = make(plane)
    with pytest.raises(Refused) as caught:
        stage.start()
    assert re.sub(r"\d+: ", "", ip("link")) == re.sub(r"\d+: ", "", before)
    return str(caught.value)


def test_a_name_that_another_kind_of_device_has(make: Make) -> None:
    ip("link", "add", "br-lwt", "type", "veth", "peer", "name", "other")
    assert refused(make) == (
        "there is a veth device 'br-lwt' already that is not ours: remove it (ip link del br-lwt)"
    )


def test_a_device_of_our_kind_that_is_not_ours(make: Make) -> None:
    ip("link", "add", "br-lwt", "type", "bridge")
    assert "ip link set br-lwt alias ovs-lwt" in refused(make)
    ip("link", "set", "br-lwt", "alias", "ovs-lwt")
    make().start()
    assert "mcast_snooping 0" in shown("br-lwt")


def test_a_udp_port_that_is_taken(make: Make) -> None:
    ip("link", "add", "vxlan0", "type", "vxlan", "id", "7", "dstport", "4789", "local", "10.0.0.1")
    ip("link", "set", "vxlan0", "up")
    assert "UDP port is taken, by 'vxlan0' it seems: remove that (ip link del vxlan0)" in refused(
        make
    )
    ip("link", "set", "vxlan0", "down")
    make().start()


def test_a_udp_port_that_a_program_has(make: Make) -> None:
    with entered(NETNS):
        program = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with program:
        program.bind(("0.0.0.0", 4789))
        assert "its UDP port is taken: see who has it (ss -lun)" in refused(make)


def test_a_kind_of_device_that_this_kernel_lacks(make: Make) -> None:
    lacking = Link("nothing0", "no-such-kind", {}, "")
    assert refused(make, SmallPlane(extra=(lacking,))) == (
        "this kernel has no no-such-kind devices: load its module (modprobe no-such-kind)"
    )


def test_a_kernel_whose_bridges_know_no_vlans(make: Make) -> None:
    """As this machine's may be; one that does makes the bridge."""
    filtering = Link("br2", "bridge", {"br_vlan_filtering": 1}, "vlan_filtering 1")
    made = subprocess.run(
        ["ip", "-n", NETNS, "link", "add", "br9", "type", "bridge", "vlan_filtering", "1"],
        capture_output=True,
        check=False,
    )
    plane = SmallPlane(extra=(filtering,))
    if made.returncode:
        assert "no bridges that filter VLANs" in refused(make, plane)
    else:
        make(plane).start()
        assert "vlan_filtering 1" in shown("br2")


def test_a_setting_that_this_kernel_passes_over(make: Make) -> None:
    old = Link("br2", "bridge", {"br_mcast_mld_version": 7}, "mcast_mld_version 7")
    assert "the kernel refuses 'ip link add name br2 type bridge mcast_mld_version 7'" in refused(
        make, SmallPlane(extra=(old,))
    )


def test_a_reload_that_is_refused_leaves_all_as_it_was(stage: Stage) -> None:
    ip("link", "add", "vxlan0", "type", "vxlan", "id", "7", "dstport", "8472", "local", "10.0.0.1")
    ip("link", "set", "vxlan0", "up")
    stage.overlay["underlay"] = {"udp_port": 8472}
    with pytest.raises(Refused, match="taken, by 'vxlan0'"):
        stage.reload()
    # What the agent does then.
    stage.host.prepare(stage.topology)
    stage.quiet()
    assert "dstport 4789" in shown("vx-lwt")
    assert bridge("fdb", "show", "dev", "vx-lwt").count("src_vni") == 3
    assert stage.state == "in-sync"


def test_a_namespace_that_does_not_exist() -> None:
    with pytest.raises(Refused, match=r"no network namespace kernelhost-nowhere: create it"):
        KernelHost("host1", "kernelhost-nowhere", SmallPlane())
