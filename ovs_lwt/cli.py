"""`ovs-lwt`: the command line. Each command says what it does in one sentence and leaves the work
to its module, which is imported when the command is given: an agent starts sooner without the rest.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from ovs_lwt import __version__, model
from ovs_lwt.arguments import (
    Bridge,
    Control,
    Datapath,
    Endpoint,
    ExportPart,
    HostDriven,
    HostHere,
    Json,
    Marking,
    NeighbourDiscovery,
    Overlay,
    Ovsdb,
    Plane,
    PlaneOption,
    State,
    TlsCa,
    TlsCert,
    TlsKey,
    a_host,
    an_interface,
    each_by,
    hosts_and_where,
    listening,
    seconds,
)
from ovs_lwt.control import FOLDER, ask, socket_of
from ovs_lwt.ending import ended
from ovs_lwt.lab.commands import lab_app
from ovs_lwt.lab.demo import demo
from ovs_lwt.mistakes import NotNow, Refused
from ovs_lwt.pipes import closable, outlives_readers
from ovs_lwt.plane import STATE, Options
from ovs_lwt.sources import on_plane
from ovs_lwt.sources.kept import accepted_in
from ovs_lwt.sources.overlay_file import OverlayFile, planes_in
from ovs_lwt.transitions import BRAKE_SHARE
from ovs_lwt.vswitch import DEFAULT_BRIDGE, DEFAULT_OVSDB
from ovs_lwt.vswitch.plan import check_remote

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


@app.callback(invoke_without_command=True)
def _top(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True)
    ] = False,
    verbose: Annotated[  # looked for by `main`, wherever it stands
        bool, typer.Option("--verbose", "-v", help="Show the traceback of an unexpected error.")
    ] = False,
) -> None:
    if version:
        print(f"ovs-lwt {__version__}")
        raise typer.Exit


@app.command()
def validate(
    overlay: Annotated[
        Path, typer.Argument(help="The overlay file; -: standard input.", metavar="OVERLAY")
    ],
    strict: Annotated[bool, typer.Option("--strict", help="Take warnings for mistakes.")] = False,
    json_: Json = False,
) -> None:
    """Check an overlay file; every mistake with its place, and what is most likely not meant.

    The exit status is 0 if it is valid, else 2.
    """
    from ovs_lwt.ops import validate as validating

    topology, mistakes, found = validating.validate(overlay, strict=strict)
    validating.show(overlay, topology, mistakes, found, as_json=json_)
    raise typer.Exit(2 if mistakes else 0)


@app.command()
def schema() -> None:
    """Print the JSON Schema of overlay.yaml."""
    print(json.dumps(model.Overlay.model_json_schema(), indent=2))


@app.command()
def export(
    overlay: Overlay,
    host: HostHere = None,
    part: Annotated[
        ExportPart, typer.Argument(help="All, for reading; or one, for the tool that loads it.")
    ] = ExportPart.ALL,
    plane: PlaneOption = None,
    ovsdb: Annotated[
        str | None,
        typer.Option(
            help="Take the guests' ports from this OVSDB; else ports go by their names.",
            callback=each_by(check_remote),
        ),
    ] = None,
    bridge: Bridge = DEFAULT_BRIDGE,
    nd: Annotated[
        NeighbourDiscovery, typer.Option(help="See `run --nd`.")
    ] = NeighbourDiscovery.AUTO,
    state: State = STATE,
) -> None:
    """Print all that the host should hold: flows and groups for ovs-ofctl, or batches of iproute2.

    Plane ovs has the parts groups and flows; planes bridge and route, in the order in which they
    are to be loaded: links, sysctl, bridge, ip, ip6, mpls, tc.
    """
    source = on_plane(OverlayFile(overlay), plane.value if plane else None)
    options = Options(bridge, None, neighbour_discovery=nd.value, state=state)
    from ovs_lwt import desired
    from ovs_lwt.here import this_host

    topology = source.read()
    host = this_host(topology.vteps.name) if host is None else host
    desired.write(topology, host, part.value, options, sys.stdout, ovsdb=ovsdb)


@app.command()
def run(
    overlay: Overlay,
    host: Annotated[
        list[str] | None,
        typer.Option(
            help="HOST, or HOST=WHERE: its OVSDB, or on planes bridge and route its network"
            " namespace. Several drive several hosts. Default: the host of this machine's name.",
            callback=hosts_and_where,
        ),
    ] = None,
    plane: PlaneOption = None,
    ovsdb: Ovsdb = DEFAULT_OVSDB,
    bridge: Bridge = DEFAULT_BRIDGE,
    listen: Annotated[
        str | None,
        typer.Option(
            help="Listen for OpenFlow on ADDRESS:PORT as well: for switches elsewhere, by TLS, and"
            " for apps beside this one. Switches here call by a unix socket."
        ),
    ] = None,
    controller: Annotated[
        str | None,
        typer.Option(
            help="Where all switches find it, as an OVSDB target. Default: a unix socket in their"
            " run directory; for those elsewhere, LISTEN."
        ),
    ] = None,
    tls_key: TlsKey = None,
    tls_cert: TlsCert = None,
    tls_ca: TlsCa = None,
    control: Control = None,
    datapath: Annotated[Datapath, typer.Option(help="Datapath of a new bridge.")] = Datapath.AUTO,
    nd: Annotated[
        NeighbourDiscovery,
        typer.Option(help="Who answers neighbour solicitations. Default: flows where they can."),
    ] = NeighbourDiscovery.AUTO,
    watch: Annotated[
        bool, typer.Option("--watch", help="Take over changes of the file as they are saved.")
    ] = False,
    brake: Annotated[
        int,
        typer.Option(
            min=0,
            max=100,
            help="Percent of the endpoints that one change may take away (`reload --force`: more).",
        ),
    ] = BRAKE_SHARE,
    keep_foreign: Annotated[
        bool, typer.Option("--keep-foreign", help="Leave flows alone whose cookie is not ours.")
    ] = False,
    framework: Annotated[
        str | None, typer.Option(help="os-ken or ryu. Default: os-ken if it is installed.")
    ] = None,
    state: State = STATE,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more.")] = False,
) -> None:
    """Prepare the host and make it forward as the overlay says, in the foreground.

    SIGTERM or Ctrl-C stops it, and the flows stay. SIGHUP, or `ovs-lwt reload`, reads the overlay
    again. Planes bridge and route need no OpenFlow: the options about it are for plane ovs.
    """
    outlives_readers()
    if not host:
        from ovs_lwt.here import this_host_in

        host = [this_host_in(overlay)]
    if not _any_on_ovs(overlay, host, plane):
        from ovs_lwt.standalone import serve

        pairs = [(name, where) for name, _, where in (word.partition("=") for word in host)]
        socket = control or socket_of(pairs[0][0])
        kept = OverlayFile(overlay, accepted_in(state, pairs[0][0]))
        source = on_plane(kept, plane.value if plane else None)
        options = Options(bridge, None, watch=watch, state=state, brake=brake)
        raise typer.Exit(serve(source, pairs, options, socket, verbose=verbose))
    from ovs_lwt.backends.openflow.framework import choose

    overrides: dict[str, Any] = {
        **listening(listen, tls_key, tls_cert, tls_ca),
        "overlay": str(overlay),
        "overlay_host": _places(overlay, host, plane, ovsdb),
        "overlay_plane": plane.value if plane else None,
        "overlay_state": str(state),
        "overlay_brake": brake,
        "overlay_bridge": bridge,
        "overlay_controller": controller or "unix",
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


def _any_on_ovs(overlay: Path, hosts: Sequence[str], plane: Plane | None) -> bool:
    if plane is not None:
        return plane is Plane.OVS
    named = planes_in(overlay)
    return any(named.get(word.partition("=")[0], Plane.OVS) == Plane.OVS for word in hosts)


def _places(overlay: Path, hosts: Sequence[str], plane: Plane | None, ovsdb: str) -> list[str]:
    """HOST=WHERE of every host: --ovsdb is where the switches are that say nothing themselves."""
    return [
        word if "=" in word or not _any_on_ovs(overlay, [word], plane) else f"{word}={ovsdb}"
        for word in hosts
    ]


@app.command()
def attach(
    overlay: Overlay,
    endpoint: Endpoint,
    netns: Annotated[str, typer.Option(help="The guest's network namespace: a name, or a path.")],
    interface: Annotated[
        str, typer.Option(help="The interface's name inside.", callback=an_interface)
    ] = "eth0",
    marking: Annotated[
        Marking,
        typer.Option(
            help="Who sets the tenant's mark: the kernel, by tc or nft; or a flow (plane ovs)."
        ),
    ] = Marking.AUTO,
    port: Annotated[
        str | None,
        typer.Option(help="What its port is called. Default: TENANT-NAME, shortened if need be."),
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(
            help="The host that this machine is. Default: by its VTEP's address, or its name.",
            callback=a_host,
        ),
    ] = None,
    ovsdb: Ovsdb = DEFAULT_OVSDB,
    bridge: Bridge = DEFAULT_BRIDGE,
    plane: PlaneOption = None,
) -> None:
    """Give a network namespace on this host its endpoint: veth, mark, MTU, addresses, port."""
    outlives_readers()
    topology = on_plane(OverlayFile(overlay), plane.value if plane else None).read()
    from ovs_lwt import attaching

    print(
        attaching.attach(
            topology,
            endpoint,
            netns,
            attaching.Place(ovsdb, bridge, host),
            attaching.Wishes(interface, marking.value, port),
        )
    )


@app.command()
def detach(
    endpoint: Endpoint,
    ovsdb: Ovsdb = DEFAULT_OVSDB,
    bridge: Bridge = DEFAULT_BRIDGE,
    plane: Annotated[
        Plane | None,
        typer.Option(help="What forwards on this host. Default: what is found on it."),
    ] = None,
) -> None:
    """Take an endpoint's port and veth away, whatever the port is called; the namespace stays."""
    outlives_readers()
    from ovs_lwt import attaching

    print(
        attaching.detach(endpoint, attaching.Place(ovsdb, bridge), plane.value if plane else None)
    )


