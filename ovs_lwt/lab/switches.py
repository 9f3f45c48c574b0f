"""A host of plane ovs: an ovsdb-server and an ovs-vswitchd of its own, in its own namespace."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ovs_lwt.lab import namespaces
from ovs_lwt.lab.kernel import settle, slowness, we_are_in
from ovs_lwt.lab.plan import BRIDGE, TUNNEL_PORT, UPLINK, HostPlan, LabPlan
from ovs_lwt.lab.processes import inside, run
from ovs_lwt.vswitch.switch import LocalSwitch

PHYSICAL_BRIDGE = "br-phy"
_SECONDS: Final = 60


def environment(host: HostPlan) -> dict[str, str]:
    """Return what makes ``ovs-vsctl`` and the others speak to this host's switch."""
    rundir = str(host.rundir)
    return {
        "OVS_RUNDIR": rundir,
        "OVS_LOGDIR": rundir,
        "OVS_DBDIR": rundir,
        "OVS_SYSCONFDIR": rundir,
    }


def start(plan: LabPlan, host: HostPlan) -> None:
    """Start the host's switch and give the host its VTEP's address.

    The overlay's bridge is made here too, closed (fail_mode=secure) and on the datapath it is to
    have, so that guests can be attached while the controller starts.
    """
    env = environment(host)
    database = str(host.rundir / "conf.db")
    run(["ovsdb-tool", "create", database], env=env)
    common = ["--detach", "--no-chdir", "--pidfile", "-vconsole:off", "--log-file"]
    run(
        inside(
            host.namespace,
            ["ovsdb-server", database, f"--remote=punix:{host.rundir / 'db.sock'}", *common],
        ),
        env=env,
    )
    run(["ovs-vsctl", "--no-wait", "init"], env=env)
    settle()
    run(inside(host.namespace, ["ovs-vswitchd", *common]), env=env)
    userspace = host.datapath == "netdev"
    patience = _SECONDS * slowness(we_are_in())
    run(
        [
            *(
                "ovs-vsctl",
                f"--timeout={patience:.0f}",
                "set",
                "Open_vSwitch",
                ".",
            ),
            f"external_ids:system-id={host.name}",
            *(_physical_bridge(plan, host) if userspace else ()),
            *("--", "add-br", BRIDGE),
            *("--", "set", "Bridge", BRIDGE, f"datapath_type={host.datapath}"),
            "fail_mode=secure",
        ],
        env=env,
        timeout=_SECONDS + 1,
    )
    namespaces.give_address(
        host.namespace, PHYSICAL_BRIDGE if userspace else UPLINK, host.address, host.network
    )


def _physical_bridge(plan: LabPlan, host: HostPlan) -> Sequence[str]:
    """Return words for ovs-vsctl that put the underlay's cable into a bridge.

    On the userspace datapath the VTEP's address is on that bridge: so it finds the way for
    tunnelled packets (OVS documentation, "Userspace datapath: tunnels").
    """
    return [
        *("--", "add-br", PHYSICAL_BRIDGE),
        *("--", "set", "Bridge", PHYSICAL_BRIDGE, "datapath_type=netdev"),
        f"other_config:hwaddr={host.mac}",
        *("--", "set", "Interface", PHYSICAL_BRIDGE, f"mtu_request={plan.mtu}"),
        *("--", "add-port", PHYSICAL_BRIDGE, UPLINK),
    ]


def of(host: HostPlan) -> LocalSwitch:
    """Return the host's switch, to be opened: what guests are attached to."""
    return LocalSwitch(host.ovsdb, BRIDGE, tunnel_port=TUNNEL_PORT)
