"""The netlink engine and the machine's own kernel, in a network namespace of its own.

No VLANs and no MPLS here: this kernel need not have them (see the kernel lab).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from socket import AF_INET, AF_INET6
from typing import Any

import numpy as np
import pytest

from ovs_lwt.backends.netlink import dumps, export
from ovs_lwt.backends.netlink.program import Program, Rows, stamp
from ovs_lwt.backends.netlink.templates import Devices
from ovs_lwt.backends.netlink.transaction import Transaction, between
from ovs_lwt.backends.netlink.transport import Kernel, Outcome
from ovs_lwt.backends.netlink.wire import Listed
from ovs_lwt.stencil import Column
from ovs_lwt.veth.netlink import inside
from tests.support.ovs import in_netns, network_namespace

NETNS = f"netlink-{os.getpid()}"
N = 300
MAC = 0x020000000000
ANY, LINK_LOCAL, FD00_1, FD00_2 = (
    np.frombuffer(bytes.fromhex(address), np.uint8).reshape(1, 16)
    for address in (
        "0" * 32,
        "fe80" + "0" * 27 + "1",
        "fd00" + "0" * 27 + "1",
        "fd00" + "0" * 27 + "2",
    )
)
COUNT = np.arange(N)
LOCAL = np.array([0x0A010001], np.uint32)


def u32(*numbers: int) -> Column:
    return np.array(numbers, np.uint32)


def numbered6(prefix: str) -> Column:
    octets = np.tile(np.frombuffer(bytes.fromhex(prefix.ljust(32, "0")), np.uint8), (N, 1))
    octets[:, 14:] = COUNT.astype(">u2").view(np.uint8).reshape(-1, 2)
    return octets


@pytest.fixture
def links() -> Iterator[Any]:
    """A host: bridge, underlay, and shared devices for the bridge and the route plane."""
    with network_namespace(NETNS), inside(NETNS) as links:
        underlay = device(links, "u0", kind="veth", peer="u1")
        links.addr("add", index=underlay, address="fd00::1", prefixlen=64)
        bridge = device(links, "br0", kind="bridge")
        shared = {"kind": "vxlan", "vxlan_collect_metadata": 1, "vxlan_learning": 0}
        vxlan = device(links, "vxlan0", **shared, vxlan_vnifilter=1, vxlan_port=4789)
        links.link("set", index=vxlan, master=bridge)
        device(links, "vxlan6", **shared, vxlan_port=4790, vxlan_local6="fd00::1")
        yield links


@pytest.fixture
def devices(links: Any) -> Devices:
    names = ("vxlan0", "vxlan6", "br0", "u0")
    return Devices.of({name: links.link_lookup(ifname=name)[0] for name in names})


@pytest.fixture
def kernel(links: Any) -> Iterator[Kernel]:
    with Kernel(NETNS) as kernel:
        yield kernel


VXLAN, VXLAN6, BRIDGE, UNDERLAY = u32(0), u32(1), u32(2), u32(3)


def device(links: Any, name: str, **properties: Any) -> int:
    links.link("add", ifname=name, **properties)
    index = int(links.link_lookup(ifname=name)[0])
    links.link("set", index=index, state="up")
    return index


def bridge_plane() -> list[Rows]:
    mac = (MAC + COUNT).astype(np.uint64)
    vni, vtep = 1000 + COUNT % 30, 0x0A010100 + COUNT % 50
    return [
        # A gap, so that the kernel lists two ranges.
        Rows("vni.member", N, {"vni": 1000 + COUNT + (COUNT > 50), "dev": VXLAN}),
        Rows("fdb.remote_endpoint", N, {"vni": vni, "mac": mac, "vtep": vtep, "dev": VXLAN}),
        Rows("fdb.remote_endpoint6", N, {"vni": vni, "mac": mac, "vtep6": FD00_2, "dev": VXLAN6}),
        Rows("fdb.flood", N, {"vni": vni, "vtep": 0x0A010100 + COUNT // 30, "dev": VXLAN}),
        Rows("fdb.flood6", 30, {"vni": vni[:30], "vtep6": FD00_2, "dev": VXLAN6}),
        Rows("neighbour.permanent", N, {"ip": 0x0A090000 + COUNT, "mac": mac, "dev": BRIDGE}),
        Rows("neighbour.permanent6", N, {"ip6": numbered6("fd09"), "mac": mac, "dev": BRIDGE}),
    ]


def route_plane() -> list[Rows]:
    vni: dict[str, Column] = {"vni": 5 + COUNT % 7}
    vtep: dict[str, Column] = {"vtep": 0x0A010100 + COUNT % 50, "local": LOCAL}
    vtep6 = {"vtep6": FD00_2, "local6": FD00_1}
    prefix = {"prefix": 0x14000000 + COUNT * 256, "length": u32(24)}
    prefix6 = {"prefix6": numbered6("20010db8"), "length": u32(128)}
    via6 = {"via6": LINK_LOCAL}
    every = {"prefix": u32(0), "length": u32(0), "vni": u32(5), "vtep": u32(0x0A010101)}
    every |= {"local": LOCAL}
    every6 = {"prefix6": ANY, "length": u32(0), "vni": u32(5), "vtep": u32(0x0A010101)}
    every6 |= {"local": LOCAL}
    relations: list[tuple[str, int, int, dict[str, Column]]] = [
        ("remote_prefix", N, 1000, prefix | vni | vtep | {"dev": VXLAN}),
        ("remote_prefix", 1, 9000, every | {"dev": VXLAN}),
        ("remote_prefix_over6", N, 2000, prefix | vni | vtep6 | via6 | {"dev": VXLAN6}),
        ("remote_prefix6", N, 2000, prefix6 | vni | vtep | via6 | {"dev": VXLAN}),
        ("remote_prefix6", 1, 9000, every6 | via6 | {"dev": VXLAN}),
        ("remote_prefix6_over6", N, 3000, prefix6 | vni | vtep6 | via6 | {"dev": VXLAN6}),
        ("local_prefix", N, 4000, prefix | {"dev": UNDERLAY}),
        ("local_prefix6", N, 4000, prefix6 | {"dev": UNDERLAY}),
    ]
    routes = [
        Rows(f"route.{name}", count, columns | {"table": table + (COUNT % 7)[:count]})
        for name, count, table, columns in relations
    ]
    return [*routes, *rules(""), *rules("6")]


def rules(suffix: str) -> list[Rows]:
    five = np.arange(5)
    mark: dict[str, Column] = {"mark": five + 1, "mask": u32(0xFFFFFFFF)}
    table: dict[str, Column] = {"table": 1000 + five}
    branch: dict[str, Column] = {"mark": u32(0x1000, 0x2000), "mask": u32(0xF000)}
    iif: dict[str, Column] = {"iif": u32(0, 2, 2, 3, 0)}
    return [
        Rows(f"rule.mark{suffix}", 5, mark | table | {"preference": 100 + five}),
        Rows(f"rule.port_mark{suffix}", 5, iif | mark | table | {"preference": 200 + five}),
        Rows(f"rule.tunnel{suffix}", 5, {"vni": five + 1, "preference": 300 + five} | table),
        Rows(f"rule.branch{suffix}", 2, branch | {"target": u32(100, 9), "preference": u32(90, 5)}),
    ]


def installed(kernel: Kernel, devices: Devices) -> list[Listed]:
    vxlan, vxlan6, bridge, _ = devices.index.tolist()
    return [
        *dumps.vnis(kernel, vxlan),
        *dumps.fdb(kernel, vxlan),
        *dumps.fdb(kernel, vxlan6),
        *(one for family in (AF_INET, AF_INET6) for one in family_of(kernel, family, bridge)),
    ]


def family_of(kernel: Kernel, family: int, bridge: int) -> list[Listed]:
    neighbours = dumps.neighbours(kernel, family, bridge)
    return [*neighbours, *dumps.routes(kernel, family), *dumps.rules(kernel, family)]


def said(transaction: Transaction) -> list[str]:
    return [step.describe(row) for step in transaction.steps for row in range(len(step.rows))]


@pytest.fixture
def there(kernel: Kernel, devices: Devices) -> Program:
    """Everything installed."""
    program = stamp([*bridge_plane(), *route_plane()], devices)
    outcome = kernel.run(between(installed(kernel, devices), program))
    assert [str(failure) for failure in outcome.failures] == []
    assert outcome == Outcome(len(program))
    return program


def shown(*command: str) -> set[str]:
    """What iproute2 prints, without its double blanks."""
    return {" ".join(line.split()) for line in in_netns(NETNS, *command).splitlines()}


def test_what_was_sent_is_what_is_listed(kernel: Kernel, devices: Devices, there: Program) -> None:
    found = between(installed(kernel, devices), there)
    assert said(found) == []
    assert found.counts.unchanged == len(there) == 3666


def test_a_restart_sends_nothing(devices: Devices, there: Program) -> None:
    again = stamp([*bridge_plane(), *route_plane()], devices)
    with Kernel(NETNS) as another:
        assert len(between(installed(another, devices), again)) == 0


@pytest.mark.usefixtures("there")
def test_iproute2_sees_the_same() -> None:
    fdb = shown("bridge", "fdb", "show", "dev", "vxlan0")
    assert "02:00:00:00:00:07 dst 10.1.1.7 src_vni 1007 self permanent" in fdb
    assert "00:00:00:00:00:00 dst 10.1.1.1 src_vni 1000 self permanent" in fdb
    assert sum("src_vni" in line for line in fdb) == 2 * N
    assert "02:00:00:00:00:07 dst fd00::2 src_vni 1007 self permanent" in shown(
        *("bridge", "fdb", "show", "dev", "vxlan6")
    )
    assert "10.9.0.7 dev br0 lladdr 02:00:00:00:00:07 PERMANENT proto 76" in shown("ip", "neigh")
    assert any("1000-1050" in line for line in shown("bridge", "vni", "show", "dev", "vxlan0"))
    assert shown("ip", "route", "show", "table", "9000") == {
        (
            "default encap ip id 5 src 10.1.0.1 dst 10.1.1.1 ttl 0 tos 0 via 10.1.1.1 dev vxlan0"
            " proto 76 onlink"
        )
    }
    assert (
        "20.0.1.0/24 encap ip6 id 6 src fd00::1 dst fd00::2 hoplimit 0 tc 0 csum via inet6 fe80::1"
        " dev vxlan6 proto 76 onlink"
    ) in shown("ip", "route", "show", "table", "2001")
    rules = shown("ip", "rule")
    assert "90: from all fwmark 0x1000/0xf000 goto 100 proto 76" in rules
    assert "203: from all fwmark 0x4 iif u0 lookup 1003 proto 76" in rules
    assert "300: from all tun_id 1 lookup 1000 proto 76" in rules


def test_of_a_change_only_what_changed_is_sent(
    kernel: Kernel, devices: Devices, there: Program
) -> None:
    relations = [*bridge_plane(), *route_plane()]
    vni, macs, vteps = (relations[1].columns[name].copy() for name in ("vni", "mac", "vtep"))
    vteps[7] = 0x0A0101C8  # an endpoint moves to 10.1.1.200
    keep = COUNT != 9  # another is gone
    columns = {"vni": vni[keep], "mac": macs[keep], "vtep": vteps[keep], "dev": VXLAN}
    relations[1] = Rows("fdb.remote_endpoint", N - 1, columns)
    after = stamp(relations, devices)
    incremental = between(there.entries, after)
    assert said(incremental) == [
        "fdb replace 02:00:00:00:00:07 dev vxlan0 dst 10.1.1.200 src_vni 1007 self permanent",
        "fdb del 02:00:00:00:00:09 dev vxlan0 dst 10.1.1.9 src_vni 1009 self",
    ]
    # As if everything had been read and compared.
    assert said(between(installed(kernel, devices), after)) == said(incremental)
    assert kernel.run(incremental) == Outcome(2)
    assert said(between(installed(kernel, devices), after)) == []


def test_drift_is_repaired(kernel: Kernel, devices: Devices, there: Program) -> None:
    for command in (
        "bridge fdb replace 02:00:00:00:00:07 dev vxlan0 dst 10.6.6.6 src_vni 1007 self",
        "bridge fdb del 00:00:00:00:00:00 dev vxlan0 dst 10.1.1.1 src_vni 1000 self",
        "bridge fdb append 00:00:00:00:00:00 dev vxlan0 dst 10.6.6.6 src_vni 1000 self",
        "bridge vni delete vni 1010-1012 dev vxlan0",
        "ip neigh replace 10.9.0.7 lladdr 02:66:66:66:66:66 dev br0 nud permanent",
        "ip route del table 2001 20.0.1.0/24",
        "ip route replace table 4001 20.0.1.0/24 dev br0",
        "ip rule del priority 203",
        "ip rule add priority 6 fwmark 6 lookup 6 protocol 76",
    ):
        in_netns(NETNS, *command.split())
    repair = between(installed(kernel, devices), there)
    assert str(repair.counts) == "9 written, 2 deleted, 3657 as they were"
    assert [line for line in said(repair) if " del " in line] == [
        "rule del priority 6 fwmark 6 lookup 6",
        "fdb del 00:00:00:00:00:00 dev vxlan0 dst 10.6.6.6 src_vni 1000 self",
    ]
    assert kernel.run(repair).failed == 0
    assert said(between(installed(kernel, devices), there)) == []


def test_what_is_anothers_stays(kernel: Kernel, devices: Devices, there: Program) -> None:
    for command in (
        "ip neigh replace 10.8.0.1 lladdr 02:00:00:00:00:01 dev br0 nud permanent",
        "ip route add table 1000 30.0.0.0/8 dev br0",
        "ip rule add priority 7 fwmark 7 lookup 7",
        "bridge fdb add 02:77:77:77:77:77 dev vxlan0 master static",
    ):
        in_netns(NETNS, *command.split())
    assert said(between(installed(kernel, devices), there)) == []
    emptying = between(installed(kernel, devices), stamp([], devices))
    assert kernel.run(emptying) == Outcome(len(there))
    assert any("10.8.0.1" in line for line in shown("ip", "neigh"))
    assert shown("ip", "route", "show", "table", "1000") == {"30.0.0.0/8 dev br0 scope link"}
    assert "7: from all fwmark 0x7 lookup 7" in shown("ip", "rule")
    assert any("02:77" in line for line in shown("bridge", "fdb", "show", "dev", "vxlan0"))
    assert "32766: from all lookup main" in shown("ip", "rule")


def test_deleting_and_adding_twice_is_success(
    kernel: Kernel, devices: Devices, there: Program
) -> None:
    assert kernel.run(between([], there)) == Outcome(len(there))
    assert said(between(installed(kernel, devices), there)) == []
    emptying = between(there.entries, stamp([], devices))
    for _ in range(2):
        assert kernel.run(emptying) == Outcome(len(there))
    left = [listed for listed in installed(kernel, devices) if listed.mine.any()]
    assert left == []


def wrong_family() -> list[Rows]:
    """Endpoints of which the kernel refuses those behind an IPv6 VTEP: the device is IPv4's."""
    (vni, good, *_), mac = bridge_plane(), (MAC + 0x1000 + COUNT[:2]).astype(np.uint64)
    columns = {"vni": u32(1000), "mac": mac, "vtep6": FD00_2, "dev": VXLAN}
    return [vni, good, Rows("fdb.remote_endpoint6", 2, columns)]