@show_app.command()
def tables(
    overlay: Overlay,
    host: Annotated[
        str | None, typer.Option(help="Only the tenants of this host.", callback=a_host)
    ] = None,
    plane: PlaneOption = None,
    state: State = STATE,
) -> None:
    """Print the way from mark to table on each plane, and how to list a tenant's entries."""
    source = on_plane(OverlayFile(overlay), plane.value if plane else None)
    from ovs_lwt import show
    from ovs_lwt.tables import wide_console

    show.tables(source.read(), host, Options(DEFAULT_BRIDGE, None, state=state), wide_console())


@app.command()
def check(
    overlay: Annotated[
        Path | None,
        typer.Argument(
            help="The overlay file. Default: the overlay of the agent that runs here.",
            metavar="[OVERLAY]",
            show_default=False,
        ),
    ] = None,
    host: HostHere = None,
    plane: PlaneOption = None,
    ovsdb: Ovsdb = DEFAULT_OVSDB,
    bridge: Bridge = DEFAULT_BRIDGE,
    control: Control = None,
    json_: Json = False,
) -> None:
    """Look whether packets can pass on this host: a line for each question, and the mend.

    It changes nothing. The exit status is 0 if nothing fails, else 1; warnings do not count.
    """
    from ovs_lwt.ops import check as checking
    from ovs_lwt.ops import expecting

    if overlay is None:
        every = expecting.of_agent(_control(host, control), host)
    else:
        topology = on_plane(OverlayFile(overlay), plane.value if plane else None).read()
        every = [expecting.of_overlay(topology, host, ovsdb, bridge)]
    found = {expected.host: checking.check(expected) for expected in every}
    checking.show(found, sys.stdout, as_json=json_)
    raise typer.Exit(checking.status_of(found))


