"""``ovs-lwt demo``: three hosts carry two tenants with the same addresses, and prove it."""

from __future__ import annotations

import re
from collections import Counter
from itertools import groupby
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.rule import Rule
from rich.text import Text

from ovs_lwt.lab import hosts, lifecycle, probe, status
from ovs_lwt.lab.commands import lab_command
from ovs_lwt.lab.plan import BRIDGE, LabPlan
from ovs_lwt.lab.processes import run
from ovs_lwt.lab.progress import following
from ovs_lwt.lab.show import WIDTH, show_matrix, show_status
from ovs_lwt.pipes import outlives_readers
from ovs_lwt.sources import overlay_file
from ovs_lwt.tables import wide_console

OVERLAY = Path(__file__).with_name("demo.yaml")
_TENANT = "blue"
_FLOWS_PER_TABLE = 5


def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave the lab up, to look around.")] = False,
    name: Annotated[str, typer.Option("--name", help="Name of the lab.")] = "demo",
) -> None:
    """Watch three hosts carry two tenants with the same addresses over one VXLAN port each.

    Exit status 0 only if every cell of the reachability matrix is what the overlay says. The lab
    is taken down again at the end, on failure and on Ctrl-C, unless --keep is given and all went
    its way.
    """
    outlives_readers()
    console = wide_console()
    stay = False
    with lifecycle.ending_on_signals():
        _say(console, "Three hosts come up, each with an Open vSwitch and a controller of its own")
        console.print(f"overlay: {OVERLAY}", highlight=False, soft_wrap=True)
        with following(console) as report:
            plan = lifecycle.up(OVERLAY, name=name, report=report)
        try:
            console.print()
            show_status(console, status.lab_status(plan))
            _say(console, "Who reaches whom? Blue and red have the same MAC and IP addresses")
            matrix = probe.measure(plan)
            show_matrix(console, matrix)
            _show_flows(console, plan)
            _show_further(console, plan, keep)
            stay = keep
        finally:
            if not stay:
                with lifecycle.shielded():
                    lifecycle.down(plan.name)
    _say(console, "The end")
    if matrix.wrong:
        console.print(Text(f"{len(matrix.wrong)} cells are not what the overlay says", "bold red"))
    else:
        console.print(Text("every cell is what the overlay says", "bold green"))
    if stay:
        down = lab_command(plan, "down")
        console.print(
            f"the lab stays up; take it down with: {down}", highlight=False, soft_wrap=True
        )
    else:
        console.print("the lab is down again, nothing is left behind")
    if matrix.wrong:
        raise typer.Exit(1)


def _show_flows(console: Console, plan: LabPlan) -> None:
    """Print the tenant's flows on the host where it has fewest guests, as ovs-ofctl prints them."""
    guests = Counter(guest.host for guest in plan.guests if guest.tenant == _TENANT)
    host = min(plan.own_hosts, key=lambda host: guests.get(host.name, len(plan.guests)))
    command = _flows_of_tenant()
    typed = lab_command(plan, "exec", f"{host.name} -- {' '.join(command)}")
    _say(console, f"Tenant '{_TENANT}' on {host.name}: its flows, table by table")
    console.print(f"$ {typed}", style="dim", highlight=False, soft_wrap=True)
    dump = run(command, env=hosts.environment(host))
    flows = [line.strip() for line in dump.splitlines() if "actions=" in line]
    for table, group in groupby(flows, _table_of):
        lines = list(group)
        for line in lines[:_FLOWS_PER_TABLE]:
            console.print(_coloured(line), soft_wrap=True)
        if len(lines) > _FLOWS_PER_TABLE:
            more = f"… {len(lines) - _FLOWS_PER_TABLE} more flows in table {table}"
            console.print(more, style="dim", highlight=False)
    console.print(f"{len(flows)} flows in all", style="dim", highlight=False)


def _table_of(line: str) -> str:
    found = re.search(r"\btable=([^ ,]+)", line)
    return found[1] if found else "0"


def _flows_of_tenant() -> list[str]:
    # The low 24 bits of a cookie are the VNI of the tenant whose flow it is.
    topology = overlay_file.load(OVERLAY)
    vni = int(topology.tenants.vni[topology.tenant_index(_TENANT)])
    dump = ["ovs-ofctl", "-O", "OpenFlow14", "--names", "--no-stats", "dump-flows"]
    return [*dump, BRIDGE, f"cookie={vni}/0xffffff"]


def _coloured(line: str) -> Text:
    text = Text(line)
    text.highlight_regex(r"\btable=\S+?(?=[ ,])", "cyan")
    text.highlight_regex(r"\bactions=.*", "green")
    return text


def _show_further(console: Console, plan: LabPlan, keep: bool) -> None:
    guest, host = plan.guests[0], plan.own_hosts[0]
    other = next(g for g in plan.guests if g.tenant == guest.tenant and g.host != guest.host)
    packet = f"in_port={guest.port},dl_src={guest.mac},dl_dst={other.mac}"
    trace = f"ovs-appctl ofproto/trace {BRIDGE} {packet}"
    steps = (
        ("ping between two guests", guest.id, f"ping -c 3 {other.addresses[0].ip}"),
        ("the VXLAN packets of a host", host.name, "tcpdump -ni u0 udp port 4789"),
        ("a packet's way through the tables", host.name, trace),
        ("the flood lists", host.name, f"ovs-ofctl -O OpenFlow14 dump-groups {BRIDGE}"),
        ("the one VXLAN port", host.name, "ovs-vsctl show"),
    )
    how = "Look further" if keep else "Look further ('make demo KEEP=1' leaves the lab up for it)"
    _say(console, how)
    for why, where, command in steps:
        console.print(f"# {why}", style="dim", highlight=False)
        typed = lab_command(plan, "exec", f"{where} -- {command}")
        console.print(f"  {typed}", highlight=False, soft_wrap=True)


def _say(console: Console, title: str) -> None:
    console.print()
    # A rule fills the console, and into a file or a pipe that is endless.
    console.print(Rule(Text(title, "bold"), align="left"), width=min(console.width, WIDTH))
