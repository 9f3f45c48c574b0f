"""The bridge plane's entries in a kernel: listed as they were sent, and the same by hand."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ovs_lwt.backends.netlink.transaction import between
from ovs_lwt.sources.overlay_file import from_dict
from tests.support.bridge_host import BridgeHost, bridge_host, said
from tests.support.overlays import Overlay, endpoint

NETNS = f"bridge-{os.getpid()}"
TENANTS = 13


def overlay(family: int = 4) -> Overlay:
    """Many tenants with the same addresses; marks that are VLANs, and some that cannot be."""
    network = {4: "192.0.2.1", 6: "2001:db8::1"}[family]

    def guest(number: int, host: str, **more: Any) -> dict[str, Any]:
        return {
            "host": host,
            "mac": f"02:00:00:00:00:{number:02x}",
            "ip": [f"10.0.0.{number}/24", f"fd00::{number}/64"],
            **more,
        }

    tenants = {
        f"t{number:02}": {
            # Of every third the VNI does not follow its neighbour's: no range of VNIs.
            "vni": 100_000 + number + 1000 * (number % 3 == 0),
            "mark": 100 + number if number % 5 else 70_000 + number,
            "unknown_unicast": "drop" if number % 4 == 0 else "flood",
            "neighbours": "flood" if number % 7 == 0 else "answer",
            "endpoints": {
                "a": guest(1, "host1", **({"spoofing": "allow"} if number % 6 == 0 else {})),
                "b": guest(2, "host2"),
                "c": guest(3, "host3" if number % 2 else "host2"),
            },
        }
        for number in range(TENANTS)
    }
    vteps = {f"host{number}": {"address": f"{network}{number}"} for number in (1, 2, 3)}
    return {"vteps": vteps, "tenants": tenants}


@pytest.fixture
def host() -> Iterator[BridgeHost]:
    with bridge_host(NETNS, from_dict(overlay()), "host1") as host:
        host.bring()
        yield host


def shown(host: BridgeHost) -> dict[str, set[str]]:
    """The tables as iproute2 prints them, without blanks and times."""
    commands = {
        "vlan": "bridge vlan show",
        "tunnel": "bridge vlan tunnelshow",
        "vni": "bridge vni show dev vx-lwt",
        "fdb": "bridge fdb show br br-lwt",
        "neighbours": "ip neigh show nud permanent; ip -6 neigh show nud permanent",
    }
    ended = "# end"
    printed = host.do(*(f"{command}; echo '{ended}'" for command in commands.values()))
    return {
        name: {" ".join(line.split()) for line in part.splitlines()}
        for name, part in zip(commands, printed.split(ended), strict=False)
    }


def test_what_was_sent_is_what_is_listed_and_a_restart_sends_nothing(host: BridgeHost) -> None:
    assert said(host.due()) == []
    assert host.due().counts.unchanged == len(host.program())
    # A VNI, its VLAN, the guest's VLAN and MAC here; two guests elsewhere, in both databases.
    entries = 3 * TENANTS + 2 * TENANTS + 4 * TENANTS
    floods = TENANTS + TENANTS // 2  # host2, and host3 for odd tenants
    # Three addresses of each guest, the link-local one among them; two tenants are not answered.
    # Those that may send from any address answer for their two IPv6 addresses themselves.
    neighbours = (TENANTS - 2) * 9 - 2 * 2
    # No tags; two VTEPs that may send, what all else becomes, no marks outside.
    filters = 1 + 1 + 2 + 2
    # No tags from a guest; of those that are answered, its announcements, and not a second time.
    guarded = 2 * TENANTS + 2 * (TENANTS - 2)
    announced = TENANTS - 2  # VLANs
    assert len(host.program()) == entries + floods + neighbours + filters + guarded + announced


def test_the_kernel_shows_a_tenants_vlan_vni_and_guest(host: BridgeHost) -> None:
    tables = shown(host)
    # Tenant 3: mark 103, VNI 101003; tenant 1: mark 101, VNI 100001.
    assert any(line.endswith("103 101003") for line in tables["tunnel"])
    assert "t01-a 101 PVID Egress Untagged" in tables["vlan"]
    fdb = tables["fdb"]
    assert "02:00:00:00:00:01 dev t01-a vlan 101 extern_learn master br-lwt" in fdb
    assert "02:00:00:00:00:02 dev vx-lwt vlan 101 extern_learn master br-lwt" in fdb
    lists = [line for line in fdb if line.startswith("00:00:00:00:00:00")]
    assert sum("src_vni 100001 " in line for line in lists) == 2
    assert "02:00:00:00:00:02 dev vx-lwt dst 192.0.2.12 src_vni 100001 self permanent" in fdb
    neighbours = tables["neighbours"]
    assert "10.0.0.2 dev br-lwt.101 lladdr 02:00:00:00:00:02 PERMANENT proto 76" in neighbours
    # Tenant 7 asks its guests.
    assert not any("br-lwt.107" in line for line in neighbours)


def test_what_is_exported_makes_the_same_by_hand(host: BridgeHost, tmp_path: Path) -> None:
    with bridge_host(f"{NETNS}h", host.topology, "host1") as by_hand:
        by_hand.load(tmp_path)
        assert said(by_hand.due()) == []
        assert without_macs(shown(by_hand)) == without_macs(shown(host))


def without_macs(tables: dict[str, set[str]]) -> dict[str, set[str]]:
    """Without what the kernel enters by itself: the devices' own MACs."""
    return {
        name: {line for line in lines if "src_vni" in line or not line.endswith("permanent")}
        for name, lines in tables.items()
    }


