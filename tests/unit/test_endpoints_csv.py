# ruff: noqa: E501, ISC004 - what the user is told stands in one line, as the user sees it
"""The endpoints file: what it may look like, what is told when it is wrong, and how fast."""

from __future__ import annotations

import tracemalloc
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from ovs_lwt.mistakes import OverlayInvalid
from ovs_lwt.sources import endpoints_csv, text_columns
from ovs_lwt.sources.overlay_file import from_dict, load
from ovs_lwt.sources.report import Report
from ovs_lwt.topology import Topology
from ovs_lwt.values import Interface, Mac, Name
from tests.strategies import overlays
from tests.unit.test_topology import columns, rows_of_topology

OVERLAY = """\
vteps:
  host1: {address: 192.0.2.11}
  host2: {address: 192.0.2.12}
  host6: {address: "2001:db8::6"}
tenants:
  blue:
    vni: 1010
    endpoints:
      web1: {host: host1, mac: "02:00:00:00:00:01", ip: [10.0.0.11/24, "fd00::11/64"]}
  red: {vni: 1020}
endpoints_file: endpoints.csv
"""
NONE: frozenset[Any] = frozenset()
HEADER = "tenant,name,mac,ip,host\n"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def loaded(csv: str | bytes) -> Topology:
    Path("overlay.yaml").write_text(OVERLAY)
    Path("endpoints.csv").write_bytes(csv.encode() if isinstance(csv, str) else csv)
    return load(Path("overlay.yaml"))


def mistakes(csv: str | bytes) -> list[str]:
    with pytest.raises(OverlayInvalid) as caught:
        loaded(csv)
    return [str(mistake) for mistake in caught.value.mistakes]


def test_a_small_file_takes_little_memory() -> None:
    tracemalloc.start()
    try:
        loaded(HEADER + "red,web1,02:00:00:00:00:01,10.0.0.11/24,host2\n")
        assert tracemalloc.get_traced_memory()[1] < 100 << 20
    finally:
        tracemalloc.stop()


def test_endpoints_of_both_files_stand_side_by_side() -> None:
    topology = loaded(
        HEADER
        + "red,web1,02:00:00:00:00:01,10.0.0.11/24,host2\n"
        + "blue,web2,02:00:00:00:AA:02,10.0.0.12/24;fd00::12/64 10.1.0.1/16,host2\n"
        + "red,db,02:00:00:00:00:00,,host1\n"
    )
    host1, host2 = (("host1", "192.0.2.11", False), ("host2", "192.0.2.12", False))
    assert rows_of_topology(topology) == {
        1010: (
            ("blue", 1010, True, True, False),
            {
                (
                    "web1",
                    0x020000000001,
                    host1,
                    False,
                    None,
                    frozenset({"10.0.0.11/24", "fd00::11/64"}),
                    NONE,
                ),
                (
                    "web2",
                    0x02000000AA02,
                    host2,
                    False,
                    None,
                    frozenset({"10.0.0.12/24", "fd00::12/64", "10.1.0.1/16"}),
                    NONE,
                ),
            },
        ),
        1020: (
            ("red", 1020, True, True, False),
            {
                ("web1", 0x020000000001, host2, False, None, frozenset({"10.0.0.11/24"}), NONE),
                ("db", 0x020000000000, host1, False, None, NONE, NONE),
            },
        ),
    }


