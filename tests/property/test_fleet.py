"""Twenty hosts behind one agent: whatever happens, each comes to hold what a fresh start gives it,
although most of them take no notice of most changes.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ovs_lwt.sources.overlay_file import from_dict
from tests.support.fake_switch import FakeSwitch
from tests.support.fleet import Fleet, Story
from tests.support.overlays import claims

HOSTS = [f"host{number}" for number in range(20)]
TENANTS = [f"tenant{number}" for number in range(6)]
GUESTS = [f"web{number}" for number in range(5)]

Overlay = dict[str, Any]
Event = tuple[str, str, str, str]


def overlay() -> Overlay:
    """Each tenant is on five hosts, and on two of these is the next tenant, too."""
    return {
        "vteps": {name: {"address": f"192.0.2.{at}"} for at, name in enumerate(HOSTS, 1)},
        "tenants": {
            tenant: {
                "vni": 1000 + at,
                "endpoints": {
                    guest: {
                        "host": HOSTS[(3 * at + n) % len(HOSTS)],
                        "mac": f"02:00:00:00:00:0{n}",
                        "ip": [f"10.0.0.{n + 1}/24"],
                    }
                    for n, guest in enumerate(GUESTS)
                },
            }
            for at, tenant in enumerate(TENANTS)
        },
    }


EVENTS = st.tuples(
    st.sampled_from(
        (*["put"] * 4, "remove", "tenant", "readdress", "plug", "unplug", "hang up", "connect")
    ),
    st.sampled_from(TENANTS),
    st.sampled_from(GUESTS),
    st.sampled_from(HOSTS),
)


@given(st.lists(st.lists(EVENTS, min_size=1, max_size=4), min_size=1, max_size=6))
@settings(max_examples=12)
def test_every_host_comes_to_what_a_fresh_start_gives_it(turns: list[list[Event]]) -> None:
    now = overlay()
    fleet = Fleet(from_dict(now), FakeSwitch)

    def story() -> Story:
        fleet.connect(HOSTS)
        yield
        for events in turns:
            for event in events:
                happen(fleet, now, event)
            yield
        yield
        for name in HOSTS:
            told = fleet.ovsdb[name].errors
            fresh = fleet.fresh(name)
            assert fleet.ovsdb[name].errors == told
            if name in fleet.line:
                assert fleet.switch[name].state == fresh.state, name

    fleet.run(story())


def happen(fleet: Fleet[FakeSwitch], now: Overlay, event: Event) -> None:
    """What is not possible just now does not happen."""
    what, tenant, guest, host = event
    endpoints = now["tenants"][tenant]["endpoints"] if tenant in now["tenants"] else {}
    topology = fleet.source.topology
    if what == "plug":
        fleet.plug(host, claims(topology, host))
    elif what == "unplug":
        fleet.plug(host, fleet.ovsdb[host].found[1:])
    elif what == "hang up":
        fleet.hang_up(host)
    elif what == "connect" and host not in fleet.line:
        fleet.connect([host])
    elif what == "put" and tenant in now["tenants"]:
        number = GUESTS.index(guest)
        address = {"mac": f"02:00:00:00:00:1{number}", "ip": [f"10.0.0.{number + 11}/24"]}
        endpoints[guest] = {**address, "host": host}
    elif what == "remove":
        endpoints.pop(guest, None)
    elif what == "tenant" and now["tenants"].pop(tenant, None) is None:
        now["tenants"][tenant] = overlay()["tenants"][tenant]
    elif what == "readdress":
        octets = now["vteps"][host]["address"].split(".")
        octets[2] = str(int(octets[2]) ^ 1)
        now["vteps"][host]["address"] = ".".join(octets)
    if what in ("put", "remove", "tenant", "readdress"):
        fleet.change(from_dict(now))
