"""The ovs plane on the kernel datapath: marks by tc, two hosts, tenants with the same addresses."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.support.controller import BRIDGE, difference
from tests.support.kernel_hosts import (
    UPLINK,
    KernelHosts,
    guest,
    kernel_hosts,
    ping,
    port_of,
    sent,
)
from tests.support.ovs import eventually, in_netns

BLUE_MARK = 10
BLUE = f"protocol all handle {BLUE_MARK} fw"
IP_AND_ICMP = 20 + 8


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KernelHosts]:
    with kernel_hosts(tmp_path_factory.mktemp("k")) as hosts:
        yield hosts


def test_the_bridge_is_the_kernels_and_holds_what_export_says(hosts: KernelHosts) -> None:
    for name, host in hosts.hosts.items():
        assert host.vsctl("get", "bridge", BRIDGE, "datapath_type") in ('""', "system")
        assert host.appctl("dpif/show").startswith("system@ovs-system")
        assert difference(host, hosts.overlay, name=name) == ""


@pytest.mark.parametrize("address", ["10.0.0.12", "fd00::12"])
@pytest.mark.parametrize("tenant", ["blue", "red"])
def test_a_tenants_guests_reach_each_other(hosts: KernelHosts, tenant: str, address: str) -> None:
    assert eventually(lambda: ping(f"{tenant}/web1", address))


def test_the_kernel_says_whose_packet_it_is(hosts: KernelHosts) -> None:
    """Blue's packets are classified by the mark that tc gave them, ARP as well as IP."""
    classified = r"pkt_mark=0xa\b"
    before = hosts.flow_packets("host1", classified)
    in_netns(guest("blue/web1"), "ip", "neigh", "flush", "all")
    assert ping("blue/web1", "10.0.0.12")

    # The kernel's counters reach ovs-vswitchd's every half second.
    assert eventually(lambda: hosts.flow_packets("host1", classified) >= before + 2)
    marks = re.findall(r"skb_mark\((\w+)\)", hosts.hosts["host1"].appctl("dpctl/dump-flows", "-m"))
    assert hex(BLUE_MARK) in marks


def test_a_packet_without_a_mark_is_nobodys(hosts: KernelHosts) -> None:
    """Until the guest is attached again, which mends the mark."""
    port = port_of("blue/web1")
    hosts.hosts["host1"].run("tc", "filter", "del", "dev", port, "ingress")
    assert not ping("blue/web1", "10.0.0.12", "-W1")

    assert hosts.attach("blue/web1") == port
    assert eventually(lambda: ping("blue/web1", "10.0.0.12"))


def test_a_guest_is_handed_packets_with_its_tenants_mark(hosts: KernelHosts) -> None:
    with sent(hosts.hosts["host2"], port_of("blue/web2"), BLUE) as counts:
        assert ping("blue/web1", "10.0.0.12")
        marked, unmarked = counts()
    assert marked >= 1
    assert unmarked == 0


def test_the_mark_does_not_ride_on_the_underlay(hosts: KernelHosts) -> None:
    """A rule for a tenant's mark must not catch the tunnel's own packets."""
    with sent(hosts.hosts["host1"], UPLINK, BLUE) as counts:
        assert ping("blue/web1", "10.0.0.12")
        marked, others = counts()
    assert marked == 0
    assert others >= 1


def test_tenants_with_the_same_addresses_do_not_meet(hosts: KernelHosts) -> None:
    requests = "protocol ip flower ip_proto icmp type 8 dst_ip 10.0.0.12"
    with hosts.handed("blue/web2", "red/web2", match=requests) as counts:
        assert ping("blue/web1", "10.0.0.12", "-c3", "-i0.2")
        assert counts() == [3, 0]
    assert not ping("blue/web1", "10.0.0.13", "-W1"), "only red has this address"


def test_a_broadcast_reaches_each_member_once_and_nobody_else(hosts: KernelHosts) -> None:
    unknown = "10.0.0.99"
    requests = f"protocol arp flower arp_op request arp_tip {unknown}"
    # Else it would ask three times.
    in_netns(guest("red/web1"), "sysctl", "-qw", "net.ipv4.neigh.eth0.mcast_solicit=1")
    with hosts.handed("red/web2", "red/db", "blue/web2", match=requests) as counts:
        assert not ping("red/web1", unknown, "-W1")
        assert counts() == [1, 1, 0]


def test_the_app_answers_solicitations_that_this_datapath_cannot(hosts: KernelHosts) -> None:
    to_app = r"nd_target=fd00::12 .*actions=CONTROLLER"
    before = hosts.flow_packets("host1", to_app)
    in_netns(guest("blue/web1"), "ip", "neigh", "flush", "all")
    assert eventually(lambda: ping("blue/web1", "fd00::12"))
    assert eventually(lambda: hosts.flow_packets("host1", to_app) > before)
    shown = in_netns(guest("blue/web1"), "ip", "neigh", "show", "fd00::12")
    assert "02:00:00:00:00:12" in shown


def test_the_largest_packet_passes_whole(hosts: KernelHosts) -> None:
    assert ping("blue/web1", "10.0.0.12", "-M", "do", "-s", str(1450 - IP_AND_ICMP))
    assert not ping("blue/web1", "10.0.0.12", "-M", "do", "-s", str(1451 - IP_AND_ICMP))


def test_the_datapath_refused_nothing(hosts: KernelHosts) -> None:
    """Last: what ovs-vswitchd had to say about all of the above."""
    # That it called the controller before this one listened, and that this machine is slow.
    expected = r"\|(rconn|timeval|ovs_rcu)\b"
    for host in hosts.hosts.values():
        warnings = re.findall(r"^.*\|(?:WARN|ERR|EMER)\|.*$", host.log(), re.MULTILINE)
        assert [line for line in warnings if not re.search(expected, line)] == []
