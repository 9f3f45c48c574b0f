# ruff: noqa: E501 - what the user is told stands in one line, as the user sees it
"""The keys of an overlay that say what a port may send beside its own, and how it is answered for."""

from __future__ import annotations

from dataclasses import fields, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ovs_lwt import edit
from ovs_lwt.changes import compare, same
from ovs_lwt.columns import NO, UNSAID, YES, EndpointColumns
from ovs_lwt.mistakes import OverlayInvalid, Refused
from ovs_lwt.model import Endpoint
from ovs_lwt.slices import Slice
from ovs_lwt.sources.overlay_file import load, parse_text
from ovs_lwt.topology import OF_NO_TENANT, TenantColumns, Topology, VtepColumns

OVERLAY = """\
vteps:
  host1: {address: 192.0.2.11}
  host2: {address: 192.0.2.12}
tenants:
  blue:
    vni: 1010
    vlan_tagged: carry
    endpoints:
      gw: {host: host1, mac: "02:00:00:00:00:fe", ip: [10.0.0.254/24, "fd00::fe/64"], spoofing: allow, router: true}
      r1:
        host: host1
        mac: "02:00:00:00:00:01"
        ip: 10.0.0.1/24
        router: false
        allowed_pairs:
          - {mac: "00:00:5e:00:01:01", ip: 10.0.0.100}
          - {ip: 10.0.0.101}
          - {mac: "00:00:5e:00:02:01", ip: "fe80::100"}
      r2:
        host: host2
        mac: "02:00:00:00:00:02"
        ip: 10.0.0.2/24
        allowed_pairs:
          - {mac: "00:00:5e:00:01:01", ip: 10.0.0.100}
  red:
    vni: 2020
    endpoints:
      r1: {host: host1, mac: "02:00:00:00:00:01", ip: 10.0.0.100/24}
"""
CSV_OVERLAY = (
    OVERLAY.split("  blue:")[0]
    + "  blue: {vni: 1010, vlan_tagged: carry}\n"
    + """\
  red: {vni: 2020}
endpoints_file: endpoints.csv
"""
)
CSV = """\
tenant,name,mac,ip,host,spoofing,router,allowed_pairs
blue,gw,02:00:00:00:00:fe,10.0.0.254/24 fd00::fe/64,host1,allow,true,
blue,r1,02:00:00:00:00:01,10.0.0.1/24,host1,,false,10.0.0.100@00:00:5e:00:01:01 10.0.0.101;fe80::100@00:00:5e:00:02:01
blue,r2,02:00:00:00:00:02,10.0.0.2/24,host2,,,10.0.0.100@00:00:5e:00:01:01
red,r1,02:00:00:00:00:01,10.0.0.100/24,host1,,,
"""
VIRTUAL, VIRTUAL6 = 0x00005E000101, 0x00005E000201


def pairs(topology: Topology) -> set[tuple[str, int, str]]:
    """Endpoint, MAC and address of every pair."""
    found = set()
    for relation in (topology.whole.pairs4, topology.whole.pairs6):
        for endpoint, mac, ip in zip(relation.endpoint, relation.mac, relation.ip, strict=True):
            octets = ip.tobytes() if isinstance(ip, np.ndarray) else int(ip)
            found.add((topology.endpoint_id(int(endpoint)), int(mac), str(ip_address(octets))))
    return found


def test_they_are_read_from_yaml() -> None:
    topology = parse_text(OVERLAY)
    endpoints = topology.endpoints
    says = dict(zip(endpoints.name.to_pylist()[:3], endpoints.router.tolist()[:3], strict=True))
    assert says == {"r1": NO, "r2": UNSAID, "gw": YES}
    assert pairs(topology) == {
        ("blue/r1", VIRTUAL, "10.0.0.100"),
        ("blue/r1", 0x020000000001, "10.0.0.101"),
        ("blue/r1", VIRTUAL6, "fe80::100"),
        ("blue/r2", VIRTUAL, "10.0.0.100"),
    }
    assert topology.tenants.carry_tagged.tolist() == [True, False]


