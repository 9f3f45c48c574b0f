"""Names of ports and numbers of hosts follow from the overlay, and stay the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovs_lwt.names import default_datapath_id, is_name, port_name, unfit_port

NAMES = st.from_regex(r"[A-Za-z0-9._-]{1,63}", fullmatch=True).filter(is_name)


def test_a_short_name_is_the_name_of_the_port() -> None:
    assert port_name("blue", "web1") == "blue-web1"
    assert port_name("abcdefg", "abcdefg") == "abcdefg-abcdefg"


@pytest.mark.parametrize(
    ("tenant", "endpoint", "head"),
    [
        ("production1", "web1", "produ"),
        ("blue", "web-1", "blue-"),
        ("_blue", "web1", "pblue"),
        ("a", "-", "a--"),
    ],
)
def test_any_other_is_cut_and_told_apart_by_a_hash(tenant: str, endpoint: str, head: str) -> None:
    name = port_name(tenant, endpoint)
    assert name[:-9] == f"{head}~"
    assert len(name) <= 15


@pytest.mark.parametrize(
    ("tenant", "endpoint"),
    [
        ("br", "lwt"),
        ("br", "lwt.10"),
        ("vx", "lwt"),
        ("lwt", "10"),  # the VRF of a tenant of mark 10
        ("ovs", "netdev"),
        ("ovs", "system"),
        ("ovs", "gretap0"),
    ],
)
def test_no_guest_is_called_like_a_device_of_the_system(tenant: str, endpoint: str) -> None:
    assert port_name(tenant, endpoint).startswith(f"{tenant}-{endpoint}"[:5] + "~")


def test_no_guest_is_called_like_the_bridge_that_its_host_has() -> None:
    assert port_name("web", "bridge", {"web-bridge"}).startswith("web-b~")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        *((name, "own devices") for name in ("br-lwt", "br-lwt.4000", "vx-lwt", "vx-lwt-ar")),
        *((name, "Open vSwitch's own") for name in ("ovs-netdev", "vxlan_sys_4789", "genev_sys_1")),
        *((name, "kernel's") for name in ("lo", "all", "default", "bonding_masters")),
        *((name, "letters") for name in (".", "..", "a/b", "a:b", "a b", "a\n", "-a", "a%d", "ä")),
        ("", "characters long"),
        ("sixteen-letters1", "characters long"),
        ("17", "number"),
        ("LOCAL", "reserved port of OpenFlow"),
        ("in_port", "reserved port of OpenFlow"),
    ],
)
def test_names_that_no_port_can_have(name: str, why: str) -> None:
    assert why in str(unfit_port(name))


@pytest.mark.parametrize("name", ["tap0", "eth0.100", "vnet17", "BR-LWT", "produ~r2gUu-_x9", "Lo"])
def test_names_that_a_port_can_have(name: str) -> None:
    assert unfit_port(name) is None


def test_a_dash_does_not_make_two_ports_one() -> None:
    assert port_name("a-b", "c") != port_name("a", "b-c")


@given(NAMES, NAMES)
def test_the_kernel_takes_every_port_name(tenant: str, endpoint: str) -> None:
    name = port_name(tenant, endpoint)
    assert 1 <= len(name) <= 15
    assert not set(name) & set("/: \t\n%")
    assert name == port_name(tenant, endpoint)
    assert name[0].isalnum()


@given(NAMES)
def test_a_datapath_id_is_that_of_a_local_unicast_mac(name: str) -> None:
    number = default_datapath_id(name)
    assert 0 < number < 1 << 48
    assert number >> 40 & 0x03 == 0x02
    assert number == default_datapath_id(name)


def test_datapath_ids_do_not_change_from_release_to_release() -> None:
    # A host's switch is known by it: another number would be another switch.
    assert default_datapath_id("host1") == DATAPATH_OF_HOST1
    assert default_datapath_id("host2") != DATAPATH_OF_HOST1


DATAPATH_OF_HOST1 = 0x32A2DDBCF121
