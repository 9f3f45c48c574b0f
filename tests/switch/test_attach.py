"""Attaching guests to a real bridge: what the guest gets, what the switch learns, and back."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import pytest

from ovs_lwt.mistakes import Refused
from ovs_lwt.sources.overlay_file import load
from ovs_lwt.veth import Attached, AttachPlan, attach, detach, plan_attach, tunnel_mtu
from ovs_lwt.vswitch import LocalPort, SwitchPlan
from ovs_lwt.vswitch.switch import LocalSwitch
from tests.support.ovs import OvsHost, eventually, in_netns, network_namespace

GUEST1, GUEST2 = (f"vsw-{os.getpid()}-g{n}" for n in (1, 2))
WEB1 = AttachPlan(
    tenant="blue",
    endpoint="web1",
    netns=GUEST1,
    mac="02:00:00:00:00:01",
    addresses=("10.0.0.11/24", "fd00::11/64"),
    mtu=1450,
    mark=10,
)
WEB2 = dataclasses.replace(
    WEB1,
    endpoint="web2",
    netns=GUEST2,
    mac="02:00:00:00:00:02",
    addresses=("10.0.0.12/24", "fd00::12/64"),
)
PORT = "blue-web1"


@pytest.fixture
def host() -> Iterator[OvsHost]:
    with ExitStack() as stack:
        host = stack.enter_context(OvsHost(f"vsw-{os.getpid()}-h"))
        for guest in (GUEST1, GUEST2):
            stack.enter_context(network_namespace(guest))
        yield host


@pytest.fixture
def switch(host: OvsHost) -> Iterator[LocalSwitch]:
    with LocalSwitch(host.remote, timeout=3) as switch:
        switch.prepare(
            SwitchPlan(
                local_vtep="192.0.2.11", udp_port=4789, datapath_id=1, datapath_type="netdev"
            )
        )
        yield switch


def link(netns: str | None, name: str) -> dict[str, Any] | None:
    """What `ip link` says of a device; None if there is none."""
    for found in json.loads(in_netns(netns, "ip", "-json", "-details", "link", "show")):
        if found["ifname"] == name:
            return dict(found)
    return None


def guest_link(netns: str, name: str = "eth0") -> dict[str, Any]:
    found = link(netns, name)
    assert found is not None
    return found


def addresses(netns: str, name: str = "eth0") -> set[str]:
    (found,) = json.loads(in_netns(netns, "ip", "-json", "address", "show", "dev", name))
    return {
        f"{info['local']}/{info['prefixlen']}"
        for info in found["addr_info"]
        if info["scope"] == "global"
    }


def computes_checksums(netns: str) -> bool:
    features = in_netns(netns, "ethtool", "-k", "eth0")
    return "tx-checksum-ip-generic: off" in features and "tx-checksum-sctp: off" in features


def ping(netns: str, address: str, *options: str) -> bool:
    command = ["ip", "netns", "exec", netns, "ping", "-c1", "-W2", *options, address]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def ports_of(switch: LocalSwitch) -> tuple[LocalPort, ...]:
    """The switch's ports once their links are up, which OVSDB tells by and by."""

    def up() -> bool:
        switch.run()
        return all(port.up for port in switch.ports())

    assert eventually(up)
    return tuple(dataclasses.replace(port, device=None) for port in switch.ports())


