"""The columns hold what the overlay says, whatever the order it says it in."""

from __future__ import annotations

import copy
import random
from dataclasses import fields
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovs_lwt.changes import changed_tenants, same
from ovs_lwt.columns import Addresses4, Addresses6, EndpointColumns
from ovs_lwt.mistakes import Refused
from ovs_lwt.names import default_datapath_id
from ovs_lwt.sources.overlay_file import from_dict
from ovs_lwt.topology import TenantColumns, Topology
from tests.strategies import overlays, topologies

Rows = dict[int, Any]


def rows_of_topology(topology: Topology) -> Rows:
    """Everything about each tenant, read back out of the columns one by one."""
    tenants, endpoints, vteps = topology.tenants, topology.endpoints, topology.vteps
    result: Rows = {}
    for index, name in enumerate(tenants.name):
        head = (name, int(tenants.mark[index]), bool(tenants.flood_unknown[index]))
        result[int(tenants.vni[index])] = (
            (*head, bool(tenants.answer_neighbours[index]), bool(tenants.carry_tagged[index])),
            set(),
        )
    ips: dict[int, set[str]] = {}
    four, six = topology.addresses4, topology.addresses6
    for at in range(len(four)):
        text = f"{IPv4Address(int(four.ip[at]))}/{four.prefix[at]}"
        ips.setdefault(int(four.endpoint[at]), set()).add(text)
    for at in range(len(six)):
        text = f"{IPv6Address(six.ip[at].tobytes())}/{six.prefix[at]}"
        ips.setdefault(int(six.endpoint[at]), set()).add(text)
    pairs: dict[int, set[tuple[int, str]]] = {}
    for relation in (topology.whole.pairs4, topology.whole.pairs6):
        for owner, mac, ip in zip(relation.endpoint, relation.mac, relation.ip, strict=True):
            octets = ip.tobytes() if isinstance(ip, np.ndarray) else int(ip)
            pairs.setdefault(int(owner), set()).add((int(mac), str(ip_address(octets))))
    for at in range(len(endpoints)):
        vni = int(tenants.vni[endpoints.tenant[at]])
        vtep = int(endpoints.vtep[at])
        bits = int(vteps.mac_mask[vtep]).bit_count()
        plan = (int(vteps.mac_prefix[vtep]), bits) if bits else ()
        host = (vteps.name[vtep], vteps.address(vtep), bool(vteps.external[vtep]), *plan)
        result[vni][1].add(
            (
                str(endpoints.name[at]),
                int(endpoints.mac[at]),
                host,
                bool(endpoints.spoofing[at]),
                (None, False, True)[int(endpoints.router[at])],
                frozenset(ips.get(at, ())),
                frozenset(pairs.get(at, ())),
            )
        )
    return result


def rows_of_overlay(overlay: dict[str, Any]) -> Rows:
    """The same, straight from the overlay's text."""
    result: Rows = {}
    for name, tenant in overlay["tenants"].items():
        endpoints = set()
        for endpoint, given_ in tenant["endpoints"].items():
            vtep = overlay["vteps"][given_["host"]]
            prefix, _, bits = vtep.get("mac_prefix", "").partition("/")
            plan = (int(prefix.replace(":", ""), 16), int(bits)) if bits else ()
            host = (given_["host"], vtep["address"], vtep.get("external", False), *plan)
            ips = frozenset(str(ip_interface(text)) for text in given_.get("ip", ()))
            mac = int(given_["mac"].replace(":", ""), 16)
            pairs = frozenset(
                (int(pair.get("mac", given_["mac"]).replace(":", ""), 16), pair["ip"])
                for pair in given_.get("allowed_pairs", ())
            )
            trusted, router = given_.get("spoofing") == "allow", given_.get("router")
            endpoints.add((endpoint, mac, host, trusted, router, ips, pairs))
        flood = tenant.get("unknown_unicast", "flood") == "flood"
        answer = tenant.get("neighbours", "answer") == "answer"
        tags = tenant.get("vlan_tagged") == "carry"
        head = (name, tenant.get("mark", tenant["vni"]), flood, answer, tags)
        result[tenant["vni"]] = (head, endpoints)
    return result


def columns(topology: Topology) -> list[Any]:
    every: list[Any] = [topology.underlay]
    for part in (
        topology.vteps,
        topology.tenants,
        topology.endpoints,
        topology.addresses4,
        topology.addresses6,
        topology.whole.pairs4,
        topology.whole.pairs6,
    ):
        for field in fields(part):
            value = getattr(part, field.name)
            if isinstance(value, np.ndarray):
                every.append((str(value.dtype), value.shape, value.tobytes()))
            else:
                every.append(list(value))
    return every


