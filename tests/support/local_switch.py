"""A host of a small overlay, and its local switch as `ovs_lwt.vswitch` sees it."""

from __future__ import annotations

from collections.abc import Callable

from ovs_lwt.vswitch import SwitchPlan
from ovs_lwt.vswitch.switch import LocalSwitch
from tests.support.ovs import OvsHost, eventually

HOST1 = SwitchPlan(
    local_vtep="192.0.2.11",
    udp_port=4789,
    datapath_id=0x0000_0200_C000_0201,
    controller="tcp:127.0.0.1:6653",
    table_names=((0, "classify"), (1, "peer"), (5, "forward")),
    datapath_type="netdev",
)
BRIDGE = HOST1.bridge
TUNNEL = HOST1.tunnel_port


def committed(host: OvsHost) -> tuple[int, str]:
    """How often ovs-lwt has changed this database (from the server's log), and its next_cfg."""
    log = (host.rundir / "conf.db").read_bytes()
    return log.count(b'"_comment":"ovs-lwt'), host.vsctl("get", "open_vswitch", ".", "next_cfg")


def read(host: OvsHost, table: str, record: str, column: str) -> str:
    return host.vsctl("get", table, record, column)


def add_device(host: OvsHost, name: str) -> None:
    host.run("ip", "link", "add", name, "type", "veth", "peer", "name", f"{name}p")


def add_port(host: OvsHost, name: str, *settings: str) -> None:
    """Plug a port in as somebody else would: libvirt, or a person with ovs-vsctl."""
    add_device(host, name)
    more = ("--", "set", "interface", name, *settings) if settings else ()
    host.vsctl("add-port", BRIDGE, name, *more)


def sees(switch: LocalSwitch, what: Callable[[], bool]) -> bool:
    """Poll as an agent does: what `run` says changed must by then be there."""
    return eventually(lambda: (switch.run() and what()) or what(), within=5)
