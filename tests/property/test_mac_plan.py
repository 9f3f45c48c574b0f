"""Hosts whose guests' MACs begin alike: every frame goes where the overlay says, after any change.

What the overlay says is read from its text here, and what the switch does from the bytes that it
holds: neither knows of columns, rows or stencils.
"""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given, settings
from hypothesis import strategies as st

from ovs_lwt.backends.openflow.pipeline import pipeline
from ovs_lwt.sources.overlay_file import from_dict
from ovs_lwt.view import View
from tests.property.hosts import Overlay, changes, plans, views
from tests.strategies import MACS, lies_under
from tests.support.fake_switch import State
from tests.support.forward import BUM, FORWARD, Frame, forwarded
from tests.support.line import in_sync

# Nobody's: under one of MAC_PREFIXES or under none; and those of many.
NOBODYS = (
    *("02:00:00:00:00:03", "02:00:00:00:00:77", "02:00:00:00:01:fe", "52:54:00:ab:cd:01"),
    *("52:54:00:00:00:01", "00:00:00:00:00:00", "00:ff:00:00:00:01", "fe:ff:ff:00:00:01"),
    *("fe:00:00:00:00:01", "0a:00:00:00:00:01"),
)
MANYS = ("ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01", "33:33:00:00:00:01", "03:00:00:00:00:01")


def test_the_witness_looks_at_the_right_tables() -> None:
    numbers = {name: number for number, name in pipeline().tables}
    assert (numbers["forward"], numbers["bum"]) == (FORWARD, BUM)


@given(st.data(), st.one_of(changes(), plans()))
@settings(max_examples=80)
def test_every_frame_goes_where_the_overlay_says_before_and_after_any_change(
    data: st.DataObject, overlays: tuple[Overlay, Overlay]
) -> None:
    before, after = overlays
    old, new = map(from_dict, overlays)
    for name in sorted(set(before["vteps"]) & set(after["vteps"])):
        first = data.draw(views(old, old.vtep_index(name)))
        second = data.draw(views(new, new.vtep_index(name)))
        line = in_sync(first)
        _goes_where_it_says(line.switch.state, before, first)
        line.desire(second)
        _goes_where_it_says(line.switch.state, after, second)


def _goes_where_it_says(held: State, overlay: Overlay, view: View) -> None:
    host = view.topology.vteps.name[view.host]
    ports = {
        view.topology.endpoint_id(int(endpoint)): int(port)
        for endpoint, port in zip(view.ports.endpoint, view.ports.port, strict=True)
    }
    for tenant in _tenants_on(overlay, host):
        vni = overlay["tenants"][tenant]["vni"]
        for mac in map(str.lower, (*MACS, *NOBODYS, *MANYS)):
            told = _told(overlay, host, view.tunnel, ports, tenant, mac)
            from_guest = forwarded(held, Frame(vni, 7777, _number(mac)))
            assert from_guest == told, (tenant, mac)
            # Split horizon: what would go out of the tunnel goes nowhere.
            from_tunnel = forwarded(held, Frame(vni, view.tunnel, _number(mac)))
            assert from_tunnel == ("drop" if " to " in told else told), (tenant, mac)


def _told(
    overlay: Overlay, host: str, tunnel: int, ports: dict[str, int], tenant: str, mac: str
) -> str:
    """What the overlay says becomes of a tenant's frame on this host."""
    if mac in MANYS:
        return "bum"
    said = overlay["tenants"][tenant]
    for name, endpoint in said["endpoints"].items():
        if endpoint["mac"].lower() == mac:
            if endpoint["host"] != host:
                return f"port {tunnel} to {overlay['vteps'][endpoint['host']]['address']}"
            if (port := ports.get(f"{tenant}/{name}")) is not None:
                return f"port {port} mark {said.get('mark', said['vni'])}"
    for other in _neighbours(overlay, host):
        if lies_under(mac, overlay["vteps"][other].get("mac_prefix")):
            return f"port {tunnel} to {overlay['vteps'][other]['address']}"
    return "bum" if said.get("unknown_unicast", "flood") == "flood" else "drop"


def _tenants_on(overlay: Overlay, host: str) -> Iterator[str]:
    for name, tenant in overlay["tenants"].items():
        if any(endpoint["host"] == host for endpoint in tenant["endpoints"].values()):
            yield name


def _neighbours(overlay: Overlay, host: str) -> set[str]:
    """The other hosts of the tenants here."""
    return {
        endpoint["host"]
        for tenant in _tenants_on(overlay, host)
        for endpoint in overlay["tenants"][tenant]["endpoints"].values()
    } - {host}


def _number(mac: str) -> int:
    return int(mac.replace(":", ""), 16)
