"""Columns that the rows of several tables have in common."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ovs_lwt.backends.scope import Scope
from ovs_lwt.columns import Indices
from ovs_lwt.stencil import Column

_T = TypeVar("_T", bound=np.generic)


def endpoint_columns(scope: Scope, endpoint: Indices) -> dict[str, Column]:
    """Whose these endpoints are, and their MACs."""
    endpoints = scope.endpoints
    return {"vni": scope.vni[endpoints.tenant[endpoint]], "mac": endpoints.mac[endpoint]}


def port_columns(scope: Scope, port: Indices) -> dict[str, Column]:
    """The same of the endpoints behind these of the view's ports, and the ports' numbers."""
    return endpoint_columns(scope, scope.endpoint_of(port)) | {"port": scope.view.ports.port[port]}


def join(endpoint: Indices, owner: Indices, address: NDArray[_T]) -> tuple[Indices, NDArray[_T]]:
    """Every address of these endpoints: (index into `endpoint`, address). owner: ascending, the
    address's endpoint.
    """
    low, high = np.searchsorted(owner, endpoint), np.searchsorted(owner, endpoint, "right")
    count = high - low
    left = np.repeat(np.arange(len(endpoint)), count)
    right = (
        np.arange(int(count.sum()))
        - np.repeat(np.cumsum(count) - count, count)
        + np.repeat(low, count)
    )
    return left, address[right]


def unique(owner: Indices, values: NDArray[Any]) -> tuple[Indices, NDArray[Any]]:
    """Each (owner, value) once, ascending by owner."""
    flat = values if values.ndim == 1 else np.ascontiguousarray(values).view("S16").ravel()
    _, code = np.unique(flat, return_inverse=True)
    key = owner.astype(np.int64) * (len(values) + 1) + code.reshape(-1)
    _, first = np.unique(key, return_index=True)
    return owner[first], values[first]