@given(overlays())
def test_columns_say_what_the_overlay_says(overlay: dict[str, Any]) -> None:
    topology = from_dict(overlay)
    assert rows_of_topology(topology) == rows_of_overlay(overlay)
    assert sorted(topology.vteps.name) == sorted(overlay["vteps"])
    for at, name in enumerate(topology.vteps.name):
        given_id = overlay["vteps"][name].get("datapath_id")
        expected = int(given_id, 16) if given_id else default_datapath_id(name)
        assert int(topology.vteps.datapath_id[at]) == expected


@given(overlays())
def test_columns_are_sorted(overlay: dict[str, Any]) -> None:
    topology = from_dict(overlay)
    endpoints = topology.endpoints
    assert list(topology.vteps.name) == sorted(topology.vteps.name)
    assert np.all(np.diff(topology.tenants.vni.astype(np.int64)) > 0)
    keys = list(zip(endpoints.tenant.tolist(), endpoints.mac.tolist(), strict=True))
    assert keys == sorted(set(keys))
    four, six = topology.addresses4, topology.addresses6
    for owner, ips in ((four.endpoint, four.ip.tolist()), (six.endpoint, six.ip.tolist())):
        pairs = list(zip(owner.tolist(), ips, strict=True))
        assert pairs == sorted(pairs)


@given(overlays(), st.randoms(use_true_random=False))
def test_the_order_of_writing_makes_no_difference(
    overlay: dict[str, Any], chance: random.Random
) -> None:
    def shuffled(mapping: dict[str, Any]) -> dict[str, Any]:
        items = list(mapping.items())
        chance.shuffle(items)
        return dict(items)

    other = shuffled(overlay)
    other["vteps"] = shuffled(overlay["vteps"])
    other["tenants"] = {
        name: {**tenant, "endpoints": shuffled(tenant["endpoints"])}
        for name, tenant in shuffled(overlay["tenants"]).items()
    }
    assert columns(from_dict(overlay)) == columns(from_dict(other))


@given(overlays(), overlays())
def test_changed_tenants_are_those_that_read_differently(
    before: dict[str, Any], after: dict[str, Any]
) -> None:
    old, new = from_dict(before), from_dict(after)
    rows_old, rows_new = rows_of_overlay(before), rows_of_overlay(after)
    expected = {
        vni for vni in rows_old.keys() | rows_new.keys() if rows_old.get(vni) != rows_new.get(vni)
    }
    assert changed_tenants(old, new) == expected
    assert all(type(vni) is int for vni in changed_tenants(old, new))


@given(overlays(), st.data())
def test_one_small_change_changes_that_tenant_alone(
    overlay: dict[str, Any], data: st.DataObject
) -> None:
    populated = [name for name, tenant in overlay["tenants"].items() if tenant["endpoints"]]
    if not populated:
        return
    other = copy.deepcopy(overlay)
    tenant = other["tenants"][data.draw(st.sampled_from(populated))]
    name = data.draw(st.sampled_from(sorted(tenant["endpoints"])))
    endpoint = tenant["endpoints"][name]
    what = data.draw(st.sampled_from(("mac", "ip4", "ip6", "name", "spoofing", "gone")))
    if what == "mac":
        endpoint["mac"] = "0a:00:00:00:00:01"
    elif what == "ip4":
        endpoint["ip"] = [*endpoint.get("ip", ()), "10.9.9.9/24"]
    elif what == "ip6":
        endpoint["ip"] = [*endpoint.get("ip", ()), "fd99::9/64"]
    elif what == "name":
        tenant["endpoints"]["renamed"] = tenant["endpoints"].pop(name)
    elif what == "spoofing":
        endpoint["spoofing"] = "deny" if endpoint.get("spoofing") == "allow" else "allow"
    else:
        del tenant["endpoints"][name]
    assert changed_tenants(from_dict(overlay), from_dict(other)) == {tenant["vni"]}


@given(overlays())
def test_a_host_that_moves_changes_the_tenants_it_serves(overlay: dict[str, Any]) -> None:
    other = copy.deepcopy(overlay)
    moved = next(iter(other["vteps"]))
    six = ":" in other["vteps"][moved]["address"]
    other["vteps"][moved]["address"] = "2001:db8::99" if six else "192.0.2.99"
    served = {
        tenant["vni"]
        for tenant in overlay["tenants"].values()
        if any(endpoint["host"] == moved for endpoint in tenant["endpoints"].values())
    }
    assert changed_tenants(from_dict(overlay), from_dict(other)) == served