class TestAttached:
    def test_the_guest_gets_what_the_overlay_says(self, host: OvsHost, switch: LocalSwitch) -> None:
        assert attach(WEB1, switch, host_netns=host.netns) == Attached(PORT, "flow")

        guest = guest_link(GUEST1)
        assert guest["address"] == "02:00:00:00:00:01"
        assert guest["mtu"] == 1450
        assert "UP" in guest["flags"]
        assert addresses(GUEST1) == {"10.0.0.11/24", "fd00::11/64"}
        assert computes_checksums(GUEST1), "TCP stalls in the userspace datapath otherwise"

    def test_the_hosts_end_is_a_claimed_and_silent_port(
        self, host: OvsHost, switch: LocalSwitch
    ) -> None:
        attach(WEB1, switch, host_netns=host.netns)

        (port,) = ports_of(switch)
        assert port == LocalPort(PORT, port.ofport, "blue/web1", "flow")
        end = link(host.netns, PORT)
        assert end is not None
        assert end["mtu"] == 1450
        assert end["ifalias"] == "ovs-lwt blue/web1"
        assert "NOARP" in end["flags"], "the host must not answer the guest's ARP"
        assert end["inet6_addr_gen_mode"] == "none"

    def test_guests_reach_each_other_up_to_the_mtu(
        self, host: OvsHost, switch: LocalSwitch
    ) -> None:
        # The bridge may carry frames of 1450: what is tried here is the guests' side.
        for plan in (WEB1, WEB2):
            attach(plan, switch, host_netns=host.netns)
        host.ofctl("add-flow", switch.bridge, "actions=normal")

        assert eventually(lambda: ping(GUEST1, "10.0.0.12"))
        assert eventually(lambda: ping(GUEST1, "fd00::12")), "once DAD is done"
        ip_and_icmp = 20 + 8
        assert ping(GUEST1, "10.0.0.12", "-M", "do", "-s", str(1450 - ip_and_icmp))
        assert not ping(GUEST1, "10.0.0.12", "-M", "do", "-s", str(1451 - ip_and_icmp))

    def test_attaching_twice_changes_nothing(self, host: OvsHost, switch: LocalSwitch) -> None:
        attach(WEB1, switch, host_netns=host.netns)
        # The kernel tells of a carrier by and by.
        assert eventually(lambda: guest_link(GUEST1)["operstate"] == "UP")
        before = (ports_of(switch), link(host.netns, PORT), guest_link(GUEST1))
        config = host.vsctl("get", "open_vswitch", ".", "next_cfg")

        attach(WEB1, switch, host_netns=host.netns)

        assert (ports_of(switch), link(host.netns, PORT), guest_link(GUEST1)) == before
        assert host.vsctl("get", "open_vswitch", ".", "next_cfg") == config

    def test_attaching_again_mends(self, host: OvsHost, switch: LocalSwitch) -> None:
        attach(WEB1, switch, host_netns=host.netns)
        (port,) = ports_of(switch)
        in_netns(GUEST1, "ip", "link", "set", "eth0", "mtu", "1300", "down")
        in_netns(GUEST1, "ip", "link", "set", "eth0", "address", "02:00:00:00:00:99")
        in_netns(GUEST1, "ip", "address", "flush", "dev", "eth0")
        in_netns(GUEST1, "ip", "address", "add", "10.0.0.77/24", "dev", "eth0")
        in_netns(GUEST1, "ethtool", "-K", "eth0", "tx", "on")
        in_netns(host.netns, "ip", "link", "set", PORT, "mtu", "1400", "arp", "on", "down")
        host.vsctl("remove", "interface", PORT, "external_ids", "ovs-lwt-endpoint")

        attach(WEB1, switch, host_netns=host.netns)

        self.test_the_hosts_end_is_a_claimed_and_silent_port(host, switch)
        assert ports_of(switch) == (port,), "the same port, so its flows stay"
        guest = guest_link(GUEST1)
        assert (guest["address"], guest["mtu"]) == ("02:00:00:00:00:01", 1450)
        assert addresses(GUEST1) == {"10.0.0.11/24", "fd00::11/64"}
        assert computes_checksums(GUEST1)

    def test_addresses_follow_the_overlay(self, host: OvsHost, switch: LocalSwitch) -> None:
        several = ("10.0.0.11/24", "10.0.0.12/24", "fd00::11/64")
        attach(dataclasses.replace(WEB1, addresses=several), switch, host_netns=host.netns)

        # The first of a subnet carries the others in Linux: they must outlive it.
        fewer = ("10.0.0.12/24", "10.0.0.13/24")
        attach(dataclasses.replace(WEB1, addresses=fewer), switch, host_netns=host.netns)

        assert addresses(GUEST1) == set(fewer)

    def test_another_interface_and_a_namespace_by_path(
        self, host: OvsHost, switch: LocalSwitch
    ) -> None:
        plan = dataclasses.replace(WEB1, netns=f"/run/netns/{GUEST1}", interface="blue0")
        attach(plan, switch, host_netns=host.netns)
        assert addresses(GUEST1, "blue0") == {"10.0.0.11/24", "fd00::11/64"}


