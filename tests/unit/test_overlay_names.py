"""Names of ports and numbers of hosts follow from the overlay, and stay the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovs_lwt.names import default_datapath_id, is_name, port_name

NAMES = st.from_regex(r"[A-Za-z0-9._-]{1,63}", fullmatch=True).filter(is_name)


def test_a_short_name_is_the_name_of_the_port() -> None:
    assert port_name("blue", "web1") == "blue-web1"
    assert port_name("abcdefg", "abcdefg") == "abcdefg-abcdefg"


@pytest.mark.parametrize(
    ("tenant", "endpoint", "head"),
    [
        ("production1", "web1", "production"),
        ("blue", "web-1", "blue-web-1"),
        ("_blue", "web1", "pblue-web1"),
    ],
)
def test_any_other_is_cut_and_told_apart_by_a_hash(tenant: str, endpoint: str, head: str) -> None:
    name = port_name(tenant, endpoint)
    assert name[:-4] == f"{head}~"
    assert len(name) <= 15


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
