"""A host's switch: an ovsdb-server and an ovs-vswitchd of its own, in its own namespace."""

from __future__ import annotations

import os
import shutil

from ovs_lwt.lab import namespaces
from ovs_lwt.lab.plan import BRIDGE, UNDERLAY_BRIDGE, HostPlan, LabPlan
from ovs_lwt.lab.processes import inside, run
from ovs_lwt.mistakes import Refused

PHYSICAL_BRIDGE = "br-phy"
UPLINK = "u0"
_SBIN = "/usr/local/sbin:/usr/sbin:/sbin"
_NEEDED = {
    "ovs-vswitchd": "openvswitch-switch",
    "ovsdb-server": "openvswitch-common",
    "ovsdb-tool": "openvswitch-common",
    "ovs-vsctl": "openvswitch-switch",
    "ovs-appctl": "openvswitch-common",
    "ovs-ofctl": "openvswitch-common",
    "nsenter": "util-linux",
    "ip": "iproute2",
}


def check_machine() -> None:
    """Raise `Refused` unless this machine and this user can have a lab."""
    if os.geteuid() != 0:
        raise Refused("a lab needs root, for it makes network namespaces: run it with sudo")
    _reach_sbin()
    missing = {package for tool, package in _NEEDED.items() if shutil.which(tool) is None}
    if missing:
        switch = any(package.startswith("openvswitch") for package in missing)
        # openvswitch-switch brings openvswitch-common with it.
        missing -= {"openvswitch-common"}
        packages = " ".join(sorted(missing | ({"openvswitch-switch"} if switch else set())))
        what = "Open vSwitch is not installed" if switch else "a program is missing"
        raise Refused(f"{what}: 'apt-get install {packages}' brings it (Debian, Ubuntu)")


def _reach_sbin() -> None:
    """Add the system's own directories to PATH, which a plain ``su`` leaves out."""
    path = os.environ.get("PATH", "")
    if "/usr/sbin" not in path.split(":"):
        os.environ["PATH"] = f"{path}:{_SBIN}" if path else _SBIN


def environment(host: HostPlan) -> dict[str, str]:
    """Return what makes ``ovs-vsctl`` and the others speak to this host's switch."""
    rundir = str(host.rundir)
    return {
        "OVS_RUNDIR": rundir,
        "OVS_LOGDIR": rundir,
        "OVS_DBDIR": rundir,
        "OVS_SYSCONFDIR": rundir,
    }


def start_switch(plan: LabPlan, host: HostPlan) -> None:
    """Make the host's namespace, plug it into the underlay and start its switch.

    The VTEP's address is on br-phy, a bridge of the userspace datapath with the underlay's cable
    in it: that is how this datapath finds the way for tunnelled packets (OVS documentation,
    "Userspace datapath: tunnels"). The overlay's bridge is made here too, closed
    (fail_mode=secure) and on the same datapath, so that guests can be attached while the
    controller starts.
    """
    host.rundir.mkdir()
    namespaces.create(host.namespace)
    namespaces.plug(plan.underlay, UNDERLAY_BRIDGE, host.uplink, host.namespace, UPLINK, plan.mtu)
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
    run(inside(host.namespace, ["ovs-vswitchd", *common]), env=env)
    run(
        [
            *("ovs-vsctl", "--timeout=20", "set", "Open_vSwitch", "."),
            f"external_ids:system-id={host.name}",
            *("--", "add-br", PHYSICAL_BRIDGE),
            *("--", "set", "Bridge", PHYSICAL_BRIDGE, "datapath_type=netdev"),
            f"other_config:hwaddr={host.mac}",
            *("--", "set", "Interface", PHYSICAL_BRIDGE, f"mtu_request={plan.mtu}"),
            *("--", "add-port", PHYSICAL_BRIDGE, UPLINK),
            *("--", "add-br", BRIDGE),
            *("--", "set", "Bridge", BRIDGE, "datapath_type=netdev", "fail_mode=secure"),
        ],
        env=env,
    )
    namespaces.give_address(host.namespace, PHYSICAL_BRIDGE, host.address, host.network)
