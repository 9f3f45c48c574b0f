"""Marks kept against drift, by nft on this machine's kernel; seen by packets that carry them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator

import pytest
from pyroute2.netlink import NETLINK_ROUTE
from pyroute2.netlink.rtnl import RTNLGRP_LINK

from ovs_lwt.veth import MarkKeeper, Notices
from ovs_lwt.veth.marking import Direction, nft
from ovs_lwt.veth.nftables import batch
from tests.support.guests import ping
from tests.support.ovs import eventually, in_netns, network_namespace

HOST, GUEST = (f"vmk-{os.getpid()}-{name}" for name in ("h", "g"))
TAP = "tap0"
GUEST_IP = "10.0.0.11"
_BATCH = "ovs_lwt.veth.marking.nft.batch"
# Counts, behind what sets the marks.
COUNTERS = f"""
table netdev test {{
    chain arrived {{
        type filter hook ingress device "{TAP}" priority 100; policy accept;
        meta mark 10 counter
        meta mark != 10 counter
    }}
    chain handed {{
        type filter hook egress device "{TAP}" priority 100; policy accept;
        meta mark 10 counter
        meta mark != 10 counter
    }}
}}
"""


def plug(name: str = TAP) -> None:
    """A port that somebody else has made, as libvirt would; at its other end, a guest."""
    in_netns(HOST, "ip", "link", "add", name, "type", "veth", "peer", "name", "e", "netns", GUEST)
    in_netns(HOST, "ip", "address", "add", "10.0.0.1/24", "dev", name)
    in_netns(GUEST, "ip", "link", "set", "e", "name", "eth0")
    in_netns(GUEST, "ip", "address", "add", f"{GUEST_IP}/24", "dev", "eth0")
    in_netns(HOST, "ip", "link", "set", name, "up")
    in_netns(GUEST, "ip", "link", "set", "eth0", "up")


@pytest.fixture(autouse=True)
def host() -> Iterator[None]:
    with network_namespace(HOST), network_namespace(GUEST):
        plug()
        yield


@pytest.fixture
def keeper() -> Iterator[MarkKeeper]:
    keeper = MarkKeeper(HOST, egress=True)
    yield keeper
    keeper.close()


def said(keeper: MarkKeeper, sentence: str, within: float = 5) -> bool:
    """Poll as an agent does, until the keeper has told of this."""
    told: list[str] = []

    def tells() -> bool:
        told.extend(keeper.run())
        return any(re.search(sentence, text) for text in told)

    return eventually(tells, within)


def keep(keeper: MarkKeeper, mark: int = 10) -> None:
    keeper.want({TAP: mark})
    assert said(keeper, f"port tap0 gets its tenant's mark {mark} from nft")


def ruleset() -> str:
    return in_netns(HOST, "nft", "-a", "list", "ruleset")


def marked(chain: str) -> tuple[int, int]:
    """Of the packets that a ping makes go by: (with blue's mark, without)."""
    in_netns(HOST, "nft", "delete table netdev test" if "netdev test" in ruleset() else "")
    in_netns(HOST, "sh", "-c", f"nft -f - <<'END'\n{COUNTERS}\nEND")
    assert eventually(lambda: ping(GUEST, "10.0.0.1"))
    listed = json.loads(in_netns(HOST, "nft", "-j", "list", "chain", "netdev", "test", chain))
    first, second = (
        part["rule"]["expr"][-1]["counter"]["packets"]
        for part in listed["nftables"]
        if "rule" in part
    )
    return first, second


def all_marked() -> bool:
    """Whether all packets, either way, carry blue's mark."""
    counts = [marked(chain) for chain in ("arrived", "handed")]
    return all(own and not others for own, others in counts)


def test_a_port_claimed_by_hand_is_marked(keeper: MarkKeeper) -> None:
    assert not all_marked()
    keep(keeper)
    assert keeper.marking() == {TAP: "nft"}
    assert all_marked()


def test_on_plane_ovs_the_flows_mark_what_a_guest_is_handed() -> None:
    keeper = MarkKeeper(HOST)
    keep(keeper)
    assert marked("arrived")[1] == 0
    assert marked("handed")[0] == 0
    keeper.close()


@pytest.mark.parametrize(
    "drift",
    [
        "delete table netdev ovs-lwt",
        "delete chain netdev ovs-lwt in-tap0",
        "flush chain netdev ovs-lwt out-tap0",
        "add rule netdev ovs-lwt in-tap0 meta mark set 99",
        "flush chain netdev ovs-lwt in-tap0; add rule netdev ovs-lwt in-tap0 meta mark set 99",
    ],
)
def test_what_somebody_changed_is_mended(keeper: MarkKeeper, drift: str) -> None:
    keep(keeper)
    in_netns(HOST, "nft", drift)
    assert said(keeper, "port tap0 gets its tenant's mark 10 from nft again: it had")
    assert all_marked()


def test_a_device_that_came_back(keeper: MarkKeeper) -> None:
    keep(keeper)
    in_netns(HOST, "ip", "link", "del", TAP)
    assert eventually(lambda: keeper.run() == [] and keeper.marking() == {}, within=5)
    plug()
    assert eventually(lambda: keeper.run() == [] and keeper.marking() == {TAP: "nft"}, within=5)
    assert all_marked()


def test_a_tenant_that_got_another_mark(keeper: MarkKeeper) -> None:
    keep(keeper)
    keep(keeper, 11)
    assert not all_marked()


def test_many_ports_that_lost_their_marks_at_once() -> None:
    ports = {f"tap{number}": 100 + number for number in range(200)}
    links = "".join(f"link add {name} type veth peer p{name}\n" for name in list(ports)[1:])
    in_netns(HOST, "sh", "-ec", f"ip -batch - <<'END'\n{links}END")
    keeper = MarkKeeper(HOST)
    keeper.want(ports)
    assert len(keeper.run()) == len(ports)
    assert nft.marks(HOST) == {(name, "ingress"): mark for name, mark in ports.items()}

    in_netns(HOST, "nft", "flush", "ruleset")
    assert said(keeper, "port tap199 gets its tenant's mark 299 from nft again: it had none")
    assert nft.marks(HOST) == {(name, "ingress"): mark for name, mark in ports.items()}
    keeper.close()


def test_a_port_no_longer_wanted_loses_its_mark_and_no_other_does(keeper: MarkKeeper) -> None:
    keep(keeper)
    other = '{ type filter hook ingress device "lo" priority 0; }'
    in_netns(HOST, "nft", f"add chain netdev ovs-lwt in-other {other}")
    keeper.want({})
    assert eventually(lambda: not keeper.run() and "tap0" not in ruleset(), within=5)
    assert "in-other" in ruleset(), "of another agent on this host, for example"


def test_a_mark_that_somebody_else_clears_meanwhile_is_no_mistake(
    keeper: MarkKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an agent does beside a `detach`: a chain is listed, and gone when it is to be deleted."""
    keep(keeper)

    def beaten(netns: str | None, commands: list[dict[str, object]]) -> None:
        monkeypatch.setattr(_BATCH, batch)
        in_netns(HOST, "nft", f"delete chain netdev ovs-lwt in-{TAP}")
        batch(netns, commands)

    monkeypatch.setattr(_BATCH, beaten)
    nft.clear_marks(HOST, [TAP])
    assert nft.marks(HOST) == {}
    assert "ovs-lwt" not in ruleset() or f"-{TAP}" not in ruleset()


def test_ports_that_are_elsewhere_are_none_of_its_business(keeper: MarkKeeper) -> None:
    keeper.want({"elsewhere": 10, TAP: 10})
    assert said(keeper, "port tap0")
    assert keeper.marking() == {TAP: "nft"}
    assert keeper.errors() == {}


def test_a_new_agent_finds_all_as_it_was(keeper: MarkKeeper) -> None:
    keep(keeper)
    before = ruleset()
    again = MarkKeeper(HOST, egress=True)
    again.want({TAP: 10})
    assert again.run() == []
    assert again.marking() == {TAP: "nft"}
    assert ruleset() == before
    again.close()


def test_it_looks_only_when_something_has_happened(
    keeper: MarkKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(keeper)
    looks: list[str | None] = []

    def counted(netns: str | None) -> dict[tuple[str, Direction], int]:
        looks.append(netns)
        return {}

    assert eventually(lambda: keeper.run() == [] and not keeper._due, within=5)
    monkeypatch.setattr(nft, "marks", counted)
    for _ in range(100):
        keeper.run()
    assert looks == []
    in_netns(HOST, "nft", "add", "table", "netdev", "somebody")
    assert eventually(lambda: bool(keeper.run() or looks), within=5)


def test_a_machine_that_cannot_mark_says_what_it_lacks(
    keeper: MarkKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    keeper.want({TAP: 10})
    assert said(keeper, r"port tap0 does not get .*act_skbedit.*apt-get install nftables")
    assert set(keeper.errors()) == {TAP}
    assert keeper.marking() == {}
    in_netns(HOST, "ip", "link", "set", TAP, "mtu", "1400")
    assert not said(keeper, "tap0", within=1), "once is enough"


@pytest.mark.parametrize("name", ["vnet~1", "a@b", "1st", "x.y-z_0", "q\u00fc"])
def test_names_that_nft_has_no_word_for(keeper: MarkKeeper, name: str) -> None:
    in_netns(HOST, "ip", "link", "set", TAP, "down")
    in_netns(HOST, "ip", "link", "set", TAP, "name", name)
    keeper.want({name: 10})
    assert said(keeper, "from nft")
    assert keeper.marking() == {name: "nft"}
    # What it lists can be loaded again.
    in_netns(HOST, "sh", "-c", "nft list ruleset > /dev/shm/$$ && nft -c -f /dev/shm/$$")


def test_notices_say_that_something_happened_even_if_it_was_too_much() -> None:
    notices = Notices(NETLINK_ROUTE, [RTNLGRP_LINK], HOST)
    assert not notices.poll()
    in_netns(HOST, "ip", "link", "set", TAP, "mtu", "1400")
    assert notices.poll()
    assert not notices.poll()

    changes = "\n".join(f"link set {TAP} mtu {mtu}" for mtu in (1400, 1300) * 1000)
    in_netns(HOST, "sh", "-c", f"ip -batch - <<'END'\n{changes}\nEND")
    assert notices.poll()
    assert not notices.poll()
    notices.close()
