"""Every address of a host's tenants is in its tenant's table, once, and nothing else is; and the
kernel is led from any overlay to any other.
"""

from __future__ import annotations

from collections import Counter
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ovs_lwt.backends.netlink.program import Program, Rows, stamp
from ovs_lwt.backends.netlink.templates import Devices
from ovs_lwt.backends.netlink.transaction import between
from ovs_lwt.backends.route.plane import RoutePlane
from ovs_lwt.topology import Topology
from ovs_lwt.view import View
from tests.strategies import topologies
from tests.support.route_host import FakeMachine, guests_of, view_of

machines = st.builds(FakeMachine, marks_tunnels=st.booleans())


@st.composite
def hosts(draw: st.DrawFn) -> tuple[Topology, str, list[str]]:
    """A host of an overlay, and which of its guests are attached."""
    topology = draw(topologies())
    host = draw(st.sampled_from(topology.vteps.name))
    there = guests_of(topology, topology.vtep_index(host))
    attached = draw(st.lists(st.booleans(), min_size=len(there), max_size=len(there)))
    return topology, host, [name for name, up in zip(there, attached, strict=True) if up]


def wanted(
    topology: Topology, host: str, names: list[str], machine: FakeMachine
) -> tuple[View, list[Rows], tuple[str, ...]]:
    view, plane = view_of(topology, topology.vtep_index(host), names), RoutePlane(machine)
    setup = plane.setup(view, names)
    return view, list(plane.rows(view, setup)), setup.devices


def program(topology: Topology, host: str, names: list[str], machine: FakeMachine) -> Program:
    _, rows, devices = wanted(topology, host, names, machine)
    # A device keeps its index, whoever else is there.
    every = ["vx-lwt", *guests_of(topology, topology.vtep_index(host))]
    return stamp(rows, Devices(devices, np.array([1 + every.index(name) for name in devices])))


def in_tables(rows: list[Rows]) -> Counter[tuple[int, str, str]]:
    """(table, address, what leads there)."""
    found: Counter[tuple[int, str, str]] = Counter()
    for each in rows:
        _, _, name = each.template.partition(".")
        if not name.startswith(("local_prefix", "remote_prefix")) or not each.count:
            continue
        six = "prefix6" in each.columns
        prefix: Any = each.columns["prefix6" if six else "prefix"]
        table: Any = np.broadcast_to(each.columns["table"], each.count)
        for number, ip in zip(table.tolist(), prefix, strict=True):
            address = IPv6Address(ip.tobytes()) if six else IPv4Address(int(ip))
            found[number, str(address), name.partition("_")[0]] += 1
    return found


def addresses(view: View) -> Counter[tuple[int, str, str]]:
    """The same, said by the overlay."""
    topology, found = view.topology, Counter[tuple[int, str, str]]()
    listed = [
        *((owner, str(IPv4Address(int(ip)))) for owner, ip in pairs(topology.addresses4)),
        *((owner, str(IPv6Address(ip.tobytes()))) for owner, ip in pairs(topology.addresses6)),
    ]
    for owner, address in listed:
        tenant = int(topology.endpoints.tenant[owner])
        here = topology.endpoints.vtep[owner] == view.host
        if view.here[tenant] and (not here or owner in view.ports.endpoint):
            found[int(topology.tenants.mark[tenant]), address, "local" if here else "remote"] += 1
    return found


def pairs(addresses: Any) -> list[tuple[int, Any]]:
    return list(zip(addresses.endpoint.tolist(), addresses.ip, strict=True))


@given(hosts(), machines)
def test_every_address_is_in_its_tenants_table_and_nowhere_else(
    host: tuple[Topology, str, list[str]], machine: FakeMachine
) -> None:
    view, rows, _ = wanted(*host, machine)
    assert in_tables(rows) == addresses(view)


@given(hosts(), machines)
def test_every_table_that_a_rule_leads_to_ends(
    host: tuple[Topology, str, list[str]], machine: FakeMachine
) -> None:
    _, rows, _ = wanted(*host, machine)
    for suffix in ("", "6"):
        ends = tables(rows, f"route.unreachable{suffix}")
        for rule in ("mark", "tunnel", "device_table", "sender"):
            assert tables(rows, f"rule.{rule}{suffix}") <= ends


@given(hosts(), machines)
def test_every_goto_leads_to_a_rule_further_down(
    host: tuple[Topology, str, list[str]], machine: FakeMachine
) -> None:
    _, rows, _ = wanted(*host, machine)
    for suffix in ("", "6"):
        rules = [each for each in rows if each.template.startswith("rule.") and each.count]
        family = [each for each in rules if each.template.endswith("6") == bool(suffix)]
        places = {number for each in family for number in numbers(each, "preference")}
        for each in family:
            if "target" in each.columns:
                targets = numbers(each, "target")
                assert set(targets) <= places
                for preference, target in zip(numbers(each, "preference"), targets, strict=True):
                    assert preference < target


def numbers(rows: Rows, column: str) -> list[int]:
    found: list[int] = np.broadcast_to(rows.columns[column], rows.count).tolist()
    return found


def tables(rows: list[Rows], template: str) -> set[int]:
    return {
        number
        for each in rows
        if each.template == template and each.count
        for number in numbers(each, "table")
    }


@settings(max_examples=50)
@given(hosts(), machines, st.data())
def test_guests_come_and_go_and_only_what_changes_is_sent(
    host: tuple[Topology, str, list[str]], machine: FakeMachine, data: st.DataObject
) -> None:
    topology, name, names = host
    left = [port for port in names if data.draw(st.booleans())]
    before, after = (program(topology, name, ports, machine) for ports in (names, left))
    there = between(before.entries, after)
    assert there.counts.written == 0
    back = between(after.entries, before)
    assert (back.counts.written, back.counts.deleted) == (there.counts.deleted, 0)
    assert not len(between(after.entries, program(topology, name, left, machine)))