class TestDetached:
    def test_nothing_stays_and_once_is_enough(self, host: OvsHost, switch: LocalSwitch) -> None:
        attach(WEB1, switch, host_netns=host.netns)

        assert detach("blue", "web1", switch, host_netns=host.netns)
        assert not detach("blue", "web1", switch, host_netns=host.netns)

        assert link(host.netns, PORT) is None
        assert link(GUEST1, "eth0") is None
        assert host.vsctl("list-ports", switch.bridge) == "vx-lwt"

    def test_a_guest_that_was_deleted(self, host: OvsHost, switch: LocalSwitch) -> None:
        attach(WEB1, switch, host_netns=host.netns)
        in_netns(GUEST1, "ip", "link", "del", "eth0")

        assert detach("blue", "web1", switch, host_netns=host.netns)
        assert host.vsctl("list-ports", switch.bridge) == "vx-lwt"

    def test_a_guest_that_came_back(self, host: OvsHost, switch: LocalSwitch) -> None:
        """ovs-vswitchd would go on listening to the device that is no more."""
        for plan in (WEB1, WEB2):
            attach(plan, switch, host_netns=host.netns)
        host.ofctl("add-flow", switch.bridge, "actions=normal")
        assert eventually(lambda: ping(GUEST1, "10.0.0.12"))

        in_netns(GUEST1, "ip", "link", "del", "eth0")
        attach(WEB1, switch, host_netns=host.netns)
        assert ping(GUEST1, "10.0.0.12")

        detach("blue", "web1", switch, host_netns=host.netns)
        attach(WEB1, switch, host_netns=host.netns)
        assert ping(GUEST1, "10.0.0.12")

    def test_a_veth_whose_port_was_removed(self, host: OvsHost, switch: LocalSwitch) -> None:
        attach(WEB1, switch, host_netns=host.netns)
        host.vsctl("del-port", PORT)

        assert detach("blue", "web1", switch, host_netns=host.netns)
        assert link(host.netns, PORT) is None


class TestFoundByItsClaim:
    """What an earlier version called its port, or who attached it, is what it stays called."""

    OLD = dataclasses.replace(WEB1, port="blue-web-0~1f2e", chosen=True)
    NEW = dataclasses.replace(WEB1, port="blue-~new_hash.")

    def test_a_port_of_an_earlier_version_is_mended(
        self, host: OvsHost, switch: LocalSwitch
    ) -> None:
        attach(self.OLD, switch, host_netns=host.netns)
        before = ports_of(switch)
        in_netns(GUEST1, "ip", "link", "set", "eth0", "mtu", "1300")

        assert attach(self.NEW, switch, host_netns=host.netns).port == "blue-web-0~1f2e"

        assert ports_of(switch) == before, "the same port, so its flows stay"
        assert guest_link(GUEST1)["mtu"] == 1450
        assert link(host.netns, "blue-~new_hash.") is None

    def test_and_detached(self, host: OvsHost, switch: LocalSwitch) -> None:
        attach(self.OLD, switch, host_netns=host.netns)
        assert detach("blue", "web1", switch, host_netns=host.netns)
        assert not detach("blue", "web1", switch, host_netns=host.netns)
        assert link(host.netns, "blue-web-0~1f2e") is None
        assert host.vsctl("list-ports", switch.bridge) == "vx-lwt"

    def test_by_its_alias_where_the_switch_has_lost_it(
        self, host: OvsHost, switch: LocalSwitch
    ) -> None:
        attach(self.OLD, switch, host_netns=host.netns)
        host.vsctl("del-port", "blue-web-0~1f2e")
        assert attach(self.NEW, switch, host_netns=host.netns).port == "blue-web-0~1f2e"
        host.vsctl("del-port", "blue-web-0~1f2e")
        assert detach("blue", "web1", switch, host_netns=host.netns)
        assert link(host.netns, "blue-web-0~1f2e") is None

    def test_a_guest_that_came_back_leaves_no_port_of_the_old_name(
        self, host: OvsHost, switch: LocalSwitch
    ) -> None:
        attach(self.OLD, switch, host_netns=host.netns)
        in_netns(GUEST1, "ip", "link", "del", "eth0")
        assert attach(self.NEW, switch, host_netns=host.netns).port == "blue-~new_hash."
        assert set(host.vsctl("list-ports", switch.bridge).split()) == {"vx-lwt", "blue-~new_hash."}

    def test_another_name_than_it_has_is_refused(self, host: OvsHost, switch: LocalSwitch) -> None:
        attach(WEB1, switch, host_netns=host.netns)
        with pytest.raises(Refused, match=f"attached already, as port '{PORT}'.*detach it first"):
            attach(self.OLD, switch, host_netns=host.netns)

    def test_a_chosen_name_that_is_a_port_already(self, host: OvsHost, switch: LocalSwitch) -> None:
        host.vsctl("add-port", switch.bridge, "tap7")
        plan = dataclasses.replace(WEB1, port="tap7", chosen=True)
        with pytest.raises(Refused, match=f"'tap7' is a port of bridge '{switch.bridge}' already"):
            attach(plan, switch, host_netns=host.netns)

    @pytest.mark.parametrize(
        "key", ["iface-id=0f8fad5b-d9cb-469f-a165-70867728950e", "attached-mac=02:00:00:00:00:01"]
    )
    def test_a_domain_of_libvirts_that_runs(
        self, host: OvsHost, switch: LocalSwitch, key: str
    ) -> None:
        in_netns(host.netns, "ip", "tuntap", "add", "vnet7", "mode", "tap")
        key, _, value = key.partition("=")
        host.vsctl(
            *("add-port", switch.bridge, "vnet7"),
            *("--", "set", "interface", "vnet7", f'external_ids:{key}="{value}"'),
        )
        plan = dataclasses.replace(WEB1, uuid="0f8fad5b-d9cb-469f-a165-70867728950e", by_mac=True)
        with pytest.raises(Refused, match="port 'vnet7' claims blue/web1"):
            attach(plan, switch, host_netns=host.netns)
        assert attach(WEB1, switch, host_netns=host.netns).port == PORT, (
            "to this overlay it is none"
        )

    def test_a_port_that_somebody_else_made(self, host: OvsHost, switch: LocalSwitch) -> None:
        """libvirt's tap, claimed by hand: it is neither attached twice nor taken away."""
        in_netns(host.netns, "ip", "tuntap", "add", "tap7", "mode", "tap")
        host.vsctl(
            *("add-port", switch.bridge, "tap7"),
            *("--", "set", "interface", "tap7", "external_ids:ovs-lwt-endpoint=blue/web1"),
        )
        for wrong in (
            lambda: attach(WEB1, switch, host_netns=host.netns),
            lambda: detach("blue", "web1", switch, host_netns=host.netns),
        ):
            with pytest.raises(Refused, match="port 'tap7' claims blue/web1"):
                wrong()
        assert "tap7" in host.vsctl("list-ports", switch.bridge)
        assert link(host.netns, PORT) is None


