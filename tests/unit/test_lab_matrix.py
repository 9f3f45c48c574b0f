"""The reachability matrix: which probes are sent, and what is concluded from who saw them."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_interface

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from ovs_lwt.lab.matrix import Cell, Matrix, Probe, Sighting, choose, judge, questions
from ovs_lwt.lab.packets import Token, echo_request, ethernet_probe, internet_checksum, read_probe
from ovs_lwt.lab.plan import GuestPlan
from ovs_lwt.lab.show import show_matrix


def guest(identity: str, last: int, *addresses: str, host: str = "host1") -> GuestPlan:
    tenant, _, name = identity.partition("/")
    return GuestPlan(
        tenant=tenant,
        name=name,
        host=host,
        namespace=f"lab-{tenant}-{name}",
        port=f"{tenant}-{name}",
        mac=f"02:00:00:00:00:{last:02x}",
        addresses=tuple(ip_interface(address) for address in addresses),
    )


# Blue and red have the same addresses.
GUESTS = (
    guest("blue/web1", 1, "10.0.0.11/24"),
    guest("blue/web2", 2, "10.0.0.12/24"),
    guest("red/web1", 1, "10.0.0.11/24"),
    guest("red/web2", 2, "10.0.0.12/24"),
)
BLUE1, BLUE2, RED1, RED2 = range(4)


def flawless(probes: list[Probe]) -> list[Sighting]:
    """What is seen if every probe within a tenant arrives and is answered, and no other does."""
    seen = []
    for probe in probes:
        if GUESTS[probe.source].tenant == GUESTS[probe.target].tenant:
            seen.append(Sighting(probe.number, 0, probe.target, "request", True))
            seen.append(Sighting(probe.number, 0, probe.source, "reply", True))
    return seen


def cells(seen: list[Sighting]) -> dict[tuple[str, str], Cell]:
    probes = questions(GUESTS, range(4))
    return {(cell.source, cell.target): cell for cell in judge(GUESTS, probes, seen)}


def wrong(seen: list[Sighting]) -> dict[tuple[str, str], tuple[str, ...]]:
    return {pair: cell.why for pair, cell in cells(seen).items() if cell.verdict == "wrong"}


def probe(source: int, target: int, kind: str = "ipv4") -> Probe:
    return next(
        probe
        for probe in questions(GUESTS, range(4))
        if (probe.source, probe.target, probe.kind) == (source, target, kind)
    )


def test_all_is_well_if_tenants_reach_their_own() -> None:
    found = cells(flawless(questions(GUESTS, range(4))))

    assert {pair for pair, cell in found.items() if cell.verdict == "reached"} == {
        ("blue/web1", "blue/web2"),
        ("blue/web2", "blue/web1"),
        ("red/web1", "red/web2"),
        ("red/web2", "red/web1"),
    }
    assert {cell.verdict for cell in found.values()} == {"reached", "isolated"}
    assert len(found) == 12


def test_a_probe_that_does_not_arrive_is_a_loss() -> None:
    lost = probe(BLUE1, BLUE2).number
    seen = [s for s in flawless(questions(GUESTS, range(4))) if s.probe != lost]

    assert wrong(seen) == {
        ("blue/web1", "blue/web2"): ("loss: the ping to 10.0.0.12 did not reach blue/web2",)
    }


def test_a_probe_without_a_reply_is_a_loss() -> None:
    lost = probe(BLUE1, BLUE2).number
    seen = [s for s in flawless(questions(GUESTS, range(4))) if (s.probe, s.leg) != (lost, "reply")]

    (why,) = wrong(seen)["blue/web1", "blue/web2"]
    assert "no reply came back" in why


def test_an_answer_by_the_same_address_in_another_tenant_is_a_leak_and_a_loss() -> None:
    sent = probe(BLUE1, BLUE2).number
    # red/web2 got it in place of blue/web2, and answers so that a ping would be content.
    seen = [
        Sighting(s.probe, 0, RED2, s.leg, True) if (s.probe, s.guest) == (sent, BLUE2) else s
        for s in flawless(questions(GUESTS, range(4)))
    ]

    found = wrong(seen)
    assert found["blue/web1", "red/web2"] == ("leak: the ping to 10.0.0.12 arrived there",)
    assert found["blue/web1", "blue/web2"] == (
        "loss: the ping to 10.0.0.12 did not reach blue/web2",
    )
    assert len(found) == 2


def test_a_frame_for_another_mac_is_a_leak_too_if_another_tenant_sees_it() -> None:
    sent = probe(BLUE1, BLUE2).number
    seen = flawless(questions(GUESTS, range(4)))

    seen.append(Sighting(sent, 0, RED1, "request", False))

    assert set(wrong(seen)) == {("blue/web1", "red/web1")}


def test_a_probe_that_arrives_twice_is_wrong() -> None:
    sent = probe(BLUE1, BLUE2).number
    seen = flawless(questions(GUESTS, range(4)))

    seen.append(Sighting(sent, 0, BLUE2, "request", True))

    assert wrong(seen) == {("blue/web1", "blue/web2"): ("the ping to 10.0.0.12 arrived 2 times",)}


def test_a_second_attempt_that_arrives_is_no_second_copy() -> None:
    sent = probe(BLUE1, BLUE2).number
    seen = flawless(questions(GUESTS, range(4)))

    seen.append(Sighting(sent, 1, BLUE2, "request", True))

    assert wrong(seen) == {}


def test_within_a_tenant_a_unicast_is_for_its_owner_s_eyes_alone() -> None:
    three = (*GUESTS[:2], guest("blue/web3", 3, "10.0.0.13/24"))
    probes = questions(three, range(3))
    sent = next(p for p in probes if (p.source, p.target) == (0, 1))
    seen = [
        sighting
        for p in probes
        for sighting in (
            Sighting(p.number, 0, p.target, "request", True),
            Sighting(p.number, 0, p.source, "reply", True),
        )
    ]

    seen.append(Sighting(sent.number, 0, 2, "request", False))

    (cell,) = (cell for cell in judge(three, probes, seen) if cell.verdict == "wrong")
    assert (cell.source, cell.target) == ("blue/web1", "blue/web3")
    assert "meant for blue/web2" in cell.why[0]


def test_unknown_unicast_may_be_flooded_within_the_tenant() -> None:
    guests = (
        guest("blue/web1", 1, "10.0.0.11/24"),
        guest("blue/web2", 2, "10.0.0.12/24"),
        guest("red/web9", 9, "10.0.0.19/24"),
    )
    probes = questions(guests, range(3))
    to_red = next(p for p in probes if (p.source, p.target, p.kind) == (0, 2, "ethernet"))
    flooded = [Sighting(to_red.number, 0, 1, "request", False)]

    assert all(cell.target != "red/web9" for cell in judge(guests, probes, flooded) if cell.why)


@pytest.mark.parametrize(
    ("one", "other", "kinds"),
    [
        pytest.param(["10.0.0.1/24"], ["10.0.0.2/24"], ["ipv4"], id="one subnet"),
        pytest.param(["10.0.0.1/24"], ["10.0.1.2/24"], ["ethernet"], id="two subnets"),
        pytest.param(["10.0.0.1/16"], ["10.0.1.2/24"], ["ethernet"], id="on-link one way only"),
        pytest.param(["10.0.0.1/24"], ["fd00::2/64"], ["ethernet"], id="two families"),
        pytest.param([], [], ["ethernet"], id="no addresses"),
        pytest.param(
            ["10.0.0.1/24", "fd00::1/64"],
            ["10.0.0.2/24", "fd00::2/64"],
            ["ipv4", "ipv6"],
            id="both",
        ),
    ],
)
def test_guests_are_asked_in_every_way_they_could_answer(
    one: list[str], other: list[str], kinds: list[str]
) -> None:
    guests = (guest("blue/a", 1, *one), guest("blue/b", 2, *other))

    assert [p.kind for p in questions(guests, range(2)) if p.source == 0] == kinds


def test_one_s_own_address_in_another_tenant_is_asked_for_by_ethernet() -> None:
    """A ping to it would be answered by the guest's own kernel."""
    kinds = [p.kind for p in questions(GUESTS, range(4)) if (p.source, p.target) == (BLUE1, RED1)]

    assert kinds == ["ethernet"]


