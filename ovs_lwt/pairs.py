"""Allowed pairs: columns from what is written, and which of them are another endpoint's own.

Nothing here looks at endpoints where there are no pairs.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ovs_lwt.columns import Indices, Pairs4, Pairs6

Pair = tuple[int, int, IPv4Address | IPv6Address]
"""Endpoint (its row), MAC, address."""


def pairs_of(found: Iterable[Pair]) -> tuple[Pairs4, Pairs6]:
    """Return the columns of these pairs, in their order."""
    four, six = [], []
    for row, mac, address in found:
        if isinstance(address, IPv4Address):
            four.append((row, mac, int(address)))
        else:
            six.append((row, mac, address.packed))
    return (
        Pairs4(
            np.array([row for row, _, _ in four], np.uint32),
            np.array([mac for _, mac, _ in four], np.uint64),
            np.array([address for _, _, address in four], np.uint32),
        ),
        Pairs6(
            np.array([row for row, _, _ in six], np.uint32),
            np.array([mac for _, mac, _ in six], np.uint64),
            np.frombuffer(b"".join(octets for _, _, octets in six), np.uint8).reshape(-1, 16),
        ),
    )


def other_owners(
    tenant: NDArray[Any],
    own: tuple[NDArray[Any], NDArray[Any]],
    pairs: tuple[NDArray[Any], NDArray[Any]],
) -> Indices:
    """Return for every pair the other endpoint of its tenant that has the pair's value as its own,
    -1 where there is none.

    tenant: of every endpoint, negative where unknown; own, pairs: endpoints, and the value (MAC or
    address) that each has, ``[n]`` or ``[n, 16]``
    """
    owner, values = own[0], _flat(own[1])
    pair_owner, pair_values = pairs[0], _flat(pairs[1])
    result = np.full(len(pair_owner), -1, np.intp)
    near = np.flatnonzero(np.isin(values, pair_values))
    if not len(near):
        return result
    _, code = np.unique(np.concatenate([values[near], pair_values]), return_inverse=True)
    owners = np.concatenate([owner[near], pair_owner]).astype(np.intp)
    key = tenant[owners].astype(np.int64) << 32 | code.reshape(-1)
    order = np.argsort(key[: len(near)], kind="stable")
    ascending, wanted = key[: len(near)][order], key[len(near) :]
    place = np.minimum(np.searchsorted(ascending, wanted), len(near) - 1)
    found = owners[: len(near)][order[place]]
    clash = (ascending[place] == wanted) & (found != pair_owner) & (wanted >= 0)
    result[clash] = found[clash]
    return result


def repeated_pairs(pairs: Pairs4 | Pairs6) -> tuple[Indices, Indices]:
    """Return the pairs that stand at their endpoint a second time, and where they stand first."""
    _, code = np.unique(_flat(pairs.ip), return_inverse=True)
    order = np.lexsort((np.arange(len(pairs)), pairs.mac, code.reshape(-1), pairs.endpoint))
    columns = (pairs.endpoint[order], pairs.mac[order], code.reshape(-1)[order])
    again = np.append(False, np.ones(max(len(pairs) - 1, 0), np.bool_))[: len(pairs)]
    for column in columns:
        again[1:] &= column[1:] == column[:-1]
    first = np.maximum.accumulate(np.where(again, 0, np.arange(len(pairs))))
    later = np.flatnonzero(again)
    return order[later], order[first[later]]


def _flat(values: NDArray[Any]) -> NDArray[Any]:
    """Addresses of 16 bytes as one value each."""
    if values.ndim == 1:
        return values
    # Bytes of a fixed width compare as they stand: nothing is cut off that would make a difference.
    return np.ascontiguousarray(values).view("S16").ravel()
