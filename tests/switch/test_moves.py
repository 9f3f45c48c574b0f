"""What changes while it runs: guests come, go and move, the overlay is edited.

One controller drives all hosts here. After every change, every switch holds what `ovs-lwt export`
prints: `change`, `attach` and `detach` see to that.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ovs_lwt.lab import namespaces
from tests.support.overlay_lab import OverlayLab, laboratory
from tests.support.overlays import endpoint, two_tenants
from tests.support.ovs import eventually
from tests.support.packets import BROADCAST, arp, ethernet, ip, read_arp, token

WEB1, WEB2 = "02:00:00:00:00:01", "02:00:00:00:00:02"
EVERYBODY = (BROADCAST, "10.0.0.255")


@pytest.fixture(scope="module")
def moving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OverlayLab]:
    folder = tmp_path_factory.mktemp("moves")
    with laboratory(two_tenants(), folder, one_controller=True) as lab:
        yield lab


@pytest.fixture
def lab(moving: OverlayLab) -> Iterator[OverlayLab]:
    """The lab of two tenants; whatever a story changes is changed back."""
    yield moving
    moving.restore(two_tenants())


def broadcast(lab: OverlayLab, sender: str) -> dict[str, int]:
    """Who hears a guest's broadcast."""
    return said(lab, sender, BROADCAST)[0]


def said(lab: OverlayLab, sender: str, to: str) -> tuple[dict[str, int], set[str]]:
    """Who hears a guest's frame, and the VTEPs that it was sent to."""
    with lab.listening() as wires:
        mark = token()
        wires.say(sender, ethernet(lab.mac(sender), to, mark))
        return wires.heard(mark), {packet.target for packet in wires.on_underlay(mark)}


# Guests


def test_a_guest_leaves_and_comes_back(lab: OverlayLab) -> None:
    port, host = lab.guests["blue/web2"].port, lab.guests["blue/web2"].host
    lab.detach("blue/web2")
    assert not any(port in line for line in [*lab.flows(host), *lab.groups(host).values()])
    assert broadcast(lab, "blue/web1") == {"blue/web3": 1}
    assert broadcast(lab, "red/web1") == {"red/web2": 1}

    lab.attach("blue/web2", host)
    assert broadcast(lab, "blue/web1") == {"blue/web2": 1, "blue/web3": 1}
    assert said(lab, "blue/web2", WEB1)[0] == {"blue/web1": 1}


def test_a_guest_that_vanished_can_be_attached_again(lab: OverlayLab) -> None:
    """Its namespace was deleted, and its end of the cable with it: nobody has said `detach`."""
    namespaces.remove(lab.guests.pop("blue/web2").namespace)
    assert broadcast(lab, "blue/web1") == {"blue/web3": 1}

    lab.attach("blue/web2", "host2")
    assert said(lab, "blue/web1", WEB2)[0] == {"blue/web2": 1}
    assert said(lab, "blue/web2", WEB1)[0] == {"blue/web1": 1}


def test_a_new_endpoint_joins_its_tenant(lab: OverlayLab) -> None:
    web5 = {"host": "host2", "mac": "02:00:00:00:00:55", "ip": ["10.0.0.15/24", "fd00::15/64"]}
    lab.change(lambda overlay: overlay["tenants"]["blue"]["endpoints"].update(web5=web5))
    with lab.listening() as wires:
        mark = token()
        wires.say("blue/web1", arp(WEB1, lab.at("blue/web1"), "10.0.0.15", mark))
        reply = read_arp(wires.copies("blue/web1", mark)[0])
    assert reply is not None
    assert reply.sender == ("02:00:00:00:00:55", "10.0.0.15")

    lab.attach("blue/web5", "host2")
    assert broadcast(lab, "blue/web1") == {"blue/web2": 1, "blue/web3": 1, "blue/web5": 1}
    assert broadcast(lab, "blue/web5") == {"blue/web1": 1, "blue/web2": 1, "blue/web3": 1}
    assert not lab.reach().wrong


def test_the_first_guest_of_a_tenant_brings_it_to_a_host(lab: OverlayLab) -> None:
    web3 = {"host": "host3", "mac": "02:00:00:00:00:03", "ip": ["10.0.0.13/24"]}
    assert 2020 not in lab.groups("host3")
    lab.change(lambda overlay: overlay["tenants"]["red"]["endpoints"].update(web3=web3))
    lab.attach("red/web3", "host3")
    # Blue and red have the same hosts now, and one flood list.
    assert sorted(lab.groups("host1")) == [1010, 2020, 1_000_001_010]
    assert broadcast(lab, "red/web1") == {"red/web2": 1, "red/web3": 1}
    assert broadcast(lab, "red/web3") == {"red/web1": 1, "red/web2": 1}

    lab.detach("red/web3")
    lab.change(lambda overlay: overlay["tenants"]["red"]["endpoints"].pop("web3"))
    assert 2020 not in lab.groups("host3")
    assert sorted(lab.groups("host1")) == [1010, 2020, 1_000_001_010, 1_000_002_020]
    assert broadcast(lab, "red/web1") == {"red/web2": 1}


