"""A guest: a namespace, and the cable to its host's switch that `ovs_lwt.veth` lays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from ovs_lwt.lab import namespaces
from ovs_lwt.lab.plan import BRIDGE, GUEST_INTERFACE, TUNNEL_PORT, HostPlan, LabPlan
from ovs_lwt.topology import Topology
from ovs_lwt.veth import AttachPlan, attach, plan_attach
from ovs_lwt.vswitch import LocalSwitch

# The lab's switches have the userspace datapath, which sees no mark that the kernel sets.
_MARKING: Final = "flow"


def attachments(topology: Topology, plan: LabPlan) -> dict[str, list[AttachPlan]]:
    """Return, for every own host, how its guests are attached; raise `Refused` where none can."""
    found: dict[str, list[AttachPlan]] = {host.name: [] for host in plan.own_hosts}
    for guest in plan.guests:
        found[guest.host].append(
            plan_attach(
                topology, guest.id, guest.namespace, interface=GUEST_INTERFACE, marking=_MARKING
            )
        )
    return found


def add_guests(
    host: HostPlan, wanted: Sequence[AttachPlan], go_on: Callable[[], None] = lambda: None
) -> None:
    """Make the guests' namespaces and attach them; `go_on` is called before each and may raise."""
    if not wanted:
        return
    # As on a real host, the switch's end of the cable is in the host's namespace.
    with (
        LocalSwitch(host.ovsdb, BRIDGE, tunnel_port=TUNNEL_PORT) as switch,
        namespaces.entered(host.namespace),
    ):
        for guest in wanted:
            go_on()
            namespaces.create(guest.netns)
            # Duplicate detection would keep IPv6 addresses unusable for a second or more.
            namespaces.set_sysctl(guest.netns, "net/ipv6/conf/default/accept_dad", "0")
            attach(guest, switch)
