"""What is stamped is what the library encodes, goes only ahead, and is its own tenant's."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ovs_lwt.backends.openflow import encode, floods, framework, program, wire
from ovs_lwt.backends.openflow.floods import SHARED_LIST
from ovs_lwt.backends.openflow.pipeline import BUNDLE, pipeline
from ovs_lwt.backends.openflow.program import FlowBlock, Program
from ovs_lwt.backends.openflow.transaction import Transaction
from ovs_lwt.sources.overlay_file import from_dict
from ovs_lwt.topology import Topology
from ovs_lwt.view import View
from tests.property.hosts import Overlay, views
from tests.strategies import overlays
from tests.support.transactions import taken

ORDER_OF_TABLES = {number: place for place, (number, _) in enumerate(pipeline().tables)}


@st.composite
def hosts(draw: st.DrawFn) -> tuple[Overlay, View]:
    """An overlay and one of its hosts, one with guests if there is one."""
    overlay = draw(overlays())
    topology = from_dict(overlay)
    busy = np.unique(topology.endpoints.vtep).tolist() or range(len(topology.vteps))
    return overlay, draw(views(topology, draw(st.sampled_from(busy))))


@dataclass(frozen=True, slots=True)
class Decoded:
    """A flow as the framework reads the stamped bytes."""

    entry: str
    table: int
    cookie: int
    match: dict[str, Any]
    actions: list[Any]
    goto: int | None
    metadata: int | None

    def sets(self, field: str) -> Iterator[Any]:
        """What its actions set a field to."""
        for action in self.actions:
            if getattr(action, "key", None) == field:
                yield action.value

    @property
    def groups(self) -> list[int]:
        return [action.group_id for action in self.actions if hasattr(action, "group_id")]


def decoded(flows: FlowBlock) -> Iterator[Decoded]:
    parser = framework.current().ofproto_v1_4_parser
    instructions_at = flows.block.value[-1].start
    for row in flows.block.rows:
        octets = row.tobytes()
        match = dict(parser.OFPMatch.parser(octets, wire.ADD_MATCH).items())
        actions: list[Any] = []
        goto = metadata = None
        at = instructions_at
        while at < len(octets):
            instruction = parser.OFPInstruction.parser(octets, at)
            at += instruction.len
            actions += getattr(instruction, "actions", [])
            goto = getattr(instruction, "table_id", goto)
            metadata = getattr(instruction, "metadata", metadata)
        cookie = int.from_bytes(octets[wire.ADD_COOKIE], "big")
        table = octets[wire.ADD_TABLE][0]
        yield Decoded(flows.template.entry.id, table, cookie, match, actions, goto, metadata)


@given(hosts())
@settings(max_examples=40)
def test_stamped_rows_are_what_the_library_encodes(host: tuple[Overlay, View]) -> None:
    for flows in program.full(host[1]).flows:
        for row in {0, len(flows.block) // 2, len(flows.block) - 1}:
            cookie, text = flows.line(row).split(" ", 1)
            number = int(cookie.removeprefix("cookie="), 16)
            stamped = flows.block.rows[row].tobytes()
            xid = int.from_bytes(stamped[4:8], "big")
            assert stamped == encode.in_bundle(encode.flow_add(text, number), BUNDLE, xid), text


@given(hosts())
@settings(max_examples=30)
def test_stamped_groups_are_what_the_library_encodes(host: tuple[Overlay, View]) -> None:
    view = host[1]
    groups = program.full(view).groups
    messages = taken(Transaction([], {}, Program((), groups)))
    for (group, _), stamped in zip(groups.items(), messages, strict=True):
        buckets = buckets_in_words(view, group)
        xid = int.from_bytes(stamped[4:8], "big")
        message = encode.group_mod("ADD", group, buckets)
        assert stamped == encode.in_bundle(message, BUNDLE, xid)


def buckets_in_words(view: View, group: int) -> list[str]:
    topology = view.topology
    vteps, tenants = topology.vteps, topology.tenants
    if group < SHARED_LIST:
        index = tenants.vni.tolist().index(group)
        ports = view.ports
        return [
            f"set_field:{tenants.mark[index]}->pkt_mark,output:{port}"
            for endpoint, port in zip(ports.endpoint, ports.port, strict=True)
            if topology.endpoints.tenant[endpoint] == index
        ]
    place, vni = divmod(group - SHARED_LIST, floods.GROUP_STEP)
    index = tenants.vni.tolist().index(vni)
    members = sorted(set(topology.endpoints.vtep[topology.endpoints.tenant == index].tolist()))
    field = "tun_dst" if vteps.family[view.host] == 4 else "tun_ipv6_dst"
    if place:
        # No list that is drawn is wide: this asks a replicator, and any other will do as well.
        replicators = [vtep for vtep in members if vteps.replicator[vtep] and vtep != view.host]
        (asked,) = floods._asked(view, np.array(replicators))
        return [f"set_field:{vteps.address(int(asked))}->{field},output:{view.requests}"]
    return [
        f"set_field:{vteps.address(vtep)}->{field},resubmit(,9)"
        for vtep in members
        if vtep != view.host
    ]


@given(hosts())
@settings(max_examples=40)
def test_every_goto_leads_to_a_table_that_exists_and_lies_ahead(host: tuple[Overlay, View]) -> None:
    full = program.full(host[1])
    for flows in full.flows:
        for flow in decoded(flows):
            assert flow.table in ORDER_OF_TABLES
            if flow.goto is not None:
                assert flow.goto in ORDER_OF_TABLES
                assert ORDER_OF_TABLES[flow.goto] > ORDER_OF_TABLES[flow.table]
            assert set(flow.groups) <= set(full.groups)


@dataclass(frozen=True, slots=True)
class Tenant:
    """What a tenant's flows may speak of."""

    mark: int
    macs: set[str]
    ports: set[int]
    vteps: set[int]


