"""VLANs as the kernel lists them, in ranges, told apart into those that were sent."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pyroute2.netlink.rtnl.br_vlan import br_vlan_msg

from ovs_lwt.backends.netlink import transport
from ovs_lwt.backends.netlink.program import Rows, stamp
from ovs_lwt.backends.netlink.templates import Devices
from ovs_lwt.backends.netlink.transaction import between
from ovs_lwt.backends.netlink.transport import Kernel
from ovs_lwt.backends.netlink.vlandump import vlans
from tests.support.fake_kernel import FakeKernel

HOST = Devices.of({"vx-lwt": 7, "blue-web1": 8, "red-web1": 9})
RTM_NEWVLAN = 112
PVID_UNTAGGED = 6
ELSEWHERE = 12


def port(index: int, *entries: tuple[int, int, int, int]) -> bytes:
    """A port's listing. entries: (first VLAN, last, flags, VNI of the first or 0)"""
    message = br_vlan_msg()
    message["header"] = {"type": RTM_NEWVLAN, "flags": 2, "sequence_number": 0, "pid": 0}
    message["family"], message["ifindex"] = 7, index
    message["attrs"] = [("BRIDGE_VLANDB_ENTRY", {"attrs": list(_entry(*each))}) for each in entries]
    message.encode()
    return bytes(message.data)


def _entry(first: int, last: int, flags: int, vni: int) -> Any:
    yield "BRIDGE_VLANDB_ENTRY_INFO", {"flags": flags, "vid": first}
    if last != first:
        yield "BRIDGE_VLANDB_ENTRY_RANGE", last
    yield "BRIDGE_VLANDB_ENTRY_STATE", 3
    if vni:
        yield "BRIDGE_VLANDB_ENTRY_TUNNEL_INFO", {"attrs": [("BRIDGE_VLANDB_TINFO_ID", vni)]}
    yield "BRIDGE_VLANDB_ENTRY_MCAST_ROUTER", 1


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeKernel:
    fake = FakeKernel()
    monkeypatch.setattr(transport, "create_socket", lambda *_, **__: fake)
    return fake


def test_ranges_are_the_vlans_and_vnis_that_were_sent(fake: FakeKernel) -> None:
    fake.dumps.append(
        [
            port(7, (10, 12, 0, 1010), (20, 20, 0, 5000), (30, 31, 0, 0)),
            port(8, (10, 10, PVID_UNTAGGED, 0)),
            port(9, (11, 11, PVID_UNTAGGED, 0)),
            port(ELSEWHERE, (1, 4094, PVID_UNTAGGED, 0)),
        ]
    )
    tunnel, guest = (np.array(which, np.uint32) for which in ([0], [1, 2]))
    vlan, vni = np.array([10, 11, 12, 20]), np.array([1010, 1011, 1012, 5000])
    every = np.array([10, 11, 12, 20, 30, 31])
    desired = stamp(
        [
            Rows("vlan.tunnel", 6, {"dev": tunnel, "vlan": every}),
            Rows("vlan.guest", 2, {"dev": guest, "vlan": np.array([10, 11])}),
            Rows("vlan.vni", 4, {"dev": tunnel, "vlan": vlan, "vni": vni}),
        ],
        HOST,
    )
    with Kernel() as kernel:
        found = vlans(kernel, HOST.index)
    difference = between(found, desired)
    assert (len(difference), difference.counts.unchanged) == (0, 12)


def test_a_vlan_with_other_flags_is_put_right(fake: FakeKernel) -> None:
    fake.dumps.append([port(8, (10, 10, 0, 0))])
    columns = {"dev": np.array([1], np.uint32), "vlan": np.array([10])}
    desired = stamp([Rows("vlan.guest", 1, columns)], HOST)
    with Kernel() as kernel:
        (step,) = between(vlans(kernel, HOST.index), desired).steps
    assert step.describe(0) == "vlan add dev blue-web1 vid 10 pvid untagged"


def test_a_kernel_without_bridges_has_no_vlans(fake: FakeKernel) -> None:
    fake.dumps.append([])
    with Kernel() as kernel:
        assert vlans(kernel, HOST.index) == []
