"""A flood list wider than a message, and than the datapath's action list, on a real switch: every
VTEP gets a copy, one each.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

import pytest

from ovs_lwt.backends.openflow.limits import ONE_GROUP, SHARES
from tests.support import wide
from tests.support.overlays import spread, view
from tests.support.ovs import OvsHost
from tests.support.packets import BROADCAST, Wire
from tests.support.wide import copies, load

LIST = 1_000_001_010
WIDEST = 3000


@pytest.fixture(scope="module")
def host() -> Iterator[OvsHost]:
    with OvsHost("ovs-lwt-wide") as host:
        wide.build(host, userspace=True)
        yield host


@pytest.fixture
def wires(host: OvsHost) -> Iterator[tuple[Wire, Wire]]:
    with wide.listening(host) as wires:
        yield wires


@pytest.mark.parametrize("hosts", [400, ONE_GROUP + 60, 1000, WIDEST])
def test_every_vtep_gets_one_copy(host: OvsHost, wires: tuple[Wire, Wire], hosts: int) -> None:
    of = view(spread(hosts), "host0001")
    load(host, of)
    vteps = of.topology.vteps
    everybody = {(vteps.address(index), 1010): 1 for index in range(1, hosts)}
    assert copies(wires, of) == everybody
    listed = host.run("ovs-ofctl", "-O", "OpenFlow14", "dump-groups", "br0")
    sizes = {int(group): line.count("tun_dst") for group, line in
             re.findall(r"group_id=(\d+),(.*)", listed) if int(group) >= LIST}  # fmt: skip
    assert len(sizes) == (1 if hosts <= ONE_GROUP else SHARES)
    assert sum(sizes.values()) == hosts - 1
    assert max(sizes.values()) <= ONE_GROUP
    slow = host.run("ovs-appctl", "-t", str(host.rundir / f"ovs-vswitchd.{host.vswitchd_pid}.ctl"),
                    "dpctl/dump-flows", "-m")  # fmt: skip
    assert "slow_path(action)" not in slow


def test_a_leaf_of_a_wide_tenant_asks_for_one_share_each(
    host: OvsHost, wires: tuple[Wire, Wire]
) -> None:
    of = view(spread(WIDEST, 2), "host0001")
    load(host, of)
    sent = copies(wires, of)
    replicators = {of.topology.vteps.address(WIDEST - number) for number in (1, 2)}
    assert {to for to, _ in sent} <= replicators
    assert sorted(vni for _, vni in sent) == [share << 20 | 1010 for share in range(8, 15)]


def test_a_replicator_serves_one_share_and_leaves_the_leaf_out(host: OvsHost) -> None:
    """By what the switch would do with requests of a leaf for each of the shares."""
    overlay = spread(1400, 1)
    overlay["vteps"]["host0001"]["replicator"] = True
    of = view(overlay, "host0001")
    load(host, of)
    vteps = of.topology.vteps
    leaf, own = vteps.address(7), vteps.address(0)
    served: Counter[str] = Counter()
    for share in range(8, 15):
        trace = host.appctl(
            "ofproto/trace", "br0",
            f"in_port=100,tun_src={leaf},tun_dst={own},tun_id={share << 20 | 1010},"
            f"dl_src=02:00:00:00:00:08,dl_dst={BROADCAST}",
        )  # fmt: skip
        served.update(re.findall(r"ipv4\(src=10.128.0.1,dst=([\d.]+),", trace))
    members = {vteps.address(index) for index in range(1, 1400)} - {leaf}
    assert served == dict.fromkeys(members, 1)
