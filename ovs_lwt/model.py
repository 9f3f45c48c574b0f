"""The values of an overlay: frozen, and each validated here.

`Overlay.model_json_schema()` is the published JSON Schema of ``overlay.yaml``. What one value
alone cannot show to be wrong (a VNI used twice, an endpoint on an unknown host) is checked by
`ovs_lwt.sources`.
"""

from __future__ import annotations

import re
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv6Address,
    IPv6Interface,
    ip_address,
    ip_interface,
)
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from ovs_lwt.names import NAME_PATTERN, is_name

VNI_MAX = 0xFFFFFF
MARK_MAX = 0xFFFFFFFF
LABEL_MIN, LABEL_MAX = 16, 0xFFFFF  # RFC 3032: 20 bits, the first 16 are reserved

Plane = Literal["ovs", "bridge", "route"]
PLANES: tuple[Plane, ...] = get_args(Plane)
"""The forwarding planes: Open vSwitch, a Linux bridge, the kernel's routes."""

_MAC = re.compile(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}")
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


def _vtep_address(value: Any) -> Any:
    if isinstance(value, IPv4Address | IPv6Address):
        value = str(value)
    if not isinstance(value, str):
        raise wrong(f"an address is text, like 192.0.2.11, not {kind_of(value)}")
    try:
        address = ip_address(value)
    except ValueError:
        if "/" in value:
            raise wrong(
                f"address {shown(value)} carries a prefix length:"
                " a VTEP has one address, without '/'"
            ) from None
        raise wrong(f"address {shown(value)} is neither an IPv4 nor an IPv6 address") from None
    if (reason := unusable(address)) is not None:
        raise wrong(f"address {address} {reason}: a VTEP needs a unicast address")
    return address


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


def _one_is_a_list(value: Any) -> Any:
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


def _whole(low: int, high: int, what: str) -> BeforeValidator:
    def check(value: Any) -> Any:
        if isinstance(value, str) and value.isascii() and value.isdigit():
            raise wrong(f"{what} is a number: write it without quotes, not {shown(value)}")
        if isinstance(value, bool) or not isinstance(value, int):
            raise wrong(f"{what} is a whole number from {low} to {high}, not {kind_of(value)}")
        if not low <= value <= high:
            raise wrong(f"{what} {value} is outside {low}..{high}")
        return value

    return BeforeValidator(check)


def _word(what: str, *words: str) -> BeforeValidator:
    def check(value: Any) -> Any:
        if value not in words:
            raise wrong(f"{what} is {' or '.join(words)}, not {kind_of(value)}")
        return value

    return BeforeValidator(check)


def _nothing_is_empty(value: Any) -> Any:
    # "tenants:" with every line below it commented out.
    return {} if value is None else value


def _flag(value: Any) -> Any:
    if not isinstance(value, bool):
        raise wrong(f"write true or false, not {kind_of(value)}")
    return value


Name = Annotated[str, StringConstraints(pattern=f"^{NAME_PATTERN}$"), BeforeValidator(_name)]
Mac = Annotated[str, StringConstraints(pattern=f"^{_MAC.pattern}$"), BeforeValidator(_mac)]
DatapathId = Annotated[
    str, StringConstraints(pattern=f"^{_DATAPATH_ID.pattern}$"), BeforeValidator(_datapath_id)
]
VtepAddress = Annotated[IPv4Address | IPv6Address, BeforeValidator(_vtep_address)]
Interface = Annotated[
    IPv4Interface | IPv6Interface, BeforeValidator(_interface), PlainSerializer(str)
]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Underlay(_Part):
    """What all tenants share below: the one VXLAN port and the network that carries it."""

    udp_port: Annotated[int, Field(ge=1, le=65535), _whole(1, 65535, "udp_port")] = Field(
        4789, description="UDP port of the one shared VXLAN port on every VTEP."
    )
    mtu: Annotated[int, Field(ge=1280, le=65535), _whole(1280, 65535, "mtu")] = Field(
        1500,
        description="MTU of the underlay in bytes; guests get what VXLAN leaves of it"
        " (50 less over IPv4, 70 less over IPv6).",
    )


class Vtep(_Part):
    """A host of the overlay: where its end of every VXLAN tunnel is."""

    address: VtepAddress = Field(
        description="IPv4 or IPv6 address of the VTEP in the underlay, without prefix length."
    )
    external: Annotated[bool, BeforeValidator(_flag)] = Field(
        False,
        description="True if somebody else runs this VTEP: it receives and sends, and ovs-lwt"
        " neither configures it nor gives it a namespace in a lab.",
    )
    plane: Annotated[Plane, _word("plane", *PLANES)] = Field(
        "ovs",
        description="What forwards on this host: ovs (Open vSwitch, by flows), bridge (a Linux"
        " bridge, by its FDB) or route (the kernel's routes: tenants are IP networks without"
        " broadcast). Hosts of planes ovs and bridge can share a tenant; hosts of plane route"
        " share tenants among themselves only.",
    )
    datapath_id: DatapathId | None = Field(
        None,
        description="OpenFlow datapath id of the host's bridge: 16 hex digits."
        " Default: derived from the VTEP's name.",
    )


