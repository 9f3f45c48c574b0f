"""The kernel lab: a command under a kernel that has every module, as a process.

The kernel is user-mode Linux, Debian's package `user-mode-linux`. It needs no root, no
virtualisation and no disk image: a machine sees the files of this one below a throw-away overlay.

    result = run_in_kernel(["ovs-vswitchd", "--version"], timeout=60)

or `python -m ovs_lwt.lab.kernel -- COMMAND`. Several machines at once, as separate hosts, are
wired by a `Hub`.
"""

from __future__ import annotations

from ovs_lwt.lab.kernel.features import FEATURES, Feature, missing_features, settle
from ovs_lwt.lab.kernel.machine import DIED, KernelMachine, Result, run_in_kernel
from ovs_lwt.lab.kernel.wire import Hub, Plug

__all__ = [
    "DIED",
    "FEATURES",
    "Feature",
    "Hub",
    "KernelMachine",
    "Plug",
    "Result",
    "missing_features",
    "run_in_kernel",
    "settle",
]
