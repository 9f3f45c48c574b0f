"""A MAC for each host, which follows from its VTEP's address: nobody has to ask.

On plane route it is that of the shared device. A packet that is routed into a tunnel has an inner
Ethernet header, and so needs the MAC of the device at the other end. On plane bridge it is that of
the bridge, whose own would change with its ports.
"""

from __future__ import annotations

from hashlib import blake2s
from typing import Final

import numpy as np

from ovs_lwt.columns import U64, link_local
from ovs_lwt.stencil import Bytes
from ovs_lwt.topology import VtepColumns

_OURS: Final = 0x024C << 32  # locally administered


def macs(vteps: VtepColumns) -> U64:
    """The hosts' MACs, uint64[V]: 02:4c and the IPv4 address, or a hash of the IPv6
    address.
    """
    hashed = [
        int.from_bytes(blake2s(address.tobytes(), digest_size=4).digest(), "big")
        for address in vteps.ipv6
    ]
    tail = np.where(vteps.family == 4, vteps.ipv4, np.array(hashed, np.uint64))
    return (_OURS | tail.astype(np.uint64)).astype(np.uint64)


def next_hops6(vteps: VtepColumns) -> Bytes:
    """The link-local addresses of the shared devices, uint8[V, 16]: nobody has them, but routes
    that need an IPv6 next hop name them.
    """
    return link_local(macs(vteps))
