"""Print what a host's switch should hold, in ovs-ofctl syntax: the same rows that are stamped, as
text.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from itertools import chain
from typing import TextIO

import numpy as np
import pyarrow as pa

from ovs_lwt.backends import words
from ovs_lwt.backends.openflow import program
from ovs_lwt.backends.openflow.floods import list_rows
from ovs_lwt.backends.openflow.pipeline import pipeline
from ovs_lwt.backends.openflow.relations import Buckets
from ovs_lwt.backends.openflow.rows import tenant_rows
from ovs_lwt.backends.openflow.slots import KINDS
from ovs_lwt.backends.scope import Scope
from ovs_lwt.stencil import Column, Columns
from ovs_lwt.view import View

Names = Mapping[int, str]
"""OpenFlow port -> what to print in its place; ports without a name are printed as numbers."""

_PORTS = frozenset({"port", "tunnel", "requests"})


def write_flows(view: View, names: Names, out: TextIO) -> None:
    """Print every flow, table by table, the reason for each before it."""
    found: dict[int, list[tuple[str, pa.StringArray]]] = {}
    lists = list_rows(view, view.flood_lists.owners)
    for rows in chain(program.shared_rows(view), lists, tenant_rows(Scope.everything(view))):
        template = pipeline().flows[rows.entry]
        if rows.count:
            columns = {**rows.columns, "cookie": template.cookies(rows.columns)}
            lines = _fill("cookie={cookie} " + template.text, rows.count, columns, names)
            found.setdefault(template.table, []).append((template.entry.why, lines))
    for number, name in pipeline().tables:
        out.write(f"# table {number}: {name}\n")
        for why, lines in found.get(number, []):
            _write_comment(why, out)
            words.write(lines, out)
        out.write("\n")


def write_groups(view: View, names: Names, out: TextIO) -> None:
    """Print every group, one a line."""
    out.write("# groups\n")
    for buckets in program.group_buckets(view, [Scope.everything(view)]):
        head = pipeline().groups[buckets.entry].heading(buckets.group)
        out.write(",".join([head, *_each(buckets, names)]) + "\n")


def _each(buckets: Buckets, names: Names) -> list[str]:
    text = "bucket=actions=" + pipeline().groups[buckets.entry].bucket
    lines: list[str] = _fill(text, buckets.count, buckets.columns, names).to_pylist()
    return [*(_each(buckets.first, names) if buckets.first else ()), *lines]


def _fill(text: str, count: int, columns: Columns, names: Names) -> pa.StringArray:
    """`count` lines of text with the columns' words in the slots."""
    return words.fill(text, count, lambda slot: _words(slot, columns[slot], names))


def _words(slot: str, column: Column, names: Names) -> pa.StringArray:
    if slot in _PORTS and names:
        numbers, which = np.unique(column, return_inverse=True)
        known = pa.array([names.get(int(number), str(number)) for number in numbers])
        return known.take(pa.array(which.ravel()))
    return KINDS[slot].words(column)


def _write_comment(why: str, out: TextIO) -> None:
    for line in textwrap.wrap(" ".join(why.split()), 110):
        out.write(f"# {line}\n")
