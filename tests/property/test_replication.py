"""Every member of a tenant gets each broadcast once: whoever sends it, and however many replicators
there are. While hosts hold one or the other of two overlays nobody gets it twice; it is lost only
where the first replicator comes, or the last has gone and the grace with it.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from unittest import mock

from hypothesis import event, given, settings
from hypothesis import strategies as st

from ovs_lwt.backends.openflow import floods
from ovs_lwt.backends.openflow.relations import Buckets, Rows
from ovs_lwt.view import View
from tests.support.overlays import Overlay, spread, view

ROLES = ("ovs", "replicator", "bridge", "external")


@st.composite
def tenants(draw: st.DrawFn) -> Overlay:
    """A tenant with a guest on each host; hosts of all kinds that carry broadcasts."""
    roles = draw(st.lists(st.sampled_from(ROLES), min_size=1, max_size=24))
    overlay = spread(len(roles))
    for vtep, role in zip(overlay["vteps"].values(), roles, strict=True):
        vtep["plane"] = "bridge" if role == "bridge" else "ovs"
        vtep["external"] = role == "external"
        vtep["replicator"] = role == "replicator"
    return overlay


@dataclass(frozen=True)
class Holding:
    """What a host holds: an overlay, and whether it offers to replicate."""

    overlay: Overlay
    offers: bool


def replicated(overlay: Overlay) -> bool:
    return any(vtep["replicator"] for vtep in overlay["vteps"].values())


@st.composite
def two_versions(draw: st.DrawFn) -> dict[str, Holding]:
    """What every host of plane ovs holds, of two overlays that differ by one replicator. Hosts
    offer where theirs has one, and others may, for the grace.
    """
    old = draw(tenants())
    ours = [name for name, v in old["vteps"].items() if v["plane"] == "ovs" and not v["external"]]
    new = copy.deepcopy(old)
    if ours:
        changed = new["vteps"][draw(st.sampled_from(ours))]
        changed["replicator"] = not changed["replicator"]
    held = {name: draw(st.sampled_from([old, new])) for name in ours}
    return {
        name: Holding(overlay, replicated(overlay) or draw(st.booleans()))
        for name, overlay in held.items()
    }


class Host:
    """What a host's tables bum, replicate and copy do, by its rows and groups."""

    def __init__(self, of: View) -> None:
        self.offers = of.requests is not None
        names = {of.topology.vteps.address(i): n for i, n in enumerate(of.topology.vteps.name)}
        lists = of.flood_lists.owners
        assert len(lists) == 1
        self.rows = {row.entry: row for row in floods.list_rows(of, lists)}
        self.groups = {group.group: group for group in floods.remote_floods(of, lists)}
        self.shared = {row.entry: row for row in floods.shared_rows(of)}
        self.names = names

    def sends(self, leaf: str | None = None) -> Iterator[tuple[str, bool]]:
        """(VTEP, whether by the request port) of every copy of a frame: of a guest here, or of a
        leaf that asks.
        """
        rows = self.rows
        if leaf is None and "replicate.ask" in rows:
            yield from self.of_group(number(rows["replicate.ask"], "ask"), leaf)
        elif "replicate.list" in rows:
            yield from self.of_group(number(rows["replicate.list"], "remote_flood"), leaf)
        elif "replicate.chained" in rows:
            yield from self.of_chain(leaf)
        else:
            (row,) = (row for entry, row in rows.items() if entry != "replicate.ask")
            assert row.entry in ("replicate.together", "replicate.one_by_one")
            for slot in row.columns:
                if slot.startswith("share"):
                    yield from self.of_group(number(row, slot), leaf)

    def of_chain(self, leaf: str | None) -> Iterator[tuple[str, bool]]:
        """By registers 4 (the leaf's share) and 5 (the place in the chain)."""
        of_leaf, place = 0 if leaf is None else self.share_of(leaf), 0
        skipped = pairs(self.rows.get("replicate.skipped"), "place", "next_place")
        while True:
            if of_leaf and skipped.get(place) == of_leaf:
                place = of_leaf
                continue
            link = pairs(self.rows["replicate.chained"], "place", "chain").get(place)
            if link is None:
                break
            yield from self.of_group(link, leaf)
            following = self.groups[link].first
            assert following is not None
            place = int(following.columns["next_place"][0])
        own = pairs(self.rows.get("replicate.leafs_own"), "leaf_share", "share").get(of_leaf)
        if own is not None:
            yield from self.of_group(own, leaf)

    def share_of(self, leaf: str) -> int:
        row = self.shared["peer.leaf"]
        found = pairs(row, "vtep", "leaf_share")
        return next(share for vtep, share in found.items() if self.named(vtep) == leaf)

    def of_group(self, group: int, leaf: str | None) -> Iterator[tuple[str, bool]]:
        found: Buckets = self.groups[group]
        back = (
            {self.named(vtep) for vtep in self.shared["copy.back"].columns["vtep"]} if leaf else ()
        )
        for vtep in found.columns["vtep"]:
            name = self.named(vtep)
            # The copies of a chain do not come by table copy.
            if found.entry == "remote_flood" and name == leaf and leaf in back:
                continue
            yield name, found.entry == "ask"

    def named(self, address: object) -> str:
        octets = int(address).to_bytes(4, "big")  # type: ignore[call-overload]
        return self.names[".".join(map(str, octets))]