def test_an_error_names_its_row_and_the_others_are_done(kernel: Kernel, devices: Devices) -> None:
    program = stamp(wrong_family(), devices)
    outcome = kernel.run(between([], program))
    assert [str(failure) for failure in outcome.failures] == [
        f"fdb replace 02:00:00:00:10:0{n} dev vxlan0 dst fd00::2 src_vni 1000 self permanent:"
        " Address family not supported by protocol"
        for n in range(2)
    ]
    found = between(installed(kernel, devices), program)
    assert found.counts.unchanged == len(program) - 2


def test_the_kernels_own_words_are_handed_on(kernel: Kernel, devices: Devices) -> None:
    away = {"prefix": u32(0x14000000), "length": u32(20), "table": u32(10), "dev": UNDERLAY}
    away["prefix"] = u32(0x14000001)  # bits beyond its length
    outcome = kernel.run(between([], stamp([Rows("route.local_prefix", 1, away)], devices)))
    (failure,) = outcome.failures
    assert failure.what == "route replace table 10 20.0.0.1/20 dev u0 proto 76"
    assert str(failure).endswith(": Invalid argument (Invalid prefix for given prefix length)")


def test_a_socket_too_small_for_the_answers_loses_none(links: Any, devices: Devices) -> None:
    count = 3000
    mac = (MAC + np.arange(count)).astype(np.uint64)
    columns = {"vni": u32(1000), "mac": mac, "vtep6": FD00_2, "dev": VXLAN}
    program = stamp([Rows("fdb.remote_endpoint6", count, columns)], devices)
    with Kernel(NETNS, buffer=4096) as small:
        outcome = small.run(between([], program))
    assert (outcome.sent, outcome.failed) == (count, count)
    assert [failure.what.split()[2][-2:] for failure in outcome.failures[:3]] == ["00", "01", "02"]


def test_what_is_exported_makes_the_same_by_hand(
    kernel: Kernel, devices: Devices, tmp_path: Path
) -> None:
    relations = [*bridge_plane(), *route_plane()]
    for tool in export.TOOLS:
        batch = tmp_path / tool.replace(" ", "")
        with batch.open("w") as out:
            export.write(tool, relations, devices, out)
        in_netns(NETNS, *tool.split(), "-batch", str(batch))
    program = stamp(relations, devices)
    found = between(installed(kernel, devices), program)
    assert said(found) == []
    assert found.counts.unchanged == len(program)


def test_a_link_that_filters_by_vni_is_made_by_pyroute2(links: Any) -> None:
    """`missing` has taught it: without the attribute there would be no filter to add to."""
    (link,) = links.link("get", ifname="vxlan0")
    data = link.get_nested("IFLA_LINKINFO", "IFLA_INFO_DATA")
    assert data.get_attr("IFLA_VXLAN_VNIFILTER") == 1


def test_a_namespace_that_does_not_exist() -> None:
    with pytest.raises(OSError, match="No such file"):
        Kernel("netlink-nowhere")
