"""An overlay that is changed endpoint by endpoint is the overlay that would be read anew."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovs_lwt import changes, edit
from ovs_lwt.backends.openflow import change, program
from ovs_lwt.backends.openflow.transaction import Transaction
from ovs_lwt.mistakes import OverlayInvalid, Refused
from ovs_lwt.model import Endpoint
from ovs_lwt.sources.overlay_file import from_dict
from ovs_lwt.topology import Topology
from tests.property.hosts import FRESH, views
from tests.strategies import allowed_pairs, overlays
from tests.support.transactions import unnumbered

Overlay = dict[str, Any]


@st.composite
def edits(draw: st.DrawFn, overlay: Overlay) -> tuple[Overlay, dict[str, Any], list[str]]:
    """The overlay as it shall be, and what leads there: endpoints put, and endpoints gone."""
    after = copy.deepcopy(overlay)
    put, gone = {}, []
    for name, tenant in after["tenants"].items():
        endpoints = tenant.setdefault("endpoints", {})
        for endpoint in (
            draw(st.lists(st.sampled_from(sorted(endpoints)), unique=True)) if endpoints else ()
        ):
            what = draw(st.sampled_from(["go", "move", "renew", "pairs", "router"]))
            if what == "go":
                del endpoints[endpoint]
                gone.append(f"{name}/{endpoint}")
                continue
            row = endpoints[endpoint]
            if what == "move":
                row["host"] = draw(st.sampled_from(sorted(after["vteps"])))
            elif what == "pairs":
                row["allowed_pairs"] = draw(allowed_pairs())
            elif what == "router":
                row["router"] = draw(st.booleans())
            else:
                row["mac"] = f"02:ee:00:00:00:{draw(st.integers(1, 9)):02x}"
            put[f"{name}/{endpoint}"] = row
        for number, label in enumerate(draw(st.lists(st.sampled_from(FRESH), unique=True)), 1):
            fresh = {
                "host": draw(st.sampled_from(sorted(after["vteps"]))),
                "mac": f"02:dd:00:00:00:{number:02x}",
                "ip": draw(st.sampled_from([[], [f"10.77.0.{number}/24"], [f"fd77::{number}/64"]])),
            }
            put[f"{name}/{label}"] = endpoints[label] = fresh
    return after, put, gone


def same_columns(one: Topology, other: Topology) -> bool:
    return (
        changes.same(one, other)
        and one.endpoints.mac.tobytes() == other.endpoints.mac.tobytes()
        and one.addresses4.ip.tobytes() == other.addresses4.ip.tobytes()
        and one.addresses6.ip.tobytes() == other.addresses6.ip.tobytes()
        and one.whole.pairs4.ip.tobytes() == other.whole.pairs4.ip.tobytes()
        and one.whole.pairs6.mac.tobytes() == other.whole.pairs6.mac.tobytes()
        and one.endpoints.name.to_pylist() == other.endpoints.name.to_pylist()
    )


@given(st.data(), overlays())
@settings(max_examples=120)
def test_changed_endpoint_by_endpoint_or_read_anew(data: st.DataObject, overlay: Overlay) -> None:
    before = from_dict(overlay)
    after, put, gone = data.draw(edits(overlay))
    wanted = {name: Endpoint.model_validate(row) for name, row in put.items()}
    try:
        anew = from_dict(after)
    except OverlayInvalid:
        with pytest.raises(Refused):
            edit.changed(before, edit.Changes.of(before, wanted, gone))
        return
    changed = edit.changed(before, edit.Changes.of(before, wanted, gone))
    assert same_columns(changed, anew)
    # What is said of the difference does not depend on how the overlay came about.
    assert changes.changed_tenants(before, anew) <= changes.changed_tenants(before, changed)
    assert changes.changed_tenants(changed, anew) == frozenset()


@given(st.data(), overlays())
@settings(max_examples=40)
def test_what_is_not_concerned_stays_the_same_object(data: st.DataObject, overlay: Overlay) -> None:
    before = from_dict(overlay)
    _, put, gone = data.draw(edits(overlay))
    wanted = {name: Endpoint.model_validate(row) for name, row in put.items()}
    try:
        after = edit.changed(before, edit.Changes.of(before, wanted, gone))
    except Refused:
        return
    named = {before.tenant_index(name.partition("/")[0]) for name in (*put, *gone)}
    concerned = {before.slice_of_tenant(tenant) for tenant in named}
    kept = [part for number, part in enumerate(before.slices) if number not in concerned]
    assert set(kept) <= set(after.slices)


@given(st.data(), overlays())
@settings(max_examples=60)
def test_after_an_edit_incremental_equals_full_recompute(
    data: st.DataObject, overlay: Overlay
) -> None:
    """Also twice in a row, when what is installed is older than the last edit."""
    before = topology = from_dict(overlay)
    for _ in range(data.draw(st.integers(1, 2))):
        _, put, gone = data.draw(edits(overlay))
        wanted = {name: Endpoint.model_validate(row) for name, row in put.items()}
        try:
            topology = edit.changed(topology, edit.Changes.of(topology, wanted, gone))
        except Refused:
            continue
    for host in range(len(before.vteps)):
        old, new = data.draw(views(before, host)), data.draw(views(topology, host))
        full_old, full_new = program.full(old), program.full(new)
        full = Transaction(full_old.blocks, full_old.groups, full_new)
        assert unnumbered(change.transaction(old, new)) == unnumbered(full)