@pytest.mark.parametrize(
    "csv",
    [
        "host,ip,mac,name,tenant\nhost2,10.0.0.9/24,02:00:00:00:00:09,w,red\n",
        "tenant,name,mac,ip,host\r\nred,w,02:00:00:00:00:09,10.0.0.9/24,host2\r\n",
        "tenant,name,mac,ip,host\rred,w,02:00:00:00:00:09,10.0.0.9/24,host2",
        "\ufefftenant,name,mac,ip,host\nred,w,02:00:00:00:00:09,10.0.0.9/24,host2",
        "\n\ntenant,name,mac,ip,host\n\n\nred,w,02:00:00:00:00:09,10.0.0.9/24,host2\n\n",
        'tenant,"name",mac,ip,host\n"red","w","02:00:00:00:00:09","10.0.0.9/24","host2"\n',
        "tenant, name, mac, ip, host\nred , w, 02:00:00:00:00:09, 10.0.0.9/24 ,\thost2\n",
        "tenant,name,mac,ip,host,spoofing\nred,w,02:00:00:00:00:09,10.0.0.9/24,host2,deny\n",
        "tenant,name,mac,ip,host,spoofing\nred,w,02:00:00:00:00:09,10.0.0.9/24;,host2,\n",
    ],
)
def test_the_ways_to_write_one_row(csv: str) -> None:
    topology = loaded(csv)
    assert topology.endpoint_index("red/w") == 1
    assert columns(topology) == columns(
        loaded(HEADER + "red,w,02:00:00:00:00:09,10.0.0.9/24,host2\n")
    )


def test_spoofing_is_allowed_row_by_row() -> None:
    topology = loaded(
        "tenant,name,mac,ip,host,spoofing\n"
        "red,a,02:00:00:00:00:0a,,host1,allow\n"
        "red,b,02:00:00:00:00:0b,,host1,deny\n"
        "red,c,02:00:00:00:00:0c,,host1,\n"
    )
    assert topology.endpoints.spoofing.tolist() == [False, True, False, False]