def test_a_csv_file_says_the_same(tmp_path: Path) -> None:
    (tmp_path / "overlay.yaml").write_text(CSV_OVERLAY)
    (tmp_path / "endpoints.csv").write_text(CSV)
    assert same(load(tmp_path / "overlay.yaml"), parse_text(OVERLAY))


def test_csv_columns_may_be_left_out_and_left_empty(tmp_path: Path) -> None:
    (tmp_path / "overlay.yaml").write_text(CSV_OVERLAY)
    plain = "tenant,name,mac,ip,host\nred,a,02:00:00:00:00:09,,host1\n"
    (tmp_path / "endpoints.csv").write_text(plain)
    without = load(tmp_path / "overlay.yaml")
    more = plain.replace("host\n", "host,allowed_pairs,router\n").replace("host1\n", "host1, ,\n")
    (tmp_path / "endpoints.csv").write_text(more)
    assert same(load(tmp_path / "overlay.yaml"), without)
    assert without.endpoints.router.tolist() == [UNSAID]


@pytest.mark.parametrize(
    ("right", "wrong", "told"),
    [
        ("router: true", "router: yes", "9: tenants.blue.endpoints.gw.router: write true or false, not 'yes'"),
        ("vlan_tagged: carry", "vlan_tagged: allow", "7: tenants.blue.vlan_tagged: vlan_tagged is drop or carry, not 'allow'"),
        ("ip: 10.0.0.101}", "ip: 10.0.0.0/24}", "17: tenants.blue.endpoints.r1.allowed_pairs.ip: address '10.0.0.0/24' carries a prefix length: a pair has a single address, without '/'"),
        ("ip: 10.0.0.101}", "ip: 224.0.0.1}", "17: tenants.blue.endpoints.r1.allowed_pairs.ip: address 224.0.0.1 is multicast: an endpoint needs a unicast address"),
        ("ip: 10.0.0.101}", "ip: x}", "17: tenants.blue.endpoints.r1.allowed_pairs.ip: address 'x' is neither an IPv4 nor an IPv6 address"),
        ("{ip: 10.0.0.101}", "{}", "17: tenants.blue.endpoints.r1.allowed_pairs.ip: is required, but missing"),
        ("{ip: 10.0.0.101}", "10.0.0.101", "17: tenants.blue.endpoints.r1.allowed_pairs: takes a mapping (KEY: VALUE lines), not '10.0.0.101'"),
        ("{ip: 10.0.0.101}", "{ip: 10.0.0.101, port: 1}", "17: tenants.blue.endpoints.r1.allowed_pairs.port: unknown key; known here: mac, ip"),
        ('{mac: "00:00:5e:00:02:01"', '{mac: "01:00:5e:00:02:01"', "18: tenants.blue.endpoints.r1.allowed_pairs.mac: MAC 01:00:5e:00:02:01 is multicast: an endpoint needs a unicast MAC (second digit even)"),
        # What only the whole overlay shows
        ('{mac: "00:00:5e:00:02:01"', '{mac: "02:00:00:00:00:02"', "18: tenants.blue.endpoints.r1.allowed_pairs: MAC 02:00:00:00:00:02 is the own one of blue/r2 (overlay.yaml:21): a pair has the endpoint's own MAC, or one that no endpoint of the tenant has as its own"),
        ("ip: 10.0.0.101}", "ip: 10.0.0.2}", "17: tenants.blue.endpoints.r1.allowed_pairs: address 10.0.0.2 is already that of blue/r2 (overlay.yaml:22): an address that several endpoints may have stands in allowed_pairs of each, and in ip of none"),
        ('ip: "fe80::100"', 'ip: "fd00::fe"', "18: tenants.blue.endpoints.r1.allowed_pairs: address fd00::fe is already that of blue/gw (overlay.yaml:9): an address that several endpoints may have stands in allowed_pairs of each, and in ip of none"),
        ("{ip: 10.0.0.101}", '{mac: "00:00:5E:00:01:01", ip: 10.0.0.100}', "17: tenants.blue.endpoints.r1.allowed_pairs: the pair 10.0.0.100@00:00:5e:00:01:01 stands twice"),
        ("ip: 10.0.0.101}", "ip: 10.0.0.1}", "17: tenants.blue.endpoints.r1.allowed_pairs: 10.0.0.1 with the endpoint's own MAC stands in ip already: leave it out here"),
    ],
)  # fmt: skip
def test_one_slip_gives_one_message(right: str, wrong: str, told: str) -> None:
    assert right in OVERLAY
    with pytest.raises(OverlayInvalid) as caught:
        parse_text(OVERLAY.replace(right, wrong, 1))
    assert [str(mistake) for mistake in caught.value.mistakes] == [f"overlay.yaml:{told}"]


