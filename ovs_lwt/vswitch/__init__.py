"""The local switch through OVSDB: the bridge, the shared VXLAN port, names, port claims.

No OpenFlow here. Only `vswitch.database` imports the `ovs` library.
"""

from __future__ import annotations

from ovs_lwt.vswitch.plan import (
    DEFAULT_BRIDGE,
    DEFAULT_OVSDB,
    DEFAULT_TUNNEL_PORT,
    LocalPort,
    SwitchPlan,
)
from ovs_lwt.vswitch.switch import LocalSwitch

__all__ = [
    "DEFAULT_BRIDGE",
    "DEFAULT_OVSDB",
    "DEFAULT_TUNNEL_PORT",
    "LocalPort",
    "LocalSwitch",
    "SwitchPlan",
]