class TestRefused:
    def test_a_namespace_that_does_not_exist(self, host: OvsHost, switch: LocalSwitch) -> None:
        plan = dataclasses.replace(WEB1, netns="nowhere")
        with pytest.raises(Refused, match="ip netns add nowhere"):
            attach(plan, switch, host_netns=host.netns)

    def test_a_file_that_is_no_namespace(
        self, host: OvsHost, switch: LocalSwitch, tmp_path: Path
    ) -> None:
        (tmp_path / "ns").touch()
        plan = dataclasses.replace(WEB1, netns=str(tmp_path / "ns"))
        with pytest.raises(Refused, match="is not a network namespace"):
            attach(plan, switch, host_netns=host.netns)

    def test_the_guest_has_such_an_interface(self, host: OvsHost, switch: LocalSwitch) -> None:
        in_netns(GUEST1, "ip", "link", "add", "eth0", "type", "veth", "peer", "name", "peer0")
        with pytest.raises(Refused, match=f"{GUEST1} already has an interface 'eth0'.*--interface"):
            attach(WEB1, switch, host_netns=host.netns)
        assert link(host.netns, PORT) is None

    def test_the_hosts_end_is_somebody_elses(self, host: OvsHost, switch: LocalSwitch) -> None:
        in_netns(host.netns, "ip", "link", "add", PORT, "type", "veth", "peer", "name", "peer0")
        with pytest.raises(Refused, match=f"'{PORT}' is in use by a veth device"):
            attach(WEB1, switch, host_netns=host.netns)
        with pytest.raises(Refused, match=f"'{PORT}' is in use by a veth device"):
            detach("blue", "web1", switch, host_netns=host.netns)
        assert link(host.netns, PORT) is not None

    def test_the_port_claims_another_endpoint(self, host: OvsHost, switch: LocalSwitch) -> None:
        attach(WEB1, switch, host_netns=host.netns)
        host.vsctl("set", "interface", PORT, "external_ids:ovs-lwt-endpoint=red/web1")

        for wrong in (
            lambda: attach(WEB1, switch, host_netns=host.netns),
            lambda: detach("blue", "web1", switch, host_netns=host.netns),
        ):
            with pytest.raises(Refused, match=f"port '{PORT}' claims endpoint 'red/web1'"):
                wrong()
        assert guest_link(GUEST1)

    def test_attached_to_another_guest(self, host: OvsHost, switch: LocalSwitch) -> None:
        attach(WEB1, switch, host_netns=host.netns)
        with pytest.raises(Refused, match="ovs-lwt detach blue/web1"):
            attach(dataclasses.replace(WEB1, netns=GUEST2), switch, host_netns=host.netns)
        assert guest_link(GUEST1)

    @pytest.mark.parametrize("marking", ["tc", "nft"])
    def test_kernel_marks_on_the_userspace_datapath(
        self, host: OvsHost, switch: LocalSwitch, marking: Literal["tc", "nft"]
    ) -> None:
        with pytest.raises(Refused, match=f"does not see marks set by {marking}"):
            attach(dataclasses.replace(WEB1, marking=marking), switch, host_netns=host.netns)
        assert link(GUEST1, "eth0") is None

    def test_no_bridge_yet(self, host: OvsHost) -> None:
        with (
            LocalSwitch(host.remote) as switch,
            pytest.raises(Refused, match=r"no bridge 'br-lwt'.*ovs-lwt run"),
        ):
            attach(WEB1, switch, host_netns=host.netns)
        assert link(GUEST1, "eth0") is None

    def test_half_an_attach_is_taken_back(self, host: OvsHost, switch: LocalSwitch) -> None:
        """ovs-vswitchd is the last to be asked: by then the veth and the port's row are there."""
        host.stop_vswitchd()
        with (
            LocalSwitch(host.remote, timeout=0.5) as impatient,
            pytest.raises(Refused, match="ovs-vswitchd did not take up the change"),
        ):
            attach(WEB1, impatient, host_netns=host.netns)

        assert link(host.netns, PORT) is None
        assert link(GUEST1, "eth0") is None
        assert host.vsctl("--no-wait", "list-ports", switch.bridge) == "vx-lwt"

    def test_what_was_attached_survives_a_failing_attach(
        self, host: OvsHost, switch: LocalSwitch
    ) -> None:
        attach(WEB1, switch, host_netns=host.netns)
        host.stop_vswitchd()
        host.vsctl("--no-wait", "remove", "interface", PORT, "external_ids", "ovs-lwt-marking")
        with LocalSwitch(host.remote, timeout=0.5) as impatient, pytest.raises(Refused):
            attach(WEB1, impatient, host_netns=host.netns)

        assert addresses(GUEST1) == {"10.0.0.11/24", "fd00::11/64"}
        assert PORT in host.vsctl("--no-wait", "list-ports", switch.bridge)