@pytest.mark.parametrize(
    ("right", "wrong", "told"),
    [
        ("true,", "yes,", "2: router: unknown value 'yes'; known: false, true"),
        ("10.0.0.101;", "10.0.0.101/32;", "3: allowed_pairs: address '10.0.0.101/32' carries a prefix length: a pair has a single address, without '/'"),
        ("10.0.0.101;", "10.0.0.300;", "3: allowed_pairs: address '10.0.0.300' is neither an IPv4 nor an IPv6 address"),
        ("10.0.0.101;", "10.0.0.101@x;", "3: allowed_pairs: MAC 'x' is malformed: write it like \"02:00:00:00:00:01\""),
        ("10.0.0.101;", "fe80::1%eth0;", "3: allowed_pairs: address fe80::1%eth0 names a zone ('%'): an endpoint needs a unicast address"),
        ("10.0.0.101;", "10.0.0.2;", "3: allowed_pairs: address 10.0.0.2 is already that of blue/r2 (endpoints.csv:4): an address that several endpoints may have stands in allowed_pairs of each, and in ip of none"),
        ("10.0.0.101;", "10.0.0.101@02:00:00:00:00:fe;", "3: allowed_pairs: MAC 02:00:00:00:00:fe is the own one of blue/gw (endpoints.csv:2): a pair has the endpoint's own MAC, or one that no endpoint of the tenant has as its own"),
    ],
)  # fmt: skip
def test_one_slip_in_csv_gives_one_message(
    right: str, wrong: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert right in CSV
    Path("overlay.yaml").write_text(CSV_OVERLAY)
    Path("endpoints.csv").write_text(CSV.replace(right, wrong, 1))
    with pytest.raises(OverlayInvalid) as caught:
        load(Path("overlay.yaml"))
    assert [str(mistake) for mistake in caught.value.mistakes] == [f"endpoints.csv:{told}"]


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("router: false", "router: true"),
        ("        router: false\n", ""),
        ("{ip: 10.0.0.101}", "{ip: 10.0.0.102}"),
        ('"00:00:5e:00:02:01", ip', '"00:00:5e:00:02:02", ip'),
        ('"fe80::100"', '"fe80::101"'),
        ("          - {ip: 10.0.0.101}\n", ""),
        ("vlan_tagged: carry", "vlan_tagged: drop"),
    ],
)
def test_a_change_of_one_is_seen(right: str, wrong: str) -> None:
    old, new = parse_text(OVERLAY), parse_text(OVERLAY.replace(right, wrong, 1))
    assert right in OVERLAY
    assert not same(old, new)
    vnis = {
        vni
        for side in compare(old, new)
        for vni in side.topology.tenants.vni[side.tenants_concerned()].tolist()
    }
    assert vnis == {1010}


# A forgotten column would be a change nobody sees.


def _altered(column: Any) -> Any:
    if isinstance(column, pa.Array):
        return pa.array([f"x{text}" for text in column.to_pylist()], pa.string())
    if isinstance(column, tuple):
        return ("other", *column[1:])
    return ~column if column.dtype == np.bool_ else column ^ column.dtype.type(1)


@pytest.mark.parametrize("name", [column.name for column in fields(TenantColumns)])
def test_every_column_of_tenants_is_compared(name: str) -> None:
    old = parse_text(OVERLAY)
    tenants = replace(old.tenants, **{name: _altered(getattr(old.tenants, name))})
    assert not same(old, replace(old, tenants=tenants))


