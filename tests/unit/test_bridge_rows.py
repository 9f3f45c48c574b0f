"""The bridge plane of one host: its devices, and the rows of its tables, in iproute2's words."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from ovs_lwt.backends.bridge.plane import BridgePlane
from ovs_lwt.backends.bridge.vlans import VlanStore
from ovs_lwt.backends.netlink.catalogue import TEMPLATES
from ovs_lwt.backends.netlink.setup import Member, Setup
from ovs_lwt.backends.netlink.templates import Devices
from ovs_lwt.mistakes import Refused
from ovs_lwt.names import port_name
from ovs_lwt.view import View
from tests.support.overlays import Overlay, endpoint, two_tenants
from tests.support.overlays import view as on_ovs


def view(overlay: Overlay | None = None, host: str = "host1") -> tuple[View, list[str]]:
    """A view as a host of plane bridge has it, and its ports' names."""
    found = on_ovs(overlay, host)
    numbers = np.arange(1, len(found.ports) + 1, dtype=np.uint32)
    names = [
        port_name(*found.topology.endpoint_id(index).split("/"))
        for index in found.ports.endpoint.tolist()
    ]
    return replace(found, tunnel=0, ports=replace(found.ports, port=numbers)), names


def setup(overlay: Overlay | None = None, host: str = "host1") -> Setup:
    return BridgePlane(VlanStore(None)).setup(*view(overlay, host))


def lines(template: str, overlay: Overlay | None = None, host: str = "host1") -> list[str]:
    """The rows of one template, as text."""
    plane, (seen, names) = BridgePlane(VlanStore(None)), view(overlay, host)
    made = plane.setup(seen, names)
    devices = Devices(made.devices, np.zeros(len(made.devices), np.uint32))
    (rows,) = [rows for rows in plane.rows(seen, made) if rows.template == template]
    text = TEMPLATES[template].lines(rows.count, rows.columns, devices)
    return [str(line) for line in text.to_pylist()]


def member(device: str, overlay: Overlay | None = None) -> Member:
    (found,) = [each for each in setup(overlay).members if each.device == device]
    return found


def over_ipv6() -> Overlay:
    overlay = two_tenants()
    for number, vtep in enumerate(overlay["vteps"].values(), 11):
        vtep["address"] = f"2001:db8::{number}"
    return overlay


def test_a_host_has_one_bridge_one_tunnel_and_a_place_to_answer_from_for_each_tenant() -> None:
    made = setup()
    assert made.devices == (
        *("vx-lwt", "blue-web1", "red-web1"),
        *("br-lwt", "an-lwt", "br-lwt.10", "br-lwt.2020"),
    )
    assert [f"{link.name} type {link.kind} {link.words}" for link in made.links] == [
        "br-lwt type bridge vlan_filtering 1 vlan_default_pvid 0 mcast_snooping 0",
        "vx-lwt type vxlan dstport 4789 local 192.0.2.11 nolearning external vnifilter",
        "an-lwt type dummy ",
        "br-lwt.10 type vlan id 10",
        "br-lwt.2020 type vlan id 2020",
    ]
    assert [link.mtu for link in made.links] == [None, 1450, 1450, None, None]
    vlans = [link for link in made.links if link.kind == "vlan"]
    assert [(link.over, link.up) for link in vlans] == [("br-lwt", False)] * 2


def test_the_bridge_has_a_mac_of_its_own_which_follows_from_the_vtep() -> None:
    """Not the lowest of its ports': whenever that changes, the kernel forgets all neighbours."""
    assert [setup(host=f"host{n}").links[0].mac for n in (1, 2)] == [
        "02:4c:c0:00:02:0b",
        "02:4c:c0:00:02:0c",
    ]
    assert setup(over_ipv6()).links[0].mac not in (None, setup(over_ipv6(), "host2").links[0].mac)


def test_over_ipv6_the_tunnel_is_ipv6s() -> None:
    tunnel = setup(over_ipv6()).links[1]
    assert tunnel.words.startswith("dstport 4789 local 2001:db8::11 nolearning external vnifilter")
    assert tunnel.settings["vxlan_local6"] == "2001:db8::11"
    assert "vxlan_local" not in tunnel.settings
    assert tunnel.mtu == 1430


