"""Which VLAN is which tenant's: how it is given, kept, and what becomes of a damaged file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from ovs_lwt.backends.bridge.plane import BridgePlane
from ovs_lwt.backends.bridge.vlans import LAST, VlanStore, allocate
from ovs_lwt.columns import Addresses4, Addresses6, EndpointColumns
from ovs_lwt.mistakes import Refused
from ovs_lwt.topology import TenantColumns, Topology
from ovs_lwt.view import LocalPorts, View
from tests.support.overlays import two_tenants, view

MANY = LAST + 1


def given(store: VlanStore, of: View) -> dict[int, int]:
    """VNI -> VLAN of the tenants that have one."""
    pairs = zip(of.topology.tenants.vni.tolist(), store.of(of).tolist(), strict=True)
    return {vni: vlan for vni, vlan in pairs if vlan}


def test_a_mark_that_can_be_a_vlan_is_one() -> None:
    assert allocate({}, {1010: 10, 2020: 2020, 3030: 4094}) == {1010: 10, 2020: 2020, 3030: 4094}


def test_who_has_no_such_mark_gets_the_lowest_number_that_is_free() -> None:
    assert allocate({}, {70_000: 70_000, 80_000: 4095, 5: 2}) == {5: 2, 70_000: 1, 80_000: 3}


def test_a_tenant_keeps_its_vlan_whatever_its_mark_becomes() -> None:
    assert allocate({1010: 10}, {1010: 20, 2020: 10}) == {1010: 10, 2020: 1}


def test_a_vlan_that_a_tenant_has_just_left_comes_last() -> None:
    """Its guests' ports may be in it for a moment more."""
    assert allocate({1010: 1, 2020: 2}, {2020: 2020, 3030: 1}) == {2020: 2, 3030: 3}
    full = {vni: vni for vni in range(1, LAST + 1)}
    after = {vni: vni for vni in full if vni != 7} | {9000: 9000}
    assert allocate(full, after)[9000] == 7


def test_more_tenants_than_vlans_are_refused() -> None:
    with pytest.raises(Refused, match=r"4,095 tenants .* 4,094 VLANs: move some"):
        allocate({}, {vni: vni for vni in range(1, LAST + 2)})


def many_tenants() -> View:
    """One host, each tenant with an endpoint on it."""
    few = view()
    number = np.arange(MANY, dtype=np.uint32)
    flags, name = np.zeros(MANY, np.bool_), tuple(map(str, number.tolist()))
    tenants = TenantColumns(name, number + 1, number + 1, flags, flags, 0 * number, flags)
    mac = np.full(MANY, 0x020000000001, np.uint64)
    endpoints = EndpointColumns(
        number, mac, 0 * number, flags, flags.astype(np.uint8), pa.array(["a"] * MANY)
    )
    none = few.topology.addresses4.endpoint[:0]
    topology = Topology.from_columns(
        few.topology.underlay,
        few.topology.vteps,
        tenants,
        endpoints,
        Addresses4(none, none, none.astype(np.uint8)),
        Addresses6(none, np.zeros((0, 16), np.uint8), none.astype(np.uint8)),
    )
    return View(topology, 0, 0, LocalPorts(none, none, *[none.astype(np.bool_)] * 2))


def test_a_host_with_too_many_tenants_is_refused_before_anything_is_touched(tmp_path: Path) -> None:
    path = tmp_path / "host1.vlans"
    with pytest.raises(Refused, match="4,095 tenants have an endpoint on this host"):
        BridgePlane(VlanStore(path)).check(many_tenants())
    assert not path.exists()


def test_tenants_that_are_not_here_need_no_vlan() -> None:
    overlay = two_tenants()
    del overlay["tenants"]["red"]["endpoints"]["web1"]
    assert given(VlanStore(None), view(overlay)) == {1010: 10}


def test_a_restart_keeps_the_vlans(tmp_path: Path) -> None:
    path = tmp_path / "made" / "host1.vlans"
    VlanStore(path).keep(view())
    assert json.loads(path.read_text()) == {"vlans": {"1010": 10, "2020": 2020}}
    changed = two_tenants()
    changed["tenants"]["blue"]["mark"] = 30
    changed["tenants"]["green"] = {"vni": 5, "mark": 10, "endpoints": {}}
    changed["tenants"]["green"]["endpoints"]["a"] = {"host": "host1", "mac": "02:00:00:00:00:09"}
    again = VlanStore(path)
    assert given(again, view(changed)) == {5: 1, 1010: 10, 2020: 2020}
    assert "5" not in json.loads(path.read_text())["vlans"], "asking keeps nothing"
    again.keep(view(changed))
    assert json.loads(path.read_text())["vlans"]["5"] == 1
    assert sorted(path.parent.iterdir()) == [path]


def test_what_is_only_looked_at_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "host1.vlans"
    path.write_text('{"vlans": {"1010": 77}}')
    looking = VlanStore(path, keep=False)
    looking.keep(view())
    assert given(looking, view()) == {1010: 77, 2020: 2020}
    assert path.read_text() == '{"vlans": {"1010": 77}}'


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\0" * 20,
        "[]",
        '{"vlans": {"1010": 10',
        '{"vlans": {"1010": 4095}}',
        '{"vlans": {"0": 1}}',
        '{"vlans": {"1010": "ten"}}',
        '{"vlans": {"1010": 10, "2020": 10}}',
        '{"vlan": {}}',
    ],
)
def test_a_damaged_file_is_refused_and_left_as_it_is(tmp_path: Path, text: str) -> None:
    path = tmp_path / "host1.vlans"
    path.write_text(text)
    store = VlanStore(path)
    for ask in (store.of, store.keep):
        with pytest.raises(Refused, match=r"host1\.vlans does not say .*: restore it, or delete"):
            ask(view())
    assert path.read_text() == text


def test_a_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(Refused, match=r"cannot read .*/folder"):
        VlanStore(tmp_path / "folder").of(view())
    (tmp_path / "file").touch()
    with pytest.raises(Refused, match=r"cannot (read|keep) .*/file/host1\.vlans"):
        VlanStore(tmp_path / "file" / "host1.vlans").keep(view())


def test_a_write_that_is_torn_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "host1.vlans"
    VlanStore(path).keep(view())
    before = path.read_text()
    changed = two_tenants()
    changed["tenants"]["blue"]["endpoints"].pop("web1")

    def crash(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as torn:
        torn.setattr("os.fsync", crash)
        store = VlanStore(path)
        with pytest.raises(Refused, match="cannot keep the tenants' VLANs"):
            store.keep(view(changed))
    assert path.read_text() == before
    # The half that was written is in nobody's way.
    assert (tmp_path / "host1.vlans.new").exists()
    store.keep(view(changed))
    assert json.loads(path.read_text()) == {"vlans": {"2020": 2020}}
    assert given(VlanStore(path), view(changed)) == {2020: 2020}