@pytest.mark.parametrize("column", fields(VtepColumns), ids=lambda column: column.name)
def test_every_column_of_hosts_is_compared(column: Any) -> None:
    old = parse_text(OVERLAY)
    vteps = replace(old.vteps, **{column.name: _altered(getattr(old.vteps, column.name))})
    new = replace(old, vteps=vteps)
    assert not same(old, new)
    concerned = any(len(side.tenants_concerned()) for side in compare(old, new))
    assert concerned == (column.metadata != OF_NO_TENANT)


@pytest.mark.parametrize(
    ("of", "name"),
    [
        *(("endpoints", column.name) for column in fields(EndpointColumns)),
        *(
            (relation, column.name)
            for relation, each in zip(
                ("addresses4", "addresses6", "pairs4", "pairs6", "port_keys"),
                parse_text(OVERLAY).whole.relations,
                strict=True,
            )
            for column in fields(each)
        ),
    ],
)
def test_every_column_of_endpoints_is_compared(of: str, name: str) -> None:
    keys = "port: 9b9f2b38-6b2f-4a3c-9f59-0a1b2c3d4e5f, attached_mac: true"
    old = parse_text(OVERLAY.replace("router: true}", f"router: true, {keys}}}", 1))
    part = old.whole
    columns = getattr(part, of)
    values = getattr(columns, name)
    # Owners ascend, and there are others of that number.
    other = np.sort(_altered(values)) if name in ("endpoint", "tenant") else _altered(values)
    if name == "endpoint":
        other = np.zeros_like(values) if values.any() else values + np.uint32(1)
    changed = replace(part, **{of: replace(columns, **{name: other})}, _seen={})
    assert isinstance(changed, Slice)
    assert not same(old, replace(old, slices=(changed,)))


# Endpoint by endpoint


R1: dict[str, Any] = {"host": "host1", "mac": "02:00:00:00:00:01", "ip": "10.0.0.1/24"}


@pytest.mark.parametrize(
    "more",
    [
        {"router": True},
        {"allowed_pairs": [{"ip": "10.0.0.101"}]},
        {"allowed_pairs": [{"ip": "fd00::101", "mac": "00:00:5e:00:02:01"}, {"ip": "10.0.0.7"}]},
        {},
    ],
)
def test_an_edit_is_what_would_be_read(more: dict[str, Any]) -> None:
    old = parse_text(OVERLAY)
    changed = edit.changed(
        old, edit.Changes.of(old, {"blue/r1": Endpoint.model_validate({**R1, **more})})
    )
    begin = OVERLAY.index("      r1:\n")
    end = OVERLAY.index("      r2:\n")
    lines = "".join(
        f"        {key}: {value}\n".replace("True", "true") for key, value in (R1 | more).items()
    )
    text = OVERLAY[:begin] + "      r1:\n" + lines + OVERLAY[end:]
    anew = parse_text(text)
    assert same(changed, anew)
    assert pairs(changed) == pairs(anew)


@pytest.mark.parametrize(
    ("pair", "told"),
    [
        ({"mac": "02:00:00:00:00:02", "ip": "10.0.0.9"}, "blue/r1: the MAC of one of its allowed pairs is blue/r2's own"),
        ({"ip": "10.0.0.2"}, "blue/r1: the address of one of its allowed pairs is blue/r2's own"),
        ({"ip": "fd00::fe"}, "blue/r1: the address of one of its allowed pairs is blue/gw's own"),
    ],
)  # fmt: skip
def test_an_edit_that_clashes_is_refused(pair: dict[str, str], told: str) -> None:
    old = parse_text(OVERLAY)
    put = {"blue/r1": Endpoint.model_validate({**R1, "allowed_pairs": [pair]})}
    with pytest.raises(Refused, match=told):
        edit.changed(old, edit.Changes.of(old, put))


def test_an_edit_that_makes_its_own_what_is_anothers_pair_is_refused() -> None:
    old = parse_text(OVERLAY)
    row = {"host": "host1", "mac": "00:00:5e:00:01:01", "ip": "10.0.0.9/24"}
    with pytest.raises(Refused, match=r"blue/r1: the MAC of one of its allowed pairs is blue/new"):
        edit.changed(old, edit.Changes.of(old, {"blue/new": Endpoint.model_validate(row)}))