class TestPlan:
    OVERLAY = """
underlay: {mtu: MTU}
vteps:
  host1: {address: 192.0.2.11}
  host2: {address: "2001:db8::12"}
tenants:
  blue:
    vni: 1010
    mark: 10
    endpoints:
      web1: {host: host1, mac: "02:00:00:00:00:01", ip: [10.0.0.11/24, "fd00::11/64"]}
  red:
    vni: 1020
    endpoints:
      web2: {host: host2, mac: "02:00:00:00:00:02", ip: 10.0.0.12/24}
"""

    @pytest.fixture
    def overlay(self, tmp_path: Path) -> Path:
        (tmp_path / "overlay.yaml").write_text(self.OVERLAY.replace("MTU", "1500"))
        return tmp_path / "overlay.yaml"

    def test_what_the_overlay_says_of_an_endpoint(self, overlay: Path) -> None:
        assert plan_attach(load(overlay), "blue/web1", GUEST1) == WEB1

    def test_the_mtu_leaves_room_for_the_tunnel(self, overlay: Path) -> None:
        assert tunnel_mtu(1500, 4) == 1450
        assert tunnel_mtu(1500, 6) == 1430
        assert plan_attach(load(overlay), "red/web2", GUEST1).mtu == 1430

    def test_too_small_an_underlay_for_ipv6(self, overlay: Path) -> None:
        overlay.write_text(self.OVERLAY.replace("MTU", "1300"))
        with pytest.raises(Refused, match=r"blue/web1.*underlay.mtu to 1330"):
            plan_attach(load(overlay), "blue/web1", GUEST1)
        assert plan_attach(load(overlay), "red/web2", GUEST1).mtu == 1230

    def test_an_endpoint_that_does_not_exist(self, overlay: Path) -> None:
        with pytest.raises(Refused, match="web9"):
            plan_attach(load(overlay), "blue/web9", GUEST1)
