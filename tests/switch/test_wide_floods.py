"""A flood list wider than a message, and than the datapath's action list, on a real switch: every
VTEP gets a copy, one each.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from ovs_lwt.backends.openflow import floods
from ovs_lwt.backends.openflow.limits import ONE_GROUP, SHARES
from tests.support import wide
from tests.support.overlays import crowded, spread, view
from tests.support.ovs import OvsHost, eventually
from tests.support.packets import BROADCAST, Wire, ethernet, token
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


def all_but_one(heard: Callable[[], dict[str, int]]) -> bool:
    return sum(map(bool, heard().values())) == len(heard()) - 1


def test_each_of_many_guests_gets_one_copy(host: OvsHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few of them, in groups of two."""
    monkeypatch.setattr(floods, "GUESTS", 2)
    guests = 7
    for number in range(2, guests + 1):
        port, peer = f"near{number}", f"n{number}"
        host.run("ip", "link", "add", port, "type", "veth", "peer", "name", peer)
        for end in (port, peer):
            host.run("ip", "link", "set", end, "up")
        host.vsctl("add-port", "br0", port, "--", "set", "interface", port,
                   f"ofport_request={number}")  # fmt: skip
    of = view(crowded(guests), "host0001")
    load(host, of)
    macs = of.topology.endpoints.mac[of.ports.endpoint]
    ends = ["g1", *(f"n{number}" for number in range(2, guests + 1))]
    wires = {end: Wire(str(host.netns), end) for end in ends}

    def heard(mark: bytes) -> dict[str, int]:
        return {end: b"".join(wire.heard()).count(mark) for end, wire in wires.items()}

    try:
        for end, mac in zip(ends, macs.tolist(), strict=True):
            mark = token()
            wires[end].send(ethernet(mac.to_bytes(6, "big").hex(":"), BROADCAST, mark))
            assert eventually(partial(all_but_one, partial(heard, mark)))
            assert heard(mark) == {other: int(other != end) for other in ends}
    finally:
        for wire in wires.values():
            wire.close()


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
