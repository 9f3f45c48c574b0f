"""Endpoints as a source gives them: in its own order, perhaps with mistakes, with places."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ovs_lwt.columns import U8, U32, U64, Flags, Pairs4, Pairs6, PortKeys, shifted, stacked
from ovs_lwt.sources.report import Spot

I64 = NDArray[np.int64]

Find = Callable[[int, str, str], Spot]
"""Takes a row, a field (``name``, ``mac``, ``ip``, ``host``, ``port``, …) and, for ``ip``,
the address, for ``allowed_pairs`` the pair (`pair_text`).
"""


@dataclass(frozen=True, slots=True, eq=False)
class EndpointRows:
    """N endpoints.

    `tenant` and `host` are places in the source's own lists, -1 where unknown; `mac` is 0 where
    it could not be read; `named` says which names are usable. Addresses refer to rows, and so do
    allowed pairs and what ports are known by, in any order; `ip6` is ``[A, 16]``. `find` gives the
    place of a row, and is asked for mistakes only.
    """

    tenant: I64
    host: I64
    mac: U64
    spoofing: Flags
    router: U8
    name: pa.StringArray
    named: Flags
    row4: I64
    ip4: U32
    prefix4: U8
    row6: I64
    ip6: U8
    prefix6: U8
    pairs4: Pairs4
    pairs6: Pairs6
    port_keys: PortKeys
    find: Find

    def __len__(self) -> int:
        return len(self.mac)


def mac_text(mac: int) -> str:
    """Return a 48-bit number as it is written."""
    return mac.to_bytes(6, "big").hex(":")


def pair_text(mac: int, address: IPv4Address | IPv6Address) -> str:
    """Return an allowed pair as it is written in the endpoints file."""
    return f"{address}@{mac_text(mac)}"


def joined(first: EndpointRows, second: EndpointRows) -> EndpointRows:
    """Return the rows of both, `first` before `second`."""
    if len(first) == 0:
        return second
    if len(second) == 0:
        return first
    shift = len(first)

    def find(row: int, field: str, text: str) -> Spot:
        if row < shift:
            return first.find(row, field, text)
        return second.find(row - shift, field, text)

    return EndpointRows(
        tenant=np.concatenate([first.tenant, second.tenant]),
        host=np.concatenate([first.host, second.host]),
        mac=np.concatenate([first.mac, second.mac]),
        spoofing=np.concatenate([first.spoofing, second.spoofing]),
        router=np.concatenate([first.router, second.router]),
        name=pa.concat_arrays([first.name, second.name]),
        named=np.concatenate([first.named, second.named]),
        row4=np.concatenate([first.row4, second.row4 + shift]),
        ip4=np.concatenate([first.ip4, second.ip4]),
        prefix4=np.concatenate([first.prefix4, second.prefix4]),
        row6=np.concatenate([first.row6, second.row6 + shift]),
        ip6=np.concatenate([first.ip6, second.ip6]),
        prefix6=np.concatenate([first.prefix6, second.prefix6]),
        pairs4=stacked([first.pairs4, shifted(second.pairs4, "endpoint", shift)]),
        pairs6=stacked([first.pairs6, shifted(second.pairs6, "endpoint", shift)]),
        port_keys=stacked([first.port_keys, shifted(second.port_keys, "endpoint", shift)]),
        find=find,
    )
