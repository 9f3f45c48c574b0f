"""Entries of the route plane as Linux 6.1 lists them are those that were sent."""

from __future__ import annotations

import numpy as np
from pyroute2.netlink.rtnl.tcmsg import tcmsg

from ovs_lwt.backends.netlink import wire
from ovs_lwt.backends.netlink.kinds import FILTER, ROUTE, Kind
from ovs_lwt.backends.netlink.listing import delete_line
from ovs_lwt.backends.netlink.program import Program, Rows, stamp
from ovs_lwt.backends.netlink.templates import Devices
from ovs_lwt.backends.netlink.transaction import Transaction, between
from ovs_lwt.backends.netlink.wire import Listed
from ovs_lwt.stencil import Column

HOST = Devices.of({"vx-lwt": 2})

# `tc filter replace dev vx-lwt ingress protocol all pref 76 handle 1010 flower enc_key_id 1010
# action skbedit mark 10 continue`, with counters, times, and the number of the action.
FLOWER = """
    10010000 2c000200 02000000 e4020000 00000000 02000000 f2030000 f2ffffff 00034c00
    0b000100 666c6f77 65720000 08000b00 00000000 d8000200 08001a00 000003f2 08001600 08000000
    08005600 00000000 bc000300 b8000100 0c000100 736b6265 64697400 04000500 50000400 04000600
    14000100 00000000 00000000 00000000 00000000 04000600 14000700 00000000 00000000 00000000
    00000000 04000600 18000300 00000000 00000000 00000000 00000000 00000000 08000a00 00000000
    4c000200 18000200 03000000 00000000 ffffffff 01000000 01000000 08000500 0a000000 04000600
    24000100 dc030000 00000000 dc030000 00000000 00000000 00000000 00000000 00000000
"""
# `ip route replace table 102 10.0.0.2/32 encap ip id 100002 src 192.0.2.11 dst 192.0.2.12
# via 192.0.2.12 dev vx-lwt onlink proto 76`, from a kernel that aligns the VNI (LWTUNNEL_IP_PAD).
PADDED = """
    80000000 18000200 01000000 00000000 02200000 664c0001 04000000
    08000f00 66000000 08000100 0a000002 08000500 c000020c 08000400 02000000
    3c001600 04000700 0c000100 00000000 000186a2 08000200 c000020c 08000300 c000020b
    05000500 00000000 05000400 00000000 06000600 00000000 06001500 02000000
"""


def listed(kind: Kind, message: str) -> list[Listed]:
    octets = np.frombuffer(bytes.fromhex(message), np.uint8)
    return list(wire.entries(kind, octets.reshape(1, -1).copy()))


def u32(number: int) -> Column:
    return np.array([number], np.uint32)


def marking(mark: int = 10, vni: int = 1010) -> Program:
    columns = {"handle": u32(1010), "vni": u32(vni), "mark": u32(mark), "dev": u32(0)}
    return stamp([Rows("filter.tunnel_mark", 1, columns)], HOST)


def route(vtep: int = 0xC000020C) -> Program:
    columns: dict[str, Column] = {
        "table": u32(102),
        "prefix": u32(0x0A000002),
        "length": np.array([32], np.uint8),
        "vni": u32(100002),
        "local": u32(0xC000020B),
        "vtep": u32(vtep),
        "dev": u32(0),
    }
    return stamp([Rows("route.remote_prefix", 1, columns)], HOST)


def counts(found: Transaction) -> tuple[int, int, int]:
    return found.counts.written, found.counts.deleted, found.counts.unchanged


def test_counters_and_times_of_a_filter_do_not_matter() -> None:
    assert counts(between(listed(FILTER, FLOWER), marking())) == (0, 0, 1)


def test_another_mark_or_another_vni_does() -> None:
    for other in (marking(mark=11), marking(vni=1011)):
        assert counts(between(listed(FILTER, FLOWER), other)) == (1, 0, 0)


def test_a_filter_of_ours_that_nobody_wants_is_deleted_and_anothers_is_not() -> None:
    (found,) = listed(FILTER, FLOWER)
    assert delete_line(found, 0, HOST) == (
        "filter del dev vx-lwt ingress protocol all pref 76 handle 1010 flower"
    )
    nothing = stamp([], HOST)
    assert counts(between([found], nothing)) == (0, 1, 0)
    others = FLOWER.replace("00034c00", "00034b00")  # preference 75
    assert counts(between(listed(FILTER, others), nothing)) == (0, 0, 0)


def test_the_padding_of_a_route_does_not_matter_and_its_vtep_does() -> None:
    assert counts(between(listed(ROUTE, PADDED), route())) == (0, 0, 1)
    assert counts(between(listed(ROUTE, PADDED), route(0xC000020D))) == (1, 0, 0)


def test_the_library_decodes_what_a_filter_matches_and_does() -> None:
    message = tcmsg(bytes.fromhex(FLOWER))
    message.decode()
    options = message.get_attr("TCA_OPTIONS")
    assert options.get_attr("TCA_FLOWER_KEY_ENC_KEY_ID") == 1010
    action = options.get_nested("TCA_FLOWER_ACT", "TCA_ACT_PRIO_1", "TCA_ACT_OPTIONS")
    assert action.get_attr("TCA_SKBEDIT_MARK") == 10
