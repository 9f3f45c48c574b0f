"""What one value of an overlay may be, and what the user is told if it is not.

Types for `ovs_lwt.model`: each checks itself, and says a mistake so that it can be mended.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv6Address,
    IPv6Interface,
    ip_address,
    ip_interface,
)
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, StringConstraints
from pydantic_core import PydanticCustomError

from ovs_lwt.names import NAME_PATTERN, is_name

_MAC = re.compile(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}")
_PREFIX_BITS = range(8, 48)  # Fewer would hold multicast MACs as well; 48 are one MAC
_UUID = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_DATAPATH_ID = re.compile(r"(0[xX])?[0-9A-Fa-f]{16}")
_PREFIX = re.compile(r"[1-9][0-9]{0,2}")
_IPV4_BROADCAST = IPv4Address("255.255.255.255")


def wrong(message: str) -> PydanticCustomError:
    """Return the error a validator raises: `message` is shown to the user as it stands."""
    # Braces would be taken for placeholders of a template.
    return PydanticCustomError("overlay", "{message}", {"message": message})


def _name(value: Any) -> Any:
    if not isinstance(value, str):
        raise wrong(f"a name is text, not {kind_of(value)}")
    if not is_name(value):
        raise wrong(
            f"name {shown(value)} cannot be used: take 1 to 63 letters, digits, '.', '_' or '-'"
        )
    return value


def _mac(value: Any) -> Any:
    if not isinstance(value, str):
        raise wrong(f'a MAC is text in quotes, like "02:00:00:00:00:01", not {kind_of(value)}')
    if _MAC.fullmatch(value) is None:
        raise wrong(f'MAC {shown(value)} is malformed: write it like "02:00:00:00:00:01"')
    text = value.lower()
    if text == "00:00:00:00:00:00":
        raise wrong(f"MAC {text} is all zero: an endpoint needs a MAC of its own")
    if int(text[:2], 16) & 1:
        kind = "broadcast" if text == "ff:ff:ff:ff:ff:ff" else "multicast"
        raise wrong(f"MAC {text} is {kind}: an endpoint needs a unicast MAC (second digit even)")
    return text


def _uuid(value: Any) -> Any:
    like = "0f8fad5b-d9cb-469f-a165-70867728950e"
    if not isinstance(value, str):
        raise wrong(f"a port's UUID is text, like {like}, not {kind_of(value)}")
    if _UUID.fullmatch(value) is None:
        raise wrong(f"port {shown(value)} is no UUID: write it like {like}")
    text = value.lower()
    if not text.strip("0-"):
        raise wrong(f"port {text} is all zero: a port needs a UUID of its own")
    return text


def _mac_prefix(value: Any) -> Any:
    like = "02:00:01:00:00:00/24"
    if not isinstance(value, str):
        raise wrong(f"a MAC prefix is text, like {like}, not {kind_of(value)}")
    text = value.lower()
    mac, slash, bits = text.partition("/")
    if _MAC.fullmatch(mac) is None or (slash and _PREFIX.fullmatch(bits) is None):
        raise wrong(f"MAC prefix {shown(value)} is malformed: write it like {like}")
    if not slash:
        raise wrong(f"MAC prefix {shown(value)} has no length: write it like {mac}/24")
    if int(bits) not in _PREFIX_BITS:
        raise wrong(
            f"MAC prefix {text} is {bits} bits long: take {_PREFIX_BITS[0]} to {_PREFIX_BITS[-1]}"
        )
    prefix, mask = prefix_and_mask(text)
    if int(mac[:2], 16) & 1:
        raise wrong(f"MAC prefix {text} is multicast: endpoints' MACs are not (second digit even)")
    if prefix & ~mask:
        rest = (prefix & mask).to_bytes(6, "big").hex(":")
        raise wrong(f"MAC prefix {text} has bits set behind its {bits}: write {rest}/{bits}")
    return text


def prefix_and_mask(text: str) -> tuple[int, int]:
    """Return the numbers of a `MacPrefix`, 48 bits each."""
    mac, _, bits = text.partition("/")
    return int(mac.replace(":", ""), 16), (1 << 48) - (1 << 48 - int(bits))


def _bare(like: str, alone: str, whose: str) -> Callable[[Any], Any]:
    """Make the check of an address without a prefix length. like: one; alone: why it has none;
    whose: who needs it to be unicast
    """

    def check(value: Any) -> Any:
        if isinstance(value, IPv4Address | IPv6Address):
            value = str(value)
        if not isinstance(value, str):
            raise wrong(f"an address is text, like {like}, not {kind_of(value)}")
        try:
            address = ip_address(value)
        except ValueError:
            if "/" in value:
                raise wrong(
                    f"address {shown(value)} carries a prefix length: {alone}, without '/'"
                ) from None
            raise wrong(f"address {shown(value)} is neither an IPv4 nor an IPv6 address") from None
        if (reason := unusable(address)) is not None:
            raise wrong(f"address {address} {reason}: {whose} needs a unicast address")
        return address

    return check


_vtep_address = _bare("192.0.2.11", "a VTEP has one address", "a VTEP")
_address = _bare("10.0.0.100", "a pair has a single address", "an endpoint")


def _interface(value: Any) -> Any:
    if isinstance(value, IPv4Interface | IPv6Interface):
        value = str(value)
    if not isinstance(value, str):
        raise wrong(f"an address is text, like 10.0.0.11/24, not {kind_of(value)}")
    host, slash, prefix = value.partition("/")
    try:
        bare = ip_address(host)
        # ipaddress takes more after '/': a netmask, leading zeros, digits of other scripts.
        if slash and prefix != "0" and _PREFIX.fullmatch(prefix) is None:
            raise ValueError
        address = ip_interface(value)
    except ValueError:
        raise wrong(
            f"address {shown(value)} is malformed: write it like 10.0.0.11/24 or fd00::11/64"
        ) from None
    if not slash:
        raise wrong(
            f"address {shown(value)} has no prefix length: write it like"
            f" {value}/{24 if bare.version == 4 else 64}"
        )
    if (reason := unusable(bare)) is not None:
        raise wrong(f"address {value} {reason}: an endpoint needs a unicast address")
    network = address.network
    if network.prefixlen < network.max_prefixlen - 1:
        if bare == network.network_address:
            raise wrong(f"address {value} is the network's own: give one of the hosts' addresses")
        if bare.version == 4 and bare == network.broadcast_address:
            raise wrong(f"address {value} is the broadcast address of {network}")
    return address


def unusable(address: IPv4Address | IPv6Address) -> str | None:
    """Say why no machine can have `address` (``is multicast``, …), or return None."""
    if address.is_unspecified:
        return "is unspecified"
    if address.is_multicast:
        return "is multicast"
    if address.is_loopback:
        return "is a loopback address"
    if address.version == 4:
        if address == _IPV4_BROADCAST:
            return "is the broadcast address"
        if int(address) >> 24 == 0:
            return "lies in 0.0.0.0/8"
        if int(address) >> 28 == 0xF:
            return "lies in 240.0.0.0/4, which is reserved"
    elif address.ipv4_mapped is not None:
        return f"is IPv4 in disguise (write {address.ipv4_mapped})"
    elif address.scope_id is not None:
        return "names a zone ('%')"
    return None


def _datapath_id(value: Any) -> Any:
    if not isinstance(value, str):
        raise wrong(
            f'a datapath id is text in quotes, like "0000020000000001", not {kind_of(value)}'
        )
    if _DATAPATH_ID.fullmatch(value) is None:
        raise wrong(f"datapath id {shown(value)} is malformed: it has exactly 16 hex digits")
    text = value[-16:].lower()
    if int(text, 16) == 0:
        raise wrong("datapath id is all zero, which no switch takes")
    return text


def one_is_a_list(value: Any) -> Any:
    """Let one address stand without brackets, and none for an empty list."""
    if value is None:
        return ()
    return (value,) if isinstance(value, str | IPv4Interface | IPv6Interface) else value


def shown(text: str) -> str:
    """Return `text` in quotes, control characters escaped, cut to a line's length."""
    return repr(text) if len(text) <= 60 else f"{text[:57]!r}…"


