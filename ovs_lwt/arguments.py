"""The command line's words: choices, and arguments that several commands share."""

from __future__ import annotations

import re
import stat
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from math import isnan
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from ovs_lwt.control import FOLDER, check_path
from ovs_lwt.mistakes import Refused
from ovs_lwt.names import check_name, tenant_and_name
from ovs_lwt.vswitch.plan import check_port_name, check_remote


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


def each_by(check: Callable[[Any], object]) -> Callable[[Any], Any]:
    """Make of a check of one value, which raises Refused, a callback of an option's: it looks at
    what was given, all of it, before anything is done.
    """

    def callback(given: Any) -> Any:
        for value in given if isinstance(given, list) else [given]:
            if value is not None:
                check(value)
        return given

    return callback


def _check_state(state: Path) -> None:
    mend = "name a folder, or a path where nothing is yet"
    try:
        if not stat.S_ISDIR(state.stat().st_mode):
            raise Refused(f"--state {state} is a file: {mend}")
    except (FileNotFoundError, PermissionError):
        return
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) else error
        raise Refused(f"--state cannot be {state} ({said}): {mend}") from error


def _check_seconds(seconds: float) -> None:
    if isnan(seconds):
        raise Refused("--timeout nan is no time: give seconds, like 60, or inf to wait for ever")


_PORT: Final = re.compile("[0-9]{1,5}")
_ADDRESS: Final = re.compile("[A-Za-z0-9.:%_-]+")

a_host: Final = each_by(partial(check_name, "host"))
an_interface: Final = each_by(partial(check_port_name, "interface"))
seconds: Final = each_by(_check_seconds)
hosts_and_where: Final = each_by(lambda word: check_name("host", word.partition("=")[0]))

Overlay = Annotated[Path, typer.Argument(help="The overlay file.", metavar="OVERLAY")]
Ovsdb = Annotated[
    str,
    typer.Option(
        help="Where the host's OVSDB listens (plane ovs).", callback=each_by(check_remote)
    ),
]
Bridge = Annotated[
    str,
    typer.Option(help="The bridge's name.", callback=each_by(partial(check_port_name, "bridge"))),
]
Control = Annotated[
    Path | None,
    typer.Option(
        help=f"The agent's control socket. Default: {FOLDER}/HOST.ctl", callback=each_by(check_path)
    ),
]
HostHere = Annotated[
    str | None,
    typer.Option(
        help="The host of the overlay. Default: the one of this machine's name.", callback=a_host
    ),
]
HostDriven = Annotated[
    str | None,
    typer.Option(
        help="The host whose agent is meant. Default: the only one here.", callback=a_host
    ),
]
Endpoint = Annotated[
    str,
    typer.Argument(
        help="The endpoint: TENANT/NAME.", metavar="ENDPOINT", callback=each_by(tenant_and_name)
    ),
]
PlaneOption = Annotated[
    Plane | None,
    typer.Option("--plane", help="Put all hosts on this plane. Default: as the overlay says."),
]
Json = Annotated[bool, typer.Option("--json", help="As JSON (docs/status.md).")]
State = Annotated[
    Path,
    typer.Option(
        help="Where plane bridge keeps which VLAN is whose, by host.",
        callback=each_by(_check_state),
    ),
]
TlsKey = Annotated[
    Path | None,
    typer.Option(help="TLS, for --listen and OVSDB by ssl: the private key (PEM) of this agent."),
]
TlsCert = Annotated[Path | None, typer.Option(help="... its certificate.")]
TlsCa = Annotated[
    Path | None,
    typer.Option(help="... who signs the switches' certificates. Their name is the host's."),
]


def listening(
    listen: str | None, key: Path | None, cert: Path | None, ca: Path | None
) -> dict[str, Any]:
    """The framework's options for where to listen, and for TLS."""
    tls = {"ctl_privkey": key, "ctl_cert": cert, "ca_certs": ca}
    found: dict[str, Any] = {name: str(file) for name, file in tls.items() if file is not None}
    if listen is not None:
        address, port = _address(listen)
        kind = "ssl" if found else "tcp"
        found |= {"ofp_listen_host": address, f"ofp_{kind}_listen_port": port}
    return found


def _address(listen: str) -> tuple[str, int]:
    address, _, port = listen.rpartition(":")
    bare = address.removeprefix("[").removesuffix("]")
    if not (_PORT.fullmatch(port) and 0 < int(port) < 1 << 16 and _ADDRESS.fullmatch(bare)):
        raise Refused(f"--listen {listen}: write ADDRESS:PORT, like 127.0.0.1:6653 or [::1]:6653")
    return bare, int(port)