@pytest.mark.parametrize("csv", [HEADER, HEADER.strip(), HEADER + "\n\r\n\n"])
def test_a_file_with_no_rows_adds_none(csv: str) -> None:
    assert len(loaded(csv).endpoints) == 1


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("red,w,03:00:00:00:00:09,,host1", "mac: MAC 03:00:00:00:00:09 is multicast: an endpoint needs a unicast MAC (second digit even)"),
        ("red,w,ff:ff:ff:ff:ff:ff,,host1", "mac: MAC ff:ff:ff:ff:ff:ff is broadcast: an endpoint needs a unicast MAC (second digit even)"),
        ("red,w,00:00:00:00:00:00,,host1", "mac: MAC 00:00:00:00:00:00 is all zero: an endpoint needs a MAC of its own"),
        ("red,w,02-00-00-00-00-09,,host1", 'mac: MAC \'02-00-00-00-00-09\' is malformed: write it like "02:00:00:00:00:01"'),
        ("red,w,02:00:00:00:00:0g,,host1", 'mac: MAC \'02:00:00:00:00:0g\' is malformed: write it like "02:00:00:00:00:01"'),
        ("red,w,,,host1", "mac: is empty"),
        ("red,,02:00:00:00:00:09,,host1", "name: is empty"),
        ("red,a/b,02:00:00:00:00:09,,host1", "name: name 'a/b' cannot be used: take 1 to 63 letters, digits, '.', '_' or '-'"),
        ("red,\u00fc,02:00:00:00:00:09,,host1", "name: name '\u00fc' cannot be used: take 1 to 63 letters, digits, '.', '_' or '-'"),
        (f"red,{'x' * 64},02:00:00:00:00:09,,host1", f"name: name '{'x' * 57}'… cannot be used: take 1 to 63 letters, digits, '.', '_' or '-'"),
        ("rde,w,02:00:00:00:00:09,,host1", "tenant: unknown tenant 'rde' (did you mean 'red'?); known: blue, red"),
        (",w,02:00:00:00:00:09,,host1", "tenant: is empty"),
        ("red,w,02:00:00:00:00:09,,hots2", "host: unknown host 'hots2' (did you mean 'host2'?); known: host1, host2, host6"),
        ("red,w,02:00:00:00:00:09,,", "host: is empty"),
        ("red,w,02:00:00:00:00:09,10.0.0.300/24,host1", "ip: address '10.0.0.300/24' is malformed: write it like 10.0.0.11/24 or fd00::11/64"),
        ("red,w,02:00:00:00:00:09,10.0.0.3/33,host1", "ip: address '10.0.0.3/33' is malformed: write it like 10.0.0.11/24 or fd00::11/64"),
        ("red,w,02:00:00:00:00:09,10.0.0.3,host1", "ip: address '10.0.0.3' has no prefix length: write it like 10.0.0.3/24"),
        ("red,w,02:00:00:00:00:09,10.0.0.0/24,host1", "ip: address 10.0.0.0/24 is the network's own: give one of the hosts' addresses"),
        ("red,w,02:00:00:00:00:09,0.0.0.0/24,host1", "ip: address 0.0.0.0/24 is unspecified: an endpoint needs a unicast address"),
        ("red,w,02:00:00:00:00:09,ff02::1/64,host1", "ip: address ff02::1/64 is multicast: an endpoint needs a unicast address"),
        ("red,w,02:00:00:00:00:09,fd00::1/129,host1", "ip: address 'fd00::1/129' is malformed: write it like 10.0.0.11/24 or fd00::11/64"),
        ("red,w,02:00:00:00:00:09,fd00::1%eth0/64,host1", "ip: address fd00::1%eth0/64 names a zone ('%'): an endpoint needs a unicast address"),
        ("blue,web1,02:00:00:00:00:09,,host1", "name: endpoint 'web1' stands twice (first at overlay.yaml:9)"),
        ("blue,w,02:00:00:00:00:01,,host1", "mac: MAC 02:00:00:00:00:01 is already that of blue/web1 (overlay.yaml:9)"),
        ("blue,w,02:00:00:00:00:09,10.0.0.11/8,host1", "ip: address 10.0.0.11 is already that of blue/web1 (overlay.yaml:9)"),
        ("blue,w,02:00:00:00:00:09,fd00:0::11/64,host1", "ip: address fd00::11 is already that of blue/web1 (overlay.yaml:9)"),
        ("red,w,02:00:00:00:00:09,10.0.0.1/24 10.0.0.1/8,host1", "ip: address 10.0.0.1 stands twice"),
        ("red,w,02:00:00:00:00:09,host1", "4 fields instead of 5 (tenant,name,mac,ip,host): 'red,w,02:00:00:00:00:09,host1'"),
        ("red,w,02:00:00:00:00:09,,host1,", "6 fields instead of 5 (tenant,name,mac,ip,host): 'red,w,02:00:00:00:00:09,,host1,'"),
        ('red,"w,x",02:00:00:00:00:09,host1', "4 fields instead of 5 (tenant,name,mac,ip,host): 'red,\"w,x\",02:00:00:00:00:09,host1'"),
        ('red,"w,02:00:00:00:00:09,,host1', "a quote is opened and not closed in the same line"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("others", [0, 2])
def test_one_slip_gives_one_message_with_its_line(row: str, told: str, others: int) -> None:
    before = "".join(
        f"red,o{n},02:00:00:00:01:0{n},10.0.9.{n}/24,host2\n\n" for n in (1, 2)[:others]
    )
    line = 2 + 2 * others
    assert mistakes(HEADER + before + row + "\n" + before.replace("red", "blue")) == [
        f"endpoints.csv:{line}: {told}"
    ]


@pytest.mark.parametrize(
    ("csv", "told"),
    [
        ("", ["endpoints.csv: is empty: its first line must be tenant,name,mac,ip,host"]),
        ("\n \n", ["endpoints.csv: is empty: its first line must be tenant,name,mac,ip,host"]),
        (b"PK\x03\x04\0\0", ["endpoints.csv: is binary, not a CSV text file"]),
        (HEADER.encode() + b"red,\xff,,,", ["endpoints.csv:2: is not UTF-8 text"]),
        (
            "tenant,name,mca,ip,host,ip\n",
            [
                "endpoints.csv:1: unknown column 'mca' (did you mean 'mac'?);"
                " known: tenant, name, mac, ip, host, spoofing,"
                " router, allowed_pairs, port, attached_mac",
                "endpoints.csv:1: column 'ip' stands twice",
                "endpoints.csv:1: column 'mac' is missing; the first line names the columns",
            ],
        ),
        (
            "tenant,name,mac,ip,host,spoofing\nred,w,02:00:00:00:00:09,,host1,alow\n",
            [
                "endpoints.csv:2: spoofing: unknown value 'alow' (did you mean 'allow'?);"
                " known: deny, allow"
            ],
        ),
    ],
)
def test_a_file_that_is_something_else(csv: str | bytes, told: list[str]) -> None:
    assert mistakes(csv) == told


def test_a_tenant_torn_between_ipv4_and_ipv6_hosts_is_named() -> None:
    [told] = mistakes(HEADER + "blue,w,02:00:00:00:00:09,,host6\n")
    assert told.startswith(
        "overlay.yaml:6: tenants.blue: has endpoints on IPv4 VTEPs (web1 on host1) and on IPv6"
        " VTEPs (w on host6), which cannot reach each other"
    )


def test_mistakes_of_both_files_come_together_and_those_of_the_overlay_first() -> None:
    Path("overlay.yaml").write_text(OVERLAY.replace("1020", "1010"))
    Path("endpoints.csv").write_text(HEADER + "blue,w,02:00:00:00:00:01,,host3\n")
    with pytest.raises(OverlayInvalid) as caught:
        load(Path("overlay.yaml"))
    assert [(m.place, m.path) for m in caught.value.mistakes] == [
        ("overlay.yaml:10", "tenants.red.vni"),
        ("endpoints.csv:2", "host"),
        ("endpoints.csv:2", "mac"),
    ]


def test_thousands_of_bad_rows_do_not_flood_the_screen() -> None:
    rows = [f"red,w{n},02:00:00:00:00:0{n % 3}x,10.0.0.{n % 5},host1\n" for n in range(5000)]
    told = mistakes(HEADER + "".join(rows))
    assert len(told) == 202
    assert told[0].startswith("endpoints.csv:2: mac: MAC '02:00:00:00:00:00x' is malformed")
    assert told[-2:] == [
        "endpoints.csv: … and 4,900 more of this kind: bad mac",
        "endpoints.csv: … and 4,900 more of this kind: bad ip",
    ]


def test_thousands_of_short_rows_are_counted_with_their_lines() -> None:
    rows = ["red\n" if n % 2 else f"red,w{n},02:00:00:00:{n >> 8:02x}:{n & 255:02x},,host1\n"
            for n in range(2000)]  # fmt: skip
    rows[1998] = "red,w1998,03:00:00:00:00:00,,host1\n"
    told = mistakes(HEADER + "".join(rows))
    assert told[0] == ("endpoints.csv:3: 1 fields instead of 5 (tenant,name,mac,ip,host): 'red'")
    assert told[-1] == "endpoints.csv: … and 900 more of this kind: wrong number of fields"
    assert told[-2].startswith("endpoints.csv:2000: mac: MAC 03:00:00:00:00:00 is multicast")


@given(overlays(), st.booleans())
def test_an_endpoint_is_the_same_from_either_file(
    overlay: dict[str, Any], in_yaml_too: bool
) -> None:
    moved: list[str] = []
    rest: dict[str, Any] = {**overlay, "tenants": {}, "endpoints_file": "endpoints.csv"}
    for tenant, fields in overlay["tenants"].items():
        stay = {}
        for place, (name, endpoint) in enumerate(fields["endpoints"].items()):
            if in_yaml_too and place % 2:
                stay[name] = endpoint
                continue
            ips = " ".join(endpoint.get("ip", ()))
            row = (tenant, name, endpoint["mac"], ips, endpoint["host"])
            pairs = " ".join(_written(pair) for pair in endpoint.get("allowed_pairs", ()))
            router = str(endpoint.get("router", "")).lower()
            moved.append(",".join((*row, endpoint.get("spoofing", ""), router, pairs)))
        rest["tenants"][tenant] = {**fields, "endpoints": stay}
    header = "tenant,name,mac,ip,host,spoofing,router,allowed_pairs"
    Path("endpoints.csv").write_text("\n".join([header, *moved]))
    Path("overlay.yaml").write_text(yaml.safe_dump(rest))
    assert columns(load(Path("overlay.yaml"))) == columns(from_dict(overlay))


def _written(pair: dict[str, str]) -> str:
    """An allowed pair, as a cell has it."""
    return f"{pair['ip']}@{pair['mac']}" if "mac" in pair else pair["ip"]


def agrees(adapter: TypeAdapter[Any], text: str) -> Any:
    try:
        return adapter.validate_python(text)
    except ValidationError:
        return None


def column(texts: list[str]) -> pa.StringArray:
    # A slice, as a column may be one: its offsets do not begin at 0.
    return pa.array(["x", *texts, "y"], pa.string()).slice(1, len(texts))


MAC_TEXTS = st.one_of(
    st.from_regex(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}", fullmatch=True),
    st.from_regex(r"[0-9a-gA-G:]{16,18}", fullmatch=True),
    st.sampled_from(("00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff", "", "\u00e9" * 8 + "x")),
)


@given(st.lists(MAC_TEXTS))
def test_columns_and_model_agree_on_macs(texts: list[str]) -> None:
    number, good = text_columns.macs(column(texts))
    expected = [agrees(TypeAdapter(Mac), text) for text in texts]
    assert good.tolist() == [mac is not None for mac in expected]
    assert number.tolist() == [int(mac.replace(":", ""), 16) if mac else 0 for mac in expected]


PARTS = st.one_of(st.integers(0, 300).map(str), st.sampled_from(("0", "00", "01", "255", "", "1x")))
IP4_TEXTS = st.one_of(
    st.builds("{}.{}.{}.{}/{}".format, PARTS, PARTS, PARTS, PARTS, st.integers(0, 34)),
    st.builds("{}/{}".format, st.ip_addresses(v=4), st.integers(0, 32)),
    st.from_regex(r"[0-9./]{0,18}", fullmatch=True),
    st.sampled_from(
        ("10.0.0.255/24", "10.0.0.0/24", "10.0.0.0/31", "10.0.0.0/32", "127.0.0.1/8", "0.1.2.3/8",
         "224.0.0.1/4", "239.255.255.255/32", "240.0.0.1/8", "255.255.255.255/32", "1.2.3.4/",
         "1.2.3.4/024", "1/2.3.4.5", "1.2.3.4.5/6", "1.2.3/4.5", "10.0.0.1/0", "..../")
    ),
)  # fmt: skip


@given(st.lists(IP4_TEXTS))
def test_columns_and_model_agree_on_ipv4(texts: list[str]) -> None:
    address, prefix, good = text_columns.interfaces4(column(texts))
    expected = [agrees(TypeAdapter(Interface), text) for text in texts]
    assert good.tolist() == [one is not None for one in expected]
    assert address.tolist() == [int(one) if one else 0 for one in expected]
    assert prefix.tolist() == [one.network.prefixlen if one else 0 for one in expected]


IP6_TEXTS = st.one_of(
    st.builds("{}/{}".format, st.ip_addresses(v=6), st.integers(0, 130)),
    st.from_regex(r"[0-9a-f:]{0,12}(/[0-9]{1,3})?", fullmatch=True).filter(lambda text: ":" in text),
    st.sampled_from(
        ("::/64", "::1/128", "::2/128", "ff02::1/64", "::ffff:10.0.0.1/96", "fd00::/64",
         "fd00::/127", "fd00::/128", "fd00::1/64", "fd00::1%lo/64", "::10.0.0.1/64", "fd00::1",
         "fd00::1/", "fd00::1/064", "fd00:0:0:0:0:0:0:1/0", "1::2::3/64")
    ),
)  # fmt: skip


@given(st.lists(IP6_TEXTS))
def test_columns_and_model_agree_on_ipv6(texts: list[str]) -> None:
    address, prefix, good = text_columns.interfaces6(column(texts))
    expected = [agrees(TypeAdapter(Interface), text) for text in texts]
    assert good.tolist() == [one is not None for one in expected]
    assert [row.tobytes() for row in address] == [
        one.packed if one else bytes(16) for one in expected
    ]
    assert prefix.tolist() == [one.network.prefixlen if one else 0 for one in expected]


NAME_TEXTS = st.one_of(
    st.from_regex(r"[A-Za-z0-9._-]{1,63}", fullmatch=True),
    st.text(max_size=66),
    st.sampled_from((".", "..", "...", "", "x" * 63, "x" * 64)),
)


@given(st.lists(NAME_TEXTS))
def test_columns_and_model_agree_on_names(texts: list[str]) -> None:
    good = text_columns.names(column(texts))
    assert good.tolist() == [agrees(TypeAdapter(Name), text) is not None for text in texts]


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from(("a", "b", "a" * 9, "a" * 8, "")))))
def test_twins_are_rows_that_stand_twice(rows: list[tuple[int, str]]) -> None:
    group = np.array([number for number, _ in rows], np.int64)
    found = text_columns.twins(group, column([text for _, text in rows]))
    assert found.tolist() == [at for at, row in enumerate(rows) if rows.count(row) > 1]


