"""The host's end of a veth: what it is before it is set up, where it goes, and when it is set up.

What it receives goes to the host's own stack, unless it is a port of what takes its frames: so that
comes first, and on the way back it is set down before anything else.
"""

from __future__ import annotations

import errno
from typing import Any, Final

from ovs_lwt.mistakes import Refused
from ovs_lwt.veth.mute import MASTERS, Wall
from ovs_lwt.veth.netlink import ignoring, link_named
from ovs_lwt.veth.plan import GATEWAY_MAC, AttachPlan

_IFF_UP: Final = 0x1


def set_host_end(host: Any, link: Any, plan: AttachPlan) -> None:
    """Make the host's end what the plan says, but for its being up or down.

    What it forwards to is not decided here, except that it leaves a bridge that its plane has no
    use for. Raises Refused if Open vSwitch has it and its plane is another.
    """
    index = link["index"]
    _leave_other_planes(host, link, plan)
    if link.get("mtu") != plan.mtu:
        host.link("set", index=index, mtu=plan.mtu)
    if plan.plane == "route" and link.get("address") != GATEWAY_MAC:
        host.link("set", index=index, address=GATEWAY_MAC)


def set_up(host: Any, name: str) -> None:
    """Set it up, now that all stands that is between it and the host's stack."""
    link = link_named(host, name)
    if link is not None and not link["flags"] & _IFF_UP:
        host.link("set", index=link["index"], state="up")


def set_down(host: Any, name: str) -> None:
    """Set it down, if it is there: from here on nothing is heard."""
    link = link_named(host, name)
    if link is not None and link["flags"] & _IFF_UP:
        ignoring(errno.ENODEV, host.link, "set", index=link["index"], state="down")


def join(host: Any, name: str, bridge: str) -> bool:
    """Put it into our bridge; False where there is none yet: then its agent does.

    In there it is in no VLAN, so nothing passes before the agent says whose it is.
    """
    link, ours = link_named(host, name), link_named(host, bridge)
    if link is None or ours is None or not is_bridge(ours):
        return False
    if link.get("master") != ours["index"]:
        host.link("set", index=link["index"], master=ours["index"])
    return True


def is_walled(host: Any, link: Any, wall: Wall) -> bool:
    """Whether nothing that it receives can go to the stack for want of a port's place."""
    if wall not in MASTERS:
        return True
    if not link.get("master"):
        return False
    (master,) = host.link("get", index=link.get("master"))
    return bool(master.get(("linkinfo", "kind")) == MASTERS[wall])


def is_bridge(link: Any) -> bool:
    """Whether a link is a bridge of ours, kept by an agent on plane bridge."""
    return bool(link.get(("linkinfo", "kind")) == "bridge" and link.get("ifalias") == "ovs-lwt")


def _leave_other_planes(host: Any, link: Any, plan: AttachPlan) -> None:
    if not link.get("master"):
        return
    (master,) = host.link("get", index=link.get("master"))
    kind, name = master.get(("linkinfo", "kind")), link.get("ifname")
    if kind == "openvswitch" and plan.plane != "ovs":
        raise Refused(
            f"'{name}' is still a port of Open vSwitch, and plane {plan.plane} forwards here now:"
            f" take it out first (ovs-vsctl del-port {name})"
        )
    if kind == "bridge" and plan.plane != "bridge":
        # Down first: out of the bridge its frames are the stack's.
        set_down(host, name)
        host.link("set", index=link["index"], master=0)
