"""Guests that send from a link-local address that the overlay does not list: who is named, and for
how long.
"""

from __future__ import annotations

import pytest

from ovs_lwt.backends.openflow.pipeline import pipeline
from ovs_lwt.backends.openflow.unlisted import FORGOTTEN, KNOWN, UnlistedSources
from ovs_lwt.view import View
from tests.support.overlays import Overlay, endpoint, two_tenants, view
from tests.support.packets import ALL_NODES, ip
from tests.support.solicitations import packet_in, solicitation

MADE_UP = "fe80::7217"
COOKIE = pipeline().flows["security.unlisted_link_local"].cookie
MAC = "02:00:00:00:00:01"


def sent(port: int, mac: str = MAC, address: str = MADE_UP) -> bytes:
    """What the switch tells of such a packet: its first 64 bytes."""
    return packet_in(ip((mac, address), ALL_NODES, bytes(8))[:64], port=port, cookie=COOKIE)


def port_of(view: View, identity: str) -> int:
    [at] = [
        at
        for at, index in enumerate(view.ports.endpoint.tolist())
        if view.topology.endpoint_id(index) == identity
    ]
    return int(view.ports.port[at])


def seen(overlay: Overlay | None = None) -> View:
    return view(two_tenants() if overlay is None else overlay)


def test_it_is_told_from_what_is_to_be_answered() -> None:
    unlisted = UnlistedSources()
    assert unlisted.hears(sent(1))
    asking = pipeline().flows["security.unlisted_solicitation"].cookie
    assert unlisted.hears(packet_in(solicitation("fd00::11", MADE_UP)[:64], cookie=asking))
    assert not unlisted.hears(packet_in(solicitation("fd00::11")))
    assert not unlisted.hears(b"")


def test_a_guest_is_named_once_with_the_mend() -> None:
    unlisted, here = UnlistedSources(), seen()
    port = port_of(here, "blue/web1")
    said = unlisted.note(here, sent(port), 0.0)
    assert said is not None
    assert "blue/web1 (fe80::7217)" in said
    assert "addrgenmode eui64" in said
    for now in (0.0, 30.0, 90.0):
        assert unlisted.note(here, sent(port), now) is None
    [finding] = unlisted.findings(90.0)
    assert (finding.sentence, finding.level) == (said, "warn")
    assert unlisted.note(here, sent(port, address="fe80::1"), 200.0) is not None, "another address"


def test_it_is_forgotten_when_it_has_been_silent_for_long() -> None:
    unlisted, here = UnlistedSources(), seen()
    unlisted.note(here, sent(port_of(here, "blue/web1")), 0.0)
    assert len(list(unlisted.findings(FORGOTTEN - 1))) == 1
    assert list(unlisted.findings(FORGOTTEN)) == []


@pytest.mark.parametrize(
    "mend",
    [
        lambda web1: web1["ip"].append(f"{MADE_UP}/64"),
        lambda web1: web1.update(spoofing="allow"),
        lambda web1: web1.update(allowed_pairs=[{"ip": MADE_UP}]),
        lambda web1: web1.update(host="host2"),
    ],
    ids=["listed", "trusted", "allowed", "moved"],
)
def test_an_overlay_that_mends_it_ends_it(mend: object) -> None:
    unlisted, here = UnlistedSources(), seen()
    unlisted.note(here, sent(port_of(here, "blue/web1")), 0.0)
    unlisted.look(seen())
    assert len(list(unlisted.findings(1.0))) == 1
    overlay = two_tenants()
    mend(endpoint(overlay, "blue/web1"))  # type: ignore[operator]
    unlisted.look(seen(overlay))
    assert list(unlisted.findings(1.0)) == []


def test_a_tenant_that_leaves_the_overlay_takes_its_guests_along() -> None:
    unlisted, here = UnlistedSources(), seen()
    unlisted.note(here, sent(port_of(here, "blue/web1")), 0.0)
    overlay = two_tenants()
    del overlay["tenants"]["blue"]
    unlisted.look(seen(overlay))
    assert list(unlisted.findings(1.0)) == []


def test_of_others_nothing_is_said() -> None:
    unlisted = UnlistedSources()
    overlay = two_tenants()
    endpoint(overlay, "blue/web1")["ip"] = ["10.0.0.11/24"]
    assert unlisted.note(seen(overlay), sent(port_of(seen(), "blue/web1")), 0.0) is None, "no IPv6"
    here = seen()
    port = port_of(here, "blue/web1")
    for number, message in enumerate(
        [
            sent(4242),
            sent(port, mac="02:00:00:00:00:77"),
            packet_in(b"", port=port, cookie=COOKIE),
            packet_in(bytes(64), port=port, cookie=COOKIE),
        ]
    ):
        assert unlisted.note(here, message, 100.0 * number) is None
    assert list(unlisted.findings(0.0)) == []


def test_a_host_full_of_them_keeps_only_so_many_in_mind() -> None:
    overlay = two_tenants()
    blue = overlay["tenants"]["blue"]["endpoints"]
    for number in range(KNOWN + 10):
        blue[f"n{number}"] = {
            "host": "host1",
            "mac": f"02:00:00:01:{number >> 8:02x}:{number & 255:02x}",
            "ip": [f"fd00::1:{number:x}/64"],
        }
    here, unlisted = seen(overlay), UnlistedSources()
    for number in range(KNOWN + 10):
        message = sent(port_of(here, f"blue/n{number}"), blue[f"n{number}"]["mac"])
        assert unlisted.note(here, message, 0.0) is not None
    [finding] = unlisted.findings(1.0)
    assert f"and {KNOWN - 3} more" in finding.text
