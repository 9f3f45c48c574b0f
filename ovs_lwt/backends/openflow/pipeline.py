"""The pipeline, compiled: `flows/` checked, and a stencil for each of its entries.

What flows in: the text of `flows/`. What flows out: for every flow an encoded bundle message with
slots, for every group an encoded head and an encoded bucket. Compiled once per process.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from ovs_lwt.backends.openflow import encode
from ovs_lwt.backends.openflow.flowfiles import Entry, FlowFile, FlowFileError, read_flows
from ovs_lwt.backends.openflow.slots import KINDS
from ovs_lwt.stencil import Columns, Stencil

BUNDLE = 1
"""The one bundle that a session has open at a time."""

COOKIE_OURS = 0x4C57 << 48
COOKIE_OURS_MASK = 0xFFFF << 48
COOKIE_VNI_MASK = 0xFFFFFF
_TABLE = re.compile(r"\b(table=|goto_table:|resubmit\(,)(\w+)")
_BUCKET = " bucket=actions="
_GROUP_NUMBER = re.compile(r"\{\w+\}")
_GROUP_HEAD = re.compile(rf"group_id={_GROUP_NUMBER.pattern},type=all")


@dataclass(frozen=True, slots=True)
class FlowTemplate:
    """A flow of the pipeline: its text with slots, and the bundle message that adds it, with the
    same slots.

    text: ovs-ofctl syntax, tables by number; message: slots of the entry, and `cookie`, and `xid`
    """

    entry: Entry
    table: int
    text: str
    message: Stencil

    @property
    def cookie(self) -> int:
        """Says what a flow is for: 0x4c57, table (8 bits), entry (8 bits); its low 24 bits are left
        to the VNI.
        """
        return COOKIE_OURS | self.table << 40 | self.entry.ordinal << 32

    def cookies(self, columns: Columns) -> NDArray[np.uint64]:
        """The cookies of rows: uint64[n], or [1] where the flow is nobody's."""
        base = np.uint64(self.cookie)
        return (
            np.atleast_1d(columns["vni"]).astype(np.uint64) | base
            if "vni" in columns
            else np.array([base])
        )

    def line(self, values: Mapping[str, int]) -> str:
        """One flow in ovs-ofctl syntax, for values of all its slots and, if given, its `cookie`."""
        words = {name: KINDS[name].text(values[name]) for name in self.entry.slots}
        cookie = f"cookie={values['cookie']:#x} " if "cookie" in values else ""
        return cookie + self.text.format(**words)


@dataclass(frozen=True, slots=True)
class GroupTemplate:
    """A group of the pipeline: its head and bucket as text, and the encoded bucket with slots."""

    entry: Entry
    head: str
    bucket: str
    message: Stencil

    def heading(self, group: int) -> str:
        """The head in ovs-ofctl syntax; its one slot is the group's number."""
        return _GROUP_NUMBER.sub(str(group), self.head)


@dataclass(frozen=True, slots=True)
class Pipeline:
    """All that `flows/` says. tables: (number, name) in the order in which packets meet them."""

    tables: tuple[tuple[int, str], ...]
    flows: Mapping[str, FlowTemplate]
    groups: Mapping[str, GroupTemplate]


@cache
def pipeline() -> Pipeline:
    """The pipeline of this installation. Raises FlowFileError."""
    return compile_files(read_flows())


def compile_files(files: tuple[FlowFile, ...]) -> Pipeline:
    """Check and compile the files of one pipeline.

    Raises FlowFileError for a `goto_table` or `table=` that names no table, or one that does not
    lie ahead, and for text that cannot be encoded.
    """
    numbers = {file.name: file.number for file in files if file.number is not None}
    flows, groups = {}, {}
    for file in files:
        for entry in file.entries:
            if file.number is None:
                groups[entry.name] = _compile_group(entry, numbers)
            else:
                flows[entry.id] = _compile_flow(entry, numbers)
    tables = tuple((number, name) for name, number in numbers.items())
    return Pipeline(tables, flows, groups)


def _compile_flow(entry: Entry, numbers: Mapping[str, int]) -> FlowTemplate:
    here = numbers[entry.table]
    if not entry.text.startswith(f"table={entry.table} "):
        raise FlowFileError(
            f"{entry.place}: a flow of this file begins with `table={entry.table} `"
        )
    text = _numbered(entry, entry.text, numbers)
    for kind, name in _TABLE.findall(entry.text):
        # A resubmit to its own table is how a packet comes to another flow of it.
        if numbers[name] < here or (kind == "goto_table:" and numbers[name] == here):
            raise FlowFileError(f"{entry.place}: {kind}{name} leads back: packets only go ahead")

    def message(values: Mapping[str, int]) -> bytes:
        words = {name: KINDS[name].text(values[name]) for name in entry.slots}
        flow = encode.flow_add(text.format(**words), values["cookie"])
        return encode.in_bundle(flow, BUNDLE, values["xid"])

    widths = {name: KINDS[name].width for name in entry.slots} | {"cookie": 8, "xid": 4}
    return FlowTemplate(entry, here, text, _trace(entry, message, widths))


def _numbered(entry: Entry, text: str, numbers: Mapping[str, int]) -> str:
    """The text with the tables' numbers in place of their names."""
    for kind, name in _TABLE.findall(text):
        if name not in numbers:
            raise FlowFileError(f"{entry.place}: {kind}{name}: there is no such table")
    return _TABLE.sub(lambda match: match[1] + str(numbers[match[2]]), text)


def _compile_group(entry: Entry, numbers: Mapping[str, int]) -> GroupTemplate:
    head, _, bucket = _numbered(entry, entry.text, numbers).partition(_BUCKET)
    if not bucket:
        raise FlowFileError(f"{entry.place}: a group has one `bucket=actions=…`")
    if not _GROUP_HEAD.fullmatch(head):
        raise FlowFileError(f"{entry.place}: groups are `group_id={{…}},type=all` so far")
    slots = [name for name in entry.slots if f"{{{name}}}" in bucket]
    empty = len(encode.encoded(encode.group_mod("ADD", 1, []), 0))

    def message(values: Mapping[str, int]) -> bytes:
        words = {name: KINDS[name].text(values[name]) for name in slots}
        return encode.encoded(encode.group_mod("ADD", 1, [bucket.format(**words)]), 0)[empty:]

    return GroupTemplate(
        entry, head, bucket, _trace(entry, message, {name: KINDS[name].width for name in slots})
    )


def _trace(
    entry: Entry, message: Callable[[Mapping[str, int]], bytes], widths: Mapping[str, int]
) -> Stencil:
    try:
        return Stencil.trace(message, widths)
    except Exception as error:
        # ovs.flow and the framework raise ParseError, TypeError, struct.error, as it happens.
        raise FlowFileError(f"{entry.place}: {entry.name} cannot be encoded: {error}") from error
