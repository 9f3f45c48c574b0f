"""A guest: a namespace, and the cable to its host that `ovs_lwt.veth` lays."""

from __future__ import annotations

from ovs_lwt.lab import namespaces
from ovs_lwt.lab.plan import GUEST_INTERFACE, HostPlan, LabPlan
from ovs_lwt.topology import Topology
from ovs_lwt.veth import AttachPlan, Marking, plan_attach


def attachments(topology: Topology, plan: LabPlan) -> dict[str, list[AttachPlan]]:
    """Return, for every own host, how its guests are attached; raise `Refused` where none can."""
    if plan.plane is not None:
        topology = topology.on_plane(plan.plane)
    marking = {host.name: _marking(host) for host in plan.own_hosts}
    found: dict[str, list[AttachPlan]] = {name: [] for name in marking}
    for guest in plan.guests:
        found[guest.host].append(
            plan_attach(
                topology,
                guest.id,
                guest.namespace,
                interface=GUEST_INTERFACE,
                marking=marking[guest.host],
            )
        )
    return found


def _marking(host: HostPlan) -> Marking:
    # The userspace datapath sees no mark that the kernel sets.
    return "flow" if host.datapath == "netdev" else "auto"


def make_guest(namespace: str) -> None:
    """Make a guest's namespace, in which addresses can be used at once."""
    namespaces.create(namespace)
    # Duplicate detection would keep IPv6 addresses unusable for a second or more.
    namespaces.set_sysctl(namespace, "net/ipv6/conf/default/accept_dad", "0")
