"""Names: which ones an overlay may use, and those derived from them."""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from collections.abc import Container, Iterator
from hashlib import blake2b
from itertools import count
from typing import Final

from ovs_lwt.mistakes import Refused

NAME_PATTERN = r"[A-Za-z0-9._-]{1,63}"
_NAME = re.compile(NAME_PATTERN)

# IFNAMSIZ is 16 with the closing zero byte.
PORT_NAME_LIMIT = 15
# What iproute2, OVSDB, nft and a shell all take as an interface name without quoting.
_CLEAN_PORT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.~-]*")
_HEAD, _HASH = 5, 9  # characters of a shortened name before and behind its '~'

# Each pattern matches names of devices that are somebody else's, and says whose. None matches a
# shortened name, whose head would be the same however often it is hashed.
_RESERVED: Final = (
    (r"(an|br|vx)-lwt([.-][^~]*)?|lwt-[0-9]+", "one of ovs-lwt's own devices"),
    (r"ovs-[^~]*|[^~]*_sys(_[0-9]+)?", "one of Open vSwitch's own devices"),
    (r"lo|all|default|bonding_masters", "the kernel's"),
    # `ovs-ofctl` reads these as a port's number (OpenFlow 1.4, 7.2.1), in any case of letters.
    (r"[0-9]+", "read as a number by Open vSwitch"),
    (
        r"(?i:in_port|table|normal|flood|all|controller|local|any|none|unset)",
        "a reserved port of OpenFlow",
    ),
)
_WHOSE: Final = tuple((re.compile(pattern), whose) for pattern, whose in _RESERVED)


def is_name(text: str) -> bool:
    """Say whether `text` can name a VTEP, a tenant or an endpoint."""
    return _NAME.fullmatch(text) is not None and text not in (".", "..")


def check_name(what: str, name: str) -> None:
    """Raise `Refused` if nothing in an overlay can be called `name`; what: of which kind it is."""
    if not is_name(name):
        raise Refused(
            f"'{name}' cannot be the name of a {what}: it has 1 to 63 letters, digits, '.', '_' or"
            " '-'"
        )


def tenant_and_name(identity: str) -> tuple[str, str]:
    """Return the parts of an endpoint's ``TENANT/NAME``; raise `Refused` for any other form."""
    tenant, _, name = identity.partition("/")
    if not is_name(tenant) or not is_name(name):
        raise Refused(f"'{identity}' is not an endpoint: write it TENANT/NAME, like blue/web1")
    return tenant, name


def endpoint_id(tenant: str, endpoint: str) -> str:
    """Return ``TENANT/NAME``, the way a port claims its endpoint."""
    return f"{tenant}/{endpoint}"


def port_name(tenant: str, endpoint: str, taken: Container[str] = ()) -> str:
    """Return the name of the host side of an endpoint's veth: at most 15 characters.

    ``blue-web1`` where that fits. A name that is longer, ambiguous or somebody else's (see
    `unfit_port`) keeps its first 5 characters and ends in ``~`` and 9 characters of a hash of the
    endpoint's id, so that it stays the same from run to run and from host to host.

    taken: names that others have; with those of all endpoints before this one on its host, as
    `ovs_lwt.residents.port_names` gives them, no two endpoints of a host have one name
    """
    return next(
        name
        for name in _candidates(tenant, endpoint)
        if name not in taken and unfit_port(name) is None
    )


def _candidates(tenant: str, endpoint: str) -> Iterator[str]:
    whole = f"{tenant}-{endpoint}"
    # With a '-' in either name, "a-b"+"c" and "a"+"b-c" would share one port name.
    if "-" not in tenant and "-" not in endpoint:
        yield whole
    head = re.sub(r"[^A-Za-z0-9_.-]", "_", whole)[:_HEAD]
    if not head[:1].isalnum():
        head = "p" + head[1:]
    identity = endpoint_id(tenant, endpoint)
    for again in count():
        # Two slashes stand in no id, so what is hashed the second time is nobody's first.
        text = f"{identity}/{again}" if again else identity
        digest = urlsafe_b64encode(blake2b(text.encode(), digest_size=_HASH).digest()).decode()
        yield f"{head}~{digest[:_HASH]}"


def unfit_port(name: str) -> str | None:
    """Say why no guest's port can be called `name` (a sentence's end: "is …"), or return None."""
    if not name or len(name.encode(errors="surrogateescape")) > PORT_NAME_LIMIT:
        return f"is not 1 to {PORT_NAME_LIMIT} characters long, as the kernel wants it"
    if _CLEAN_PORT.fullmatch(name) is None:
        return "is not made of letters, digits, '_', '.', '~' and '-', the first a letter or digit"
    for pattern, whose in _WHOSE:
        if pattern.fullmatch(name):
            return f"is {whose}"
    return None


def kernel_half(udp_port: int) -> str:
    """Return what Open vSwitch calls the device that its kernel datapath has for a VXLAN port."""
    return f"vxlan_sys_{udp_port}"


def default_datapath_id(vtep: str) -> int:
    """Return the datapath id of a host that names none: 48 bits hashed from its name, never 0.

    48 bits and a locally administered unicast first byte, since the low 48 bits of a datapath id
    are by custom (OpenFlow 1.3, 7.3.1) the switch's MAC address.
    """
    bits = int.from_bytes(blake2b(vtep.encode(), digest_size=6).digest(), "big")
    return (bits & ~(0x03 << 40)) | (0x02 << 40)
