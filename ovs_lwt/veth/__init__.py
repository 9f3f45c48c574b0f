"""Attach a guest: a veth pair from its network namespace to a port of the switch.

The guest gets an ordinary interface (MAC, addresses, MTU) and nothing else; whose it is, is said
on the host's side of the veth: the claim and, with the kernel datapath, the tenant's mark. Every
step looks before it acts, so attaching twice mends what differs and detaching twice is success.
"""

from __future__ import annotations

from ovs_lwt.veth.guest import Switch, attach, detach
from ovs_lwt.veth.plan import AttachPlan, Marking, plan_attach, tunnel_mtu

__all__ = ["AttachPlan", "Marking", "Switch", "attach", "detach", "plan_attach", "tunnel_mtu"]
