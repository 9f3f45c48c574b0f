"""Attaching guests where no switch is: planes bridge and route, marks by nft on this kernel."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Iterator

import pytest

from ovs_lwt.mistakes import Refused
from ovs_lwt.veth import Attached, AttachPlan, attach, detach
from ovs_lwt.veth.pair import rename_claims
from ovs_lwt.veth.plan import GATEWAY4, GATEWAY6, GATEWAY_MAC
from tests.support import guests
from tests.support.guests import addresses, link, neighbours, ping, routed, routes
from tests.support.ovs import eventually, in_netns

HOST, GUEST1, GUEST2 = (f"vpl-{os.getpid()}-{name}" for name in ("h", "g1", "g2"))
WEB1 = dataclasses.replace(guests.WEB1, netns=GUEST1)
WEB2 = dataclasses.replace(guests.WEB2, netns=GUEST2)
ROUTED1, ROUTED2 = routed(WEB1), routed(WEB2)
PORT = "blue-web1"


@pytest.fixture(autouse=True)
def host() -> Iterator[None]:
    with guests.made(HOST, GUEST1, GUEST2):
        yield


def chains() -> dict[str, int]:
    """The chains of ours, and the mark that each sets."""
    listed = json.loads(in_netns(HOST, "nft", "-j", "list", "ruleset", "netdev"))["nftables"]
    return {
        part["rule"]["chain"]: part["rule"]["expr"][0]["mangle"]["value"]
        for part in listed
        if "rule" in part
    }


def everything(port: str = PORT) -> list[str]:
    """All that an attach may touch, with the handles that tell old from new."""
    return [
        # A bridge's timers run.
        re.sub(r"_timer +[0-9.]+", "", in_netns(netns, *words))
        for netns, words in (
            (HOST, ("ip", "-d", "link", "show", port)),
            (HOST, ("nft", "-a", "list", "ruleset")),
            (GUEST1, ("ip", "-d", "link")),
            (GUEST1, ("ip", "address", "show", "scope", "global")),
            (GUEST1, ("ip", "route")),
            (GUEST1, ("ip", "-6", "route")),
            (GUEST1, ("ip", "neigh", "show", "nud", "permanent")),
        )
    ]


def up(netns: str, name: str) -> bool:
    """Whether the kernel has noticed that a device and its peer are both set up."""
    found = link(netns, name)
    return found is not None and found["operstate"] == "UP"


def bridge_of_ours() -> None:
    """What an agent makes on plane bridge."""
    in_netns(HOST, "ip", "link", "add", "br-lwt", "up", "type", "bridge")
    in_netns(HOST, "ip", "link", "set", "br-lwt", "alias", "ovs-lwt")


def forward_by_hand() -> None:
    """What an agent does on plane route: each tenant its table, chosen by the mark."""
    for setting in ("ipv4.ip_forward", "ipv6.conf.all.forwarding"):
        in_netns(HOST, "sysctl", "-qw", f"net.{setting}=1")
    for family, first, second in (("-4", "10.0.0.11", "10.0.0.12"), ("-6", "fd00::11", "fd00::12")):
        in_netns(HOST, "ip", family, "rule", "add", "fwmark", "10", "lookup", "10")
        for address, plan in ((first, WEB1), (second, WEB2)):
            port = f"blue-{plan.endpoint}"
            in_netns(HOST, "ip", family, "route", "add", address, "dev", port, "table", "10")
            in_netns(
                HOST, "ip", "neigh", "replace", address, "lladdr", plan.mac, "dev", port,
                "nud", "permanent",
            )  # fmt: skip


class TestOnPlaneBridge:
    def test_the_guest_is_as_on_any_other_switch(self) -> None:
        assert attach(WEB1, None, host_netns=HOST) == Attached(PORT, "nft")

        guest = link(GUEST1, "eth0")
        assert guest is not None
        assert (guest["address"], guest["mtu"]) == (WEB1.mac, 1450)
        assert addresses(GUEST1) == set(WEB1.addresses)
        assert routes(GUEST1) == {"10.0.0.0/24", "fd00::/64"}
        assert neighbours(GUEST1) == {}

    def test_the_hosts_end_claims_and_marks_and_is_silent(self) -> None:
        attach(WEB1, None, host_netns=HOST)

        end = link(HOST, PORT)
        assert end is not None
        assert end["ifalias"] == "ovs-lwt blue/web1"
        assert "NOARP" in end["flags"]
        assert end["inet6_addr_gen_mode"] == "none"
        assert chains() == {"in-blue-web1": 10, "out-blue-web1": 10}

    def test_guests_in_one_bridge_reach_each_other(self) -> None:
        in_netns(HOST, "ip", "link", "add", "br0", "up", "type", "bridge", "mcast_snooping", "0")
        for plan in (WEB1, WEB2):
            port = attach(plan, None, host_netns=HOST).port
            in_netns(HOST, "ip", "link", "set", port, "up", "master", "br0")
        assert eventually(lambda: ping(GUEST1, "10.0.0.12"))
        assert eventually(lambda: ping(GUEST1, "fd00::12"))


class TestFoundByItsAlias:
    OLD = dataclasses.replace(WEB1, port="blue-web-0~1f2e", chosen=True)

    def test_a_port_of_an_earlier_version_is_mended_and_detached(self) -> None:
        bridge_of_ours()
        attach(self.OLD, None, host_netns=HOST)
        assert eventually(lambda: up(GUEST1, "eth0") and up(HOST, "blue-web-0~1f2e"))
        before = everything("blue-web-0~1f2e")
        assert attach(WEB1, None, host_netns=HOST).port == "blue-web-0~1f2e"
        assert everything("blue-web-0~1f2e") == before
        assert detach("blue", "web1", None, host_netns=HOST)
        assert not detach("blue", "web1", None, host_netns=HOST)
        assert link(HOST, "blue-web-0~1f2e") is None
        assert chains() == {}

    def test_a_tap_that_claims_it_is_neither_doubled_nor_taken_away(self) -> None:
        in_netns(HOST, "ip", "tuntap", "add", "tap7", "mode", "tap")
        in_netns(HOST, "ip", "link", "set", "tap7", "alias", "ovs-lwt blue/web1")
        with pytest.raises(Refused, match="port 'tap7' claims blue/web1"):
            attach(WEB1, None, host_netns=HOST)
        with pytest.raises(Refused, match="'tap7' is in use by"):
            detach("blue", "web1", None, host_netns=HOST)
        assert link(HOST, "tap7") is not None

    def test_among_hundreds_of_others(self) -> None:
        """The one alias is found among all, and what merely contains it is not."""
        in_netns(HOST, "sh", "-c", "for i in $(seq 200); do ip tuntap add v$i mode tap; done")
        in_netns(HOST, "ip", "link", "set", "v150", "alias", "ovs-lwt blue/web10")
        attach(self.OLD, None, host_netns=HOST)
        assert attach(WEB1, None, host_netns=HOST).port == "blue-web-0~1f2e"
        assert detach("blue", "web1", None, host_netns=HOST)


class TestOnPlaneRoute:
    def test_the_guest_has_a_default_route_and_a_neighbour_and_no_more(self) -> None:
        attach(ROUTED1, None, host_netns=HOST)

        assert addresses(GUEST1) == {"10.0.0.11/32", "fd00::11/128"}
        assert routes(GUEST1) == {f"default via {GATEWAY4}", f"default via {GATEWAY6}", "fd00::11"}
        mac = (GATEWAY_MAC, "eth0")
        assert neighbours(GUEST1) == {GATEWAY4: mac, GATEWAY6: mac}

    def test_a_guest_without_ipv6_has_no_gateway_for_it(self) -> None:
        plan = dataclasses.replace(ROUTED1, addresses=("10.0.0.11/32",))
        attach(plan, None, host_netns=HOST)
        assert routes(GUEST1) == {f"default via {GATEWAY4}"}
        assert set(neighbours(GUEST1)) == {GATEWAY4}

    def test_the_hosts_end_is_the_gateway(self) -> None:
        attach(ROUTED1, None, host_netns=HOST)
        end = link(HOST, PORT)
        assert end is not None
        assert end["address"] == GATEWAY_MAC
        assert "NOARP" in end["flags"]

    def test_guests_reach_each_other_by_the_marks_table(self) -> None:
        for plan in (ROUTED1, ROUTED2):
            attach(plan, None, host_netns=HOST)
        forward_by_hand()

        assert ping(GUEST1, "10.0.0.12")
        assert eventually(lambda: ping(GUEST1, "fd00::12"))
        assert ping(GUEST1, "10.0.0.12", "-M", "do", "-s", str(1450 - 28))
        assert not ping(GUEST1, "10.0.0.12", "-M", "do", "-s", str(1451 - 28))

        in_netns(HOST, "nft", "flush", "table", "netdev", "ovs-lwt")
        assert not ping(GUEST1, "10.0.0.12", "-W1"), "without a mark it is nobody's"
        attach(ROUTED1, None, host_netns=HOST)
        attach(ROUTED2, None, host_netns=HOST)
        assert ping(GUEST1, "10.0.0.12")


class TestAttachedAgain:
    @pytest.mark.parametrize("plan", [WEB1, ROUTED1], ids=["bridge", "route"])
    def test_twice_changes_nothing(self, plan: AttachPlan) -> None:
        if plan.plane == "bridge":
            bridge_of_ours()
        attach(plan, None, host_netns=HOST)
        assert eventually(lambda: all(up(*end) for end in ((HOST, PORT), (GUEST1, "eth0"))))
        before = everything()
        attach(plan, None, host_netns=HOST)
        assert everything() == before

    def test_what_differs_is_mended(self) -> None:
        attach(ROUTED1, None, host_netns=HOST)
        in_netns(GUEST1, "ip", "route", "flush", "default")
        in_netns(GUEST1, "ip", "-6", "route", "del", "default")
        in_netns(GUEST1, "ip", "neigh", "del", GATEWAY4, "dev", "eth0")
        in_netns(
            GUEST1, "ip", "neigh", "replace", GATEWAY6, "lladdr", "02:00:00:00:00:99",
            "dev", "eth0", "nud", "permanent",
        )  # fmt: skip
        in_netns(GUEST1, "ip", "address", "add", "10.0.0.11/24", "dev", "eth0")
        in_netns(HOST, "ip", "link", "set", PORT, "address", "02:00:00:00:00:98")
        in_netns(HOST, "nft", "delete", "chain", "netdev", "ovs-lwt", "out-blue-web1")

        attach(ROUTED1, None, host_netns=HOST)

        is_as_it_was = TestOnPlaneRoute()
        is_as_it_was.test_the_guest_has_a_default_route_and_a_neighbour_and_no_more()
        is_as_it_was.test_the_hosts_end_is_the_gateway()
        assert chains() == {"in-blue-web1": 10, "out-blue-web1": 10}

    def test_a_host_that_changed_its_plane(self) -> None:
        """To routes and back: what the guest had of the other plane goes, what it needs comes."""
        attach(WEB1, None, host_netns=HOST)
        in_netns(HOST, "ip", "link", "add", "br-lwt", "type", "bridge")
        in_netns(HOST, "ip", "link", "set", PORT, "master", "br-lwt")

        attach(ROUTED1, None, host_netns=HOST)
        TestOnPlaneRoute().test_the_guest_has_a_default_route_and_a_neighbour_and_no_more()
        end = link(HOST, PORT)
        assert end is not None
        assert "master" not in end, "its packets would still go to the bridge"

        attach(WEB1, None, host_netns=HOST)
        TestOnPlaneBridge().test_the_guest_is_as_on_any_other_switch()

    def test_the_overlay_gave_its_tenant_another_mark(self) -> None:
        attach(WEB1, None, host_netns=HOST)
        attach(dataclasses.replace(WEB1, mark=0x7FFFFFFF), None, host_netns=HOST)
        assert set(chains().values()) == {0x7FFFFFFF}


class TestDetached:
    def test_nothing_stays_and_once_is_enough(self) -> None:
        attach(ROUTED1, None, host_netns=HOST)

        assert detach("blue", "web1", None, host_netns=HOST)
        assert not detach("blue", "web1", None, host_netns=HOST)

        assert link(HOST, PORT) is None
        assert link(GUEST1, "eth0") is None
        assert chains() == {}

    def test_a_device_that_is_not_ours_stays(self) -> None:
        in_netns(HOST, "ip", "link", "add", PORT, "type", "veth")
        with pytest.raises(Refused, match=f"'{PORT}' is in use"):
            detach("blue", "web1", None, host_netns=HOST)
        assert link(HOST, PORT) is not None


class TestRefused:
    def nothing_is_left(self) -> None:
        assert link(HOST, PORT) is None
        assert link(GUEST1, "eth0") is None
        assert chains() == {}

    @pytest.mark.parametrize("plan", [WEB1, ROUTED1], ids=["bridge", "route"])
    def test_a_flow_where_there_are_none(self, plan: AttachPlan) -> None:
        plan = dataclasses.replace(plan, marking="flow")
        with pytest.raises(Refused, match=r"plane \w+ has no flow .* blue/web1.*'tc' or 'nft'"):
            attach(plan, None, host_netns=HOST)
        self.nothing_is_left()

    def test_a_way_of_marking_that_this_kernel_lacks(self) -> None:
        with pytest.raises(Refused, match=r"cannot mark .* blue/web1.*cls_matchall act_skbedit"):
            attach(dataclasses.replace(WEB1, marking="tc"), None, host_netns=HOST)
        self.nothing_is_left()

    def test_no_way_at_all(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("shutil.which", lambda *_, **__: None)
        with pytest.raises(Refused, match=r"nft.*apt-get install nftables.*cls_flower act_gact"):
            attach(WEB1, None, host_netns=HOST)
        self.nothing_is_left()

    def test_a_guest_with_a_default_route_of_its_own(self) -> None:
        in_netns(GUEST1, "ip", "link", "add", "eth9", "up", "type", "veth")
        in_netns(GUEST1, "ip", "route", "add", "default", "dev", "eth9")
        with pytest.raises(Refused, match=f"{GUEST1} has a default route already.*route del"):
            attach(ROUTED1, None, host_netns=HOST)
        self.nothing_is_left()
        assert routes(GUEST1) == {"default"}


def test_a_tenant_is_renamed_while_a_guest_leaves() -> None:
    """Its other guests claim the new name; a device that is another's by now stays as it is."""
    attach(WEB1, None, host_netns=HOST)
    in_netns(HOST, "ip", "link", "add", "theirs", "type", "veth", "peer", "name", "other")
    in_netns(HOST, "ip", "link", "set", "theirs", "alias", "ovs-lwt red/web9")
    claims = {
        "gone": ("blue/web7", "azure/web7"),
        "theirs": ("blue/web9", "azure/web9"),
        PORT: ("blue/web1", "azure/web1"),
    }
    assert rename_claims(HOST, claims) == (PORT,)
    aliases = in_netns(HOST, "ip", "link", "show")
    assert "alias ovs-lwt azure/web1" in aliases
    assert "alias ovs-lwt red/web9" in aliases
    assert detach("azure", "web1", None, host_netns=HOST)
