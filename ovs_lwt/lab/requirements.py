"""What a lab needs of this machine and this user."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Final

from ovs_lwt.lab.kernel.features import FEATURES, failure
from ovs_lwt.lab.kernel.install import with_sbin
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
_OF_DATAPATH: Final = frozenset({"Open vSwitch datapath"})
_OF_PLANE: Final = {
    "bridge": frozenset({"VLAN to VNI"}),
    "route": frozenset({"routes into VXLAN"}),
}


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
    for host in plan.own_hosts:
        if host.datapath == "system":
            _need(_OF_DATAPATH, f"{host.name} was to have the kernel datapath")
        elif host.plane != "ovs":
            _need(_OF_PLANE[host.plane], f"{host.name} is on plane {host.plane}")


def on_user_mode_linux() -> bool:
    """Say whether the kernel we run on is user-mode Linux."""
    return "User Mode Linux" in Path("/proc/cpuinfo").read_text()


def default_datapath() -> Datapath:
    """Return the datapath of the switches where none is asked for.

    On user-mode Linux the kernel's: it is there, and nothing but the lab is.
    """
    return "system" if on_user_mode_linux() else "netdev"


_known: set[str] = set()


def _need(names: Collection[str], why: str) -> None:
    for feature in FEATURES:
        if feature.name not in names or feature.name in _known:
            continue
        said = failure(feature)
        if said is not None:
            raise Refused(
                f"{why}, and this kernel lacks '{feature.name}' ({said.splitlines()[-1]}): bring"
                " the lab up on a kernel that has it, with --kernel uml"
            )
        _known.add(feature.name)