def test_an_endpoint_taken_from_the_overlay_is_cut_off(lab: OverlayLab) -> None:
    lab.change(lambda overlay: overlay["tenants"]["blue"]["endpoints"].pop("web2"))
    del lab.guests["blue/web2"]
    error = ("get", "interface", "blue-web2", "external_ids:ovs-lwt-error")
    assert "no endpoint 'web2'" in lab.vsctl("host2", *error)
    # To its MAC is to nobody now, and its port is nobody's.
    assert said(lab, "blue/web1", WEB2)[0] == {"blue/web3": 1}
    sent = lab.trace("host2", f"in_port=blue-web2,dl_src={WEB2},dl_dst={WEB1}")
    assert sent.actions == "drop"


@pytest.mark.parametrize("first", ["overlay", "guest"])
def test_an_endpoint_moves_to_another_host(lab: OverlayLab, first: str) -> None:
    """Its MAC and addresses go with it; whoever talks to it has nothing to learn."""

    def edit() -> None:
        lab.change(lambda overlay: endpoint(overlay, "blue/web2").update(host="host3"))

    assert said(lab, "blue/web1", WEB2) == ({"blue/web2": 1}, {lab.vtep("host2")})
    if first == "overlay":
        edit()
        error = ("get", "interface", "blue-web2", "external_ids:ovs-lwt-error")
        assert "host3" in lab.vsctl("host2", *error)
        lab.detach("blue/web2")
        lab.attach("blue/web2", "host3")
    else:
        lab.detach("blue/web2")
        edit()
        lab.attach("blue/web2", "host3")

    assert said(lab, "blue/web1", WEB2) == ({"blue/web2": 1}, {lab.vtep("host3")})
    assert said(lab, "blue/web3", WEB2) == ({"blue/web2": 1}, set())
    assert said(lab, "blue/web2", WEB1) == ({"blue/web1": 1}, {lab.vtep("host1")})
    # Nobody of blue's is left on host2: it is no VTEP of the tenant any more.
    assert said(lab, "blue/web1", BROADCAST) == (
        {"blue/web2": 1, "blue/web3": 1},
        {lab.vtep("host3")},
    )
    # Red's guest with the same MAC stays where it is.
    assert said(lab, "red/web1", WEB2) == ({"red/web2": 1}, {lab.vtep("host2")})
    assert not lab.reach().wrong


# The overlay


def test_a_tenants_unknown_unicast_policy_changes(lab: OverlayLab) -> None:
    unknown = "02:00:00:00:00:77"
    assert said(lab, "red/web1", unknown) == ({}, set())
    lab.change(lambda overlay: overlay["tenants"]["red"].update(unknown_unicast="flood"))
    assert said(lab, "red/web1", unknown) == ({"red/web2": 1}, {lab.vtep("host2")})
    lab.change(lambda overlay: overlay["tenants"]["red"].update(unknown_unicast="drop"))
    assert said(lab, "red/web1", unknown) == ({}, set())


def test_a_tenants_neighbours_policy_changes(lab: OverlayLab) -> None:
    def hears_the_question() -> dict[str, int]:
        with lab.listening() as wires:
            mark = token()
            wires.say("blue/web1", arp(WEB1, lab.at("blue/web1"), "10.0.0.12", mark))
            return wires.heard(mark)

    assert hears_the_question() == {"blue/web1": 1}
    lab.change(lambda overlay: overlay["tenants"]["blue"].update(neighbours="flood"))
    assert hears_the_question() == {"blue/web2": 1, "blue/web3": 1}


def test_an_endpoint_may_lie_as_long_as_the_overlay_says_so(lab: OverlayLab) -> None:
    def lies() -> dict[str, int]:
        with lab.listening() as wires:
            mark = token()
            wires.say("blue/web1", ip((WEB1, "10.0.0.77"), EVERYBODY, mark))
            return wires.heard(mark)

    assert lies() == {}
    lab.change(lambda overlay: endpoint(overlay, "blue/web1").update(spoofing="allow"))
    assert lies() == {"blue/web2": 1, "blue/web3": 1}
    lab.change(lambda overlay: endpoint(overlay, "blue/web1").pop("spoofing"))
    assert lies() == {}


