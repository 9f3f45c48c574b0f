"""Frames for many: the tenant's other guests hear them, each once, and nothing comes back."""

from __future__ import annotations

import pytest

from tests.support.overlay_lab import OverlayLab
from tests.support.packets import BROADCAST, ethernet, token
from tests.support.wires import Wires

SENDERS = ["blue/web1", "blue/web3", "red/web1", "green/web2", "violet/web1"]
MANY = [BROADCAST, "01:00:5e:00:00:fb", "33:33:00:00:00:fb"]
UNKNOWN = "02:00:00:00:00:77"


@pytest.mark.parametrize("to", MANY, ids=["broadcast", "IPv4 multicast", "IPv6 multicast"])
@pytest.mark.parametrize("sender", SENDERS)
def test_the_tenants_other_guests_hear_it_each_once(
    stage: OverlayLab, wires: Wires, sender: str, to: str
) -> None:
    mark = token()
    wires.say(sender, ethernet(stage.mac(sender), to, mark))
    assert wires.heard(mark) == stage.peers(sender)


@pytest.mark.parametrize("sender", ["blue/web1", "blue/web3", "green/web1"])
def test_unknown_unicast_floods_where_the_tenant_says_so(
    stage: OverlayLab, wires: Wires, sender: str
) -> None:
    mark = token()
    wires.say(sender, ethernet(stage.mac(sender), UNKNOWN, mark))
    assert wires.heard(mark) == stage.peers(sender)


def test_unknown_unicast_is_dropped_where_the_tenant_says_so(
    stage: OverlayLab, wires: Wires
) -> None:
    mark = token()
    wires.say("red/web1", ethernet(stage.mac("red/web1"), UNKNOWN, mark))
    assert wires.heard(mark) == {}
    assert not wires.on_underlay(mark)


@pytest.mark.parametrize("to", [*MANY, UNKNOWN])
def test_only_the_senders_host_replicates(stage: OverlayLab, wires: Wires, to: str) -> None:
    """Split horizon: one copy to every other VTEP of the tenant, and none from those again."""
    mark = token()
    wires.say("blue/web1", ethernet(stage.mac("blue/web1"), to, mark))
    assert wires.heard(mark) == stage.peers("blue/web1")
    sent = wires.tunnels(mark)
    # Somebody else's machine gets a copy too, once the host has seen it: see test_tunnel.py.
    sent.pop(("host1", stage.vtep("theirs"), 1010), None)
    assert sent == {
        ("host1", stage.vtep("host2"), 1010): 1,
        ("host1", stage.vtep("host3"), 1010): 1,
    }


def test_a_tenant_of_one_host_is_never_on_the_underlay(stage: OverlayLab, wires: Wires) -> None:
    mark = token()
    wires.say("violet/web1", ethernet(stage.mac("violet/web1"), BROADCAST, mark))
    assert wires.heard(mark) == {"violet/web2": 1}
    assert not wires.on_underlay(mark)


def test_tenants_with_the_same_hosts_share_one_flood_list(stage: OverlayLab) -> None:
    """On host1, red and green have host2 for a peer; blue has host3 and a foreign machine too."""
    groups = stage.groups("host1")
    assert {number: text.count("bucket=") for number, text in groups.items()} == {
        1010: 3,  # blue's guests on host1: web1, web4, router
        2020: 1,
        3030: 2,
        1_000_001_010: 3,  # blue's hosts
        1_000_002_020: 1,  # red's and green's
    }
    for tenant, shared in (("blue", 1010), ("red", 2020), ("green", 2020)):
        frame = f"in_port={tenant}-web1,dl_src={stage.mac('blue/web1')},dl_dst={BROADCAST}"
        assert f"group:{1_000_000_000 + shared}" in stage.trace("host1", frame).text


@pytest.mark.parametrize(
    ("tenant", "vni", "mark"), [("blue", 1010, 10), ("red", 2020, 2020), ("green", 3030, 3030)]
)
def test_whoever_gets_a_copy_gets_the_tenants_mark(
    stage: OverlayLab, tenant: str, vni: int, mark: int
) -> None:
    """And nobody else: a copy for the tunnel bears none, for the kernel may route by it."""
    local = {
        (g.port, mark) for g in stage.guests.values() if (g.host, g.tenant) == ("host1", tenant)
    }
    from_tunnel = (
        f"in_port=vx-lwt,tun_id={vni},tun_src={stage.vtep('host2')},dl_src=02:00:00:00:00:02"
    )
    assert set(stage.trace("host1", f"{from_tunnel},dl_dst={BROADCAST}").copies) == local
    own = stage.trace("host1", f"{from_tunnel},dl_dst=02:00:00:00:00:01").copies
    assert own == [(f"{tenant}-web1", mark)]

    from_guest = f"in_port={tenant}-web1,dl_src=02:00:00:00:00:01"
    copies = stage.trace("host1", f"{from_guest},dl_dst={BROADCAST}").copies
    assert set(copies) == local - {(f"{tenant}-web1", mark)} | {("tunnel", 0)}
    remote = stage.trace("host1", f"{from_guest},dl_dst=02:00:00:00:00:02").copies
    assert remote == [("tunnel", 0)]