def test_a_sample_has_every_tenant_and_every_host() -> None:
    guests = [
        guest(f"{tenant}/g{n}", n + 1, host=f"host{n % 3}")
        for tenant in ("blue", "red", "green")
        for n in range(30)
    ]

    chosen = [guests[index] for index in choose(guests, 9)]

    assert {(g.tenant, g.host) for g in chosen} == {(g.tenant, g.host) for g in guests}
    assert choose(guests, 0) == list(range(90))
    assert choose(guests, 1000) == list(range(90))


# On the wire


@given(st.binary(min_size=8, max_size=8), st.integers(0, 2**32 - 1), st.integers(0, 2**16 - 1))
def test_a_probe_is_recognised_again(run: bytes, number: int, attempt: int) -> None:
    token = Token(run, number, attempt)
    ipv4 = bytes.fromhex("4500 0000 0000 0000 4001 0000 0a00000b 0a00000c")
    ethernet = bytes(12) + b"\x08\x00"

    asked = ethernet + ipv4 + echo_request("ipv4", token)
    assert read_probe(asked, run) == (token, "request")
    answered = bytearray(asked)
    answered[34] = 0
    assert read_probe(bytes(answered), run) == (token, "reply")
    frame = ethernet_probe("02:00:00:00:00:01", "02:00:00:00:00:02", token)
    assert read_probe(frame, run) == (token, "request")
    assert read_probe(frame, bytes(byte ^ 1 for byte in run)) is None


