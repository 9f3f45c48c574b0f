"""A flood list wider than a message, and than the datapath's action list, on a real switch: every
VTEP gets a copy, one each.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from ovs_lwt.backends.openflow.limits import ONE_GROUP, SHARES
from ovs_lwt.backends.openflow.session import Session, State
from ovs_lwt.view import View
from tests.support.mgmt import SwitchSocket
from tests.support.overlays import spread, view
from tests.support.ovs import OvsHost
from tests.support.packets import BROADCAST, Wire, ethernet, read_vxlan, token

NETNS = "ovs-lwt-wide"
LIST = 1_000_001_010
WIDEST = 3000


@pytest.fixture(scope="module")
def host() -> Iterator[OvsHost]:
    """A host with an underlay where a router answers for everybody, and one guest."""
    with OvsHost(NETNS) as host:
        for port, peer in (("u0", "u1"), ("g0", "g1")):
            host.run("ip", "link", "add", port, "type", "veth", "peer", "name", peer)
            for end in (port, peer):
                host.run("ip", "link", "set", end, "up")
        host.vsctl("add-br", "br-phy", "--", "set", "bridge", "br-phy", "datapath_type=netdev",
                   "--", "add-port", "br-phy", "u0")  # fmt: skip
        host.run("ip", "addr", "add", "10.128.0.1/32", "dev", "br-phy")
        host.run("ip", "addr", "add", "192.0.2.1/24", "dev", "br-phy")
        host.run("ip", "link", "set", "br-phy", "up")
        host.run("ip", "route", "add", "10.128.0.0/12", "via", "192.0.2.2", "dev", "br-phy")
        host.vsctl("add-br", "br0", "--", "set", "bridge", "br0", "datapath_type=netdev",
                   "fail_mode=secure", "--", "add-port", "br0", "g0", "--", "set", "interface",
                   "g0", "ofport_request=1", "--", "add-port", "br0", "vx0", "--", "set",
                   "interface", "vx0", "type=vxlan", "ofport_request=100", "options:key=flow",
                   "options:remote_ip=flow", "options:local_ip=10.128.0.1")  # fmt: skip
        host.appctl("tnl/arp/set", "br-phy", "192.0.2.2", "02:00:00:00:99:99")
        yield host


@pytest.fixture
def wires(host: OvsHost) -> Iterator[tuple[Wire, Wire]]:
    """The guest's end of its cable, and the underlay's."""
    both = Wire(NETNS, "g1"), Wire(NETNS, "u1")
    yield both
    for wire in both:
        wire.close()


def load(host: OvsHost, of: View) -> None:
    with SwitchSocket(Path(host.rundir) / "br0.mgmt") as switch:
        session = Session()
        session.desire(of, 0)
        switch.drive(session)
        assert session.state is State.IN_SYNC, session.events


def copies(wires: tuple[Wire, Wire], of: View) -> Counter[tuple[str, int]]:
    """Where the copies of a broadcast go, and with which VNI. The guest's first makes the flow."""
    guest, underlay = wires
    mac = int(of.topology.endpoints.mac[0]).to_bytes(6, "big").hex(":")
    for mark in (token(), token()):
        guest.send(ethernet(mac, BROADCAST, mark))
        before = -1
        while before < (now := sum(mark in frame for frame in underlay.heard())) or not now:
            before = now
            time.sleep(0.5)
    found = [read_vxlan(frame) for frame in underlay.heard() if mark in frame]
    return Counter((packet.target, packet.vni) for packet in found if packet is not None)


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