def tenants(view: View) -> dict[int, Tenant]:
    topology: Topology = view.topology
    endpoints, by_index = topology.endpoints, topology.tenants.vni.tolist()
    macs: dict[int, set[str]] = defaultdict(set)
    vteps: dict[int, set[int]] = defaultdict(set)
    for tenant, mac, vtep in zip(endpoints.tenant, endpoints.mac, endpoints.vtep, strict=True):
        macs[by_index[tenant]].add(re.sub(r"(..)(?=.)", r"\1:", f"{int(mac):012x}"))
        vteps[by_index[tenant]].add(int(vtep))
    for pairs in (topology.whole.pairs4, topology.whole.pairs6):
        for endpoint, mac in zip(pairs.endpoint, pairs.mac, strict=True):
            owner = by_index[endpoints.tenant[endpoint]]
            macs[owner].add(re.sub(r"(..)(?=.)", r"\1:", f"{int(mac):012x}"))
    ports: dict[int, set[int]] = defaultdict(set)
    for endpoint, port in zip(view.ports.endpoint, view.ports.port, strict=True):
        ports[by_index[endpoints.tenant[endpoint]]].add(int(port))
    return {
        vni: Tenant(int(mark), macs[vni], ports[vni], vteps[vni])
        for vni, mark in zip(by_index, topology.tenants.mark, strict=True)
        if view.host in vteps[vni]
    }


@given(hosts())
@settings(max_examples=60)
def test_no_row_of_a_tenant_speaks_of_another(host: tuple[Overlay, View]) -> None:
    view = host[1]
    known = tenants(view)
    tunnels = {view.tunnel, view.requests} - {None}
    seen = set()
    for flows in program.full(view).flows:
        if "vni" not in flows.rows.columns or flows.template.entry.name == "not_a_mark":
            continue
        for flow in decoded(flows):
            vni = flow.cookie & 0xFFFFFF
            seen.add(vni)
            tenant = known[vni]
            spoken = {flow.match[name] for name in ("metadata", "tunnel_id") if name in flow.match}
            spoken |= {*flow.sets("tunnel_id"), *flow.sets("metadata")} | {flow.metadata} - {None}
            assert spoken == {vni}
            port = flow.match.get("in_port", view.tunnel)
            assert port in tunnels or port in tenant.ports
            for mac in ("eth_src", "eth_dst", "arp_sha", "ipv6_nd_sll", "ipv6_nd_tll"):
                said = flow.match.get(mac, None)
                # Who asks sends to many: to all, or to solicited nodes (RFC 4291, 2.7.1).
                first = said[0] if isinstance(said, tuple) else said
                to_many = first is not None and int(first[:2], 16) & 1
                assert to_many or said in {None, "00:00:00:00:00:00", *tenant.macs}
            assert {*flow.sets("eth_src"), *flow.sets("arp_sha")} <= tenant.macs
            assert {*flow.sets("pkt_mark")} <= {0, tenant.mark}
            assert flow.match.get("pkt_mark", tenant.mark) == tenant.mark
            for action in flow.actions:
                if hasattr(action, "port") and flow.table > 4:
                    assert action.port in tunnels or action.port in tenant.ports
            for group in flow.groups:
                assert group == vni or lists_vteps_of(view, group, tenant)
    assert seen == set(known)


def lists_vteps_of(view: View, group: int, tenant: Tenant) -> bool:
    """Whether a shared list, in the group's own bytes, is exactly the tenant's other hosts."""
    words = buckets_of(program.full(view).groups[group])
    vteps = view.topology.vteps
    return words == {vteps.address(vtep) for vtep in tenant.vteps - {view.host}}


def buckets_of(body: bytes) -> set[str]:
    """The tunnel destinations of a group's buckets."""
    parser = framework.current().ofproto_v1_4_parser
    at, found = 6, set()
    while at < len(body):
        bucket = parser.OFPBucket.parser(body, at)
        at += bucket.len
        found |= {action.value for action in bucket.actions if hasattr(action, "key")}
    return found
