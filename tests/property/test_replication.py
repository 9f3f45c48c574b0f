"""Every member of a tenant gets each broadcast exactly once: whoever sends it, however many
replicators there are, and while hosts hold one or the other of two overlays.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator
from unittest import mock

from hypothesis import given, settings
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


@st.composite
def two_versions(draw: st.DrawFn) -> tuple[dict[str, Overlay], list[str]]:
    """For every host the overlay that it holds, and the hosts of plane ovs. The two differ by one
    replicator.
    """
    old = draw(tenants())
    ours = [name for name, v in old["vteps"].items() if v["plane"] == "ovs" and not v["external"]]
    new = copy.deepcopy(old)
    if ours:
        changed = new["vteps"][draw(st.sampled_from(ours))]
        changed["replicator"] = not changed["replicator"]
    return {name: draw(st.sampled_from([old, new])) for name in old["vteps"]}, ours


class Host:
    """What a host's tables bum, replicate and copy do, by its rows and groups."""

    def __init__(self, of: View) -> None:
        self.view = of
        names = {of.topology.vteps.address(i): n for i, n in enumerate(of.topology.vteps.name)}
        lists = of.flood_lists.owners
        assert len(lists) == 1
        self.rows = {row.entry: row for row in floods.list_rows(of, lists)}
        self.groups = {
            group.group: list(copies(group, names)) for group in floods.remote_floods(of, lists)
        }
        (own,) = [row for row in floods.shared_rows(of) if row.entry == "forward.own_share"]
        self.own_share = int(own.columns["own_share"][0])

    def sends(self, asked: int, source: str | None) -> Iterator[tuple[str, int]]:
        """(VTEP, what it is asked for) of every copy; asked: what this host is asked for."""
        for to, which in self.groups_of(asked):
            if to != source:
                yield to, which

    def groups_of(self, asked: int) -> list[tuple[str, int]]:
        rows = self.rows
        if asked == 0 and "replicate.ask" in rows:
            return self.groups[number(rows["replicate.ask"], "ask")]
        if asked == 0 and "replicate.chained" in rows:
            return self.groups[number(rows["replicate.chained"], "chain")]
        if asked < 8 and "replicate.list" in rows:
            return self.groups[number(rows["replicate.list"], "remote_flood")]
        if asked < 8:
            assert rows.keys() & {"replicate.together", "replicate.one_by_one"}
            return [each for share in range(8, 15) for each in self.groups_of(share)]
        if "replicate.share" not in rows:
            return []
        shares = rows["replicate.share"].columns
        place = shares["which"].tolist().index(asked)
        return self.groups[int(shares["share"][place])]


def number(row: Rows, slot: str) -> int:
    return int(row.columns[slot][0])


def copies(group: Buckets, names: dict[str, str]) -> Iterator[tuple[str, int]]:
    which = group.columns.get("which")
    for place, address in enumerate(group.columns["vtep"].tolist()):
        octets = ".".join(str(byte) for byte in int(address).to_bytes(4, "big"))
        yield names[octets], 0 if which is None else int(which[place])


def heard(hosts: dict[str, Host], sender: str) -> Counter[str]:
    """How often the guests of every host hear a broadcast of a guest of `sender`."""
    found: Counter[str] = Counter()
    for to, asked in hosts[sender].sends(0, None):
        if asked == 0:
            found[to] += 1
            continue
        if asked in (1, hosts[to].own_share):
            found[to] += 1
        for member, more in hosts[to].sends(asked, sender):
            assert more == 0, "replicators ask nobody"
            found[member] += 1
    return found


@given(two_versions(), st.sampled_from([(512, 600), (3, 5)]), st.booleans())
@settings(max_examples=150, deadline=None)
def test_every_member_gets_each_broadcast_once(
    versions: tuple[dict[str, Overlay], list[str]], limits: tuple[int, int], userspace: bool
) -> None:
    overlays, ours = versions
    # The same with limits that a few hosts reach.
    with (
        mock.patch.object(floods, "ONE_GROUP", limits[0]),
        mock.patch.object(floods, "ONE_PASS", limits[1]),
    ):
        hosts = {name: Host(view(overlays[name], name, userspace=userspace)) for name in ours}
        for sender in ours:
            if (
                userspace
                or len(overlays) - 1 <= limits[1]
                or hosts[sender].rows.keys() & {"replicate.ask"}
            ):
                assert heard(hosts, sender) == dict.fromkeys(overlays.keys() - {sender}, 1)


@given(tenants())
@settings(max_examples=50, deadline=None)
def test_a_leaf_sends_one_copy_and_only_replicators_are_asked(overlay: Overlay) -> None:
    replicators = {name for name, vtep in overlay["vteps"].items() if vtep["replicator"]}
    for name, vtep in overlay["vteps"].items():
        if vtep["plane"] != "ovs" or vtep["external"]:
            continue
        sent = list(Host(view(overlay, name)).sends(0, None))
        if replicators and name not in replicators:
            ((asked, which),) = sent
            assert asked in replicators
            assert which == 1
        else:
            assert sorted(sent) == [(to, 0) for to in sorted(overlay["vteps"].keys() - {name})]
