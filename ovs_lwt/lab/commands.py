"""``ovs-lwt lab up|exec|ping|status|down``: the command line of the lab."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from pydantic_core import to_json

from ovs_lwt.arguments import PlaneOption
from ovs_lwt.lab import hosts, lifecycle, probe, state, status
from ovs_lwt.lab.boxed import client, record
from ovs_lwt.lab.boxed import lifecycle as boxes
from ovs_lwt.lab.kernel import Maker, choose, find, title
from ovs_lwt.lab.plan import LabPlan, guest_of, host_of, inhabitants, make_plan
from ovs_lwt.lab.progress import following
from ovs_lwt.lab.requirements import check_machine, check_root, default_datapath, needed
from ovs_lwt.lab.show import show_matrix, show_status
from ovs_lwt.mistakes import Refused, suggestion
from ovs_lwt.pipes import outlives_readers
from ovs_lwt.sources import overlay_file
from ovs_lwt.tables import wide_console

lab_app = typer.Typer(
    no_args_is_help=True,
    help="The whole overlay as network namespaces on this machine, to try a design out.",
)


class ControllersOption(StrEnum):
    """How many controller processes a lab has."""

    EACH = "each"
    ONE = "one"


class DatapathOption(StrEnum):
    """Which datapath the switches have."""

    NETDEV = "netdev"
    SYSTEM = "system"


class KernelOption(StrEnum):
    """Whose kernel a lab is on."""

    AUTO = "auto"
    HERE = "here"
    VM = "vm"
    UML = "uml"


class FrameworkOption(StrEnum):
    """Which OpenFlow framework the controllers run on."""

    OS_KEN = "os-ken"
    RYU = "ryu"


NameOption = Annotated[str, typer.Option("--name", help="Name of the lab: several can be up.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]


@lab_app.command()
def up(
    overlay: Annotated[Path, typer.Argument(help="The overlay file.")],
    name: NameOption = "lab",
    plane: PlaneOption = None,
    datapath: Annotated[
        DatapathOption | None,
        typer.Option(
            help="Datapath of the switches. Default: netdev, OVS's own in userspace; in a machine"
            " of the lab's own system, the kernel's."
        ),
    ] = None,
    controllers: Annotated[
        ControllersOption,
        typer.Option(help="A controller process for each host, or one for all of them."),
    ] = ControllersOption.EACH,
    framework: Annotated[
        FrameworkOption | None,
        typer.Option(help="Framework of the controllers. Default: the one that is installed."),
    ] = None,
    kernel: Annotated[
        KernelOption,
        typer.Option(
            help="This machine's kernel; that of a virtual machine, or user-mode Linux; or, auto,"
            " the first that has what the overlay needs: here, vm with KVM, uml, vm emulated."
        ),
    ] = KernelOption.AUTO,
    memory: Annotated[
        int, typer.Option(min=256, help="Memory of the machine of --kernel vm or uml, in MB.")
    ] = boxes.DEFAULT_MEMORY,
) -> None:
    """Bring the overlay up: underlay, hosts, guests, controllers.

    Each host of the overlay becomes a network namespace, on plane ovs with an Open vSwitch of its
    own; each endpoint becomes one with a cable to its host. A VTEP marked
    'external: true' is somebody else's machine and gets none: 'ovs-lwt lab status' says how to
    plug it into the underlay's bridge.
    """
    outlives_readers()
    maker = _maker(kernel, overlay, name, plane, datapath)
    if maker is not None:
        words = [f"--controllers={controllers.value}"]
        for option, value in (("plane", plane), ("datapath", datapath), ("framework", framework)):
            words += [f"--{option}={value.value}"] if value else []
        with lifecycle.ending_on_signals():
            status_of_up = boxes.up(overlay, maker, name=name, memory=memory, options=words)
        raise typer.Exit(status_of_up)
    console = wide_console()
    with lifecycle.ending_on_signals(), following(console) as report:
        plan = lifecycle.up(
            overlay,
            name=name,
            plane=plane.value if plane else None,
            datapath=datapath.value if datapath else None,
            controllers=controllers.value,
            framework=framework.value if framework else None,
            report=report,
        )
    show_status(console, status.lab_status(plan))
    console.print(further(plan), highlight=False, soft_wrap=True)


def _maker(
    kernel: KernelOption,
    overlay: Path,
    name: str,
    plane: PlaneOption,
    datapath: DatapathOption | None,
) -> Maker | None:
    """Return what makes the machine that the lab is to be in; None if it is to be on this kernel.

    What auto has taken is said, and why.
    """
    check_root()
    match kernel:
        case KernelOption.HERE:
            return None
        case KernelOption.UML:
            return find("uml")
        case KernelOption.VM:
            return find("vm")
    plan = make_plan(
        overlay_file.load(overlay),
        name=name,
        overlay=overlay,
        plane=plane.value if plane else None,
        datapath=datapath.value if datapath else default_datapath(),
    )
    choice = choose(needed(plan))
    taken = "this machine's" if choice.maker is None else title(choice.maker.how)
    typer.echo(f"kernel: {taken}: {choice.why}")
    return choice.maker


@lab_app.command("exec", context_settings={"ignore_unknown_options": True})
def execute(
    where: Annotated[
        str, typer.Argument(metavar="ENDPOINT", help="TENANT/NAME of an endpoint, or a host.")
    ],
    command: Annotated[list[str], typer.Argument(metavar="-- COMMAND…")],
    name: NameOption = "lab",
) -> None:
    """Run a command in a guest's or a host's namespace; its exit status is ours.

    On a host of plane ovs, ovs-vsctl, ovs-ofctl and ovs-appctl speak to that host's switch.
    """
    _where_it_is(name, "exec", "--name", name, where, "--", *command, reads=True)
    check_machine()
    plan = state.need(name)
    namespace, extra = _inhabitant(plan, where)
    os.environ.update(extra)
    # `ip netns exec` also shows the namespace's own /sys, which ethtool and brctl look at.
    os.execvp("ip", ["ip", "netns", "exec", namespace, *command])


@lab_app.command()
def ping(
    name: NameOption = "lab",
    as_json: JsonOption = False,
    sample: Annotated[
        int, typer.Option(min=0, help="Ask at most so many guests; 0 asks all of them.")
    ] = probe.DEFAULT_SAMPLE,
) -> None:
    """Show who reaches whom; exit status 1 if that is not what the overlay says.

    Guests of different tenants may have identical addresses, so every probe carries a token and
    all guests listen: a cell says who *received* the probe, not merely that somebody answered.
    """
    json_too = ["--json"] if as_json else []
    _where_it_is(name, "ping", "--name", name, *json_too, "--sample", str(sample))
    check_machine()
    matrix = probe.measure(state.need(name), sample)
    if as_json:
        typer.echo(to_json({**asdict(matrix), "right": not matrix.wrong}, indent=2).decode())
    else:
        show_matrix(wide_console(), matrix)
    if matrix.wrong:
        raise typer.Exit(1)


@lab_app.command("status")
def show(name: NameOption = "lab", as_json: JsonOption = False) -> None:
    """Show the lab's namespaces, addresses, switches and controllers."""
    _where_it_is(name, "status", "--name", name, *(["--json"] if as_json else []))
    check_machine()
    found = status.lab_status(state.need(name))
    if as_json:
        typer.echo(to_json(asdict(found), indent=2).decode())
    else:
        show_status(wide_console(), found)


