"""`ovs-lwt`: the command line. Each command says what it does in one sentence and leaves the work
to its module.
"""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from ovs_lwt import __version__, model, offline, show, veth
from ovs_lwt.control import FOLDER, ask
from ovs_lwt.lab.commands import lab_app
from ovs_lwt.lab.demo import demo
from ovs_lwt.mistakes import OverlayInvalid, Refused
from ovs_lwt.sources.overlay_file import load
from ovs_lwt.vswitch import DEFAULT_BRIDGE, DEFAULT_OVSDB, LocalSwitch

app = typer.Typer(
    name="ovs-lwt",
    no_args_is_help=True,
    help="Tenant networks over one shared VXLAN port, driven by flows.",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)
app.add_typer(lab_app, name="lab")
app.command()(demo)
show_app = typer.Typer(no_args_is_help=True, help="Look into an overlay.")
app.add_typer(show_app, name="show")

Overlay = Annotated[Path, typer.Argument(help="The overlay file.", metavar="OVERLAY")]
Ovsdb = Annotated[str, typer.Option(help="Where the host's OVSDB listens.")]
Bridge = Annotated[str, typer.Option(help="The bridge's name.")]


Endpoint = Annotated[str, typer.Argument(help="The endpoint: TENANT/NAME.", metavar="ENDPOINT")]


class Marking(StrEnum):
    """Who sets a tenant's mark."""

    AUTO = "auto"
    TC = "tc"
    FLOW = "flow"


class ExportPart(StrEnum):
    """What to print."""

    BOTH = "both"
    FLOWS = "flows"
    GROUPS = "groups"


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


@app.callback(invoke_without_command=True)
def _top(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True)
    ] = False,
) -> None:
    if version:
        print(f"ovs-lwt {__version__}")
        raise typer.Exit


@app.command()
def validate(overlay: Overlay) -> None:
    """Check an overlay file; every mistake with its place."""
    topology = load(overlay)
    counts = {
        "tenant": len(topology.tenants),
        "endpoint": len(topology.endpoints),
        "host": len(topology.vteps),
    }
    told = (f"{count:,} {what}{'s' * (count != 1)}" for what, count in counts.items())
    print(f"{overlay}: valid: {', '.join(told)}")


@app.command()
def schema() -> None:
    """Print the JSON Schema of overlay.yaml."""
    print(json.dumps(model.Overlay.model_json_schema(), indent=2))


@app.command()
def export(
    overlay: Overlay,
    host: Annotated[str, typer.Option(help="The host of the overlay.")],
    part: Annotated[
        ExportPart, typer.Argument(help="Both, for reading; or one, for ovs-ofctl.")
    ] = ExportPart.BOTH,
    ovsdb: Annotated[
        str | None,
        typer.Option(help="Take the guests' ports from this OVSDB; else ports go by their names."),
    ] = None,
    bridge: Bridge = DEFAULT_BRIDGE,
    nd: Annotated[
        NeighbourDiscovery, typer.Option(help="See `run --nd`.")
    ] = NeighbourDiscovery.AUTO,
) -> None:
    """Print every flow and group the host should have, in ovs-ofctl syntax."""
    from ovs_lwt.backends.openflow import export as exporter

    topology = load(overlay)
    if ovsdb is None:
        snapshot = offline.from_overlay(topology, host, nd.value)
        names = snapshot.names
    else:
        snapshot, names = offline.from_switch(topology, host, ovsdb, bridge, nd.value), {}
    if part is not ExportPart.FLOWS:
        exporter.write_groups(snapshot.view, names, sys.stdout)
    if part is not ExportPart.GROUPS:
        exporter.write_flows(snapshot.view, names, sys.stdout)


