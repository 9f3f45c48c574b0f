# ruff: noqa: E501, ISC004 - what the user is told stands as the user sees it
"""Every way to get overlay.yaml wrong that we know of, and what the user is told."""

from __future__ import annotations

import pytest

from ovs_lwt.sources.overlay_file import parse_text
from tests.support.mistakes import GOOD, mistakes


def test_the_overlay_that_the_mistakes_are_made_in_is_right() -> None:
    assert len(parse_text(GOOD).endpoints) == 2


@pytest.mark.parametrize(
    ("right", "wrong", "told"),
    [
        # Keys
        (
            "  red:\n    vni",
            "  red:\n    vnii",
            [
                "overlay.yaml:13: tenants.red.vni: is required, but missing",
                "overlay.yaml:14: tenants.red.vnii: unknown key (did you mean 'vni'?);"
                " known here: vni, mark, unknown_unicast, neighbours,"
                " vlan_tagged, encapsulation, label, endpoints",
            ],
        ),
        (
            "mtu: 1500",
            "MTU: 1500",
            ["overlay.yaml:1: underlay.MTU: unknown key; known here: udp_port, replication_udp_port, mtu"],
        ),
        (
            "host: host2, mac",
            "mac",
            ["overlay.yaml:12: tenants.blue.endpoints.web2.host: is required, but missing"],
        ),
        (
            "  red:\n",
            "  blue:\n",
            ["overlay.yaml:13: key 'blue' stands here a second time (first in line 7)"],
        ),
        (
            "  red:\n",
            "  re d:\n",
            [
                "overlay.yaml:13: tenants.'re d': name 're d' cannot be used:"
                " take 1 to 63 letters, digits, '.', '_' or '-'"
            ],
        ),
        # VNI and mark
        (
            "1020",
            "16777216",
            ["overlay.yaml:14: tenants.red.vni: VNI 16777216 is outside 1..16777215"],
        ),
        ("1020", "0", ["overlay.yaml:14: tenants.red.vni: VNI 0 is outside 1..16777215"]),
        (
            "1020",
            "1010",
            [
                "overlay.yaml:14: tenants.red.vni: VNI 1010 is already that of tenant blue"
                " (overlay.yaml:8)"
            ],
        ),
        (
            "1020",
            "10",
            [
                "overlay.yaml:14: tenants.red.vni: mark 10 (the VNI, since no mark is given) is"
                " already that of tenant blue (overlay.yaml:9)"
            ],
        ),
        (
            "vni: 1020",
            "vni: 1020\n    mark: 0xA",
            [
                "overlay.yaml:15: tenants.red.mark: mark 10 is already that of tenant blue"
                " (overlay.yaml:9)"
            ],
        ),
        (
            "mark: 10",
            "mark: 0",
            ["overlay.yaml:9: tenants.blue.mark: mark 0 is outside 1..4294967295"],
        ),
        (
            "mark: 10",
            "mark: 4294967296",
            ["overlay.yaml:9: tenants.blue.mark: mark 4294967296 is outside 1..4294967295"],
        ),
        (
            "1020",
            '"1020"',
            [
                "overlay.yaml:14: tenants.red.vni: VNI is a number: write it without quotes,"
                " not '1020'"
            ],
        ),
        (
            "1020",
            "true",
            [
                "overlay.yaml:14: tenants.red.vni: VNI is a whole number from 1 to 16777215,"
                " not 'true'"
            ],
        ),
        # Underlay
        (
            "udp_port: 4789",
            "udp_port: 65536",
            ["overlay.yaml:1: underlay.udp_port: udp_port 65536 is outside 1..65535"],
        ),
        (
            "mtu: 1500",
            "mtu: 1279",
            ["overlay.yaml:1: underlay.mtu: mtu 1279 is outside 1280..65535"],
        ),
        # Hosts
        (
            "192.0.2.12}",
            "192.0.2.11}",
            [
                "overlay.yaml:4: vteps.host2.address: address 192.0.2.11 is already that of host"
                " host1 (overlay.yaml:3)"
            ],
        ),
        (
            "192.0.2.12}",
            "192.0.2.12/24}",
            [
                "overlay.yaml:4: vteps.host2.address: address '192.0.2.12/24' carries a prefix"
                " length: a VTEP has one address, without '/'"
            ],
        ),
        (
            '"2001:db8::6"',
            '"ff02::6"',
            [
                "overlay.yaml:5: vteps.host6.address: address ff02::6 is multicast: a VTEP needs"
                " a unicast address"
            ],
        ),
        (
            '"2001:db8::6"',
            '"::"',
            [
                "overlay.yaml:5: vteps.host6.address: address :: is unspecified: a VTEP needs a"
                " unicast address"
            ],
        ),
        (
            '"2001:db8::6"',
            "host6.example",
            [
                "overlay.yaml:5: vteps.host6.address: address 'host6.example' is neither an IPv4"
                " nor an IPv6 address"
            ],
        ),
        (
            "192.0.2.12}",
            '192.0.2.12, datapath_id: "00ff"}',
            [
                "overlay.yaml:4: vteps.host2.datapath_id: datapath id '00ff' is malformed: it has"
                " exactly 16 hex digits"
            ],
        ),
        (
            "192.0.2.11}\n  host2: {address: 192.0.2.12}",
            "192.0.2.11, datapath_id: 00000000000000AA}\n"
            "  host2: {address: 192.0.2.12, datapath_id: 0x00000000000000aa}",
            [
                "overlay.yaml:4: vteps.host2.datapath_id: datapath id 00000000000000aa is already"
                " that of host host1 (overlay.yaml:3)"
            ],
        ),
        (
            "192.0.2.12}",
            "192.0.2.12, external: yes}",
            ["overlay.yaml:4: vteps.host2.external: write true or false, not 'yes'"],
        ),
        # Endpoints
        (
            "host: host2",
            "host: hots2",
            [
                "overlay.yaml:12: tenants.blue.endpoints.web2.host: unknown host 'hots2'"
                " (did you mean 'host2'?); known: host1, host2, host6"
            ],
        ),
        (
            "02:00:00:00:00:02",
            "03:00:00:00:00:02",
            [
                "overlay.yaml:12: tenants.blue.endpoints.web2.mac: MAC 03:00:00:00:00:02 is"
                " multicast: an endpoint needs a unicast MAC (second digit even)"
            ],
        ),
        (
            "02:00:00:00:00:02",
            "00:00:00:00:00:00",
            [
                "overlay.yaml:12: tenants.blue.endpoints.web2.mac: MAC 00:00:00:00:00:00 is all"
                " zero: an endpoint needs a MAC of its own"
            ],
        ),
        (
            "02:00:00:00:00:02",
            "02:00:00:00:00:2",
            [
                "overlay.yaml:12: tenants.blue.endpoints.web2.mac: MAC '02:00:00:00:00:2' is"
                ' malformed: write it like "02:00:00:00:00:01"'
            ],
        ),
        (
            "02:00:00:00:00:02",
            "02:00:00:00:00:01",
            [
                "overlay.yaml:12: tenants.blue.endpoints.web2.mac: MAC 02:00:00:00:00:01 is"
                " already that of blue/web1 (overlay.yaml:11)"
            ],
        ),
        (
            "[10.0.0.12/24]",
            "[10.0.0.12/24, 10.0.0.11/8]",
            [
                "overlay.yaml:12: tenants.blue.endpoints.web2.ip: address 10.0.0.11 is already"
                " that of blue/web1 (overlay.yaml:11)"
            ],
        ),
        (
            "[10.0.0.12/24]",
            '["fd00:0::0:11/48"]',
            [
                "overlay.yaml:12: tenants.blue.endpoints.web2.ip: address fd00::11 is already"
                " that of blue/web1 (overlay.yaml:11)"
            ],
        ),
        (
            "[10.0.0.12/24]",
            "[10.0.0.12/24, 10.0.0.12/24]",
            [
                "overlay.yaml:12: tenants.blue.endpoints.web2.ip: address 10.0.0.12 stands"
                " twice"
            ],
        ),
        (
            "[10.0.0.12/24]",
            "10.0.0.12",
            [
                "overlay.yaml:12: tenants.blue.endpoints.web2.ip: address '10.0.0.12' has no"
                " prefix length: write it like 10.0.0.12/24"
            ],
        ),
        (
            "[10.0.0.12/24]",
            "10.0.0.0/24",
            [
                "overlay.yaml:12: tenants.blue.endpoints.web2.ip: address 10.0.0.0/24 is the"
                " network's own: give one of the hosts' addresses"
            ],
        ),
        (
            "[10.0.0.12/24]",
            "10.0.0.255/24",
            [
                "overlay.yaml:12: tenants.blue.endpoints.web2.ip: address 10.0.0.255/24 is the"
                " broadcast address of 10.0.0.0/24"
            ],
        ),
        (
            "[10.0.0.12/24]",
            "224.0.0.5/24",
            [
                "overlay.yaml:12: tenants.blue.endpoints.web2.ip: address 224.0.0.5/24 is"
                " multicast: an endpoint needs a unicast address"
            ],
        ),
        (
            "[10.0.0.12/24]",
            "{a: b}",
            [
                "overlay.yaml:12: tenants.blue.endpoints.web2.ip: takes a list, like"
                " [10.0.0.11/24, fd00::11/64], not a mapping"
            ],
        ),
        (
            "host: host2",
            "host: host6",
            [
                "overlay.yaml:7: tenants.blue: has endpoints on IPv4 VTEPs (web1 on host1) and on"
                " IPv6 VTEPs (web2 on host6), which cannot reach each other: give the hosts of a"
                " tenant addresses of one family"
            ],
        ),
        (
            "[10.0.0.12/24]}",
            "[10.0.0.12/24], spoofing: perhaps}",
            [
                "overlay.yaml:12: tenants.blue.endpoints.web2.spoofing: spoofing is deny or"
                " allow, not 'perhaps'"
            ],
        ),
        # YAML that is more than the format needs
        (
            "host: host2",
            "host: !!python/name:os.system host2",
            ["overlay.yaml:12: tag 'tag:yaml.org,2002:python/name:os.system' is not allowed: remove it"],
        ),
        (
            "mark: 10\n",
            "mark: &ten 10\n    unknown_unicast: *ten\n",
            [
                "overlay.yaml:9: anchor &ten is not allowed: write the value itself",
                "overlay.yaml:10: alias *ten is not allowed: write the value itself",
            ],
        ),
        (
            "tenants:\n",
            "---\ntenants:\n",
            ["overlay.yaml:6: a second document ('---') begins here: one file, one overlay"],
        ),
        ("  red:\n", "  [red]:\n", ["overlay.yaml:13: a key must be plain text, not a list or a mapping"]),
    ],
)  # fmt: skip
def test_one_slip_gives_one_message(right: str, wrong: str, told: list[str]) -> None:
    assert right in GOOD
    assert mistakes(GOOD.replace(right, wrong, 1)) == told


