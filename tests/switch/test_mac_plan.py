"""Hosts whose guests' MACs begin alike, on real switches: packets, traces, and how many flows.

Blue is on all hosts, red on two of them, violet on the other two. After every change, every switch
holds what `ovs-lwt export` prints: `change`, `attach` and `detach` see to that.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Sequence

import pytest

from ovs_lwt.lab.processes import run
from ovs_lwt.lab.switches import environment
from tests.support.overlay_lab import OverlayLab, laboratory
from tests.support.overlays import Overlay, endpoint
from tests.support.packets import BROADCAST, ethernet, token

# Under host2's prefix, and under none.
NOBODYS, UNPLANNED = "02:00:02:00:00:77", "52:54:00:00:00:77"

PLANNED: Overlay = {
    "vteps": {
        f"host{number}": {
            "address": f"192.0.2.1{number}",
            "mac_prefix": f"02:00:0{number}:00:00:00/24",
        }
        for number in (1, 2, 3)
    },
    "tenants": {
        "blue": {
            "vni": 1010,
            "mark": 10,
            "endpoints": {
                "web1": {"host": "host1", "mac": "02:00:01:00:00:01", "ip": ["10.0.0.11/24"]},
                "web2": {"host": "host2", "mac": "02:00:02:00:00:02", "ip": ["10.0.0.12/24"]},
                "web3": {"host": "host3", "mac": "02:00:03:00:00:03", "ip": ["10.0.0.13/24"]},
                # Each was on host2 once, and has moved with its MAC.
                "here": {"host": "host1", "mac": "02:00:02:00:00:04", "ip": ["10.0.0.14/24"]},
                "away": {"host": "host3", "mac": "02:00:02:00:00:05", "ip": ["10.0.0.15/24"]},
            },
        },
        "red": {
            "vni": 2020,
            "unknown_unicast": "drop",
            "endpoints": {
                "web1": {"host": "host1", "mac": "02:00:01:00:00:01", "ip": ["10.0.0.11/24"]},
                # Blue's of that MAC has moved; this one is where its MAC says.
                "web2": {"host": "host2", "mac": "02:00:02:00:00:05", "ip": ["10.0.0.12/24"]},
            },
        },
        "violet": {
            "vni": 4040,
            "endpoints": {
                "web1": {"host": "host1", "mac": "02:00:01:00:00:01", "ip": ["10.0.0.11/24"]},
                "web3": {"host": "host3", "mac": "02:00:03:00:00:03", "ip": ["10.0.0.13/24"]},
            },
        },
    },
}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OverlayLab]:
    folder = tmp_path_factory.mktemp("plan")
    with laboratory(copy.deepcopy(PLANNED), folder, one_controller=True) as lab:
        yield lab


@pytest.fixture
def lab(stage: OverlayLab) -> Iterator[OverlayLab]:
    """The lab; whatever a story changes is changed back."""
    yield stage
    stage.restore(PLANNED)


def said(lab: OverlayLab, sender: str, to: str) -> tuple[dict[str, int], set[tuple[str, int]]]:
    """Who hears a guest's frame, and to which hosts it was sent in which VNI."""
    with lab.listening() as wires:
        mark = token()
        wires.say(sender, ethernet(lab.mac(sender), to, mark))
        hosts = {host.name: lab.vtep(host.name) for host in lab.plan.hosts}
        return wires.heard(mark), {
            (host, packet.vni)
            for packet in wires.on_underlay(mark)
            for host, address in hosts.items()
            if packet.target == address
        }


def prefixes(lab: OverlayLab, host: str) -> dict[str, str]:
    """The masked flows to other hosts: prefix -> actions."""
    flows = (flow.split(" actions=") for flow in lab.flows(host, "table=forward"))
    return {
        match.split("dl_dst=")[1]: actions
        for match, actions in flows
        if "metadata" not in match and "/ff:" in match
    }


def exact(lab: OverlayLab, host: str) -> set[tuple[int, str]]:
    """(VNI, MAC) of the remote endpoints that have a flow of their own."""
    return {
        (int(found[1], 16), found[2])
        for flow in lab.flows(host, "table=forward")
        if "tun_dst" in flow and (found := re.search(r"metadata=(\w+),dl_dst=([\w:]+) ", flow))
    }


# Where frames go


def test_guests_reach_their_tenant_and_nobody_else(lab: OverlayLab) -> None:
    assert not lab.reach().wrong


def test_one_flow_stands_for_a_host_and_exact_ones_for_those_that_do_not_fit(
    lab: OverlayLab,
) -> None:
    assert prefixes(lab, "host1") == {
        f"02:00:0{number}:00:00:00/ff:ff:ff:00:00:00": "set_field:192.0.2.1"
        f'{number}->tun_dst,output:"vx-lwt"'
        for number in (2, 3)
    }
    assert exact(lab, "host1") == {(1010, "02:00:02:00:00:05")}
    # host3 has no part in red. Of blue, `here` is on host1 with a MAC of host2's.
    assert exact(lab, "host3") == {(1010, "02:00:02:00:00:04")}


