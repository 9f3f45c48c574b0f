"""The route plane's entries in a kernel: listed as they were sent, and the same by hand."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ovs_lwt.backends.netlink.program import stamp
from ovs_lwt.backends.netlink.transaction import between
from ovs_lwt.sources.overlay_file import from_dict
from tests.support.overlays import Overlay, endpoint
from tests.support.route_host import RouteHost, route_host, said

NETNS = f"route-{os.getpid()}"
TENANTS = 13
LABELLED = "t12"


def overlay(family: int = 4) -> Overlay:
    """Many tenants with the same addresses, the last of them carried by MPLS."""
    network = {4: "192.0.2.1", 6: "2001:db8::1"}[family]

    def guest(number: int, host: str, six: bool, **more: Any) -> dict[str, Any]:
        ips = [f"10.0.0.{number}/24", *([f"fd00::{number}/64"] if six else [])]
        return {"host": host, "mac": f"02:00:00:00:00:{number:02x}", "ip": ips, **more}

    tenants: dict[str, Any] = {}
    for number in range(TENANTS):
        name = f"t{number:02}"
        # Over IPv4 the kernel has no labelled IPv6 routes.
        six = number % 3 != 0 and (name != LABELLED or family == 6)
        tenants[name] = {
            "vni": 100_000 + number,
            "mark": 100 + number if number % 5 else 70_000 + number,
            "endpoints": {
                "a": guest(1, "host1", six, **({"spoofing": "allow"} if number % 4 == 0 else {})),
                "b": guest(2, "host2", six),
                "c": guest(3, "host3" if number % 2 else "host2", six),
            },
        }
    tenants[LABELLED] |= {"encapsulation": "mpls", "label": 5012}
    vteps = {
        f"host{number}": {"address": f"{network}{number}", "plane": "route"} for number in (1, 2, 3)
    }
    return {"vteps": vteps, "tenants": tenants}


@pytest.fixture
def host() -> Iterator[RouteHost]:
    with route_host(NETNS, from_dict(overlay()), "host1") as host:
        host.bring()
        yield host


def shown(host: RouteHost) -> dict[str, set[str]]:
    """The tables as iproute2 prints them."""
    commands = {
        "rule": "ip rule",
        "rule6": "ip -6 rule",
        "route": "ip route show table all proto 76",
        "route6": "ip -6 route show table all proto 76",
        "label": "ip -f mpls route",
        "vni": "bridge vni show dev vx-lwt",
        "neighbours": "ip neigh show nud permanent; ip -6 neigh show nud permanent",
        "filter": "tc filter show dev vx-lwt ingress",
    }
    ended = "# end"
    printed = host.do(*(f"{command}; echo '{ended}'" for command in commands.values()))
    return {
        name: {" ".join(line.split()) for line in part.splitlines()}
        for name, part in zip(commands, printed.split(ended), strict=False)
    }


def test_what_was_sent_is_what_is_listed_and_a_restart_sends_nothing(host: RouteHost) -> None:
    assert said(host.due()) == []
    assert host.due().counts.unchanged == len(host.program()) > 10 * TENANTS


def test_the_kernel_shows_a_tenants_rules_routes_and_filter(host: RouteHost) -> None:
    tables = shown(host)
    # Tenant 1: mark and table 101, VNI 100001 (its guard: 65536 + 4 VNI), endpoints on all hosts.
    assert any(line.endswith("fwmark 0x65 lookup 101 proto 76") for line in tables["rule"])
    assert any("fwmark 0x65 goto 465540" in line for line in tables["rule6"])
    assert "465541: from fd00::1 iif t01-a lookup 101 proto 76" in tables["rule6"]
    assert "32765: from all lookup local proto 76" in tables["rule"]
    assert not any(line.startswith("0:") for line in tables["rule"] | tables["rule6"])
    encap = "encap ip id 100001 src 192.0.2.11 dst 192.0.2.12 ttl 0 tos 0"
    assert f"10.0.0.2 {encap} via 192.0.2.12 dev vx-lwt table 101 onlink" in tables["route"]
    assert "unreachable default table 101 metric 4278198272" in tables["route"]
    assert "10.0.0.1 dev t01-a table 101 scope link" in tables["route"]
    assert any(line.startswith(f"fd00::2 {encap} via fe80::") for line in tables["route6"])
    # A host of tenant 4 may send from any address.
    assert "465553: from all iif t04-a lookup 104 proto 76" in tables["rule6"]
    assert "5012 dev lwt-112 proto 76" in tables["label"]
    assert "10.0.0.2 encap mpls 5012 via 192.0.2.12 dev u0 table 112" in tables["route"]
    assert (
        "192.0.2.12 dev vx-lwt lladdr 02:4c:c0:00:02:0c PERMANENT proto 76"
        in (tables["neighbours"])
    )
    assert "enc_key_id 100001" in tables["filter"]
    assert "action order 1: skbedit mark 101 continue" in tables["filter"]


def test_what_is_exported_makes_the_same_by_hand(host: RouteHost, tmp_path: Path) -> None:
    with route_host(f"{NETNS}h", host.topology, "host1") as by_hand:
        by_hand.plane.check(by_hand.view)
        by_hand.load(tmp_path)
        assert said(by_hand.due()) == []
        found, expected = shown(by_hand), shown(host)
        # tc numbers the actions of all namespaces on and on.
        assert {line for line in found.pop("filter") if "index" not in line} == {
            line for line in expected.pop("filter") if "index" not in line
        }
        assert found == expected


def test_over_ipv6_it_is_the_same(tmp_path: Path) -> None:
    with route_host(NETNS, from_dict(overlay(6)), "host1") as host:
        host.plane.check(host.view)
        host.load(tmp_path)
        assert said(host.due()) == []
        tables = shown(host)
        encap = (
            "10.0.0.2 encap ip6 id 100001 src 2001:db8::11 dst 2001:db8::12 hoplimit 0 tc 0 csum"
        )
        assert any(line.startswith(f"{encap} via inet6 fe80::") for line in tables["route"])
        labelled = "encap mpls 5012 via inet6 2001:db8::12 dev u0 table 112"
        assert f"10.0.0.2 {labelled}" in tables["route"]


def test_a_host_whose_tenants_have_no_ipv6_still_finds_its_own_addresses() -> None:
    four = overlay()
    for tenant in four["tenants"].values():
        for guest in tenant["endpoints"].values():
            guest["ip"] = guest["ip"][:1]
    with route_host(NETNS, from_dict(four), "host1") as host:
        host.bring()
        assert said(host.due()) == []
        for rules in ("ip rule", "ip -6 rule"):
            assert "lookup local" in host.do(rules)
        host.do("ping -c1 -W1 192.0.2.11", "ping -c1 -W1 ::1")


def test_of_a_change_only_what_changed_is_sent(host: RouteHost) -> None:
    """An endpoint moves from one host to another, and a tenant leaves."""
    before = host.program()
    changed = overlay()
    endpoint(changed, "t01/b")["host"] = "host3"
    del changed["tenants"]["t02"]
    host.topology = from_dict(changed)
    host.names = [name for name in host.names if name != "t02-a"]
    lines = said(host.due())
    moved = [line for line in lines if line.startswith("route replace table 101 10.0.0.2/32 ")]
    assert len(moved) == 1
    assert "dst 192.0.2.13 via 192.0.2.13" in moved[0]
    assert any(line.startswith("route replace table 101 fd00::2/128 ") for line in lines)
    assert not any("table 103" in line or "100003" in line for line in lines)
    for gone in ("vni delete vni 100002 dev vx-lwt", "route del unreachable default table 102"):
        assert any(line.startswith(gone) for line in lines), lines
    # What is known to be installed makes the same of it as what is listed.
    after = host.program()
    assert sorted(said(between(before.entries, after))) == sorted(lines)
    host.bring()
    assert said(host.due()) == []


def test_what_others_have_changed_is_put_right(host: RouteHost) -> None:
    host.do(
        "tc filter replace dev vx-lwt ingress protocol all pref 76 handle 100001"
        " flower enc_key_id 100001 action skbedit mark 103",
        "tc filter del dev vx-lwt ingress protocol all pref 76 handle 100004 flower",
        "ip route replace table 101 10.0.0.2/32 dev u0 proto 76",
        "ip route del table 103 unreachable default",
        "ip -6 rule del priority 465541",
        "ip -f mpls route del 5012",
        "ip rule add priority 0 lookup local protocol kernel",
        "ip neigh del 192.0.2.12 dev vx-lwt",
    )
    # What is not ours stays, where it is in nobody's way.
    host.do(
        "tc filter add dev vx-lwt ingress protocol all pref 5 matchall action continue",
        "ip route add table 101 30.0.0.0/8 dev u0",
    )
    lines = said(host.bring())
    assert len(lines) == 8, lines
    assert said(host.due()) == []
    tables = shown(host)
    assert "action order 1: skbedit mark 101 continue" in tables["filter"]
    assert any("matchall" in line for line in tables["filter"])
    assert any(line.startswith("30.0.0.0/8") for line in shown_table(host, 101))
    assert not any(line.startswith("0:") for line in tables["rule"])


def shown_table(host: RouteHost, table: int) -> list[str]:
    return host.do(f"ip route show table {table}").splitlines()


def test_a_host_whose_tenants_have_all_left_still_finds_its_own_addresses(host: RouteHost) -> None:
    devices = host.devices()
    emptying = between(host.plane.read(host.kernel, devices), stamp([], devices))
    assert host.kernel.run(emptying).failed == 0
    assert "32765: from all lookup local proto 76" in shown(host)["rule"]
    host.do("ping -c1 -W1 192.0.2.11")
