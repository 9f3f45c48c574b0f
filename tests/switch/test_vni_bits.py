"""A VNI says a tenant, with all of its 24 bits: no frame of a tenant reaches another whose VNI has
the same lower bits, with replicators and without, where the tenant does not live, and while a host
learns late that it has left.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
import yaml

from tests.support.overlay_lab import OverlayLab, laboratory
from tests.support.overlays import Overlay
from tests.support.ovs import eventually
from tests.support.packets import (
    BROADCAST,
    REQUEST_PORT,
    VXLAN_PORT,
    encapsulated,
    ethernet,
    token,
)
from tests.support.wires import Wires

BLUE = 1010
OTHERS = {f"green{high}": high << 20 | BLUE for high in (1, 2, 8, 15)}
HOSTS = ("host1", "host2", "host3")
VICTIM = "blue/b3"


def endpoint(tenant: int, host: int) -> Overlay:
    mac = f"02:00:{host:02x}:00:{tenant:02x}:01"
    return {"host": f"host{host}", "mac": mac, "ip": [f"10.0.0.{10 + host}/24"]}


# Blue is on every host, the others on the first two, with VNIs that end as blue's does.
OVERLAY: Overlay = {
    "vteps": {host: {"address": f"192.0.2.1{host[4:]}"} for host in HOSTS},
    "tenants": {
        "blue": {"vni": BLUE, "endpoints": {f"b{n}": endpoint(0, n) for n in (1, 2, 3)}},
        **{
            name: {"vni": vni, "endpoints": {f"g{n}": endpoint(vni >> 20, n) for n in (1, 2)}}
            for name, vni in OTHERS.items()
        },
    },
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OverlayLab]:
    with laboratory(OVERLAY, tmp_path_factory.mktemp("bits")) as lab:
        yield lab


@pytest.fixture(
    params=[(), ("host2",), ("host3",), HOSTS], ids=lambda names: "+".join(names) or "no"
)
def replicators(lab: OverlayLab, request: pytest.FixtureRequest) -> Sequence[str]:
    """Which hosts replicate."""
    chosen: Sequence[str] = request.param
    lab.change(lambda overlay: replicate_on(overlay, chosen))
    return chosen


def replicate_on(overlay: Overlay, hosts: Sequence[str]) -> None:
    for name, vtep in overlay["vteps"].items():
        vtep["replicator"] = name in hosts


@pytest.fixture
def wires(lab: OverlayLab) -> Iterator[Wires]:
    with lab.listening() as wires:
        yield wires


@pytest.mark.usefixtures("replicators")
def test_a_frame_with_a_longer_vni_is_heard_by_nobody_where_its_tenant_does_not_live(
    lab: OverlayLab, wires: Wires
) -> None:
    """What a host sends that believes otherwise, to either UDP port."""
    source, target = ((lab.host(host).mac, lab.vtep(host)) for host in ("host1", "host3"))
    marks: dict[bytes, tuple[int, int]] = {}
    for vni in (high << 20 | BLUE for high in range(1, 16)):
        for port in (VXLAN_PORT, REQUEST_PORT):
            for to in (BROADCAST, lab.mac(VICTIM)):
                marks[mark := token()] = vni, port
                frame = ethernet("02:00:01:00:00:66", to, mark)
                wires.arrive("host3", encapsulated(source, target, port, vni, frame))
    # By the same cable: once this has been heard, the others would have been.
    last = token()
    frame = ethernet(lab.mac("blue/b1"), BROADCAST, last)
    wires.arrive("host3", encapsulated(source, target, VXLAN_PORT, BLUE, frame))
    assert eventually(lambda: wires.heard(last) == {VICTIM: 1})
    wires.settle(VICTIM)
    assert [about for mark, about in marks.items() if wires.heard(mark)] == []
    assert not [packet for mark in marks for packet in wires.on_underlay(mark, "host3")]


@pytest.mark.usefixtures("replicators")
def test_every_tenant_hears_its_own_broadcasts_once_and_no_others(
    lab: OverlayLab, wires: Wires
) -> None:
    for sender in lab.guests:
        mark = token()
        wires.say(sender, ethernet(lab.mac(sender), BROADCAST, mark))
        assert wires.heard(mark) == lab.peers(sender)


@pytest.mark.parametrize("tenant", OTHERS)
def test_a_host_that_learns_late_that_a_tenant_has_left_does_not_reach_another(
    lab: OverlayLab, wires: Wires, replicators: Sequence[str], tenant: str
) -> None:
    """host3 knows already that the tenant has left it; host1 and host2 do not."""
    left = f"{tenant}/g3"
    endpoints = lab.overlay["tenants"][tenant]["endpoints"]
    endpoints["g3"] = endpoint(OTHERS[tenant] >> 20, 3)
    lab.change(lambda overlay: None)
    del endpoints["g3"]
    lab.plan.overlay.write_text(yaml.safe_dump(lab.overlay))
    lab.learns("host3")
    try:
        for sender in (f"{tenant}/g1", f"{tenant}/g2"):
            mark = token()
            wires.send(sender, ethernet(lab.mac(sender), BROADCAST, mark))
            # Behind it, by the same cables, what everybody of blue hears.
            wires.settle(f"blue/b{sender[-1]}")
            tunnels = {(to, vni) for _, to, vni in wires.tunnels(mark)}
            assert (lab.vtep("host3"), OTHERS[tenant]) in tunnels, "host3 was sent one"
            assert not [guest for guest in wires.heard(mark) if not guest.startswith(tenant)]
            assert set(wires.heard(mark).values()) <= {1}
            if "host3" not in replicators:
                assert wires.heard(mark) == lab.peers(sender)
    finally:
        lab.change(lambda overlay: None)
    assert left not in lab.guests