def test_nothing_is_learnt_and_guests_are_held_to_their_macs() -> None:
    overlay = two_tenants()
    endpoint(overlay, "blue/web1")["spoofing"] = "allow"
    made = {each.device: each.flags for each in setup(overlay).members}
    assert not any(flags["learning"] for flags in made.values())
    assert [made[port]["locked"] for port in ("blue-web1", "red-web1")] == [False, True]
    assert made["vx-lwt"]["vlan_tunnel"]
    assert made["vx-lwt"]["neigh_suppress"]


def test_what_comes_in_by_the_announcer_is_kept_from_nobody_and_nothing_goes_out_by_it() -> None:
    flags = member("an-lwt").flags
    assert flags["neigh_suppress"]
    assert not any(flags[flag] for flag in ("learning", "flood", "bcast_flood", "mcast_flood"))


def test_a_tenant_that_is_not_answered_for_has_nothing_kept_from_anybody() -> None:
    overlay = two_tenants()
    overlay["tenants"]["red"]["neighbours"] = "flood"
    flags = {each.device: each.flags for each in setup(overlay).members}
    suppressed = [flags[port]["neigh_suppress"] for port in ("blue-web1", "red-web1")]
    assert suppressed == [False, True]
    assert [line.split()[3] for line in lines("filter.announced", overlay)] == ["blue-web1"]
    assert lines("vlan.announcer", overlay) == ["vlan add dev an-lwt vid 10"]
    overlay["tenants"]["blue"]["neighbours"] = "flood"
    assert "an-lwt" not in setup(overlay).devices
    assert lines("filter.announcement_held", overlay) == []


def test_an_announcement_comes_in_once_more_in_its_guests_vlan() -> None:
    """A guest that is held to its MAC announces with that MAC, or not at all."""
    overlay = two_tenants()
    endpoint(overlay, "blue/web1")["spoofing"] = "allow"
    (free,) = lines("filter.announcement", overlay)
    (held,) = lines("filter.announcement_held", overlay)
    for line, port, vlan in ((free, "blue-web1", 10), (held, "red-web1", 2020)):
        assert line.startswith(
            f"filter replace dev {port} ingress protocol all pref 332 handle 1 bpf bytecode"
        )
        assert line.endswith(
            f"action vlan push id {vlan} protocol 802.1Q pipe action mirred ingress mirror dev"
            " an-lwt pipe action vlan pop continue"
        )
    mac = re.compile(r"32 0 0 6,21 0 \d+ 33554432,40 0 0 10,21 0 \d+ 1,")  # 02:00:00:00:00:01
    assert mac.search(held)
    assert not mac.search(free)


def test_no_frame_with_a_vlan_tag_is_let_in() -> None:
    assert [line.split()[3] for line in lines("filter.tagged")] == [
        *("vx-lwt", "blue-web1", "red-web1")
    ]


def test_unknown_unicast_is_kept_from_the_guests_of_a_tenant_that_drops_it() -> None:
    assert member("blue-web1").flags["flood"]
    assert not member("red-web1").flags["flood"]
    # It passes the tunnel as long as any tenant here floods it.
    assert member("vx-lwt").flags["flood"]
    overlay = two_tenants()
    overlay["tenants"]["blue"]["unknown_unicast"] = "drop"
    assert not member("vx-lwt", overlay).flags["flood"]


def test_a_tenant_is_a_vlan_and_a_vni() -> None:
    assert lines("vni.member") == [f"vni add vni {vni} dev vx-lwt" for vni in (1010, 2020)]
    assert lines("vlan.tunnel") == [f"vlan add dev vx-lwt vid {vlan}" for vlan in (10, 2020)]
    assert lines("vlan.vni") == [
        "vlan add dev vx-lwt vid 10 tunnel_info id 1010",
        "vlan add dev vx-lwt vid 2020 tunnel_info id 2020",
    ]


