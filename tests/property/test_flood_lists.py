"""Flood lists: one group per set of hosts, whose number and content move no more than they must."""

from __future__ import annotations

import copy
import struct

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ovs_lwt.backends.openflow import change, program
from ovs_lwt.backends.openflow.floods import GROUP_STEP, SHARED_LIST
from ovs_lwt.sources.overlay_file import from_dict
from ovs_lwt.view import View
from tests.property.hosts import Overlay
from tests.strategies import overlays
from tests.support.overlays import view
from tests.support.transactions import taken

BUM, FORWARD = 7, 6


def lists(of: View) -> dict[int, bytes]:
    """The lists themselves, without what a leaf asks instead of using one."""
    spans = range(SHARED_LIST + 1, SHARED_LIST + GROUP_STEP)
    return {group: body for group, body in program.full(of).groups.items() if group in spans}


@given(overlays())
@settings(max_examples=40)
def test_there_is_one_list_for_every_set_of_hosts(overlay: Overlay) -> None:
    topology = from_dict(overlay)
    for name in topology.vteps.name:
        sets = {
            frozenset(e["host"] for e in tenant["endpoints"].values()) - {name}
            for tenant in overlay["tenants"].values()
            if name in {e["host"] for e in tenant["endpoints"].values()}
        }
        found = lists(view(overlay, name))
        assert len(found) == len(sets)
        assert len(set(found.values())) == len({body[6:] for body in found.values()}) == len(sets)


@given(overlays(4), st.booleans(), st.data())
@settings(max_examples=40)
def test_a_host_that_joins_a_shared_list_changes_one_group_and_no_other_tenant(
    overlay: Overlay, offers: bool, data: st.DataObject
) -> None:
    """A new VTEP for every tenant of one list: that list is modified in place."""
    homes = {
        name: frozenset(e["host"] for e in tenant["endpoints"].values())
        for name, tenant in overlay["tenants"].items()
        if tenant["endpoints"]
    }
    assume(homes)
    host = data.draw(st.sampled_from(sorted({host for home in homes.values() for host in home})))
    here = sorted({tuple(sorted(home)) for home in homes.values() if host in home})
    sharing = data.draw(st.sampled_from(here))
    joined = copy.deepcopy(overlay)
    joined["vteps"]["newcomer"] = {"address": "198.51.100.77"}
    vnis = set()
    for name, home in homes.items():
        if tuple(sorted(home)) == sharing:
            vnis.add(overlay["tenants"][name]["vni"])
            joined["tenants"][name]["endpoints"]["newcomer"] = {
                "host": "newcomer",
                "mac": "02:aa:00:00:00:99",
            }
    old, new = (view(each, host, offers=offers) for each in (overlay, joined))
    before, after = lists(old), lists(new)
    assert before.keys() == after.keys()
    changed = [group for group in before if before[group] != after[group]]
    assert changed == [SHARED_LIST + min(vnis)]

    written = taken(change.transaction(old, new))
    groups = [message[16:] for message in written if message[17] == 15]
    # One group is modified (command 1): the list.
    assert [struct.unpack_from("!HBxI", group, 8) for group in groups] == [(1, 0, changed[0])]
    flows = [message[16:] for message in written if message[17] == 14]
    assert all(flow[24] != BUM and flow[25] == 0 for flow in flows)
    whose = {int.from_bytes(flow[8:16], "big") & 0xFFFFFF for flow in flows if flow[24] == FORWARD}
    assert whose == vnis
    # Everything else is the newcomer itself: its VTEP in peer, and in copy where it may ask; its
    # endpoints in forward.
    assert len(flows) == 1 + offers + len(vnis)