def kind_of(value: Any) -> str:
    """Return what `value` is, for "…, not X" in a message."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, dict):
        return "a mapping"
    return shown(str(value))


def whole(low: int, high: int, what: str) -> BeforeValidator:
    """Return the check of a whole number, called `what` in messages."""

    def check(value: Any) -> Any:
        if isinstance(value, str) and value.isascii() and value.isdigit():
            raise wrong(f"{what} is a number: write it without quotes, not {shown(value)}")
        if isinstance(value, bool) or not isinstance(value, int):
            raise wrong(f"{what} is a whole number from {low} to {high}, not {kind_of(value)}")
        if not low <= value <= high:
            raise wrong(f"{what} {value} is outside {low}..{high}")
        return value

    return BeforeValidator(check)


def word(what: str, *words: str) -> BeforeValidator:
    """Return the check of a value that is one of `words`."""

    def check(value: Any) -> Any:
        if value not in words:
            raise wrong(f"{what} is {' or '.join(words)}, not {kind_of(value)}")
        return value

    return BeforeValidator(check)


def nothing_is_empty(value: Any) -> Any:
    """Take nothing for an empty mapping: ``tenants:`` with every line below it commented out."""
    return {} if value is None else value


def flag(value: Any) -> Any:
    """Take true and false alone, not the words that pydantic takes for them."""
    if not isinstance(value, bool):
        raise wrong(f"write true or false, not {kind_of(value)}")
    return value


Name = Annotated[str, StringConstraints(pattern=f"^{NAME_PATTERN}$"), BeforeValidator(_name)]
Mac = Annotated[str, StringConstraints(pattern=f"^{_MAC.pattern}$"), BeforeValidator(_mac)]
MacPrefix = Annotated[
    str,
    StringConstraints(pattern=f"^{_MAC.pattern}/([89]|[1-3][0-9]|4[0-7])$"),
    BeforeValidator(_mac_prefix),
]
Uuid = Annotated[str, StringConstraints(pattern=f"^{_UUID.pattern}$"), BeforeValidator(_uuid)]
DatapathId = Annotated[
    str, StringConstraints(pattern=f"^{_DATAPATH_ID.pattern}$"), BeforeValidator(_datapath_id)
]
VtepAddress = Annotated[IPv4Address | IPv6Address, BeforeValidator(_vtep_address)]
Address = Annotated[IPv4Address | IPv6Address, BeforeValidator(_address)]
Interface = Annotated[
    IPv4Interface | IPv6Interface, BeforeValidator(_interface), PlainSerializer(str)
]
