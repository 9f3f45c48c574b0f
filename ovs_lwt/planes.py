"""Which plane is which: from its name to the host that runs it.

A plane is imported where it is chosen: one that is not needs none of its libraries.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ovs_lwt.control import FOLDER
from ovs_lwt.model import Plane as PlaneName
from ovs_lwt.netlock import NamespaceLock
from ovs_lwt.plane import Options, Plane
from ovs_lwt.vswitch import DEFAULT_OVSDB

if TYPE_CHECKING:
    from ovs_lwt.backends.netlink.setup import Forwarding


def host_on(plane: PlaneName, name: str, where: str, options: Options) -> Plane:
    """A host of the overlay on its plane.

    where: its OVSDB on plane ovs, else its network namespace (a name or a path); "": here
    """
    if plane == "ovs":
        from ovs_lwt.ovs_host import OvsHost
        from ovs_lwt.vswitch.held import HeldSwitch
        from ovs_lwt.vswitch.keeper import SwitchKeeper

        ovsdb = where or DEFAULT_OVSDB
        target = partial(options.target, name, ovsdb) if options.target else lambda: None
        switch = SwitchKeeper(ovsdb, lambda: HeldSwitch(ovsdb, options.bridge), target)
        return OvsHost(name, switch, options)
    from ovs_lwt.kernel_host import KernelHost

    lock = NamespaceLock(FOLDER, where or None, options.agent)
    try:
        host = KernelHost(name, where or None, forwarding(plane, name, options, where))
    except BaseException:
        lock.close()
        raise
    host.held.append(lock)
    return host


def forwarding(
    plane: PlaneName, name: str, options: Options, where: str = "", *, keep: bool = True
) -> Forwarding:
    """What a host needs of this machine's kernel, on plane bridge or route.

    where: its network namespace; "": here
    keep: False to look only: what it decides (a tenant's VLAN) is not kept, and what the kernel can
    do is not tried
    """
    if plane == "bridge":
        from ovs_lwt.backends.bridge.plane import BridgePlane
        from ovs_lwt.backends.bridge.vlans import VlanStore

        return BridgePlane(VlanStore(options.state / f"{name}.vlans", keep=keep))
    from ovs_lwt.backends.netlink.machine import ThisMachine
    from ovs_lwt.backends.route.plane import RoutePlane

    return RoutePlane(ThisMachine(where or None, trying=keep))