@pytest.mark.parametrize(
    ("sender", "hearer", "sent"),
    [
        ("blue/web1", "blue/web2", {("host2", 1010)}),
        ("blue/web1", "blue/away", {("host3", 1010)}),
        ("blue/web1", "blue/here", set()),
        ("blue/web2", "blue/away", {("host3", 1010)}),
        ("blue/web3", "blue/here", {("host1", 1010)}),
        ("red/web1", "red/web2", {("host2", 2020)}),
        ("violet/web1", "violet/web3", {("host3", 4040)}),
    ],
)
def test_a_frame_goes_to_where_the_endpoint_is_not_to_where_its_mac_was(
    lab: OverlayLab, sender: str, hearer: str, sent: set[tuple[str, int]]
) -> None:
    assert said(lab, sender, lab.mac(hearer)) == ({hearer: 1}, sent)


def test_the_switch_says_the_same_of_a_packet(lab: OverlayLab) -> None:
    def traced(to: str) -> tuple[Sequence[tuple[str, int]], str | None]:
        sent = lab.trace("host1", f"in_port=blue-web1,dl_src={lab.mac('blue/web1')},dl_dst={to}")
        return sent.copies, sent.final.get("tun_dst")

    assert traced(lab.mac("blue/web2")) == ([("tunnel", 0)], lab.vtep("host2"))
    assert traced(lab.mac("blue/away")) == ([("tunnel", 0)], lab.vtep("host3"))
    assert traced(lab.mac("blue/here")) == ([("blue-here", 10)], None)
    assert traced(NOBODYS) == ([("tunnel", 0)], lab.vtep("host2"))


def test_a_broadcast_reaches_everybody_once(lab: OverlayLab) -> None:
    for sender in ("blue/web1", "red/web1", "violet/web3"):
        assert said(lab, sender, BROADCAST)[0] == lab.peers(sender)


# MACs that nobody has


def test_a_mac_that_nobody_has_is_asked_for_on_the_host_that_it_belongs_to(lab: OverlayLab) -> None:
    """Blue says `unknown_unicast: flood`: to its guests there. Under no prefix, to all."""
    assert said(lab, "blue/web1", NOBODYS) == ({"blue/web2": 1}, {("host2", 1010)})
    assert said(lab, "blue/web1", UNPLANNED)[0] == lab.peers("blue/web1")


def test_where_its_own_host_floods_it_the_others_know_that_it_is_not_theirs(
    lab: OverlayLab,
) -> None:
    """Blue has one guest on host2, and that one asks."""
    assert said(lab, "blue/web2", NOBODYS) == ({}, {("host1", 1010), ("host3", 1010)})


def test_where_the_tenant_says_drop_it_is_dropped_there(lab: OverlayLab) -> None:
    assert said(lab, "red/web1", NOBODYS) == ({}, {("host2", 2020)})
    assert said(lab, "red/web1", UNPLANNED) == ({}, set())


def test_where_the_tenant_does_not_live_nobody_hears_of_it(lab: OverlayLab) -> None:
    """Violet is not on host2, where blue and red have guests."""
    assert said(lab, "violet/web1", NOBODYS) == ({}, {("host2", 4040)})
    packet = f"in_port=vx-lwt,tun_id=4040,tun_src={lab.vtep('host1')},dl_dst={NOBODYS}"
    assert lab.trace("host2", packet).tables == ["0"]


@pytest.mark.parametrize("to", ["02:00:02:00:00:02", NOBODYS])
def test_from_the_tunnel_nothing_goes_back_into_it(lab: OverlayLab, to: str) -> None:
    """A frame for host2 that comes to host1 all the same."""
    packet = f"in_port=vx-lwt,tun_id=1010,tun_src={lab.vtep('host3')},dl_dst={to}"
    traced = lab.trace("host1", packet)
    assert traced.tables[-1] == "6"
    assert traced.actions == "drop"


# Changes


def test_a_guest_moves_out_of_its_prefix_and_back(lab: OverlayLab) -> None:
    web2 = lab.mac("blue/web2")
    before = exact(lab, "host1")
    lab.change(lambda overlay: endpoint(overlay, "blue/web2").update(host="host3"))
    lab.detach("blue/web2")
    lab.attach("blue/web2", "host3")
    assert exact(lab, "host1") == before | {(1010, web2)}
    assert said(lab, "blue/web1", web2) == ({"blue/web2": 1}, {("host3", 1010)})

    lab.change(lambda overlay: endpoint(overlay, "blue/web2").update(host="host2"))
    lab.detach("blue/web2")
    lab.attach("blue/web2", "host2")
    assert exact(lab, "host1") == before
    assert said(lab, "blue/web1", web2) == ({"blue/web2": 1}, {("host2", 1010)})


