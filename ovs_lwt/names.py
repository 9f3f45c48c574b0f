"""Names: which ones an overlay may use, and those derived from them."""

from __future__ import annotations

import re
from hashlib import blake2b

NAME_PATTERN = r"[A-Za-z0-9._-]{1,63}"
_NAME = re.compile(NAME_PATTERN)

# IFNAMSIZ is 16 with the closing zero byte.
PORT_NAME_LIMIT = 15
# What iproute2, OVSDB and a shell all take as an interface name without quoting.
_CLEAN_PORT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def is_name(text: str) -> bool:
    """Say whether `text` can name a VTEP, a tenant or an endpoint."""
    return _NAME.fullmatch(text) is not None and text not in (".", "..")


def endpoint_id(tenant: str, endpoint: str) -> str:
    """Return ``TENANT/NAME``, the way a port claims its endpoint."""
    return f"{tenant}/{endpoint}"


def port_name(tenant: str, endpoint: str) -> str:
    """Return the name of the host side of an endpoint's veth: at most 15 characters.

    ``blue-web1`` where that fits. A longer or ambiguous one keeps its first 10 characters and
    ends in ``~`` and 4 hex digits of a hash of the endpoint's id, so that it stays the same from
    run to run.
    """
    whole = f"{tenant}-{endpoint}"
    # With a '-' in either name, "a-b"+"c" and "a"+"b-c" would share one port name.
    plain = "-" not in tenant and "-" not in endpoint and _CLEAN_PORT.fullmatch(whole)
    if plain and len(whole) <= PORT_NAME_LIMIT:
        return whole
    digest = blake2b(endpoint_id(tenant, endpoint).encode(), digest_size=2).hexdigest()
    head = re.sub(r"[^A-Za-z0-9_.-]", "_", whole)[:10]
    if not head[:1].isalnum():
        head = "p" + head[1:]
    return f"{head}~{digest}"


def default_datapath_id(vtep: str) -> int:
    """Return the datapath id of a host that names none: 48 bits hashed from its name, never 0.

    48 bits and a locally administered unicast first byte, since the low 48 bits of a datapath id
    are by custom (OpenFlow 1.3, 7.3.1) the switch's MAC address.
    """
    bits = int.from_bytes(blake2b(vtep.encode(), digest_size=6).digest(), "big")
    return (bits & ~(0x03 << 40)) | (0x02 << 40)
