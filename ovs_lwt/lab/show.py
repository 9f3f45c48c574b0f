"""A lab's tables for people, through rich."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from ovs_lwt.lab.kernel import title
from ovs_lwt.lab.matrix import Cell, Matrix
from ovs_lwt.lab.packets import Kind
from ovs_lwt.lab.status import HostStatus, LabStatus
from ovs_lwt.tables import show_table

_SYMBOL: dict[Kind, str] = {"ipv4": "4", "ipv6": "6", "ethernet": "e"}
_WAYS: dict[Kind, str] = {"ipv4": "4 by IPv4", "ipv6": "6 by IPv6", "ethernet": "e by Ethernet"}
WIDTH = 100
_WHY_LIMIT = 20


def show_status(console: Console, status: LabStatus) -> None:
    """Print a lab: its underlay, its hosts and its endpoints."""
    underlay, kernel = status.underlay, status.kernel
    colour = "green" if status.state == "up" else "red"
    console.print(
        Text.assemble(
            ("lab ", "bold"), (status.name, "bold"), " is ", (status.state, colour),
            f"  ({status.overlay})",
        )
    )  # fmt: skip
    console.print(
        f"underlay: bridge {underlay.bridge} in namespace {underlay.namespace},"
        f" MTU {underlay.mtu}, {', '.join(underlay.networks)}",
        highlight=False,
    )
    own = kernel.machine
    where = "this machine's" if own is None else f"{title(own)}, a machine of the lab's own"
    console.print(f"kernel: {kernel.release} ({where})", highlight=False)
    for line in _shared(status):
        console.print(line, highlight=False, soft_wrap=True)
    where = "HOST/" if status.controllers == "each" else ""
    console.print(
        f"controller: log {status.directory}/{where}controller.log,"
        f" control socket {where}controller.ctl",
        highlight=False,
        soft_wrap=True,
    )
    show_table(console, _hosts(status))
    console.print()
    show_table(console, _endpoints(status))
    for name, host in status.hosts.items():
        if host.external:
            _show_plugging(console, status, name, host)


def _shared(status: LabStatus) -> Iterator[str]:
    """Yield a line on each plane that is there: what its hosts have."""
    for plane, host in {h.plane: h for h in status.hosts.values() if not h.external}.items():
        if plane == "ovs":
            datapath = "userspace" if host.datapath == "netdev" else "kernel"
            what = f"bridge {host.bridge} ({datapath} datapath), VXLAN port {host.tunnel_port}"
            yield f"plane ovs: {what}, OVS_RUNDIR {status.directory}/HOST"
        elif plane == "bridge":
            yield f"plane bridge: bridge {host.bridge}, VXLAN device {host.tunnel_port}"
        else:
            yield f"plane route: a routing table for each mark, VXLAN device {host.tunnel_port}"


def _hosts(status: LabStatus) -> Table:
    table = _table("host", "plane", "VTEP", "namespace", "marks by", "controller")
    marking: dict[str, set[str]] = {}
    for endpoint in status.endpoints.values():
        marking.setdefault(endpoint.host, set()).add(endpoint.marking or "?")
    for name, host in status.hosts.items():
        if host.controller is None:
            external = Text("external", style="yellow")
            table.add_row(name, host.plane, *host.addresses, external, "-", "-")
            continue
        about = host.controller
        if about.pid is None:
            said = Text("not running", style="red")
        elif about.state is None:
            said = Text(f"pid {about.pid}, silent", style="red")
        else:
            counts = ", ".join(f"{count} {kind}" for kind, count in about.installed.items())
            said = Text(f"pid {about.pid}, {about.state}, {counts}")
        marks = ", ".join(sorted(marking.get(name, "-")))
        table.add_row(name, host.plane, *host.addresses, host.namespace, marks, said)
    return table


def _show_plugging(console: Console, status: LabStatus, name: str, host: HostStatus) -> None:
    """Say how somebody else's machine gets its cable: here, a namespace that runs a VTEP."""
    underlay, address = status.underlay, host.addresses[0]
    console.print(f"\n{name} is external; a namespace NS that is to be it is plugged in so:")
    there = f"ip -n {underlay.namespace} link"
    mtu = f"mtu {underlay.mtu}"
    for line in (
        f"{there} add {host.uplink} {mtu} type veth peer name u0 {mtu} netns NS",
        f"{there} set {host.uplink} master {underlay.bridge} up",
        f"ip -n NS link set u0 up && ip -n NS address add {address}/{host.prefix} dev u0",
    ):
        console.print(f"  {line}", highlight=False, soft_wrap=True)


