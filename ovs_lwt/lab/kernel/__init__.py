"""The kernel lab: a command under a kernel that has every module, as a process.

The kernel is user-mode Linux (Debian's package `user-mode-linux`), or Debian's own in a virtual
machine of qemu's. Neither needs root or a disk image: a machine sees the files of this one below a
throw-away overlay.

    result = run_in_kernel(find("uml"), ["ovs-vswitchd", "--version"], timeout=60)

or `python -m ovs_lwt.lab.kernel -- COMMAND`. Several machines at once, as separate hosts, are
wired by a `Hub`.

    choice    which kinds of machines this one can have, and which to take
    maker     what a kind of machine answers: `uml`, `vm`
    machine   one machine, from its start to its end; init.sh is its first process
    leash     the process that ends a machine however we end
    features  what the planes need of a kernel
"""

from __future__ import annotations

from ovs_lwt.lab.kernel.choice import Choice, choose, find
from ovs_lwt.lab.kernel.features import FEATURES, OTHERS, Feature, missing_features, settle
from ovs_lwt.lab.kernel.machine import DIED, KernelMachine, Result, run_in_kernel
from ovs_lwt.lab.kernel.maker import Kind, Maker, slowness, title, we_are_in
from ovs_lwt.lab.kernel.wire import Hub, Plug

__all__ = [
    "DIED",
    "FEATURES",
    "OTHERS",
    "Choice",
    "Feature",
    "Hub",
    "KernelMachine",
    "Kind",
    "Maker",
    "Plug",
    "Result",
    "choose",
    "find",
    "missing_features",
    "run_in_kernel",
    "settle",
    "slowness",
    "title",
    "we_are_in",
]
