"""The values of an overlay: frozen, and each validated here.

`Overlay.model_json_schema()` is the published JSON Schema of ``overlay.yaml``. What one value
alone cannot show to be wrong (a VNI used twice, an endpoint on an unknown host) is checked by
`ovs_lwt.sources`.
"""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)

from ovs_lwt.values import (
    Address,
    DatapathId,
    Interface,
    Mac,
    MacPrefix,
    Name,
    Uuid,
    VtepAddress,
    flag,
    nothing_is_empty,
    one_is_a_list,
    whole,
    word,
    wrong,
)

VNI_MAX = 0xFFFFFF
MARK_MAX = 0xFFFFFFFF
LABEL_MIN, LABEL_MAX = 16, 0xFFFFF  # RFC 3032: 20 bits, the first 16 are reserved

Plane = Literal["ovs", "bridge", "route"]
PLANES: tuple[Plane, ...] = get_args(Plane)
"""The forwarding planes: Open vSwitch, a Linux bridge, the kernel's routes."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Underlay(_Part):
    """What all tenants share below: the one VXLAN port and the network that carries it."""

    udp_port: Annotated[int, Field(ge=1, le=65535), whole(1, 65535, "udp_port")] = Field(
        4789, description="UDP port of the one shared VXLAN port on every VTEP."
    )
    replication_udp_port: Annotated[
        int, Field(ge=1, le=65535), whole(1, 65535, "replication_udp_port")
    ] = Field(
        14789,
        validate_default=True,
        description="UDP port by which hosts of plane ovs ask replicators, another than udp_port."
        " It is open while a host of the overlay is a replicator, and a minute longer.",
    )
    mtu: Annotated[int, Field(ge=1280, le=65535), whole(1280, 65535, "mtu")] = Field(
        1500,
        description="MTU of the underlay in bytes; guests get what VXLAN leaves of it"
        " (50 less over IPv4, 70 less over IPv6).",
    )

    @field_validator("replication_udp_port")
    @classmethod
    def _another_port(cls, port: int, about: ValidationInfo) -> int:
        if port == about.data.get("udp_port"):
            raise wrong(
                f"UDP port {port} is udp_port already: give the requests to replicators another"
            )
        return port


class Vtep(_Part):
    """A host of the overlay: where its end of every VXLAN tunnel is."""

    address: VtepAddress = Field(
        description="IPv4 or IPv6 address of the VTEP in the underlay, without prefix length."
    )
    external: Annotated[bool, BeforeValidator(flag)] = Field(
        False,
        description="True if somebody else runs this VTEP: it receives and sends, and ovs-lwt"
        " neither configures it nor gives it a namespace in a lab.",
    )
    plane: Annotated[Plane, word("plane", *PLANES)] = Field(
        "ovs",
        description="What forwards on this host: ovs (Open vSwitch, by flows), bridge (a Linux"
        " bridge, by its FDB) or route (the kernel's routes: tenants are IP networks without"
        " broadcast). Hosts of planes ovs and bridge can share a tenant; hosts of plane route"
        " share tenants among themselves only.",
    )
    mac_prefix: MacPrefix | None = Field(
        None,
        description="What the MACs of this host's guests begin with, 8 to 47 bits, apart from any"
        " other host's: 02:00:01:00:00:00/24. Hosts of plane ovs then have one flow for all of"
        " them; an endpoint whose MAC does not lie under its own host's prefix has a flow to"
        " itself. A frame to a MAC under it that no endpoint has goes to this host alone. The"
        " other planes have an entry for each endpoint, with it and without.",
    )
    replicator: Annotated[bool, BeforeValidator(flag)] = Field(
        False,
        description="True if this host replicates for others (RFC 9574): a host of plane ovs sends"
        " one copy of a broadcast to one of its tenant's replicators, which sends it to the rest."
        " It serves the tenants that have an endpoint on it. Only on plane ovs. Requests come to"
        " underlay.replication_udp_port, which firewalls between the hosts must let through.",
    )
    datapath_id: DatapathId | None = Field(
        None,
        description="OpenFlow datapath id of the host's bridge: 16 hex digits."
        " Default: derived from the VTEP's name.",
    )


class AllowedPair(_Part):
    """What else an endpoint's port may send from and be reached by. The same pair may stand at
    several endpoints of a tenant: frames to its MAC reach each of them, and they themselves answer
    for its address.
    """

    mac: Mac | None = Field(
        None,
        description="Unicast MAC address, no other endpoint's own: that of a virtual router"
        ' (RFC 9568), "00:00:5e:00:01:01". Default: the endpoint\'s own.',
    )
    ip: Address = Field(
        description="IPv4 or IPv6 address without prefix length, in no other endpoint's `ip`."
    )


class Endpoint(_Part):
    """A guest's port: on which host it is, and the addresses it may use."""

    host: Name = Field(description="Name of the VTEP behind which the endpoint lives.")
    mac: Mac = Field(description='Unicast MAC address, unique in the tenant: "02:00:00:00:00:01".')
    ip: Annotated[
        tuple[Interface, ...],
        BeforeValidator(one_is_a_list),
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
    spoofing: Annotated[Literal["deny", "allow"], word("spoofing", "deny", "allow")] = Field(
        "deny",
        description="deny: the port may send only from this MAC and these addresses, ARP and"
        " neighbour discovery included. allow: it may send from any.",
    )
    router: Annotated[bool, BeforeValidator(flag)] | None = Field(
        None,
        description="True if the endpoint is an IPv6 router, false if it is none: so it is said"
        " where neighbour discovery is answered for it (the R flag, RFC 4861, 4.4). Default:"
        " false; with `spoofing: allow` nothing is known, and the endpoint answers for its IPv6"
        " addresses itself.",
    )
    port: Uuid | None = Field(
        None,
        description="UUID of the endpoint's port, unique in the overlay: the `interfaceid` of"
        " libvirt's domain XML, which stands as `iface-id` at a port of Open vSwitch.",
    )
    attached_mac: Annotated[bool, BeforeValidator(flag)] = Field(
        False,
        description="True if the endpoint's port may also be known by the MAC that libvirt says is"
        " attached to it (`attached-mac`). No other endpoint on the host has this MAC.",
    )
    allowed_pairs: Annotated[tuple[AllowedPair, ...], BeforeValidator(one_is_a_list)] = Field(
        (),
        description="What else the port may send from and be reached by, for addresses that"
        " move between endpoints:"
        ' [{mac: "00:00:5e:00:01:01", ip: 10.0.0.100}, {ip: 10.0.0.101}].',
    )


class Tenant(_Part):
    """A network of its own: its VNI on the wire, its mark on the host, its endpoints."""

    vni: Annotated[int, Field(ge=1, le=VNI_MAX), whole(1, VNI_MAX, "VNI")] = Field(
        description="VXLAN network identifier of the tenant: 24 bits, unique in the overlay."
    )
    mark: Annotated[int, Field(ge=1, le=MARK_MAX), whole(1, MARK_MAX, "mark")] | None = Field(
        None,
        description="skb mark (pkt_mark in OVS) that selects the tenant: 32 bits, not 0, unique"
        " in the overlay. Default: the VNI.",
    )
    unknown_unicast: Annotated[
        Literal["flood", "drop"], word("unknown_unicast", "flood", "drop")
    ] = Field(
        "flood",
        description="What becomes of a unicast frame to a MAC that no endpoint has:"
        " flood to all of the tenant's endpoints, or drop.",
    )
    neighbours: Annotated[Literal["answer", "flood"], word("neighbours", "answer", "flood")] = (
        Field(
            "answer",
            description="ARP and neighbour solicitations for known addresses: answer on the"
            " sender's own host, or flood to the tenant.",
        )
    )
    vlan_tagged: Annotated[Literal["drop", "carry"], word("vlan_tagged", "drop", "carry")] = Field(
        "drop",
        description="Frames with VLAN tags: drop, or carry them between the tenant's endpoints,"
        " held to the port's MAC and otherwise as they are, one tag or more. VLAN 0 is no VLAN but"
        " a priority: what follows is held to the port's addresses, as without a tag. The MTU that"
        " guests get is 4 less, so that there is room for one tag.",
    )
    encapsulation: Annotated[Literal["vxlan", "mpls"], word("encapsulation", "vxlan", "mpls")] = (
        Field(
            "vxlan",
            description="What carries the tenant's packets between hosts. mpls: one label for the"
            " tenant, on hosts of plane route that are neighbours in the underlay.",
        )
    )
    label: (
        Annotated[int, Field(ge=LABEL_MIN, le=LABEL_MAX), whole(LABEL_MIN, LABEL_MAX, "MPLS label")]
        | None
    ) = Field(
        None,
        description="The tenant's MPLS label, unique in the overlay; needed only with"
        " encapsulation: mpls. Default: the VNI.",
    )
    endpoints: Annotated[dict[Name, Endpoint], BeforeValidator(nothing_is_empty)] = Field(
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

    underlay: Annotated[Underlay, BeforeValidator(nothing_is_empty)] = Field(
        default_factory=Underlay, description="The one shared VXLAN port and its network."
    )
    vteps: Annotated[dict[Name, Vtep], BeforeValidator(nothing_is_empty)] = Field(
        min_length=1, description="Hosts by name, at least one; each is one VTEP."
    )
    tenants: Annotated[dict[Name, Tenant], BeforeValidator(nothing_is_empty)] = Field(
        description="Tenants by name."
    )
    endpoints_file: str | None = Field(
        None,
        min_length=1,
        description="CSV file with more endpoints, its path relative to this file. First line:"
        " tenant,name,mac,ip,host (any order; optionally spoofing, router, allowed_pairs, port,"
        " attached_mac). Several addresses in one ip cell are separated by spaces or semicolons;"
        " so are allowed pairs, written 10.0.0.100@00:00:5e:00:01:01, or 10.0.0.100 with the"
        " endpoint's own MAC.",
    )
