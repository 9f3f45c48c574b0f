"""The hosts of a lab, whatever their plane: made, given their guests, spoken to.

A host of plane ovs has a switch of its own (`switches`); of any other plane it has nothing but
its VTEP's address, for its agent makes the rest in the kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext

from ovs_lwt.lab import namespaces, switches
from ovs_lwt.lab.guests import make_guest
from ovs_lwt.lab.plan import BRIDGE, TUNNEL_PORT, UNDERLAY_BRIDGE, UPLINK, HostPlan, LabPlan
from ovs_lwt.veth import AttachPlan, attach


def start(plan: LabPlan, host: HostPlan) -> None:
    """Make the host's namespace and plug it into the underlay, with its VTEP's address."""
    host.rundir.mkdir()
    namespaces.create(host.namespace)
    namespaces.plug(
        plan.underlay,
        UNDERLAY_BRIDGE,
        host.uplink,
        host.namespace,
        UPLINK,
        plan.mtu,
        # br-phy has the MAC on the userspace datapath; and that reads frames as they are.
        mac=None if host.datapath == "netdev" else host.mac,
        checksummed=host.datapath == "netdev",
    )
    if host.plane == "ovs":
        switches.start(plan, host)
    else:
        namespaces.give_address(host.namespace, UPLINK, host.address, host.network)


def add_guests(
    host: HostPlan, wanted: Sequence[AttachPlan], go_on: Callable[[], None] = lambda: None
) -> None:
    """Make the guests' namespaces and attach them; `go_on` is called before each and may raise."""
    if not wanted:
        return
    # As on a real host, the host's end of the cable is in its namespace.
    with (
        switches.of(host) if host.plane == "ovs" else nullcontext() as switch,
        namespaces.entered(host.namespace),
    ):
        for guest in wanted:
            go_on()
            make_guest(guest.netns)
            attach(guest, switch)


def environment(host: HostPlan) -> dict[str, str]:
    """Return what makes programs run on the host speak to that host's switch, if it has one."""
    return switches.environment(host) if host.plane == "ovs" else {}


def worth_a_look(host: HostPlan) -> list[tuple[str, str]]:
    """Return commands to be run on the host, and what they show."""
    if host.plane == "bridge":
        return [
            (f"bridge fdb show dev {TUNNEL_PORT}", "remote endpoints and flood lists"),
            (f"bridge vlan tunnelshow dev {TUNNEL_PORT}", "VLAN to VNI"),
        ]
    if host.plane == "route":
        return [
            ("ip rule", "mark to table"),
            (f"ip route show table all dev {TUNNEL_PORT}", "remote endpoints"),
        ]
    return [
        ("ovs-vsctl show", "a host's switch"),
        (f"ovs-ofctl -O OpenFlow14 --names dump-flows {BRIDGE}", "its flows"),
    ]