def test_a_hundred_thousand_endpoints_arrive_as_written() -> None:
    count = 100_000
    macs = [f"02:00:00:{n >> 16:02x}:{n >> 8 & 255:02x}:{n & 255:02x}" for n in range(count)]
    ips = [f"10.{n >> 14}.{n >> 6 & 255}.{(n & 63) + 1}/8" for n in range(count)]
    rows = [f"red,e{n},{macs[n]},{ips[n]},host{n % 2 + 1}\n" for n in reversed(range(count))]
    topology = loaded(HEADER + "".join(rows))
    span = topology.tenant_span(topology.tenant_index("red"))
    assert len(span) == count
    assert topology.endpoints.mac[span.start :].tolist() == list(
        range(0x020000000000, 0x020000000000 + count)
    )
    assert topology.endpoint_id(span.start + 77) == "red/e77"
    assert topology.addresses4.ip[1:].tolist() == [int(ip_interface(ip)) for ip in ips]


@pytest.mark.parametrize(
    "csv",
    [
        "Tenant,NAME,Mac,IP,Host\nblue,a1,52:54:00:00:00:01,10.0.0.1/24,host1\n",
        "\ufefftenant,name,mac,ip,host\r\n,,,,\r\nblue,a1,52:54:00:00:00:01,10.0.0.1/24,host1\r\n"
        ",,,,\r\n , ,,,\r\n,,,,",
        ",,,,\ntenant,name,mac,ip,host\n,,\nblue,a1,52:54:00:00:00:01,10.0.0.1/24,host1\n,,,,,,,\n",
    ],
)
def test_what_a_spreadsheet_writes(csv: str) -> None:
    report = Report("endpoints.csv")
    rows = endpoints_csv.read(csv.encode(), "endpoints.csv", {"blue": 0}, {"host1": 0}, report)
    assert report.mistakes() == ()
    assert rows is not None
    assert rows.name.to_pylist() == ["a1"]


def test_rows_of_commas_count_as_lines() -> None:
    report = Report("endpoints.csv")
    csv = b"tenant,name,mac,ip,host\n,,,,\n,,,,\nblue,a1,nonsense,10.0.0.1/24,host1\n"
    endpoints_csv.read(csv, "endpoints.csv", {"blue": 0}, {"host1": 0}, report)
    (mistake,) = report.mistakes()
    assert mistake.place == "endpoints.csv:4"


@pytest.mark.parametrize(
    ("csv", "told"),
    [
        (b"tenant,na\rme,mac,ip,host\nx\n", "endpoints.csv:1: has a carriage return"),
        (b"tenant,name,mac,ip,host\nblue,a\r1,x,y,z\n", "endpoints.csv:2: has a carriage return"),
        (b'tenant,"name,mac,ip,host\nblue,a1,x,y,z\n', "endpoints.csv:1: is not CSV"),
    ],
)
def test_a_header_or_a_row_that_is_torn(csv: bytes, told: str) -> None:
    report = Report("endpoints.csv")
    assert endpoints_csv.read(csv, "endpoints.csv", {"blue": 0}, {"host1": 0}, report) is None
    (mistake,) = report.mistakes()
    assert str(mistake).startswith(told)
