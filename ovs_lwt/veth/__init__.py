"""Attach a guest: a veth pair from its network namespace to its host, and the tenant's mark on it.

The guest gets an ordinary interface (MAC, addresses, MTU; on plane route a gateway) and nothing
else; whose it is, is said on the host's side of the veth: the claim and, where the kernel forwards,
the tenant's mark. The host's own stack hears nothing there (`mute`). Every step looks before it
acts, so attaching twice mends what differs and detaching twice is success. A `MarkKeeper` keeps the
marks against drift, a `MuteKeeper` keeps ports mute.
"""

from __future__ import annotations

from ovs_lwt.veth.attach import Attached, Switch, attach, detach
from ovs_lwt.veth.marking import KernelMarking, Marking
from ovs_lwt.veth.marks import MarkKeeper
from ovs_lwt.veth.mute import Mute, MuteKeeper
from ovs_lwt.veth.notices import Notices
from ovs_lwt.veth.plan import AttachPlan, plan_attach, tunnel_mtu

__all__ = [
    "AttachPlan",
    "Attached",
    "KernelMarking",
    "MarkKeeper",
    "Marking",
    "Mute",
    "MuteKeeper",
    "Notices",
    "Switch",
    "attach",
    "detach",
    "plan_attach",
    "tunnel_mtu",
]
