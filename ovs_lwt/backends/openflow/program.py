"""All that one host's switch should hold: every flow and group, stamped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from itertools import chain

from ovs_lwt.backends.openflow import encode, floods, rows, wire
from ovs_lwt.backends.openflow.pipeline import FlowTemplate, pipeline
from ovs_lwt.backends.openflow.relations import Buckets, Rows, merged, requests_of, tunnel_of
from ovs_lwt.backends.scope import Scope
from ovs_lwt.delta import Block
from ovs_lwt.mistakes import Refused
from ovs_lwt.stencil import Column
from ovs_lwt.view import View

_MESSAGE_LIMIT = 0xFFFF  # the length field of ofp_header has 16 bits
_ENVELOPE = wire.INNER + 64  # what a bundle adds around a group, with room to spare


@dataclass(frozen=True, slots=True, eq=False)
class FlowBlock:
    """The flows of one template: their rows, and the messages that add them."""

    template: FlowTemplate
    rows: Rows
    block: Block

    def line(self, row: int) -> str:
        """One of the flows in ovs-ofctl syntax."""
        return self.template.line(
            {name: _value(column, row) for name, column in self.rows.columns.items()}
        )


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """The flows of one scope, or those that are no tenant's: stamped when they are asked for."""

    rows: Callable[[], Iterable[Rows]]

    def flows(self) -> list[FlowBlock]:
        """Stamp them: one block for each entry that has rows."""
        return [stamped(found) for found in merged(self.rows())]


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """Flows and groups of a host, or of a part of it.

    groups: group id -> type and buckets as OpenFlow 1.4 encodes them (see wire.GROUP_MOD_BODY)
    """

    parts: tuple[Part, ...]
    groups: Mapping[int, bytes]

    @property
    def flows(self) -> Iterator[FlowBlock]:
        """All flows, stamped anew each time."""
        for part in self.parts:
            yield from part.flows()

    @property
    def flow_count(self) -> int:
        """How many flows these are."""
        return sum(map(len, self.blocks))

    @property
    def blocks(self) -> list[Block]:
        """The flows as blocks to compare."""
        return [flow.block for flow in self.flows]


def full(view: View) -> Program:
    """Everything the host needs."""
    scopes = list(Scope.slices(view))
    parts = (shared(view), lists(view, view.flood_lists.owners), *map(of, scopes))
    return Program(parts, groups(group_buckets(view, scopes)))


def of(*scopes: Scope) -> Part:
    """The flows of the tenants and endpoints in these scopes."""
    return Part(lambda: chain.from_iterable(map(rows.tenant_rows, scopes)))


def shared(view: View) -> Part:
    """The flows that are no tenant's."""
    return Part(partial(shared_rows, view))


def lists(view: View, some: Mapping[bytes, int]) -> Part:
    """The flows of these flood lists (list -> owner, see FloodLists)."""
    return Part(partial(floods.list_rows, view, some))


def groups(every: Iterable[Buckets]) -> dict[int, bytes]:
    """Encode these groups."""
    return {found.group: _group(found) for found in every}


def shared_rows(view: View) -> Iterator[Rows]:
    """The rows of the flows that are no tenant's."""
    ports = {**tunnel_of(view), **requests_of(view)}
    constants = [
        Rows(id_, 1, ports)
        for id_, flow in pipeline().flows.items()
        if set(flow.entry.slots) <= ports.keys()
        and (view.nd_by_flow or flow.entry.table != "advertise")
    ]
    return chain(constants, rows.shared_rows(view))


def group_buckets(view: View, scopes: Iterable[Scope]) -> Iterator[Buckets]:
    """The buckets of every group: the guests of the tenants in scope, and the lists of VTEPs."""
    for scope in scopes:
        yield from floods.local_floods(scope)
    yield from floods.remote_floods(view, view.flood_lists.owners)


def stamped(found: Rows) -> FlowBlock:
    """Stamp the rows of one entry."""
    template = pipeline().flows[found.entry]
    columns = {**found.columns, "cookie": template.cookies(found.columns)}
    named = Rows(found.entry, found.count, columns)
    # A message has its number when it is sent.
    messages = template.message.stamp(found.count, columns, leave=("xid",))
    return FlowBlock(template, named, wire.flow_mod_block(messages))


def _group(found: Buckets) -> bytes:
    body = _group_head() + found.group.to_bytes(4, "big") + _buckets(found)
    if len(body) + _ENVELOPE > _MESSAGE_LIMIT:
        raise Refused(
            f"group {found.group} would have {found.count} members, {len(body)} bytes: an OpenFlow"
            f" message holds {_MESSAGE_LIMIT}. Spread the tenant over fewer hosts."
        )
    return body


@cache
def _group_head() -> bytes:
    """What a group begins with before its number: the library need not encode it each time."""
    message = encode.encoded(encode.group_mod("ADD", 0, []), 0)
    return message[wire.GROUP_MOD_BODY :].removesuffix(bytes(4))


def _buckets(found: Buckets) -> bytes:
    first = _buckets(found.first) if found.first else b""
    if not found.count:
        return first
    stencil = pipeline().groups[found.entry].message
    return first + stencil.stamp(found.count, found.columns).tobytes()


def _value(column: Column, row: int) -> int:
    value = column[row if len(column) > 1 else 0]
    return int.from_bytes(value.tobytes(), "big") if value.ndim else int(value)