def test_addresses_in_a_block_list_are_found_on_their_own_lines() -> None:
    text = GOOD + (
        "    endpoints:\n"
        "      db:\n"
        "        host: host1\n"
        "        mac: 02:00:00:00:00:07\n"
        "        ip:\n"
        "          - 10.0.0.1/24\n"
        "          - 10.0.0.300/24\n"
        "          - 10.0.0.1/8\n"
    )
    assert mistakes(text) == [
        "overlay.yaml:21: tenants.red.endpoints.db.ip: address '10.0.0.300/24' is malformed:"
        " write it like 10.0.0.11/24 or fd00::11/64",
        "overlay.yaml:22: tenants.red.endpoints.db.ip: address 10.0.0.1 stands twice",
    ]


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file() -> None:
    text = (
        GOOD.replace("mtu: 1500", "mtu: 1")
        .replace("192.0.2.12", "192.0.2.11")
        .replace("1020", "1010")
        .replace("host: host2", "host: nowhere")
        .replace("02:00:00:00:00:02", "02:00:00:00:00:01")
        .replace("10.0.0.12/24", "10.0.0.11/24")
    )
    places = [line.split(": ")[1] for line in mistakes(text)]
    assert places == [
        "underlay.mtu",
        "vteps.host2.address",
        "tenants.blue.endpoints.web2.host",
        "tenants.blue.endpoints.web2.mac",
        "tenants.blue.endpoints.web2.ip",
        "tenants.red.vni",
    ]
