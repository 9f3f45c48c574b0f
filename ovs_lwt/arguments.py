"""The command line's words: choices, and arguments that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Plane(StrEnum):
    """What forwards on a host."""

    OVS = "ovs"
    BRIDGE = "bridge"
    ROUTE = "route"


class Marking(StrEnum):
    """Who sets a tenant's mark."""

    AUTO = "auto"
    TC = "tc"
    NFT = "nft"
    FLOW = "flow"


class ExportPart(StrEnum):
    """What to print."""

    ALL = "all"
    GROUPS = "groups"
    FLOWS = "flows"
    LINKS = "links"
    SYSCTL = "sysctl"
    BRIDGE = "bridge"
    IP = "ip"
    IP6 = "ip6"
    MPLS = "mpls"
    TC = "tc"


class Datapath(StrEnum):
    """Which datapath a new bridge gets."""

    AUTO = "auto"
    SYSTEM = "system"
    NETDEV = "netdev"


class NeighbourDiscovery(StrEnum):
    """Who answers neighbour solicitations."""

    AUTO = "auto"
    FLOW = "flow"
    APP = "app"


Overlay = Annotated[Path, typer.Argument(help="The overlay file.", metavar="OVERLAY")]
Ovsdb = Annotated[str, typer.Option(help="Where the host's OVSDB listens (plane ovs).")]
Bridge = Annotated[str, typer.Option(help="The bridge's name.")]


HostHere = Annotated[
    str | None,
    typer.Option(help="The host of the overlay. Default: the one of this machine's name."),
]
Endpoint = Annotated[str, typer.Argument(help="The endpoint: TENANT/NAME.", metavar="ENDPOINT")]
PlaneOption = Annotated[
    Plane | None,
    typer.Option("--plane", help="Put all hosts on this plane. Default: as the overlay says."),
]
State = Annotated[Path, typer.Option(help="Where plane bridge keeps which VLAN is whose, by host.")]
TlsKey = Annotated[
    Path | None,
    typer.Option(help="TLS, for --listen and OVSDB by ssl: the private key (PEM) of this agent."),
]
TlsCert = Annotated[Path | None, typer.Option(help="... its certificate.")]
TlsCa = Annotated[
    Path | None,
    typer.Option(help="... who signs the switches' certificates. Their name is the host's."),
]
