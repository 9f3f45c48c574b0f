"""The host's end of a veth."""

from __future__ import annotations

from typing import Any, Final

from ovs_lwt.mistakes import Refused
from ovs_lwt.veth.plan import GATEWAY_MAC, AttachPlan

_IFF_UP: Final = 0x1
_IFF_NOARP: Final = 0x80
_ADDR_GEN_MODE_NONE: Final = 1


def set_host_end(host: Any, link: Any, plan: AttachPlan) -> None:
    """Make the host's end what the plan says.

    What it forwards to is not decided here, except that it leaves a bridge that its plane has no
    use for. Raises Refused if Open vSwitch has it and its plane is another.
    """
    index = link["index"]
    _leave_other_planes(host, link, plan)
    if link.get("mtu") != plan.mtu:
        host.link("set", index=index, mtu=plan.mtu)
    if plan.plane == "route" and link.get("address") != GATEWAY_MAC:
        host.link("set", index=index, address=GATEWAY_MAC)
    # The host's own stack sees what this end receives. Without an address and without ARP it has
    # nothing to say to the guest.
    host.link(
        "set",
        index=index,
        af_spec={
            "attrs": [("AF_INET6", {"attrs": [("IFLA_INET6_ADDR_GEN_MODE", _ADDR_GEN_MODE_NONE)]})]
        },
    )
    if link["flags"] & (_IFF_UP | _IFF_NOARP) != _IFF_UP | _IFF_NOARP:
        host.link("set", index=index, arp=False, state="up")


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
        host.link("set", index=link["index"], master=0)