@given(overlays())
def test_a_host_whose_macs_are_planned_anew_changes_the_tenants_it_serves(
    overlay: dict[str, Any],
) -> None:
    other = copy.deepcopy(overlay)
    planned = next(iter(other["vteps"]))
    other["vteps"][planned]["mac_prefix"] = "0e:00:01:00:00:00/24"
    served = {
        tenant["vni"]
        for tenant in overlay["tenants"].values()
        if any(endpoint["host"] == planned for endpoint in tenant["endpoints"].values())
    }
    old, new = from_dict(overlay), from_dict(other)
    assert changed_tenants(old, new) == served
    assert not same(old, new)


@given(topologies())
def test_a_topology_is_the_same_as_itself(topology: Topology) -> None:
    assert changed_tenants(topology, topology) == frozenset()
    assert same(topology, topology)


def test_the_underlay_counts_for_same_but_for_no_tenant() -> None:
    plain = from_dict(SMALL)
    other = from_dict({**SMALL, "underlay": {"mtu": 9000}})
    assert not same(plain, other)
    assert changed_tenants(plain, other) == frozenset()


def test_columns_cannot_be_written_to() -> None:
    topology = from_dict(SMALL)
    with pytest.raises(ValueError, match="read-only"):
        topology.endpoints.mac[0] = 1


@pytest.mark.parametrize("tenants", [10, 70_000])
def test_endpoints_follow_their_tenant_however_many_there_are(tenants: int) -> None:
    # Beyond 65,536 tenants a tenant and a MAC no longer fit one 64-bit key.
    topology = from_dict(SMALL)
    backwards = np.arange(tenants, 0, -1, dtype=np.uint32)
    many = Topology.from_columns(
        topology.underlay,
        topology.vteps,
        TenantColumns(
            tuple(f"t{vni}" for vni in backwards),
            backwards,
            backwards,
            np.ones(tenants, np.bool_),
            np.ones(tenants, np.bool_),
            np.zeros(tenants, np.uint32),
            np.zeros(tenants, np.bool_),
        ),
        EndpointColumns(
            np.array([0, tenants - 1, 0], np.uint32),
            np.array([9, 5, 3], np.uint64),
            np.zeros(3, np.uint32),
            np.zeros(3, np.bool_),
            np.zeros(3, np.uint8),
            pa.array(["x", "y", "z"]),
        ),
        Addresses4(
            np.array([2, 0], np.uint32), np.array([7, 8], np.uint32), np.array([24, 24], np.uint8)
        ),
        Addresses6(np.zeros(0, np.uint32), np.zeros((0, 16), np.uint8), np.zeros(0, np.uint8)),
    )
    assert [many.endpoint_id(at) for at in range(3)] == ["t1/y", f"t{tenants}/z", f"t{tenants}/x"]
    assert many.addresses4.endpoint.tolist() == [1, 2]
    assert many.addresses4.ip.tolist() == [7, 8]
    assert many.tenant_span(tenants - 1) == range(1, 3)


SMALL: dict[str, Any] = {
    "vteps": {"host2": {"address": "192.0.2.2"}, "host1": {"address": "192.0.2.1"}},
    "tenants": {
        "blue": {
            "vni": 20,
            "endpoints": {
                "a": {"host": "host1", "mac": "02:00:00:00:00:09", "ip": "10.0.0.1/24"},
                "b": {"host": "host2", "mac": "02:00:00:00:00:01"},
            },
        },
        "red": {
            "vni": 10,
            "endpoints": {"a": {"host": "host2", "mac": "02:00:00:00:00:09", "ip": "fd00::1/64"}},
        },
    },
}


def test_things_are_found_by_name() -> None:
    topology = from_dict(SMALL)
    assert topology.vtep_index("host2") == 1
    assert topology.tenant_index("red") == 0
    assert topology.endpoint_index("blue/a") == 2
    assert topology.endpoint_id(2) == "blue/a"
    assert list(topology.tenant_span(1)) == [1, 2]
    assert topology.vteps.address(1) == "192.0.2.2"
    assert [topology.endpoint_id(at) for at in range(3)] == ["red/a", "blue/b", "blue/a"]


@pytest.mark.parametrize(
    ("ask", "answer"),
    [
        (
            lambda topology: topology.vtep_index("hots1"),
            "the overlay has no host 'hots1' (did you mean 'host1'?); it has: host1, host2",
        ),
        (
            lambda topology: topology.tenant_index("grey"),
            "the overlay has no tenant 'grey'; it has: red, blue",
        ),
        (
            lambda topology: topology.endpoint_index("blue/c"),
            "tenant 'blue' has no endpoint 'c'; it has: b, a",
        ),
        (
            lambda topology: topology.endpoint_index("blue"),
            "'blue' is not an endpoint: write it TENANT/NAME, like blue/web1",
        ),
    ],
)
def test_an_unknown_name_is_refused_with_those_there_are(ask: Any, answer: str) -> None:
    with pytest.raises(Refused) as caught:
        ask(from_dict(SMALL))
    assert str(caught.value) == answer
