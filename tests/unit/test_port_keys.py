"""By what ports are known beside TENANT/NAME: read, compared, changed, and matched with ports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ovs_lwt import slices
from ovs_lwt.changes import compare, hosts_touched, same
from ovs_lwt.edit import Changes, changed
from ovs_lwt.mistakes import OverlayInvalid, Refused
from ovs_lwt.model import Endpoint
from ovs_lwt.port_keys import same_mac_beside, text
from ovs_lwt.ports import identified, portless, resolve, strangers
from ovs_lwt.sources import text_columns
from ovs_lwt.sources.overlay_file import load
from ovs_lwt.topology import Topology
from ovs_lwt.vswitch import LocalPort

ONE = "0f8fad5b-d9cb-469f-a165-70867728950e"
TWO = "11111111-2222-3333-4444-555555555500"
HEAD = """
vteps:
  host1: {address: 192.0.2.11}
  host2: {address: 192.0.2.12}
tenants:
  blue:
    vni: 10
    endpoints:
"""
RED = """
  red:
    vni: 20
    endpoints:
"""
RED_ROWS = "".join(f'      r{n}: {{host: host2, mac: "02:00:00:00:01:0{n}"}}\n' for n in range(3))
MACS = tuple(f"02:00:00:00:00:0{n}" for n in range(10))


def endpoint(name: str, host: int, mac: int, more: str = "") -> str:
    return f'      {name}: {{host: host{host}, mac: "{MACS[mac]}"{more}}}\n'


def written(folder: Path, blue: str, red: str = "", csv: str = "") -> Path:
    file = folder / "overlay.yaml"
    named = "endpoints_file: endpoints.csv\n" if csv else ""
    file.write_text(named + HEAD + blue + (RED + red if red or csv else ""))
    (folder / "endpoints.csv").write_text(csv)
    return file


def mistakes(file: Path) -> list[str]:
    with pytest.raises(OverlayInvalid) as raised:
        load(file)
    return [str(mistake).removeprefix(f"{file.parent}/") for mistake in raised.value.mistakes]


def keys(topology: Topology) -> dict[str, tuple[str, bool]]:
    found = topology.whole.port_keys
    return {
        topology.endpoint_id(int(owner)): (text(uuid) if uuid.any() else "", bool(by_mac))
        for owner, uuid, by_mac in zip(found.endpoint, found.uuid, found.by_mac, strict=True)
    }


class TestRead:
    def test_from_either_file(self, tmp_path: Path) -> None:
        blue = endpoint("a", 1, 3) + endpoint("b", 1, 1, f", port: {ONE.upper()}")
        csv = (
            "tenant,name,mac,ip,host,port,attached_mac\n"
            f"red,c,{MACS[2]},,host2,,true\n"
            f"red,d,{MACS[1]},,host2,{TWO},false\n"
            f"red,e,{MACS[3]},,host2,,\n"
        )
        found = keys(load(written(tmp_path, blue, csv=csv)))
        assert found == {"blue/b": (ONE, False), "red/c": ("", True), "red/d": (TWO, False)}

    @pytest.mark.parametrize("column", ["port", "attached_mac"])
    def test_either_column_may_stand_alone(self, tmp_path: Path, column: str) -> None:
        value = {"port": TWO, "attached_mac": "true"}[column]
        csv = f"tenant,name,mac,ip,host,{column}\nred,c,{MACS[2]},,host2,{value}\n"
        (found,) = keys(load(written(tmp_path, endpoint("a", 1, 3), csv=csv))).values()
        assert found == ((TWO, False) if column == "port" else ("", True))

    def test_nothing_said_costs_nothing(self, tmp_path: Path) -> None:
        topology = load(written(tmp_path, endpoint("a", 1, 1)))
        assert len(topology.whole.port_keys) == 0
        ports = (LocalPort("p", 1, None, iface_id=ONE),)
        assert identified(topology, 0, ports) == ports

    @pytest.mark.parametrize(
        ("port", "why"),
        [
            ("blue/web1", "is no UUID: write it like 0f8fad5b-"),
            (ONE.replace("-", ""), "is no UUID"),
            (ONE[:-1] + "g", "is no UUID"),
            (ONE + "0", "is no UUID"),
            ("00000000-0000-0000-0000-000000000000", "is all zero"),
        ],
    )
    def test_what_is_no_uuid(self, tmp_path: Path, port: str, why: str) -> None:
        (told,) = mistakes(written(tmp_path, endpoint("a", 1, 1, f', port: "{port}"')))
        assert told.startswith("overlay.yaml:9: tenants.blue.endpoints.a.port: ")
        assert why in told
        csv = f"tenant,name,mac,ip,host,port\nred,c,{MACS[2]},,host2,{port}\n"
        (told,) = mistakes(written(tmp_path, endpoint("a", 1, 1), csv=csv))
        assert told.startswith("endpoints.csv:2: port: ")
        assert why in told

    def test_both_readers_agree_on_what_is_a_uuid(self) -> None:
        import pyarrow as pa

        uuid, good = text_columns.uuids(pa.array([ONE, "", TWO.upper(), "x" * 36, "-" * 36, "a"]))
        assert good.tolist() == [True, True, True, False, False, False]
        assert [text(row) for row in uuid[[0, 2]]] == [ONE, TWO]
        assert not uuid[[1, 3, 4, 5]].any()

    def test_a_uuid_that_stands_twice_with_both_places(self, tmp_path: Path) -> None:
        blue = endpoint("a", 1, 1, f", port: {ONE}")
        csv = f"tenant,name,mac,ip,host,port\nred,c,{MACS[2]},,host2,{ONE.upper()}\n"
        file = written(tmp_path, blue, csv=csv)
        (told,) = mistakes(file)
        assert told == f"endpoints.csv:2: port: port {ONE} is already that of blue/a ({file}:10)"

    def test_a_mac_that_two_on_one_host_have(self, tmp_path: Path) -> None:
        """Also where the other takes none by it: its port would be taken for this one's."""
        more = ", attached_mac: true"
        file = written(tmp_path, endpoint("a", 1, 1, more), endpoint("b", 1, 1))
        (told,) = mistakes(file)
        assert told == (
            "overlay.yaml:9: tenants.blue.endpoints.a.attached_mac: a port on host1 with MAC"
            f" {MACS[1]} could be that of red/b as well ({file}:14): list this one's port by its"
            " UUID"
        )
        assert load(written(tmp_path, endpoint("a", 1, 1, more), endpoint("b", 2, 1)))
        both = mistakes(written(tmp_path, endpoint("a", 1, 1, more), endpoint("b", 1, 1, more)))
        assert len(both) == 2


