"""What is printed for `bridge -batch` and `ip -batch`. That they load it: tests/switch."""

from __future__ import annotations

import io

import numpy as np

from ovs_lwt.backends.netlink import export
from ovs_lwt.backends.netlink.program import Rows
from ovs_lwt.backends.netlink.templates import Devices
from ovs_lwt.stencil import Column

# Exported without a kernel: no device exists yet.
HOST = Devices.of({"vxlan0": 0, "br0.10": 0, "a1": 0})


def u32(*numbers: int) -> Column:
    return np.array(numbers, np.uint32)


RELATIONS = (
    Rows("vni.member", 2, {"vni": u32(1010, 1020), "dev": u32(0)}),
    Rows("fdb.flood", 1, {"vni": u32(1010), "vtep": u32(0xC0000202), "dev": u32(0)}),
    Rows("fdb.remote_endpoint", 0, {}),
    Rows(
        "route.remote_prefix",
        2,
        {
            "table": u32(10),
            "prefix": u32(0, 0x14010200),
            "length": u32(0, 24),
            "vni": u32(1010),
            "local": u32(0xC0000201),
            "vtep": u32(0xC0000202),
            "dev": u32(0),
        },
    ),
    Rows(
        "rule.port_mark6",
        1,
        {
            "iif": u32(2),
            "mark": u32(10),
            "mask": u32(0xFFFF),
            "table": u32(10),
            "preference": u32(100),
        },
    ),
)


def printed(tool: str) -> list[str]:
    out = io.StringIO()
    export.write(tool, RELATIONS, HOST, out)
    return out.getvalue().splitlines()


def test_bridge_reads_its_own() -> None:
    assert printed("bridge") == [
        "# A VNI that the shared device takes part in; it drops all others.",
        "vni add vni 1010 dev vxlan0",
        "vni add vni 1020 dev vxlan0",
        "# A VTEP that gets a copy of every BUM frame of the tenant.",
        "fdb append 00:00:00:00:00:00 dev vxlan0 dst 192.0.2.2 src_vni 1010 self permanent",
    ]


def test_ip_reads_its_own() -> None:
    encap = "encap ip id 1010 src 192.0.2.1 dst 192.0.2.2 via 192.0.2.2 dev vxlan0 onlink proto 76"
    assert printed("ip")[1:] == [
        f"route replace table 10 0.0.0.0/0 {encap}",
        f"route replace table 10 20.1.2.0/24 {encap}",
    ]


def test_rules_for_ipv6_are_for_another_batch() -> None:
    assert printed("ip -6")[1:] == [
        "rule add priority 100 iif a1 fwmark 10/65535 lookup 10 protocol 76"
    ]


def test_the_three_batches_hold_every_row_once() -> None:
    lines = [line for tool in export.TOOLS for line in printed(tool) if not line.startswith("#")]
    assert len(lines) == sum(rows.count for rows in RELATIONS)