@app.command()
def run(
    overlay: Overlay,
    host: Annotated[
        list[str], typer.Option(help="HOST, or HOST=OVSDB; several for several switches.")
    ],
    ovsdb: Ovsdb = DEFAULT_OVSDB,
    bridge: Bridge = DEFAULT_BRIDGE,
    listen: Annotated[
        str, typer.Option(help="Where to listen for OpenFlow: ADDRESS:PORT.")
    ] = "127.0.0.1:6653",
    controller: Annotated[
        str | None,
        typer.Option(help="Where the switches find it, as an OVSDB target. Default: tcp:LISTEN"),
    ] = None,
    control: Annotated[
        Path | None, typer.Option(help=f"Control socket. Default: {FOLDER}/HOST.ctl")
    ] = None,
    datapath: Annotated[Datapath, typer.Option(help="Datapath of a new bridge.")] = Datapath.AUTO,
    nd: Annotated[
        NeighbourDiscovery,
        typer.Option(help="Who answers neighbour solicitations. Default: flows where they can."),
    ] = NeighbourDiscovery.AUTO,
    watch: Annotated[
        bool, typer.Option("--watch", help="Take over changes of the file as they are saved.")
    ] = False,
    keep_foreign: Annotated[
        bool, typer.Option("--keep-foreign", help="Leave flows alone whose cookie is not ours.")
    ] = False,
    framework: Annotated[
        str | None, typer.Option(help="os-ken or ryu. Default: os-ken if it is installed.")
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more.")] = False,
) -> None:
    """Prepare the local switch and run the controller for it, in the foreground.

    SIGTERM or Ctrl-C stops it, and the flows stay. SIGHUP, or `ovs-lwt reload`, reads the overlay
    again.
    """
    from ovs_lwt.backends.openflow.framework import choose

    address, port = _address(listen)
    overrides: dict[str, Any] = {
        "ofp_listen_host": address,
        "ofp_tcp_listen_port": port,
        "overlay": str(overlay),
        "overlay_host": [name if "=" in name else f"{name}={ovsdb}" for name in host],
        "overlay_bridge": bridge,
        "overlay_controller": controller or f"tcp:{listen}",
        "overlay_datapath": datapath.value,
        "overlay_nd": nd.value,
        "overlay_keep_foreign": keep_foreign,
        "overlay_watch": watch,
        "overlay_control": str(control) if control else None,
        "verbose": verbose,
    }
    choose(framework)
    from ovs_lwt.manager import launch

    raise typer.Exit(launch(["ovs_lwt.app"], [], framework, overrides))


@app.command()
def attach(
    overlay: Overlay,
    endpoint: Endpoint,
    netns: Annotated[str, typer.Option(help="The guest's network namespace: a name, or a path.")],
    interface: Annotated[str, typer.Option(help="The interface's name inside.")] = "eth0",
    marking: Annotated[
        Marking, typer.Option(help="Who sets the tenant's mark: tc (kernel datapath) or a flow.")
    ] = Marking.AUTO,
    ovsdb: Ovsdb = DEFAULT_OVSDB,
    bridge: Bridge = DEFAULT_BRIDGE,
) -> None:
    """Give a network namespace on this host its endpoint: veth, mark, MTU, addresses, port."""
    plan = veth.plan_attach(
        load(overlay), endpoint, netns, interface=interface, marking=marking.value
    )
    with LocalSwitch(ovsdb, bridge) as switch:
        port = veth.attach(plan, switch)
    print(f"{endpoint}: {interface} in {netns}, port {port} of {bridge}, MTU {plan.mtu}")


@app.command()
def detach(
    endpoint: Endpoint,
    ovsdb: Ovsdb = DEFAULT_OVSDB,
    bridge: Bridge = DEFAULT_BRIDGE,
) -> None:
    """Take an endpoint's port and veth away; the namespace stays."""
    tenant, _, name = endpoint.partition("/")
    if not tenant or not name:
        raise Refused(f"'{endpoint}' is not an endpoint: write it TENANT/NAME, like blue/web1")
    with LocalSwitch(ovsdb, bridge) as switch:
        gone = veth.detach(tenant, name, switch)
    print(f"{endpoint}: {'detached' if gone else 'was not attached'}")


@show_app.command()
def tables(
    overlay: Overlay,
    host: Annotated[str | None, typer.Option(help="Only the tenants of this host.")] = None,
) -> None:
    """Print the way from mark to table: mark, tenant, VNI, and how to list the tenant's flows."""
    show.tables(load(overlay), host, Console())


@app.command()
def reload(
    host: Annotated[
        str | None, typer.Option(help="The host whose controller shall read its overlay again.")
    ] = None,
    control: Annotated[
        Path | None, typer.Option(help=f"Its control socket. Default: {FOLDER}/HOST.ctl")
    ] = None,
) -> None:
    """Let the running controller read its overlay again; tells what has changed on the switch."""
    print(ask(_control(host, control), "reload"))


@app.command()
def status(
    host: Annotated[str | None, typer.Option(help="The host.")] = None,
    control: Annotated[
        Path | None, typer.Option(help=f"Control socket. Default: {FOLDER}/HOST.ctl")
    ] = None,
) -> None:
    """Print what the running controller says of its switches, as JSON."""
    print(ask(_control(host, control), "status"))


def _control(host: str | None, control: Path | None) -> Path:
    """The control socket meant: the one named, the host's, or the only one there is."""
    if control is not None:
        return control
    if host is not None:
        return FOLDER / f"{host}.ctl"
    found = sorted(FOLDER.glob("*.ctl"))
    if len(found) == 1:
        return found[0]
    names = ", ".join(path.stem for path in found) or "none"
    raise Refused(f"which controller? Say --host HOST or --control SOCKET. Running here: {names}")


def _address(listen: str) -> tuple[str, int]:
    address, _, port = listen.rpartition(":")
    if not port.isdigit() or not address:
        raise Refused(f"--listen {listen}: write ADDRESS:PORT, like 127.0.0.1:6653 or [::1]:6653")
    return address.strip("[]"), int(port)


def main() -> None:
    """Run the command; 1: it could not be done, 2: the overlay (or the command line) is wrong."""
    if sys.argv[1:2] == ["manager"]:
        from ovs_lwt.manager import main as manager

        sys.exit(manager(sys.argv[2:]))
    try:
        app()
    except OverlayInvalid as invalid:
        for mistake in invalid.mistakes:
            print(mistake, file=sys.stderr)
        sys.exit(2)
    except Refused as refused:
        Console(stderr=True).print(
            f"ovs-lwt: {refused}", highlight=False, soft_wrap=True, markup=False
        )
        sys.exit(1)


if __name__ == "__main__":
    main()