def _endpoints(status: LabStatus) -> Table:
    table = _table("endpoint", "host", "namespace", "port", "MAC", "addresses")
    for name, endpoint in status.endpoints.items():
        table.add_row(
            name,
            endpoint.host,
            Text(
                endpoint.namespace if endpoint.up else f"{endpoint.namespace}, down",
                _red(endpoint.up),
            ),
            Text(endpoint.port or "none", _red(endpoint.port is not None)),
            endpoint.mac,
            " ".join(endpoint.addresses),
        )
    return table


def _red(well: bool) -> str:
    return "" if well else "red"


def show_matrix(console: Console, matrix: Matrix) -> None:
    """Print who reached whom, in tables of about 100 columns, and below what is wrong and why."""
    cells = {(cell.source, cell.target): cell for cell in matrix.cells}
    width = min(console.width, WIDTH) if console.is_terminal else WIDTH
    for columns in _chunks(matrix, width):
        show_table(console, _matrix_table(matrix, cells, columns))
    console.print(_legend(matrix), highlight=False)
    for line in _reasons(matrix):
        console.print(line, highlight=False, style="red", soft_wrap=True)


def _matrix_table(
    matrix: Matrix, cells: dict[tuple[str, str], Cell], columns: Sequence[int]
) -> Table:
    table = _table("", "from", "host", *(str(column + 1) for column in columns))
    tenants = [guest.partition("/")[0] for guest in matrix.guests]
    for row, source in enumerate(matrix.guests):
        marks = [
            Text("-", style="dim") if column == row else _mark(cells[source, matrix.guests[column]])
            for column in columns
        ]
        last = row + 1 == len(tenants) or tenants[row + 1] != tenants[row]
        table.add_row(str(row + 1), source, matrix.hosts[row], *marks, end_section=last)
    return table


def _mark(cell: Cell) -> Text:
    kinds = "".join(_SYMBOL[kind] for kind in cell.kinds)
    if cell.verdict == "wrong":
        return Text("✗", style="bold red")
    if cell.verdict == "reached":
        return Text(f"✓{kinds}", style="green")
    return Text("·", style="dim")


def _legend(matrix: Matrix) -> Group:
    used = {kind for cell in matrix.cells if cell.verdict == "reached" for kind in cell.kinds}
    ways = [way for kind, way in _WAYS.items() if kind in used]
    how = f" ({', '.join(ways)})" if ways else ""
    wrong = len(matrix.wrong)
    cells = f"{len(matrix.cells)} cells, {matrix.probes} probes, {matrix.seconds:.1f} s"
    lines = [
        Text(f"✓ reached{how}   · isolated   ✗ wrong   (columns as rows)"),
        Text.assemble(
            f"{cells}: ",
            (f"{wrong} wrong", "bold red")
            if wrong
            else ("every cell is what the overlay says", "bold green"),
        ),
    ]
    if len(matrix.guests) < matrix.of:
        lines.append(
            Text(
                f"{len(matrix.guests)} of {matrix.of} guests asked, of every tenant and host in"
                " turn; all listened (--sample 0 asks all)",
                style="yellow",
            )
        )
    return Group(*lines)


def _reasons(matrix: Matrix) -> Iterator[str]:
    wrong = matrix.wrong
    for cell in wrong[:_WHY_LIMIT]:
        yield f"✗ {cell.source} → {cell.target}, expected {cell.expected}: {'; '.join(cell.why)}"
    if len(wrong) > _WHY_LIMIT:
        yield f"… and {len(wrong) - _WHY_LIMIT} more (--json has them all)"


def _chunks(matrix: Matrix, width: int) -> Iterator[range]:
    """Yield the columns in runs that fit beside the names."""
    count = len(matrix.guests)
    names = max(map(len, matrix.guests), default=0) + max(map(len, matrix.hosts), default=0)
    widest = max((len(cell.kinds) for cell in matrix.cells if cell.verdict == "reached"), default=0)
    room = (width - names - 12) // (max(1 + widest, len(str(count))) + 2)
    size = max(room, 4)
    yield from (range(start, min(start + size, count)) for start in range(0, count, size))


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=True)
    return table