def test_a_guest_here_is_in_its_tenants_vlan_and_known_by_its_mac() -> None:
    assert lines("vlan.guest") == [
        "vlan add dev blue-web1 vid 10 pvid untagged",
        "vlan add dev red-web1 vid 2020 pvid untagged",
    ]
    assert lines("fdb.local_endpoint") == [
        f"fdb replace 02:00:00:00:00:01 dev {port} vlan {vlan} master dynamic extern_learn"
        for port, vlan in (("blue-web1", 10), ("red-web1", 2020))
    ]


@pytest.mark.parametrize(
    ("suffix", "overlay", "network"),
    [("", None, "192.0.2."), ("6", over_ipv6(), "2001:db8::")],
    ids=["IPv4", "IPv6"],
)
def test_guests_elsewhere_are_behind_their_vteps(
    suffix: str, overlay: Overlay | None, network: str
) -> None:
    assert lines(f"fdb.remote_endpoint{suffix}", overlay) == [
        f"fdb replace 02:00:00:00:00:0{mac} dev vx-lwt dst {network}{vtep} src_vni {vni} self"
        " permanent"
        for mac, vtep, vni in ((2, 12, 1010), (3, 13, 1010), (2, 12, 2020))
    ]
    assert lines("fdb.bridge_endpoint", overlay) == [
        f"fdb replace 02:00:00:00:00:0{mac} dev vx-lwt vlan {vlan} master dynamic extern_learn"
        for mac, vlan in ((2, 10), (3, 10), (2, 2020))
    ]
    assert lines(f"fdb.flood{suffix}", overlay) == [
        f"fdb append 00:00:00:00:00:00 dev vx-lwt dst {network}{vtep} src_vni {vni} self permanent"
        for vtep, vni in ((12, 1010), (13, 1010), (12, 2020))
    ]


def test_the_bridge_knows_the_neighbours_of_tenants_that_it_answers_for() -> None:
    overlay = two_tenants()
    overlay["tenants"]["red"]["neighbours"] = "flood"
    assert lines("neighbour.permanent", overlay) == [
        f"neigh replace 10.0.0.1{n} lladdr 02:00:00:00:00:0{n} dev br-lwt.10 nud permanent proto 76"
        for n in (1, 2, 3)
    ]
    # The link-local address comes with the other.
    assert [line.split()[2] for line in lines("neighbour.permanent6", overlay)] == [
        "fd00::11",
        "fe80::ff:fe00:1",
    ]
    assert "br-lwt.2020" not in setup(overlay).devices


def test_only_vteps_that_share_a_tenant_may_send() -> None:
    known = lines("filter.known_vtep", host="host2")
    assert [line.split()[-1] for line in known] == ["192.0.2.11", "192.0.2.13"]
    # host3 has blue alone, and so have both the others.
    del (overlay := two_tenants())["tenants"]["blue"]["endpoints"]["web1"]
    assert [line.split()[-1] for line in lines("filter.known_vtep", overlay, "host3")] == [
        "192.0.2.12"
    ]
    assert lines("filter.other_vteps")[0].endswith(" pref 588 handle 1 flower action drop")


def test_a_vteps_number_does_not_depend_on_the_others() -> None:
    def numbers(overlay: Overlay) -> dict[str, str]:
        found = [line.split() for line in lines("filter.known_vtep6", overlay)]
        return {words[-1]: words[words.index("handle") + 1] for words in found}

    everyone, fewer = over_ipv6(), over_ipv6()
    del fewer["tenants"]["red"]
    del fewer["tenants"]["blue"]["endpoints"]["web2"]
    assert numbers(fewer).items() <= numbers(everyone).items()
    # Addresses whose numbers would be the same, or 0.
    everyone["vteps"]["host2"]["address"] = "2001:db8:1:2:2001:db8:1:2"
    everyone["vteps"]["host3"]["address"] = "2001:db8:1:3:2001:db8:1:3"
    assert len(set(numbers(everyone).values()) - {"0"}) == 2


