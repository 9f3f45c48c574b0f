"""What the route plane wants of a kernel, as lines of `ip` and `tc`; and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ovs_lwt.backends.netlink import vteps
from ovs_lwt.backends.netlink.catalogue import TEMPLATES
from ovs_lwt.backends.netlink.templates import Devices
from ovs_lwt.backends.route.plane import RoutePlane
from ovs_lwt.mistakes import Refused
from ovs_lwt.sources.overlay_file import from_dict
from tests.support.overlays import Overlay, endpoint, two_tenants
from tests.support.route_host import FakeMachine, guests_of, view_of

MAC12 = "02:4c:c0:00:02:0c"  # host2's, 192.0.2.12
VIA12 = "fe80::4c:c0ff:fe00:20c"
ABLE = FakeMachine()


def overlay(**blue: Any) -> Overlay:
    """Blue (mark 10) has IPv6 on host1 only, red (mark 2020) has none."""
    result = two_tenants()
    for vtep in result["vteps"].values():
        vtep["plane"] = "route"
    result["tenants"]["blue"] |= blue
    return result


def over6(overlay: Overlay) -> Overlay:
    for number, vtep in enumerate(overlay["vteps"].values(), 1):
        vtep["address"] = f"2001:db8::{number}"
    return overlay


def lines(
    template: str,
    overlay: Overlay,
    host: str = "host1",
    machine: FakeMachine = ABLE,
    ports: list[str] | None = None,
) -> list[str]:
    """The entries of one template on a host where all guests are attached, or these."""
    topology = from_dict(overlay)
    index = topology.vtep_index(host)
    names = guests_of(topology, index) if ports is None else ports
    view, plane = view_of(topology, index, names), RoutePlane(machine)
    plane.check(view)
    setup = plane.setup(view, names)
    devices = Devices(setup.devices, np.zeros(len(setup.devices), np.uint32))
    return [
        line
        for rows in plane.rows(view, setup)
        if rows.template == template
        for line in TEMPLATES[template].lines(rows.count, rows.columns, devices).to_pylist()
    ]


def refusal(overlay: Overlay, machine: FakeMachine = ABLE) -> str:
    topology = from_dict(overlay)
    with pytest.raises(Refused) as refused:
        RoutePlane(machine).check(view_of(topology, topology.vtep_index("host1"), []))
    return str(refused.value)


def sysctls(overlay: Overlay, machine: FakeMachine = ABLE) -> dict[str, str]:
    topology = from_dict(overlay)
    index = topology.vtep_index("host1")
    names = guests_of(topology, index)
    return dict(RoutePlane(machine).setup(view_of(topology, index, names), names).sysctls)


def test_a_guest_is_reached_by_its_port_in_its_tenants_table() -> None:
    assert lines("route.local_prefix", overlay()) == [
        "route replace table 10 10.0.0.11/32 dev blue-web1 proto 76",
        "route replace table 2020 10.0.0.11/32 dev red-web1 proto 76",
    ]
    neighbours = lines("neighbour.permanent", overlay())
    assert (
        "neigh replace 10.0.0.11 lladdr 02:00:00:00:00:01 dev red-web1 nud permanent proto 76"
        in (neighbours)
    )


def test_a_guest_that_is_not_attached_is_reached_by_nobody() -> None:
    found = lines("route.local_prefix", overlay(), ports=["red-web1"])
    assert found == ["route replace table 2020 10.0.0.11/32 dev red-web1 proto 76"]
    assert lines("rule.sender6", overlay(), ports=["red-web1"]) == []
    assert lines("route.local_prefix", overlay(), ports=[]) == []


def test_an_endpoint_elsewhere_is_reached_through_a_tunnel_from_the_local_vtep() -> None:
    encap = "encap ip id 1010 src 192.0.2.11 dst 192.0.2.1"
    assert lines("route.remote_prefix", overlay())[:2] == [
        f"route replace table 10 10.0.0.1{n}/32 {encap}{n} via 192.0.2.1{n} dev vx-lwt onlink"
        " proto 76"
        for n in (2, 3)
    ]
    assert lines("route.remote_prefix6", overlay(), "host2") == [
        (
            "route replace table 10 fd00::11/128 encap ip id 1010 src 192.0.2.12 dst 192.0.2.11"
            " via fe80::4c:c0ff:fe00:20b dev vx-lwt onlink proto 76 metric 1024"
        )
    ]


def test_over_ipv6_next_hops_are_link_local_and_outer_packets_have_checksums() -> None:
    (red,) = lines("route.remote_prefix_over6", over6(overlay()))[2:]
    assert red.startswith(
        "route replace table 2020 10.0.0.12/32 encap ip6 id 2020 src 2001:db8::1 dst 2001:db8::2"
        " csum via inet6 fe80::"
    )
    assert lines("rule.outer6", over6(overlay())) == [
        "rule add priority 1100 from 2001:db8::1 iif lo goto 31999 protocol 76"
    ]
    assert lines("rule.outer", over6(overlay())) == []


def test_another_hosts_device_is_a_neighbour_once_however_many_tenants_it_shares() -> None:
    found = lines("neighbour.permanent", overlay())
    assert [line for line in found if "vx-lwt" in line] == [
        f"neigh replace 192.0.2.1{n} lladdr {mac} dev vx-lwt nud permanent proto 76"
        for n, mac in ((2, MAC12), (3, "02:4c:c0:00:02:0d"))
    ]
    assert f"neigh replace {VIA12} lladdr {MAC12} dev vx-lwt nud permanent proto 76" in (
        lines("neighbour.permanent6", overlay())
    )


def test_every_tenants_table_has_an_end() -> None:
    assert lines("route.unreachable", overlay()) == [
        f"route replace table {table} unreachable default metric 4278198272 proto 76"
        for table in (10, 2020)
    ]


def test_what_comes_out_of_a_tunnel_is_marked_by_its_vni() -> None:
    assert lines("filter.tunnel_mark", overlay()) == [
        f"filter replace dev vx-lwt ingress protocol all pref 76 handle {vni}"
        f" flower enc_key_id {vni} action skbedit mark {mark} continue"
        for vni, mark in ((1010, 10), (2020, 2020))
    ]
    assert lines("rule.tunnel", overlay()) == []


def test_only_vteps_that_share_a_tenant_get_in_and_no_mark_gets_out() -> None:
    known = lines("filter.known_vtep", overlay())
    assert [line.split(" pref ")[1] for line in known] == [
        f"332 handle {0xC0000200 + number} flower enc_src_ip 192.0.2.{number}"
        for number in (12, 13)
    ]
    (others,) = lines("filter.other_vteps", overlay())
    assert others.endswith(" pref 588 handle 1 flower action drop")
    assert len(lines("filter.outer_mark", overlay())) == 1


def test_where_tc_cannot_mark_rules_know_the_vni() -> None:
    plain = FakeMachine(marks_tunnels=False)
    assert lines("rule.tunnel", overlay(), machine=plain) == [
        f"rule add priority 31998 tun_id {vni} lookup {table} protocol 76"
        for vni, table in ((1010, 10), (2020, 2020))
    ]
    assert lines("filter.tunnel_mark", overlay(), machine=plain) == []
    assert lines("qdisc.clsact", overlay(), machine=plain) == []


def test_what_no_tenant_takes_out_of_a_tunnel_is_not_the_hosts() -> None:
    for plain in (True, False):
        assert lines("rule.device_drop", overlay(), machine=FakeMachine(marks_tunnels=plain)) == [
            "rule add priority 31999 iif vx-lwt blackhole protocol 76"
        ]


def test_ipv6_sources_are_checked_by_rules() -> None:
    guard = 65536 + 4 * 1010
    assert lines("rule.sender6", overlay()) == [
        f"rule add priority {guard + 1} from fd00::11 iif blue-web1 lookup 10 protocol 76"
    ]
    assert lines("rule.branch6", overlay())[0] == (
        f"rule add priority 2000 fwmark 10/4294967295 goto {guard} protocol 76"
    )
    assert lines("rule.mark6", overlay()) == []
    assert len(lines("rule.drop6", overlay())) == 2
    assert lines("rule.nowhere6", overlay()) == ["rule add priority 65535 unreachable protocol 76"]


def test_a_guest_that_may_send_from_any_address() -> None:
    free = overlay()
    endpoint(free, "blue/web1")["spoofing"] = "allow"
    assert lines("rule.sender6", free) == []
    assert f"rule add priority {65537 + 4 * 1010} iif blue-web1 lookup 10 protocol 76" in (
        lines("rule.device_table6", free)
    )
    place = "net/ipv4/conf/{}/rp_filter"
    assert sysctls(free)[place.format("blue-web1")] == "0"
    assert sysctls(free)[place.format("red-web1")] == "1"


def test_a_port_without_ipv6_addresses_has_no_ipv6() -> None:
    found = sysctls(overlay())
    place = "net/ipv6/conf/{}/disable_ipv6"
    assert [found[place.format(port)] for port in ("blue-web1", "red-web1", "vx-lwt")] == [
        *("0", "1", "0")
    ]
    assert found["net/ipv6/conf/all/forwarding"] == "1"
    four = overlay()
    endpoint(four, "blue/web1")["ip"] = ["10.0.0.11/24"]
    assert sysctls(four)[place.format("vx-lwt")] == "1"
    assert "net/ipv6/conf/all/forwarding" not in sysctls(four)
    assert lines("rule.drop6", four) == lines("rule.end6", four) == []
    assert not any("ipv6" in path for path in sysctls(four, FakeMachine(ipv6=False)))


def test_the_hosts_own_addresses_come_after_the_tenants() -> None:
    four = overlay()
    endpoint(four, "blue/web1")["ip"] = ["10.0.0.11/24"]
    for every, suffix in ((overlay(), ""), (overlay(), "6"), (four, "6")):
        assert lines(f"rule.local{suffix}", every) == [
            "rule add priority 32765 lookup local protocol 76\nrule del priority 0 lookup local"
        ]
    assert lines("rule.local6", four, machine=FakeMachine(ipv6=False)) == []


def labelled() -> Overlay:
    """Blue by MPLS, without IPv6."""
    result = overlay(encapsulation="mpls")
    endpoint(result, "blue/web1")["ip"] = ["10.0.0.11/24"]
    return result


def test_a_labelled_tenant_has_a_vrf_and_no_tunnel() -> None:
    assert lines("route.labelled_prefix", labelled()) == [
        f"route replace table 10 10.0.0.1{n}/32 encap mpls 1010 via 192.0.2.1{n} dev u0 proto 76"
        for n in (2, 3)
    ]
    assert lines("label.tenant", labelled()) == ["route replace 1010 dev lwt-10 proto 76"]
    assert lines("vni.member", labelled()) == ["vni add vni 2020 dev vx-lwt"]
    assert not any(" 1010 " in line for line in lines("route.remote_prefix", labelled()))
    found = sysctls(labelled())
    assert found["net/mpls/conf/u0/input"] == "1"
    assert found["net/mpls/platform_labels"] == "1048575"
    assert "net/mpls/platform_labels" not in sysctls(overlay())


def test_labels_over_ipv6() -> None:
    result = over6(overlay(encapsulation="mpls"))
    assert lines("route.labelled_prefix_over6", result)[0] == (
        "route replace table 10 10.0.0.12/32 encap mpls 1010 via inet6 2001:db8::2 dev u0 proto 76"
    )
    assert lines("route.labelled_prefix6", result, "host2") == [
        (
            "route replace table 10 fd00::11/128 encap mpls 1010 via 2001:db8::1 dev u0 proto 76"
            " metric 1024"
        )
    ]


def test_mpls_on_a_kernel_without_it_is_refused() -> None:
    lacking = FakeMachine(lacks_for_labels=("mpls_router", "vrf"))
    assert refusal(labelled(), lacking) == (
        "tenant blue is carried by MPLS, and the kernel of host1 lacks mpls_router and vrf: load"
        " what is missing (modprobe mpls_router vrf), or take 'encapsulation: mpls' away"
    )
    # Who has no labelled tenant is not asked.
    assert lines("label.tenant", overlay(), machine=lacking) == []


def test_mpls_across_a_router_is_refused() -> None:
    assert refusal(labelled(), FakeMachine(routed=frozenset({"192.0.2.13"}))).startswith(
        "host3 (192.0.2.13) is not on a link of host1, and routers between"
    )


def test_ipv6_by_label_over_ipv4_is_refused() -> None:
    assert "the kernel's IPv6 routes know no IPv4 next hop" in refusal(
        overlay(encapsulation="mpls")
    )


def test_the_highest_label_is_refused() -> None:
    highest = labelled()
    highest["tenants"]["blue"]["label"] = 1048575
    assert "the kernel takes labels up to 1048574: give it another" in refusal(highest)


def test_a_mark_that_is_a_table_of_the_kernels_is_refused() -> None:
    chosen = overlay(mark=254)
    for vtep in chosen["vteps"].values():
        del vtep["plane"]
    topology = from_dict(chosen).on_plane("route")
    with pytest.raises(Refused, match="tenant blue has mark 254, which would be the number of"):
        RoutePlane(FakeMachine()).check(view_of(topology, 0, []))


def test_ipv6_on_a_kernel_without_it_is_refused() -> None:
    assert refusal(overlay(), FakeMachine(ipv6=False)).startswith("host1 has IPv6 to forward")


def test_two_hosts_with_one_mac_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    same = np.full(3, 0x024C00000001, np.uint64)
    monkeypatch.setattr(vteps, "macs", lambda _: same)
    assert refusal(overlay()).startswith("host2 and host1 would have the same MAC on vx-lwt")


def test_macs_follow_from_addresses() -> None:
    topology = from_dict(overlay())
    assert int(vteps.macs(topology.vteps)[1]).to_bytes(6, "big").hex(":") == MAC12
    six = vteps.macs(from_dict(over6(overlay())).vteps)
    assert len(set(six.tolist())) == 3
    assert all(int(mac) >> 32 == 0x024C for mac in six)