@app.command()
def reload(
    host: HostDriven = None,
    control: Control = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Also if it takes away many endpoints, or gives a number to another tenant.",
        ),
    ] = False,
) -> None:
    """Let the running controller read its overlay again; tells what has changed on the switch."""
    outlives_readers()
    socket = _control(host, control)
    try:
        print(ask(socket, "reload-force" if force else "reload"))
    except NotNow as refused:
        # An agent answers in words. An overlay that it does not take over is a person's to mend.
        if json.loads(ask(socket, "status"))["overlay"].get("refused"):
            raise Refused(*refused.args) from refused
        raise


@app.command()
def status(
    host: HostDriven = None,
    control: Control = None,
    json_: Json = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Until all are in sync and have been checked.")
    ] = False,
    timeout: Annotated[
        float,
        typer.Option(min=0, help="Seconds to wait at most.", metavar="SECONDS", callback=seconds),
    ] = 60,
) -> None:
    """Print how the agent's hosts are: in sync, degraded, or not there yet, and why.

    The exit status is 0 if all of them are in sync, 3 if not, 4 if no agent answers or it may not
    be asked.
    """
    from ovs_lwt.ops import show_status

    def ask_once() -> dict[str, Any]:
        return show_status.status(_control(host, control), host)

    said, outcome, refused = show_status.waited(ask_once, timeout if wait else 0, checked=wait)
    if said is None:
        print(f"ovs-lwt: {refused}", file=sys.stderr)
    elif json_:
        print(json.dumps(said, indent=2))
    else:
        show_status.show(said, sys.stdout)
    raise typer.Exit(outcome)


def _control(host: str | None, control: Path | None) -> Path:
    """The control socket meant: the one named, the host's, or the only one there is."""
    if control is not None:
        return control
    if host is not None:
        return socket_of(host)
    try:
        found = sorted(path for path in FOLDER.iterdir() if path.suffix == ".ctl")
    except FileNotFoundError:
        found = []
    except PermissionError as error:
        raise Refused(f"not permitted to look for agents in {FOLDER}: do it as root (sudo)") from (
            error
        )
    if len(found) == 1:
        return found[0]
    names = ", ".join(path.stem for path in found) or "none"
    raise Refused(f"which controller? Say --host HOST or --control SOCKET. Running here: {names}")


@app.command(
    "manager",
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
)
def manage(context: typer.Context) -> None:
    """Run Ryu apps, ours and others, with ryu-manager's options (manager --help lists them)."""
    from ovs_lwt.manager import main as manager

    raise typer.Exit(manager(context.args))


def main() -> None:
    """Run the command that was given; see `ending` for the exit status."""
    with closable():
        sys.exit(ended("ovs-lwt", _command, verbose=_verbose(sys.argv[1:])))


def _command() -> int:
    try:
        app()
    except SystemExit as end:  # so typer always ends
        return end.code if isinstance(end.code, int) else 0
    return 0


def _verbose(words: Sequence[str]) -> bool:
    own = words[: words.index("--")] if "--" in words else words
    return "-v" in own or "--verbose" in own


if __name__ == "__main__":
    main()
