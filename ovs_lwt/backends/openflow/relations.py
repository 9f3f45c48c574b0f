"""Rows of `flows/`: the values that stand in the slots of one of its entries."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from ovs_lwt.stencil import Column, Columns
from ovs_lwt.view import View


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """The rows of one entry of `flows/` ("forward.remote_endpoint"): n values for each of its
    slots.
    """

    entry: str
    count: int
    columns: Columns


@dataclass(frozen=True, slots=True, eq=False)
class Buckets:
    """The buckets of one group ("remote_flood"). first: those of the same group before them."""

    entry: str
    group: int
    count: int
    columns: Columns
    first: Buckets | None = None


def merged(every: Iterable[Rows]) -> Iterator[Rows]:
    """The same rows, those of one entry together."""
    found: dict[str, list[Rows]] = {}
    for rows in every:
        if rows.count:
            found.setdefault(rows.entry, []).append(rows)
    for entry, some in found.items():
        if len(some) == 1:
            yield some[0]
            continue
        columns = {
            slot: np.concatenate([_spread(rows.columns[slot], rows.count) for rows in some])
            for slot in some[0].columns
        }
        yield Rows(entry, sum(rows.count for rows in some), columns)


def _spread(column: Column, count: int) -> Column:
    """A column with a value for each row, where it may have had one for all."""
    return column if len(column) == count else np.broadcast_to(column, (count, *column.shape[1:]))


def tunnel_of(view: View) -> dict[str, Column]:
    """The shared VXLAN port: the same in every row on this host."""
    return {"tunnel": np.array([view.tunnel], np.uint32)}


def requests_of(view: View) -> dict[str, Column]:
    """The request port, the same in every row; {} on a host that has none."""
    return {} if view.requests is None else {"requests": np.array([view.requests], np.uint32)}