def test_over_ipv6_it_is_the_same(tmp_path: Path) -> None:
    topology = from_dict(overlay(6))
    with bridge_host(NETNS, topology, "host1") as host:
        host.load(tmp_path)
        assert said(host.due()) == []
        remote = "02:00:00:00:00:02 dev vx-lwt dst 2001:db8::12 src_vni 100001 self permanent"
        assert remote in shown(host)["fdb"]


def test_of_a_change_only_what_changed_is_sent(host: BridgeHost) -> None:
    """An endpoint moves from one host to another, one comes to this host, a tenant leaves."""
    before = host.program()
    changed = overlay()
    endpoint(changed, "t01/b")["host"] = "host3"
    endpoint(changed, "t02/a")["host"] = "host2"
    del changed["tenants"]["t03"]
    host.topology = from_dict(changed)
    host.names = [name for name in host.names if name not in ("t02-a", "t03-a")]
    lines = said(host.due())
    moved = "fdb replace 02:00:00:00:00:02 dev vx-lwt dst 192.0.2.13 src_vni 100001 self permanent"
    assert moved in lines
    # Tenant 2 is gone from this host with its last guest, and so is tenant 3.
    gone = [line for line in lines if line.startswith("vni delete")]
    assert sorted(gone) == [f"vni delete vni {vni} dev vx-lwt" for vni in (100002, 101003)]
    assert len(lines) < 60
    host.bring()
    assert said(host.due()) == []
    assert len(host.program()) < len(before)


def test_drift_is_repaired(host: BridgeHost) -> None:
    host.do(
        "bridge vlan del dev t01-a vid 101",
        "bridge vlan add dev t01-a vid 102 pvid untagged",  # in another tenant's VLAN
        "bridge vlan add dev t02-a vid 102 pvid",  # what it sends comes back tagged
        "bridge vlan del dev vx-lwt vid 104",
        "bridge vlan del dev vx-lwt vid 106 tunnel_info id 101006",
        "bridge vlan add dev vx-lwt vid 106 tunnel_info id 5",
        "bridge vni delete vni 100007 dev vx-lwt",
        "bridge vni add vni 5 dev vx-lwt",
        "bridge fdb del 02:00:00:00:00:01 dev t08-a vlan 108 master",
        "bridge fdb replace 02:00:00:00:00:02 dev vx-lwt vlan 108 master static",
        "bridge fdb replace 02:00:00:00:00:03 dev vx-lwt vlan 108 master local",
        "bridge fdb replace 02:00:00:00:00:02 dev t11-a vlan 111 master dynamic extern_learn",
        "ip neigh del 10.0.0.2 dev br-lwt.112",
    )
    repair = said(host.bring())
    assert "vlan del dev t01-a vid 102" in repair
    assert "vlan add dev t02-a vid 102 pvid untagged" in repair
    assert "vlan del dev vx-lwt vid 106 tunnel_info id 5" in repair
    assert "vlan add dev vx-lwt vid 106 tunnel_info id 101006" in repair
    assert said(host.due()) == []
    assert "t01-a 101 PVID Egress Untagged" in shown(host)["vlan"]


def test_vnis_that_change_their_vlans_are_taken_apart_first(host: BridgeHost) -> None:
    """The kernel takes neither a VLAN twice nor a VNI: two that have been swapped are in each
    other's way.
    """
    host.do(
        "bridge vlan del dev vx-lwt vid 101 tunnel_info id 100001",
        "bridge vlan del dev vx-lwt vid 102 tunnel_info id 100002",
        "bridge vlan add dev vx-lwt vid 101 tunnel_info id 100002",
        "bridge vlan add dev vx-lwt vid 102 tunnel_info id 100001",
    )
    assert said(host.bring()) == [
        "vlan del dev vx-lwt vid 101 tunnel_info id 100002",
        "vlan del dev vx-lwt vid 102 tunnel_info id 100001",
        "vlan add dev vx-lwt vid 101 tunnel_info id 100001",
        "vlan add dev vx-lwt vid 102 tunnel_info id 100002",
    ]
    assert said(host.due()) == []


def test_what_is_anothers_stays(host: BridgeHost) -> None:
    host.do(
        "ip link add name theirs type veth peer name theirs0",
        "ip link set theirs master br-lwt",
        "bridge vlan add dev theirs vid 101",
        "bridge fdb add 02:77:77:77:77:77 dev theirs vlan 101 master static",
        "bridge vlan add dev br-lwt vid 101 self",
    )
    assert said(host.due()) == []
    # Nor is any of it in the way when all of ours goes.
    bare = from_dict({"vteps": overlay()["vteps"], "tenants": {}})
    host.topology, host.names = bare, []
    devices = host.devices()
    found = host.plane.read(host.kernel, devices)
    assert any(listed.mine.any() for listed in found)
    host.bring()
    assert said(host.due()) == []
    tables = shown(host)
    assert any("02:77:77:77:77:77" in line for line in tables["fdb"])
    assert not [line for line in tables["fdb"] if "extern_learn" in line]
    assert not [line for line in tables["tunnel"] if "vx-lwt" in line]


def test_doing_everything_twice_is_success(host: BridgeHost) -> None:
    program = host.program()
    again = host.kernel.run(host.due())
    assert again.sent == 0
    outcome = host.kernel.run(between([], program))
    assert (outcome.sent, outcome.failed) == (len(program), 0)
    assert said(host.due()) == []
