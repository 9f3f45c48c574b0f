"""From one overlay to another on a bridge: what is sent is taken, and leads there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ovs_lwt.backends.bridge.plane import BridgePlane
from ovs_lwt.backends.bridge.vlans import VlanStore
from ovs_lwt.backends.netlink.program import Program, stamp
from ovs_lwt.backends.netlink.templates import Devices
from ovs_lwt.backends.netlink.transaction import between
from ovs_lwt.sources.overlay_file import from_dict
from ovs_lwt.topology import Topology
from ovs_lwt.view import View
from tests.property.hosts import Overlay, changes, views
from tests.support.bridge_model import BridgeModel, Key, entries_of


class Host:
    """A host's plane, and its devices: one keeps its index as long as anyone asks."""

    def __init__(self) -> None:
        self.plane = BridgePlane(VlanStore(None))
        self._indices: dict[str, int] = {}

    def program(self, seen: View) -> Program:
        names = [f"p{number}" for number in seen.ports.port.tolist()]
        numbers = np.arange(1, len(names) + 1, dtype=np.uint32)
        view = replace(seen, tunnel=0, ports=replace(seen.ports, port=numbers))
        self.plane.check(view)
        setup = self.plane.setup(view, names)
        for name in setup.devices:
            self._indices.setdefault(name, len(self._indices) + 1)
        devices = Devices.of({name: self._indices[name] for name in setup.devices})
        return stamp(self.plane.rows(view, setup), devices)


def untagged(overlay: Overlay) -> Topology:
    """The overlay without VLAN tags, which a bridge does not carry."""
    for tenant in overlay["tenants"].values():
        tenant.pop("vlan_tagged", None)
    return from_dict(overlay)


def ours(entries: dict[Key, bytes]) -> dict[Key, bytes]:
    return {key: value for key, value in entries.items() if key[0] != "qdisc"}


@given(st.data(), changes())
@settings(max_examples=25)
def test_incremental_rows_equal_a_recompute(
    data: st.DataObject, overlay: tuple[Overlay, Overlay]
) -> None:
    before, after = map(untagged, overlay)
    for name in sorted(set(before.vteps.name) & set(after.vteps.name)):
        host = Host()
        old = host.program(data.draw(views(before, before.vtep_index(name))))
        new = host.program(data.draw(views(after, after.vtep_index(name))))
        kernel = BridgeModel()
        kernel.take(between([], old))
        assert kernel.entries == entries_of(old)
        kernel.take(between(old.entries, new))
        # What filters hang on stays: filters of others may hang on it as well.
        assert ours(kernel.entries) == ours(entries_of(new))
        assert entries_of(new).items() <= kernel.entries.items()
        at_once = BridgeModel()
        at_once.take(between([], new))
        assert ours(kernel.entries) == ours(at_once.entries)
        assert len(between(new.entries, new)) == 0


@given(st.data(), changes())
@settings(max_examples=20)
def test_with_its_last_tenant_a_hosts_tables_are_empty(
    data: st.DataObject, overlay: tuple[Overlay, Overlay]
) -> None:
    topology = untagged(overlay[0])
    bare = from_dict({"vteps": overlay[0]["vteps"], "tenants": {}})
    host, kernel = Host(), BridgeModel()
    full = host.program(data.draw(views(topology, 0)))
    empty = host.program(data.draw(views(bare, 0)))
    kernel.take(between([], full))
    kernel.take(between(full.entries, empty))
    # But for what the tunnel is guarded by.
    assert {name for name, _ in kernel.entries} <= {"qdisc", "filter"}
