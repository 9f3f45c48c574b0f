"""Rows of `flows/`: the values that stand in the slots of one of its entries."""

from __future__ import annotations

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


def tunnel_of(view: View) -> dict[str, Column]:
    """The one value that is the same in every row on this host."""
    return {"tunnel": np.array([view.tunnel], np.uint32)}