def test_an_endpoints_addresses_change(lab: OverlayLab) -> None:
    """What was its own yesterday is spoofed today."""

    def heard_from(address: str) -> dict[str, int]:
        with lab.listening() as wires:
            mark = token()
            wires.say("blue/web1", ip((WEB1, address), EVERYBODY, mark))
            return wires.heard(mark)

    lab.change(lambda overlay: endpoint(overlay, "blue/web1").update(ip=["10.0.0.111/24"]))
    assert heard_from("10.0.0.111") == {"blue/web2": 1, "blue/web3": 1}
    assert heard_from("10.0.0.11") == {}


def test_a_tenant_gets_another_vni_and_another_mark(lab: OverlayLab) -> None:
    lab.change(lambda overlay: overlay["tenants"]["blue"].update(vni=7777, mark=77))
    with lab.listening() as wires:
        mark = token()
        wires.say("blue/web1", ethernet(WEB1, BROADCAST, mark))
        assert wires.heard(mark) == {"blue/web2": 1, "blue/web3": 1}
        assert {packet.vni for packet in wires.on_underlay(mark)} == {7777}
    final = lab.trace("host1", "in_port=LOCAL,pkt_mark=77").final
    assert int(final["metadata"], 0) == 7777
    assert lab.flows("host1", "metadata=1010") == []
    assert lab.reach().wrong == ()


def test_two_tenants_swap_their_vnis(lab: OverlayLab) -> None:
    """No moment's mixture may stay behind."""

    def swap(overlay: dict[str, dict[str, dict[str, int]]]) -> None:
        blue, red = overlay["tenants"]["blue"], overlay["tenants"]["red"]
        blue["vni"], red["vni"] = red["vni"], blue["vni"]

    lab.change(swap)
    assert broadcast(lab, "blue/web1") == {"blue/web2": 1, "blue/web3": 1}
    assert broadcast(lab, "red/web1") == {"red/web2": 1}
    assert not lab.reach().wrong


def test_a_tenant_goes(lab: OverlayLab) -> None:
    lab.change(lambda overlay: overlay["tenants"].pop("red"))
    del lab.guests["red/web1"], lab.guests["red/web2"]
    assert sorted(lab.groups("host1")) == [1010, 1_000_001_010]
    assert lab.trace("host1", f"in_port=red-web1,dl_src={WEB1},dl_dst={WEB2}").actions == "drop"
    assert broadcast(lab, "blue/web1") == {"blue/web2": 1, "blue/web3": 1}


# Ports


def test_a_port_is_claimed_as_libvirt_claims_it(lab: OverlayLab) -> None:
    lab.vsctl(
        "host2",
        *("remove", "interface", "blue-web2", "external_ids", "ovs-lwt-endpoint"),
        *("--", "set", "interface", "blue-web2", "external_ids:iface-id=nobody/knows"),
    )
    assert eventually(lambda: not any("blue-web2" in flow for flow in lab.flows("host2")))
    lab.follows()
    lab.vsctl("host2", "set", "interface", "blue-web2", "external_ids:iface-id=blue/web2")
    lab.follows()
    assert said(lab, "blue/web1", WEB2)[0] == {"blue/web2": 1}
    lab.vsctl(
        "host2",
        *("remove", "interface", "blue-web2", "external_ids", "iface-id"),
        *("--", "set", "interface", "blue-web2", "external_ids:ovs-lwt-endpoint=blue/web2"),
    )
    lab.follows()


@pytest.mark.parametrize(
    ("guest", "mark", "others"), [("blue-web1", 10, (0, 1010, 2020)), ("red-web1", 2020, (0, 10))]
)
def test_the_mark_says_whose_it_is_where_the_kernel_marks(
    lab: OverlayLab, guest: str, mark: int, others: tuple[int, ...]
) -> None:
    """What a port does not bear is dropped, another tenant's mark included: the port is not its."""
    marking = "external_ids:ovs-lwt-marking"
    lab.vsctl("host1", "set", "interface", guest, f"{marking}=tc")
    assert eventually(lambda: not lab.flows("host1", f"table=0,in_port={guest}"))
    lab.follows()
    frame = f"in_port={guest},dl_src={WEB1},dl_dst={WEB2},dl_type=0x88b5"
    assert lab.trace("host1", f"{frame},pkt_mark={mark}").copies == [("tunnel", 0)]
    for other in others:
        assert lab.trace("host1", f"{frame},pkt_mark={other}").actions == "drop"

    lab.vsctl("host1", "set", "interface", guest, f"{marking}=flow")
    assert eventually(lambda: bool(lab.flows("host1", f"table=0,in_port={guest}")))
    lab.follows()
    assert lab.trace("host1", frame).copies == [("tunnel", 0)]