@lab_app.command()
def down(name: NameOption = "lab") -> None:
    """Take the lab down: its processes, its namespaces, its files."""
    outlives_readers()
    check_root()
    boxed = record.find(name)
    if boxed is not None:
        with lifecycle.shielded():
            record.end(boxed)
        typer.echo(f"lab '{name}' is down: its machine and its files removed")
        return
    with lifecycle.shielded():
        gone = lifecycle.down(name)
    if gone is None:
        up_now = state.names()
        typer.echo(f"no lab called '{name}' is up{suggestion(name, up_now)}: nothing to do")
        return
    typer.echo(
        f"lab '{name}' is down: {gone.namespaces} namespaces and {gone.processes} processes removed"
    )


def _where_it_is(name: str, *words: str, reads: bool = False) -> None:
    """If the lab is in a machine of its own, run ``lab WORDS…`` there, and do not come back."""
    boxed = record.find(name)
    if boxed is not None:
        check_root()
        raise typer.Exit(client.run(boxed, ["lab", *words], reads=reads))


def further(plan: LabPlan) -> str:
    """Return what to type next, ready to be copied."""
    commands = [("ping", "", "who reaches whom"), ("status", "", "what is where")]
    if plan.guests:
        commands.append(("exec", f"{plan.guests[0].id} -- ip address", "inside a guest"))
    for host in {host.plane: host for host in reversed(plan.own_hosts)}.values():
        looks = hosts.worth_a_look(host)
        commands += [("exec", f"{host.name} -- {command}", why) for command, why in looks]
    commands.append(("down", "", "the end of it"))
    typed = [(lab_command(plan, verb, rest), why) for verb, rest, why in commands]
    wide = max(len(line) for line, _ in typed)
    return "\n".join(["next:", *(f"  {line:{wide}}  # {why}" for line, why in typed)])


def lab_command(plan: LabPlan, verb: str, rest: str = "") -> str:
    """Return ``ovs-lwt lab VERB REST`` for this lab, as it must be typed here."""
    name = "" if plan.name == "lab" else f" --name {plan.name}"
    return f"{_program()} lab {verb}{name} {rest}".rstrip()


def _program() -> str:
    """How this very program is called: it may stand in a virtual environment, off the PATH."""
    sudo = "sudo " if "SUDO_USER" in os.environ else ""
    beside = Path(sys.executable).parent / "ovs-lwt"
    found = shutil.which("ovs-lwt")
    # sudo has a PATH of its own, without virtual environments.
    if found is not None and (not sudo or Path(found).parent == Path("/usr/bin")):
        return f"{sudo}ovs-lwt"
    if beside.exists():
        here = Path.cwd()
        return f"{sudo}{beside.relative_to(here) if beside.is_relative_to(here) else beside}"
    return f"{sudo}{sys.executable} -m ovs_lwt.cli"


def _inhabitant(plan: LabPlan, where: str) -> tuple[str, dict[str, str]]:
    guest = guest_of(plan, where)
    if guest is not None:
        return guest.namespace, {}
    host = host_of(plan, where)
    if host is not None and host.external:
        raise Refused(f"{where} is external to the lab: it has no namespace here")
    if host is not None:
        return host.namespace, hosts.environment(host)
    known = [*(g.id for g in plan.guests), *(h.name for h in plan.own_hosts)]
    raise Refused(
        f"lab '{plan.name}' has no endpoint or host '{where}'{suggestion(where, known)};"
        f" it has: {inhabitants(plan)}"
    )