class Endpoint(_Part):
    """A guest's port: on which host it is, and the addresses it may use."""

    host: Name = Field(description="Name of the VTEP behind which the endpoint lives.")
    mac: Mac = Field(description='Unicast MAC address, unique in the tenant: "02:00:00:00:00:01".')
    ip: Annotated[
        tuple[Interface, ...],
        BeforeValidator(_one_is_a_list),
        WithJsonSchema(
            {
                "anyOf": [
                    {"type": "array", "items": {"type": "string"}},
                    {"type": "string"},
                    {"type": "null"},
                ]
            }
        ),
    ] = Field(
        (),
        description="Addresses with prefix length, IPv4 and IPv6, unique in the tenant:"
        " [10.0.0.11/24, fd00::11/64]. One address may stand without brackets.",
    )
    spoofing: Annotated[Literal["deny", "allow"], _word("spoofing", "deny", "allow")] = Field(
        "deny",
        description="deny: the port may send only from this MAC and these addresses, ARP and"
        " neighbour discovery included. allow: it may send from any.",
    )


class Tenant(_Part):
    """A network of its own: its VNI on the wire, its mark on the host, its endpoints."""

    vni: Annotated[int, Field(ge=1, le=VNI_MAX), _whole(1, VNI_MAX, "VNI")] = Field(
        description="VXLAN network identifier of the tenant: 24 bits, unique in the overlay."
    )
    mark: Annotated[int, Field(ge=1, le=MARK_MAX), _whole(1, MARK_MAX, "mark")] | None = Field(
        None,
        description="skb mark (pkt_mark in OVS) that selects the tenant: 32 bits, not 0, unique"
        " in the overlay. Default: the VNI.",
    )
    unknown_unicast: Annotated[
        Literal["flood", "drop"], _word("unknown_unicast", "flood", "drop")
    ] = Field(
        "flood",
        description="What becomes of a unicast frame to a MAC that no endpoint has:"
        " flood to all of the tenant's endpoints, or drop.",
    )
    neighbours: Annotated[Literal["answer", "flood"], _word("neighbours", "answer", "flood")] = (
        Field(
            "answer",
            description="ARP and neighbour solicitations for known addresses: answer on the"
            " sender's own host, or flood to the tenant.",
        )
    )
    encapsulation: Annotated[Literal["vxlan", "mpls"], _word("encapsulation", "vxlan", "mpls")] = (
        Field(
            "vxlan",
            description="What carries the tenant's packets between hosts. mpls: one label for the"
            " tenant, on hosts of plane route that are neighbours in the underlay.",
        )
    )
    label: (
        Annotated[
            int, Field(ge=LABEL_MIN, le=LABEL_MAX), _whole(LABEL_MIN, LABEL_MAX, "MPLS label")
        ]
        | None
    ) = Field(
        None,
        description="The tenant's MPLS label, unique in the overlay; needed only with"
        " encapsulation: mpls. Default: the VNI.",
    )
    endpoints: Annotated[dict[Name, Endpoint], BeforeValidator(_nothing_is_empty)] = Field(
        default_factory=dict,
        description="Endpoints by name; more may come from endpoints_file.",
    )

    @property
    def effective_mark(self) -> int:
        """The tenant's mark: the VNI where none is given."""
        return self.vni if self.mark is None else self.mark

    @property
    def effective_label(self) -> int:
        """The tenant's MPLS label: the VNI where none is given; 0 without MPLS."""
        if self.encapsulation != "mpls":
            return 0
        return self.vni if self.label is None else self.label


class Overlay(_Part):
    """The whole intent: underlay, hosts, tenants and their endpoints."""

    underlay: Annotated[Underlay, BeforeValidator(_nothing_is_empty)] = Field(
        default_factory=Underlay, description="The one shared VXLAN port and its network."
    )
    vteps: Annotated[dict[Name, Vtep], BeforeValidator(_nothing_is_empty)] = Field(
        min_length=1, description="Hosts by name, at least one; each is one VTEP."
    )
    tenants: Annotated[dict[Name, Tenant], BeforeValidator(_nothing_is_empty)] = Field(
        description="Tenants by name."
    )
    endpoints_file: str | None = Field(
        None,
        min_length=1,
        description="CSV file with more endpoints, its path relative to this file. First line:"
        " tenant,name,mac,ip,host (any order; optionally spoofing). Several addresses in one ip"
        " cell are separated by spaces or semicolons.",
    )