class TestChanged:
    @pytest.fixture
    def topology(self, tmp_path: Path) -> Topology:
        blue = endpoint("a", 1, 1, f", port: {ONE}") + endpoint("b", 2, 2, ", attached_mac: true")
        return load(written(tmp_path, blue, endpoint("c", 1, 3)))

    def put(self, topology: Topology, identity: str, **fields: Any) -> Topology:
        return changed(topology, Changes.of(topology, {identity: Endpoint(**fields)}))

    @pytest.mark.parametrize(
        "more",
        [{}, {"port": TWO}, {"port": ONE, "attached_mac": True}],
        ids=["gone", "other", "mac"],
    )
    def test_it_is_a_change_of_the_endpoint_and_of_its_host(
        self, topology: Topology, more: dict[str, Any]
    ) -> None:
        after = self.put(topology, "blue/a", host="host1", mac=MACS[1], **more)
        assert not same(topology, after)
        assert "host1" in (hosts_touched(topology, after) or ())
        assert [after.endpoint_id(int(at)) for at in compare(topology, after)[1].endpoints] == [
            "blue/a"
        ]

    def test_what_says_the_same_is_none(self, topology: Topology, tmp_path: Path) -> None:
        assert same(topology, load(tmp_path / "overlay.yaml"))
        again = self.put(topology, "blue/a", host="host1", mac=MACS[1], port=ONE)
        assert keys(again) == keys(topology)

    def test_a_port_of_another_is_refused(self, topology: Topology) -> None:
        with pytest.raises(Refused, match=f"port {ONE} is that of blue/a as well|is that of red/c"):
            self.put(topology, "red/c", host="host1", mac=MACS[3], port=ONE)
        moved = changed(
            topology,
            Changes.of(
                topology,
                {
                    "blue/a": Endpoint(host="host1", mac=MACS[1]),
                    "red/c": Endpoint(host="host1", mac=MACS[3], port=ONE),
                },
            ),
        )
        assert keys(moved)["red/c"] == (ONE, False)

    def test_a_mac_beside_one_that_is_known_by_it_is_refused(self, topology: Topology) -> None:
        with pytest.raises(Refused, match="blue/b: a port with its MAC could be that of red/d"):
            self.put(topology, "red/d", host="host2", mac=MACS[2])
        assert self.put(topology, "red/d", host="host1", mac=MACS[2])
        with pytest.raises(Refused, match="red/e: a port with its MAC could be that of blue/a"):
            self.put(topology, "red/e", host="host1", mac=MACS[1], attached_mac=True)

    def test_one_in_another_slice_is_seen(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Many are put at once, and one of them has host and MAC of one far away."""
        monkeypatch.setattr(slices, "SIZE", 1)
        topology = load(written(tmp_path, endpoint("a", 1, 1, ", attached_mac: true"), RED_ROWS))
        assert len(topology.slices) > 1
        put = {f"red/n{n}": Endpoint(host="host2", mac=MACS[n]) for n in range(3, 8)}
        assert changed(topology, Changes.of(topology, put))
        put["red/n5"] = Endpoint(host="host1", mac=MACS[1])
        with pytest.raises(Refused, match="blue/a: a port with its MAC could be that of red/n5"):
            changed(topology, Changes.of(topology, put))


def test_who_shares_host_and_mac() -> None:
    """As the definition has it, of any endpoints; hosts and MACs that are unknown are nobody's."""
    random = np.random.default_rng(1)
    for size in (0, 1, 2, 3, 40):
        for _ in range(20):
            host, mac = random.integers(-1, 3, size), random.integers(0, 4, size).astype(np.uint64)
            known = np.flatnonzero(random.integers(0, 2, size))
            alike = {
                row: [
                    other
                    for other in range(size)
                    if other != row and (host[row], mac[row]) == (host[other], mac[other])
                ]
                for row in known.tolist()
                if host[row] >= 0 and mac[row]
            }
            expected = [(row, others[0]) for row, others in alike.items() if others]
            found = same_mac_beside(host, mac, known)
            assert list(zip(*(each.tolist() for each in found), strict=True)) == expected


class TestPorts:
    @pytest.fixture
    def topology(self, tmp_path: Path) -> Topology:
        blue = (
            endpoint("a", 1, 1, f", port: {ONE}")
            + endpoint("b", 1, 2, ", attached_mac: true")
            + endpoint("c", 2, 3, f", port: {TWO}, attached_mac: true")
        )
        return load(written(tmp_path, blue))

    @pytest.mark.parametrize(
        ("port", "claim"),
        [
            (LocalPort("p", 1, iface_id=ONE), "blue/a"),
            (LocalPort("p", 1, iface_id=ONE.upper()), "blue/a"),
            (LocalPort("p", 1, iface_id=ONE, attached_mac=MACS[2]), "blue/a"),
            (LocalPort("p", 1, iface_id=ONE[::-1], attached_mac=MACS[2]), "blue/b"),
            (LocalPort("p", 1, attached_mac=MACS[2].upper()), "blue/b"),
            (LocalPort("p", 1, "red/x", iface_id=ONE), "red/x"),
            # Whoever is known by its MAC is so on its own host; a UUID is one everywhere.
            (LocalPort("p", 1, attached_mac=MACS[3]), None),
            (LocalPort("p", 1, iface_id=TWO), "blue/c"),
            (LocalPort("p", 1, attached_mac=MACS[1]), None),
            (LocalPort("p", 1, iface_id=ONE[:-1]), None),
            (LocalPort("p", 1, iface_id="x\n", attached_mac="no mac"), None),
        ],
    )
    def test_whose_it_is(self, topology: Topology, port: LocalPort, claim: str | None) -> None:
        (found,) = identified(topology, 0, [port])
        assert found.claim == claim

    def test_one_that_lives_elsewhere_is_told(self, topology: Topology) -> None:
        found, errors = resolve(
            topology, 0, identified(topology, 0, [LocalPort("p", 1, iface_id=TWO)])
        )
        assert len(found) == 0
        assert errors == {"p": "blue/c lives on host2, says the overlay, and this is host1"}

    def test_who_is_missing_and_who_is_nobodys(self, topology: Topology) -> None:
        ports = identified(
            topology,
            0,
            [
                LocalPort("p", 1, iface_id=ONE),
                LocalPort("uplink", 2),
                LocalPort("vnet7", 3, iface_id=ONE[::-1]),
            ],
        )
        assert strangers(ports) == {"uplink": "", "vnet7": ONE[::-1]}
        assert portless(topology, 0, resolve(topology, 0, ports)[0]) == ["blue/b"]
        assert portless(topology, 1, resolve(topology, 1, ())[0]) == ["blue/c"]


def test_a_million_names_are_read_as_before() -> None:
    """Nothing of this is an object for each endpoint: the relation is empty, whatever the size."""
    from ovs_lwt.columns import NO_PORT_KEYS, ordered_port_keys

    assert ordered_port_keys(NO_PORT_KEYS, np.arange(1_000_000), 1_000_000) is NO_PORT_KEYS
