"""What a lab needs of this machine and this user."""

from __future__ import annotations

import os
import shutil
from typing import Final

from ovs_lwt.lab.kernel.features import FEATURES, Feature, failure
from ovs_lwt.lab.kernel.maker import we_are_in
from ovs_lwt.lab.kernel.tools import with_sbin
from ovs_lwt.lab.plan import Datapath, LabPlan
from ovs_lwt.mistakes import Refused

_NEEDED: Final = {
    "ovs-vswitchd": "openvswitch-switch",
    "ovsdb-server": "openvswitch-common",
    "ovsdb-tool": "openvswitch-common",
    "ovs-vsctl": "openvswitch-switch",
    "ovs-appctl": "openvswitch-common",
    "ovs-ofctl": "openvswitch-common",
    "nsenter": "util-linux",
    "ip": "iproute2",
}
# What the planes are made of, by the names of `FEATURES`.
_OF_DATAPATH: Final = "Open vSwitch datapath"
_OF_PLANE: Final = {"bridge": "VLAN to VNI", "route": "routes into VXLAN"}
_OF_LABELS: Final = ("MPLS routes", "VRF")
_FEATURES: Final = {feature.name: feature for feature in FEATURES}


def check_machine() -> None:
    """Raise `Refused` unless this machine and this user can have a lab."""
    check_root()
    missing = {package for tool, package in _NEEDED.items() if shutil.which(tool) is None}
    if missing:
        switch = any(package.startswith("openvswitch") for package in missing)
        # openvswitch-switch brings openvswitch-common with it.
        missing -= {"openvswitch-common"}
        packages = " ".join(sorted(missing | ({"openvswitch-switch"} if switch else set())))
        what = "Open vSwitch is not installed" if switch else "a program is missing"
        raise Refused(f"{what}: 'apt-get install {packages}' brings it (Debian, Ubuntu)")


def check_root() -> None:
    """Raise `Refused` unless we are root; see to it that root's programs are found."""
    if os.geteuid() != 0:
        raise Refused("a lab needs root, for it makes network namespaces: run it with sudo")
    # A plain `su` leaves the system's own directories out.
    os.environ["PATH"] = with_sbin(os.environ.get("PATH", ""))


def check_kernel(plan: LabPlan) -> None:
    """Raise `Refused` if this kernel lacks what a host of the lab forwards by."""
    for name, why in _needs(plan).items():
        said = failure(_FEATURES[name])
        if said is not None:
            raise Refused(
                f"{why}, and this kernel lacks '{name}' ({said.splitlines()[-1]}): bring the lab up"
                " without --kernel here, on a kernel that has it"
            )


def needed(plan: LabPlan) -> list[Feature]:
    """Return what the hosts of the lab forward by."""
    return [_FEATURES[name] for name in _needs(plan)]


def _needs(plan: LabPlan) -> dict[str, str]:
    """Return the features that the lab needs of a kernel, by name: each with a host and why."""
    found: dict[str, str] = {}
    for host in plan.own_hosts:
        if host.datapath == "system":
            found.setdefault(_OF_DATAPATH, f"{host.name} was to have the kernel datapath")
        elif host.plane != "ovs":
            found.setdefault(_OF_PLANE[host.plane], f"{host.name} is on plane {host.plane}")
        if host.labels:
            for feature in _OF_LABELS:
                found.setdefault(feature, f"MPLS carries a tenant of {host.name}")
    return found


def default_datapath() -> Datapath:
    """Return the datapath of the switches where none is asked for.

    In a machine of the lab's the kernel's: it is there, and nothing but the lab is.
    """
    return "netdev" if we_are_in() is None else "system"