def number(row: Rows, slot: str) -> int:
    return int(row.columns[slot][0])


def pairs(row: Rows | None, key: str, value: str) -> dict[int, int]:
    if row is None:
        return {}
    return dict(zip(row.columns[key].tolist(), row.columns[value].tolist(), strict=True))


def heard(hosts: dict[str, Host], sender: str) -> tuple[Counter[str], bool]:
    """How often the guests of every host hear a broadcast of a guest of `sender`, and whether it
    was lost on the way, since whoever was asked to replicate does not offer it.
    """
    found: Counter[str] = Counter()
    for to, asked in hosts[sender].sends():
        if not asked:
            found[to] += 1
            continue
        if not hosts[to].offers:
            return found, True
        found[to] += 1
        for member, more in hosts[to].sends(sender):
            assert not more, "who is asked asks nobody"
            found[member] += 1
    return found, False


@given(two_versions(), st.sampled_from([(512, 600), (3, 5)]), st.booleans())
@settings(max_examples=120, deadline=None)
def test_nobody_gets_a_broadcast_twice_and_everybody_who_can_gets_it(
    holdings: dict[str, Holding], limits: tuple[int, int], userspace: bool
) -> None:
    # The same with limits that a few hosts reach.
    with (
        mock.patch.object(floods, "ONE_GROUP", limits[0]),
        mock.patch.object(floods, "ONE_PASS", limits[1]),
    ):
        hosts = {
            name: Host(view(held.overlay, name, userspace=userspace, offers=held.offers))
            for name, held in holdings.items()
        }
        for sender, held in holdings.items():
            found, lost = heard(hosts, sender)
            if lost:
                event("lost")
                assert found == {}
                assert not all(replicated(other.overlay) for other in holdings.values())
            else:
                assert found == dict.fromkeys(held.overlay["vteps"].keys() - {sender}, 1)


@given(tenants())
@settings(max_examples=50, deadline=None)
def test_a_leaf_sends_one_copy_and_only_replicators_are_asked(overlay: Overlay) -> None:
    replicators = {name for name, vtep in overlay["vteps"].items() if vtep["replicator"]}
    for name, vtep in overlay["vteps"].items():
        if vtep["plane"] != "ovs" or vtep["external"]:
            continue
        sent = list(Host(view(overlay, name)).sends())
        if replicators and name not in replicators:
            ((whom, asked),) = sent
            assert asked
            assert whom in replicators
        else:
            others = sorted(overlay["vteps"].keys() - {name})
            assert sorted(sent) == [(to, False) for to in others]


@given(tenants())
@settings(max_examples=50, deadline=None)
def test_a_host_without_a_request_port_asks_nobody(overlay: Overlay) -> None:
    """It has not come up, say: then the host replicates for itself."""
    for name, vtep in overlay["vteps"].items():
        if vtep["plane"] == "ovs" and not vtep["external"]:
            host = Host(view(overlay, name, offers=False))
            assert sorted(host.sends()) == [
                (to, False) for to in sorted(overlay["vteps"].keys() - {name})
            ]
            assert host.shared == {}
