"""The local switch through OVSDB: the bridge, the shared VXLAN port, names, port claims.

No OpenFlow here. Only `vswitch.database` imports the `ovs` library, and only `vswitch.switch` leads
to it: what is exported here are values, for hosts without a switch as well.
"""

from __future__ import annotations

from ovs_lwt.vswitch.plan import (
    DEFAULT_BRIDGE,
    DEFAULT_OVSDB,
    DEFAULT_REQUEST_PORT,
    DEFAULT_TUNNEL_PORT,
    LocalPort,
    SwitchPlan,
    run_directory,
)

__all__ = [
    "DEFAULT_BRIDGE",
    "DEFAULT_OVSDB",
    "DEFAULT_REQUEST_PORT",
    "DEFAULT_TUNNEL_PORT",
    "LocalPort",
    "SwitchPlan",
    "run_directory",
]
