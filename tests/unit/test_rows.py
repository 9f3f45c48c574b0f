"""Which flows and groups a host has, and which it has not, read as ovs-ofctl would print them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pytest

from ovs_lwt import columns
from ovs_lwt.backends.openflow import change, floods, program
from ovs_lwt.backends.openflow.floods import SHARED_LIST
from ovs_lwt.backends.scope import Scope
from ovs_lwt.view import View
from ovs_lwt.vswitch import LocalPort
from tests.support.overlays import TUNNEL, Overlay, claims, endpoint, two_tenants, view

WEB1 = "02:00:00:00:00:01"


def lines(of: View, entry: str) -> list[str]:
    """The flows of one entry, without cookie, table and priority."""
    found = program.full(of).flows
    return [
        flows.line(row).split(" priority=", 1)[1].partition(",")[2]
        for flows in found
        if flows.template.entry.id == entry
        for row in range(len(flows.block))
    ]


def count(of: View, *entries: str) -> list[int]:
    return [len(lines(of, entry)) for entry in entries]


def without_ports(overlay: Overlay | None = None) -> View:
    return view(overlay, ports=[])


def test_only_tenants_that_live_here_have_flows() -> None:
    """host3 has an endpoint of blue, and none of red."""
    of = view(host="host3")
    (accepted,) = lines(of, "classify.from_tunnel")
    assert accepted.startswith(f"in_port={TUNNEL},tun_id=1010 actions=")
    assert {flow.rows.columns["vni"].tolist()[0] for flow in tenants_flows(of)} == {1010}
    assert set(program.full(of).groups) == {1010, SHARED_LIST + 1010}


def tenants_flows(of: View) -> Iterator[program.FlowBlock]:
    return (flow for flow in program.full(of).flows if "vni" in flow.rows.columns)


def test_a_host_without_guests_has_the_bare_pipeline() -> None:
    overlay = two_tenants()
    overlay["vteps"]["host9"] = {"address": "192.0.2.99"}
    of = view(overlay, "host9")
    assert not list(tenants_flows(of))
    assert program.full(of).groups == {}
    assert program.full(of).flow_count > 10


def test_peers_are_the_hosts_that_share_a_tenant() -> None:
    overlay = two_tenants()
    overlay["vteps"]["host9"] = {"address": "192.0.2.99"}
    assert lines(view(overlay), "peer.known_vtep") == [
        f"tun_src=192.0.2.{number} actions=goto_table:6" for number in (12, 13)
    ]
    assert lines(view(overlay, "host3"), "peer.known_vtep") == [
        f"tun_src=192.0.2.{number} actions=goto_table:6" for number in (11, 12)
    ]


def test_a_remote_endpoint_is_reached_through_its_vtep() -> None:
    assert lines(view(), "forward.remote_endpoint") == [
        f"metadata={vni},dl_dst=02:00:00:00:00:0{mac}"
        f" actions=set_field:192.0.2.1{mac}->tun_dst,output:{TUNNEL}"
        for vni, mac in ((1010, 2), (1010, 3), (2020, 2))
    ]


def test_a_local_endpoint_is_reached_through_its_port_with_its_tenants_mark() -> None:
    assert lines(view(), "forward.local_endpoint") == [
        f"metadata=1010,dl_dst={WEB1} actions=set_field:10->pkt_mark,output:1",
        f"metadata=2020,dl_dst={WEB1} actions=set_field:2020->pkt_mark,output:2",
    ]
    assert lines(without_ports(), "forward.local_endpoint") == []


def test_the_mark_needs_a_flow_only_where_it_is_not_the_vni() -> None:
    (blue,) = lines(view(), "classify.from_mark")
    assert blue.startswith("pkt_mark=10 actions=")
    assert lines(view(), "classify.not_a_mark") == ["pkt_mark=1010 actions=drop"]


def test_a_vni_that_is_anothers_mark_is_that_mark() -> None:
    overlay = two_tenants()
    overlay["tenants"]["red"]["mark"] = 1010
    assert lines(view(overlay), "classify.not_a_mark") == ["pkt_mark=2020 actions=drop"]
    # ... but not on a host where that other tenant does not live.
    assert lines(view(overlay, "host3"), "classify.not_a_mark") == ["pkt_mark=1010 actions=drop"]


def test_ports_that_the_kernel_marks_need_no_flow_to_classify() -> None:
    marked = [LocalPort("b", 5, "blue/web1", marking="tc"), LocalPort("r", 6, "red/web1")]
    (red,) = lines(view(ports=marked), "classify.from_port")
    assert red.startswith("in_port=6 actions=")
    assert count(view(ports=marked), "forward.local_endpoint") == [2]


def test_a_port_may_send_from_its_endpoints_addresses_alone() -> None:
    of = view()
    blue = f"in_port=1,metadata=1010,dl_src={WEB1}"
    assert [line for line in lines(of, "security.ipv4") if "1010" in line] == [
        f"{blue},ip,nw_src=10.0.0.11 actions=goto_table:6"
    ]
    # The address that the overlay lists, and the link-local one that follows from the MAC.
    assert lines(of, "security.ipv6") == [
        f"{blue},ipv6,ipv6_src={ip} actions=goto_table:6" for ip in ("fd00::11", "fe80::ff:fe00:1")
    ]
    assert count(of, "security.advertisement", "security.advertisement_bare") == [4, 4]
    assert count(of, "security.trusted", "security.mac_only") == [0, 0]


def test_an_endpoint_without_addresses_is_held_to_its_mac() -> None:
    overlay = two_tenants()
    del endpoint(overlay, "blue/web1")["ip"]
    of = view(overlay)
    assert lines(of, "security.mac_only") == [
        f"reg2=0,in_port=1,metadata=1010,dl_src={WEB1} actions=set_field:1->reg2,resubmit(,2)"
    ]
    # It may not say that another's address is here; in tenants without such a guest nobody asks.
    assert lines(of, "security.anothers_ipv4") == [
        f"reg2=1,metadata=1010,ip,nw_src=10.0.0.{last} actions=drop" for last in (12, 13)
    ]
    assert count(view(), "security.anothers_ipv4", "security.own_mac_arp") == [0, 0]
    assert [line for line in lines(of, "security.other_protocols") if "1010" in line] == []


def test_a_trusted_endpoint_is_held_to_nothing() -> None:
    overlay = two_tenants()
    endpoint(overlay, "blue/web1")["spoofing"] = "allow"
    of = view(overlay)
    assert lines(of, "security.trusted") == ["in_port=1,metadata=1010 actions=goto_table:3"]
    security = [flow for flow in tenants_flows(of) if flow.template.entry.table == "security"]
    assert sum(1010 in flow.rows.columns["vni"].tolist() for flow in security) == 1


def test_an_endpoint_with_ipv4_alone_has_no_flows_for_ipv6() -> None:
    red = [line for entry in ipv6_entries() for line in lines(view(), entry) if "2020" in line]
    assert red == []


def ipv6_entries() -> Iterable[str]:
    for name in ("solicitation", "duplicate_detection", "router_solicitation", "ipv6"):
        yield f"security.{name}"
    yield from ("respond.nd_reply", "respond.announce6")


def test_neighbours_are_answered_where_the_tenant_says_so() -> None:
    of = view()
    assert count(of, "respond.arp_reply", "respond.announce") == [5, 2]
    assert count(of, "respond.nd_reply", "respond.nd_to_app", "respond.announce6") == [2, 0, 2]
    overlay = two_tenants()
    overlay["tenants"]["blue"]["neighbours"] = "flood"
    assert count(view(overlay), "respond.arp_reply", "respond.nd_reply") == [2, 0]
    assert count(view(overlay), "respond.announce", "respond.announce6") == [1, 0]


def test_the_app_answers_where_the_datapath_cannot() -> None:
    of = view(nd_by_flow=False)
    assert count(of, "respond.nd_reply", "respond.nd_to_app") == [0, 2]


def test_unknown_unicast_floods_where_the_tenant_says_so() -> None:
    assert lines(view(), "forward.unknown_unicast") == ["metadata=1010 actions=goto_table:7"]


def test_a_link_local_address_that_another_endpoint_lists_is_that_ones() -> None:
    overlay = two_tenants()
    endpoint(overlay, "blue/web2")["ip"] = ["fe80::ff:fe00:1/64"]
    replies = lines(view(overlay), "respond.nd_reply")
    owners = [line for line in replies if "nd_target=fe80::ff:fe00:1 " in line]
    assert len(owners) == 1
    assert "set_field:02:00:00:00:00:02->eth_src" in owners[0]


def test_link_local_addresses_follow_from_macs() -> None:
    """The example of RFC 4291, appendix A, with its bits: 34-56-78-9A-BC-DE."""
    (address,) = columns.link_local(np.array([0x3456789ABCDE], np.uint64))
    assert address.tobytes().hex(":", 2) == "fe80:0000:0000:0000:3656:78ff:fe9a:bcde"


def test_over_ipv6_everything_about_tunnels_is_ipv6() -> None:
    overlay = two_tenants()
    for number, host in enumerate(overlay["vteps"].values(), 11):
        host["address"] = f"2001:db8::{number}"
    of = view(overlay)
    assert count(of, "peer.known_vtep", "forward.remote_endpoint") == [0, 0]
    assert count(of, "peer.known_vtep6", "forward.remote_endpoint6") == [2, 3]
    assert "set_field:2001:db8::12->tun_ipv6_dst" in lines(of, "forward.remote_endpoint6")[0]
    assert {buckets.entry for buckets in floods.remote_floods(of, of.flood_lists.owners)} == {
        "remote_flood6"
    }


def test_tenants_that_span_the_same_hosts_share_a_flood_list() -> None:
    overlay = two_tenants()
    del overlay["tenants"]["blue"]["endpoints"]["web3"]
    of = view(overlay)
    assert set(program.full(of).groups) == {1010, 2020, SHARED_LIST + 1010}
    for vni in (1010, 2020):
        (line,) = [line for line in lines(of, "bum.from_guest") if f"metadata={vni} " in line]
        assert line.endswith(
            f"actions=group:{vni},set_field:{SHARED_LIST + 1010}->reg1,goto_table:8"
        )


def test_from_the_tunnel_nothing_goes_back_into_it() -> None:
    assert lines(view(), "bum.from_tunnel") == [
        f"in_port={TUNNEL},metadata={vni} actions=group:{vni}" for vni in (1010, 2020)
    ]


def test_a_tenant_on_one_host_has_an_empty_flood_list() -> None:
    overlay = two_tenants()
    for name in ("web2", "web3"):
        del overlay["tenants"]["blue"]["endpoints"][name]
    of = view(overlay)
    (blue, red) = sorted(
        floods.remote_floods(of, of.flood_lists.owners), key=lambda buckets: buckets.group
    )
    assert (blue.group, blue.count) == (SHARED_LIST + 1010, 0)
    assert (red.group, red.count) == (SHARED_LIST + 2020, 1)


def test_a_scope_holds_the_tenants_that_it_names() -> None:
    found = program.of(Scope.of(view(), [2020, 4040])).flows()
    assert {vni for flow in found for vni in flow.rows.columns["vni"].tolist()} == {2020}


def of_tenants(flow: program.FlowBlock) -> bool:
    # Flows about VNIs that are no tenant's marks belong to nobody.
    return "vni" in flow.rows.columns and flow.template.entry.name != "not_a_mark"


@pytest.mark.parametrize(
    ("edit", "affected"),
    [
        (lambda overlay: overlay["tenants"]["blue"].update(unknown_unicast="drop"), {1010}),
        (lambda overlay: endpoint(overlay, "red/web2").update(host="host3"), {2020}),
        (lambda overlay: overlay["vteps"]["host3"].update(address="192.0.2.33"), {1010}),
        (lambda overlay: overlay["vteps"]["host2"].update(address="192.0.2.33"), {1010, 2020}),
        (lambda overlay: overlay["underlay"].update(mtu=9000), set()),
        (lambda overlay: overlay["tenants"]["blue"]["endpoints"].pop("web3"), {1010, 2020}),
        (lambda overlay: overlay["tenants"].pop("blue"), {1010}),
    ],
    ids=["policy", "moved", "its VTEP", "everybody's VTEP", "MTU", "shares a list now", "gone"],
)
def test_only_tenants_that_differ_are_compiled_again(edit: object, affected: set[int]) -> None:
    assert callable(edit)
    old, new = two_tenants(), two_tenants()
    for overlay in (old, new):
        overlay["underlay"] = {"mtu": 1500}
    edit(new)
    ports = claims(view(old).topology, "host1")
    assert change.affected(view(old), view(new, ports=ports)) == affected


def test_a_port_that_moves_affects_its_tenant() -> None:
    overlay = two_tenants()
    ports = claims(view(overlay).topology, "host1")
    moved = [LocalPort(ports[0].name, 77, ports[0].claim), ports[1]]
    marked = [ports[0], LocalPort(ports[1].name, ports[1].ofport, ports[1].claim, marking="tc")]
    assert change.affected(view(overlay), view(overlay, ports=moved)) == {1010}
    assert change.affected(view(overlay), view(overlay, ports=marked)) == {2020}
    assert change.affected(view(overlay), view(overlay, ports=ports)) == frozenset()


def test_nothing_grows_where_nobody_asks() -> None:
    """An endpoint elsewhere is one flow to reach it and one for each address; one here, with an
    address of either family, what it may say, and no more.
    """
    sizes = []
    for more in ({}, {"far": "host2"}, {"near": "host1"}):
        overlay = two_tenants()
        for name, host in more.items():
            overlay["tenants"]["blue"]["endpoints"][name] = {
                "host": host,
                "mac": "02:00:00:00:00:77",
                "ip": ["10.0.0.77/24", "fd00::77/64"],
            }
        sizes.append(program.full(view(overlay)).flow_count)
    plain, far, near = sizes
    # Its MAC; IPv4, IPv6 and link-local address.
    assert far - plain == 1 + 3
    # Besides: classify 1; announce 3; security 4 before it has an address, 1 for other protocols,
    # 2 for IPv4 (ARP, IP), 3 for each IPv6 address, 2 for each pair of IPv6 addresses.
    assert near - far == 1 + 3 + 4 + 1 + 2 + 3 * 2 + 2 * 4


def test_a_tenant_pays_for_what_it_asks_alone() -> None:
    def asking(tenant: str) -> int:
        """Flows of the other tenant that are there because of this one."""
        overlay = two_tenants()
        overlay["tenants"][tenant]["vlan_tagged"] = "carry"
        guests = overlay["tenants"][tenant]["endpoints"]
        guests["bare"] = {"host": "host1", "mac": "02:00:00:00:00:44"}
        guests["free"] = {"host": "host1", "mac": "02:00:00:00:00:45", "spoofing": "allow"}
        guests["web1"]["allowed_pairs"] = [{"mac": "00:00:5e:00:01:01", "ip": "10.0.0.100"}]
        guests["web2"]["allowed_pairs"] = [{"mac": "00:00:5e:00:01:01", "ip": "10.0.0.100"}]
        other = {"blue": 2020, "red": 1010}[tenant]
        return sum(
            flow.rows.columns["vni"].tolist().count(other) for flow in tenants_flows(view(overlay))
        )

    plain = [
        flow.rows.columns["vni"].tolist().count(vni)
        for flow in tenants_flows(view())
        for vni in (1010, 2020)
    ]
    assert asking("blue") == sum(plain[1::2])
    assert asking("red") == sum(plain[::2])