def test_a_probe_quoted_by_an_icmp_error_has_not_arrived() -> None:
    token = Token(bytes(8), 1, 0)
    quoted = bytes.fromhex("4500 0000 0000 0000 4001 0000 0a00000b 0a00000c")
    unreachable = bytes.fromhex("0301 0000 00000000") + quoted + echo_request("ipv4", token)

    assert read_probe(bytes(12) + b"\x08\x00" + quoted + unreachable, bytes(8)) is None


@given(st.sampled_from([b"", b"\x08\x00", b"\x86\xdd", b"\x81\x00"]), st.binary(max_size=80))
def test_nonsense_from_the_wire_does_no_harm(ethertype: bytes, rest: bytes) -> None:
    token = Token(bytes(8), 1, 0).pack()

    for frame in (bytes(12) + ethertype + rest + token, bytes(12) + ethertype + token + rest):
        # A token where no probe has it; whatever it is taken for, the listener lives.
        read_probe(frame, bytes(8))


@given(st.binary(max_size=99))
def test_a_checksum_makes_the_sum_whole(data: bytes) -> None:
    padded = data + bytes(len(data) % 2)
    whole = padded + internet_checksum(padded).to_bytes(2, "big")

    assert internet_checksum(whole) == 0


# By routes


def routed(identity: str, last: int, *addresses: str) -> GuestPlan:
    return replace(guest(identity, last, *addresses), routed=True)


def test_routes_need_no_common_network() -> None:
    guests = (
        routed("blue/web1", 1, "10.0.0.11/24"),
        routed("blue/web2", 2, "10.9.9.12/24", "fd00::12/64"),
    )

    found = questions(guests, range(2))

    assert [(probe.kind, probe.address) for probe in found] == [
        ("ipv4", "10.9.9.12"),
        ("ipv4", "10.0.0.11"),
    ]


def test_routes_carry_nothing_but_ip() -> None:
    guests = (routed("blue/raw1", 1), routed("blue/raw2", 2))
    (there, back) = questions(guests, range(2))
    assert there.kind == "ethernet"

    silence = judge(guests, [there, back], [])
    leak = judge(guests, [there, back], [Sighting(there.number, 0, 1, "request", False)])

    assert [(cell.expected, cell.verdict) for cell in silence] == [("isolated", "isolated")] * 2
    assert leak[0].verdict == "wrong"


# On paper


def test_a_matrix_of_many_fits_into_100_columns() -> None:
    guests = [f"tenant{n % 3}/a-guest-with-a-name-{n}" for n in range(24)]
    all_cells = tuple(
        Cell(a, b, "reached", "reached", ("ipv4", "ipv6"), ())
        for a in guests
        for b in guests
        if a != b
    )
    matrix = Matrix("lab", tuple(guests), ("host1",) * 24, 300, 1104, 2.0, all_cells)
    console = Console(width=100, record=True, quiet=False)

    with console.capture() as captured:
        show_matrix(console, matrix)

    printed = captured.get()
    assert max(map(len, printed.splitlines())) <= 100
    assert "…" not in printed
    assert printed.count("✓46") == 24 * 23
    assert "24 of 300 guests asked" in printed