def test_a_router_is_said_to_be_one_and_who_may_be_one_unsaid_answers_itself() -> None:
    overlay = two_tenants()
    endpoint(overlay, "blue/web1")["router"] = True
    assert [line.split()[2] for line in lines("neighbour.router6", overlay)] == [
        *("fd00::11", "fe80::ff:fe00:1")
    ]
    assert all(" router " in line for line in lines("neighbour.router6", overlay))
    assert lines("neighbour.permanent6", overlay) == []
    del endpoint(overlay, "blue/web1")["router"]
    endpoint(overlay, "blue/web1")["spoofing"] = "allow"
    assert lines("neighbour.permanent6", overlay) == lines("neighbour.router6", overlay) == []
    assert "10.0.0.11" in [line.split()[2] for line in lines("neighbour.permanent", overlay)]
    endpoint(overlay, "blue/web1")["router"] = False
    assert len(lines("neighbour.permanent6", overlay)) == 2


VIRTUAL = "00:00:5e:00:01:01"


def pair(overlay: Overlay, *endpoints: str, mac: str | None = VIRTUAL) -> Overlay:
    for identity in endpoints:
        both: list[dict[str, str]] = [{"ip": "10.0.0.100"}, {"ip": "fd00::100"}]
        pairs = [each | ({"mac": mac} if mac else {}) for each in both]
        endpoint(overlay, identity)["allowed_pairs"] = pairs
    return overlay


def test_a_mac_that_one_endpoint_has_besides_is_known_where_that_is() -> None:
    here = pair(two_tenants(), "blue/web1")
    known = f"fdb replace {VIRTUAL} dev blue-web1 vlan 10 master dynamic extern_learn"
    assert known in lines("fdb.local_endpoint", here)
    announced = lines("filter.announcement_held", here)
    assert [(line.split()[3], line.split()[10]) for line in announced] == [
        *(("blue-web1", "1"), ("blue-web1", "2"), ("red-web1", "1"))
    ]
    assert member("blue-web1", here).flags["locked"]
    assert lines("filter.sender", here) == lines("filter.other_senders", here) == []
    there = lines("fdb.remote_endpoint", here, "host2")
    assert f"fdb replace {VIRTUAL} dev vx-lwt dst 192.0.2.11 src_vni 1010 self permanent" in there
    assert any(VIRTUAL in line for line in lines("fdb.bridge_endpoint", here, "host2"))
    # Who answers for its address is its owner.
    assert not any("10.0.0.100" in line for line in lines("neighbour.permanent", here))


def test_a_mac_that_several_have_is_flooded_and_their_ports_are_held_by_tc() -> None:
    overlay = pair(two_tenants(), "blue/web1", "blue/web2")
    overlay["tenants"]["blue"]["unknown_unicast"] = "drop"
    for template in ("fdb.local_endpoint", "fdb.remote_endpoint", "fdb.bridge_endpoint"):
        assert not any(VIRTUAL in line for line in lines(template, overlay))
    assert [line.split(" flower ")[1] for line in lines("filter.sender", overlay)] == [
        *("src_mac 02:00:00:00:00:01 action pass", f"src_mac {VIRTUAL} action pass")
    ]
    assert [line.split()[3] for line in lines("filter.other_senders", overlay)] == ["blue-web1"]
    port = member("blue-web1", overlay)
    assert port.flags["flood"]
    assert member("vx-lwt", overlay).flags["flood"]
    # It stays locked until the filters are there.
    assert (port.later, "locked" in port.flags) == ({"locked": False}, False)
    # Of another tenant nothing changes.
    assert member("red-web1", overlay).flags["locked"]


def test_a_pair_with_the_endpoints_own_mac_changes_nothing() -> None:
    plain, paired = two_tenants(), pair(two_tenants(), "blue/web1", "blue/web2", mac=None)
    for template in ("fdb.local_endpoint", "fdb.remote_endpoint", "filter.announcement_held"):
        assert lines(template, paired) == lines(template, plain)
    assert member("blue-web1", paired) == member("blue-web1", plain)


def test_tags_are_refused_where_a_plane_was_chosen_over_the_overlay() -> None:
    overlay = two_tenants()
    overlay["tenants"]["red"]["vlan_tagged"] = "carry"
    with pytest.raises(Refused, match="tenant red carries frames with VLAN tags, and plane bridge"):
        BridgePlane(VlanStore(None)).check(view(overlay)[0])