def test_a_host_gets_another_prefix_none_and_its_own_again(lab: OverlayLab) -> None:
    host2 = lab.overlay["vteps"]["host2"]
    before = exact(lab, "host1")
    its_own = {(1010, lab.mac("blue/web2")), (2020, lab.mac("red/web2"))}

    lab.change(lambda _: host2.update(mac_prefix="02:00:22:00:00:00/24"))
    assert exact(lab, "host1") == before | its_own
    assert "02:00:22:00:00:00/ff:ff:ff:00:00:00" in prefixes(lab, "host1")
    assert not lab.reach().wrong

    lab.change(lambda _: host2.pop("mac_prefix"))
    assert exact(lab, "host1") == before | its_own
    assert list(prefixes(lab, "host1")) == ["02:00:03:00:00:00/ff:ff:ff:00:00:00"]
    # Now it is unknown as any other.
    assert said(lab, "blue/web1", NOBODYS)[0] == lab.peers("blue/web1")

    lab.change(lambda _: host2.update(mac_prefix="02:00:02:00:00:00/24"))
    assert exact(lab, "host1") == before
    assert not lab.reach().wrong


def test_two_hosts_swap_their_prefixes(lab: OverlayLab) -> None:
    """Nobody fits any more, and everybody is where they were."""
    host2, host3 = lab.overlay["vteps"]["host2"], lab.overlay["vteps"]["host3"]

    def swap(_: Overlay) -> None:
        host2["mac_prefix"], host3["mac_prefix"] = host3["mac_prefix"], host2["mac_prefix"]

    lab.change(swap)
    assert (1010, lab.mac("blue/web2")) in exact(lab, "host1")
    assert (1010, lab.mac("blue/away")) not in exact(lab, "host1")
    assert not lab.reach().wrong
    assert said(lab, "blue/web1", NOBODYS)[1] == {("host3", 1010)}


def test_prefixes_of_every_length_are_listed_as_they_were_sent(lab: OverlayLab) -> None:
    """A restart would write again what is listed otherwise: `change` compares, and so do we."""
    host2 = lab.overlay["vteps"]["host2"]
    for length in (8, 9, 23, 46, 47):
        prefix = f"{0x0E << 40:012x}"
        text = ":".join(prefix[at : at + 2] for at in range(0, 12, 2)) + f"/{length}"
        host2["mac_prefix"] = text
        lab.change(lambda _: None)
        mask = f"{(1 << 48) - (1 << 48 - length):012x}"
        listed = ":".join(mask[at : at + 2] for at in range(0, 12, 2))
        assert f"0e:00:00:00:00:00/{listed}" in prefixes(lab, "host1")


# How many


def masks(lab: OverlayLab, host: str) -> set[str]:
    """The kinds of match in table forward: what the switch keeps a table of hashes for, each."""
    kinds = set()
    for flow in lab.flows(host, "table=forward"):
        match = flow.split(" actions=")[0].partition("priority=")[2]
        fields = (field.partition("=") for field in match.split(",")[1:])
        kinds.add(",".join(sorted(f"{n}/{v.partition('/')[2]}" for n, _, v in fields)))
    return kinds


def test_a_thousand_guests_more_are_no_flow_and_no_mask_more(lab: OverlayLab) -> None:
    def more(overlay: Overlay) -> None:
        for tenant in ("blue", "red"):
            for n in range(500):
                mac = f"02:00:02:00:{1 + n // 250:02x}:{n % 250:02x}"
                overlay["tenants"][tenant]["endpoints"][f"more{n}"] = {"host": "host2", "mac": mac}

    flows, kinds = len(lab.flows("host1")), masks(lab, "host1")
    lab.change(more)
    assert len(lab.flows("host1")) == flows
    assert masks(lab, "host1") == kinds
    assert len(kinds) == 6  # one of them asks whether a list of holders is at its end

    lab.change(lambda overlay: overlay["vteps"]["host2"].pop("mac_prefix"))
    # One less for the prefix, 1,002 more for those who lay under it.
    assert len(lab.flows("host1")) == flows + 1001
    assert masks(lab, "host1") == kinds


def test_the_datapath_keeps_one_mask_for_all_of_them(lab: OverlayLab) -> None:
    """What fits and what does not is looked up alike there: by the whole MAC."""
    sender = lab.mac("blue/web1")
    asked = [lab.mac(f"blue/{name}") for name in ("web2", "web3", "away", "here")]
    asked += [f"02:00:02:00:00:8{number}" for number in range(8)]
    with lab.listening() as wires:
        for to in asked:
            wires.say("blue/web1", ethernet(sender, to, token()))
        command = ["ovs-appctl", "dpctl/dump-flows", "-m"]
        flows = run(command, env=environment(lab.host("host1")))
    kept = re.findall(rf"in_port\(blue-web1\),.*?,eth\(src={sender}(\S*?),dst=(02:\S*?)\)", flows)
    assert {to for _, to in kept} >= set(asked)
    assert not [mask for mask, to in kept if mask or "/" in to]
