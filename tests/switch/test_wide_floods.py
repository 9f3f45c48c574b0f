"""A flood list wider than a message, and than the datapath's action list, on a real switch: every
VTEP gets a copy, one each.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from ovs_lwt.backends.openflow import floods
from ovs_lwt.backends.openflow.limits import ONE_GROUP, ONE_PASS, SHARES, WIDEST
from tests.support import wide
from tests.support.overlays import crowded, spread, view
from tests.support.ovs import OvsHost, eventually
from tests.support.packets import BROADCAST, REQUEST_PORT, Wire, ethernet, token
from tests.support.wide import copies, copies_asked_for, load

LIST = 1_000_001_010


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
    of = view(spread(hosts), "host0001", offers=True)
    load(host, of)
    everybody = wide.everybody(of)
    assert copies(wires, of) == everybody
    # The same where a leaf asks for them: it gets none itself, and the guest here its own.
    for leaf in (1, hosts - 1):
        found, heard_here = copies_asked_for(host, wires, of, leaf)
        assert found == wide.everybody(of, but=leaf)
        assert heard_here == 1
    listed = host.run("ovs-ofctl", "-O", "OpenFlow14", "dump-groups", "br0")
    sizes = {int(group): line.count("tun_dst") for group, line in
             re.findall(r"group_id=(\d+),(.*)", listed) if int(group) >= LIST}  # fmt: skip
    assert len(sizes) == (1 if hosts <= ONE_GROUP else SHARES)
    assert sum(sizes.values()) == hosts - 1
    assert max(sizes.values()) <= (ONE_GROUP if hosts <= ONE_GROUP else ONE_PASS)
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


def test_a_leaf_of_a_wide_tenant_sends_one_copy(host: OvsHost, wires: tuple[Wire, Wire]) -> None:
    of = view(spread(WIDEST, 2), "host0001")
    load(host, of)
    ((whom, port, vni),) = copies(wires, of).elements()
    assert whom in {of.topology.vteps.address(WIDEST - number) for number in (1, 2)}
    assert (port, vni) == (REQUEST_PORT, 1010)


@pytest.mark.parametrize("vni", [1010 | high << 20 for high in (1, 8, 15)])
def test_what_is_asked_for_another_tenant_reaches_nobody(
    host: OvsHost, wires: tuple[Wire, Wire], vni: int
) -> None:
    """Not a bit of the VNI means anything but the tenant."""
    of = view(spread(4), "host0001", offers=True)
    load(host, of)
    found, heard_here = copies_asked_for(host, wires, of, 1, vni=vni)
    assert (found, heard_here) == ({}, 0)
    assert copies_asked_for(host, wires, of, 1) == (wide.everybody(of, but=1), 1)
