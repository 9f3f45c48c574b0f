"""Which flows a host has where the MACs of other hosts' guests begin alike."""

from __future__ import annotations

import pytest

from ovs_lwt.view import View
from tests.support.overlays import TUNNEL, Overlay, endpoint, two_tenants, view
from tests.unit.test_rows import count, lines

HOST2 = "dl_dst=02:00:02:00:00:00/ff:ff:ff:00:00:00"
HOST3 = "dl_dst=02:00:03:00:00:00/ff:ff:ff:00:00:00"


def planned() -> Overlay:
    """Two tenants over three hosts; every guest has the MAC that the plan gives it."""
    overlay = two_tenants()
    for number, host in enumerate(overlay["vteps"].values(), 1):
        host["mac_prefix"] = f"02:00:0{number}:00:00:00/24"
    for tenant in overlay["tenants"].values():
        for name, guest in tenant["endpoints"].items():
            guest["mac"] = f"02:00:0{guest['host'][-1]}:00:00:0{name[-1]}"
    return overlay


def exact(of: View) -> list[str]:
    """Which remote endpoints have a flow of their own: "1010 MAC VTEP"."""
    found = [
        line
        for entry in ("forward.remote_endpoint", "forward.remote_endpoint6")
        for line in lines(of, entry)
    ]
    return [
        f"{line[9:13]} {line.split('dl_dst=')[1][:17]} {line.split('set_field:')[1].split('->')[0]}"
        for line in found
    ]


def test_one_flow_stands_for_all_guests_of_a_host() -> None:
    of = view(planned())
    assert lines(of, "forward.remote_prefix") == [
        f"{HOST2} actions=set_field:192.0.2.12->tun_dst,output:{TUNNEL}",
        f"{HOST3} actions=set_field:192.0.2.13->tun_dst,output:{TUNNEL}",
    ]
    assert exact(of) == []
    assert count(of, "forward.local_endpoint") == [2]


def test_a_thousand_guests_more_are_no_flow_more() -> None:
    overlay = planned()
    for tenant in overlay["tenants"].values():
        for number in range(500):
            mac = f"02:00:02:00:{1 + number // 250:02x}:{number % 250:02x}"
            tenant["endpoints"][f"more{number}"] = {"host": "host2", "mac": mac}
    assert exact(view(overlay)) == []
    assert count(view(overlay), "forward.remote_prefix") == [2]
    # Their own host has a flow for each that is attached.
    assert count(view(overlay, "host2"), "forward.local_endpoint") == [1002]


def test_a_guest_that_moves_takes_its_mac_along_and_gets_a_flow_of_its_own() -> None:
    overlay = planned()
    endpoint(overlay, "blue/web2")["host"] = "host3"
    assert exact(view(overlay)) == ["1010 02:00:02:00:00:02 192.0.2.13"]
    assert count(view(overlay), "forward.remote_prefix") == [2]


def test_a_guest_with_a_mac_from_elsewhere_has_a_flow_of_its_own() -> None:
    overlay = planned()
    endpoint(overlay, "red/web2")["mac"] = "52:54:00:00:00:02"
    assert exact(view(overlay)) == ["2020 52:54:00:00:00:02 192.0.2.12"]


def test_hosts_without_a_prefix_are_as_ever() -> None:
    overlay = planned()
    del overlay["vteps"]["host3"]["mac_prefix"]
    assert exact(view(overlay)) == ["1010 02:00:03:00:00:03 192.0.2.13"]
    assert [line.split()[0] for line in lines(view(overlay), "forward.remote_prefix")] == [HOST2]


def test_a_host_that_shares_no_tenant_has_no_flow() -> None:
    overlay = planned()
    del overlay["tenants"]["blue"]["endpoints"]["web3"]
    assert [line.split()[0] for line in lines(view(overlay), "forward.remote_prefix")] == [HOST2]
    assert count(view(overlay, "host3"), "forward.remote_prefix") == [0]


def test_the_flow_is_nobodys() -> None:
    """It serves all tenants, so it bears no tenant's VNI, in its match or in its cookie."""
    overlay = planned()
    one = lines(view(overlay), "forward.remote_prefix")
    del overlay["tenants"]["red"]
    assert lines(view(overlay), "forward.remote_prefix") == one


def test_over_ipv6_the_destination_is_ipv6() -> None:
    overlay = planned()
    for number, host in enumerate(overlay["vteps"].values(), 11):
        host["address"] = f"2001:db8::{number}"
    endpoint(overlay, "blue/web2")["host"] = "host3"
    of = view(overlay)
    assert lines(of, "forward.remote_prefix6") == [
        f"{HOST2} actions=set_field:2001:db8::12->tun_ipv6_dst,output:{TUNNEL}",
        f"{HOST3} actions=set_field:2001:db8::13->tun_ipv6_dst,output:{TUNNEL}",
    ]
    assert exact(of) == ["1010 02:00:02:00:00:02 2001:db8::13"]
    assert count(of, "forward.remote_prefix", "forward.remote_endpoint") == [0, 0]


@pytest.mark.parametrize(("policy", "flows"), [("answer", [5, 2]), ("flood", [0, 0])])
def test_questions_are_answered_address_by_address(policy: str, flows: list[int]) -> None:
    """No plan of MACs says which MAC an address has."""
    overlay = planned()
    for tenant in overlay["tenants"].values():
        tenant["neighbours"] = policy
    assert count(view(overlay), "respond.arp_reply", "respond.nd_reply") == flows
