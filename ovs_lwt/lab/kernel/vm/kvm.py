"""Whether the processor runs virtual machines (KVM): found out by booting one.

That /dev/kvm is there, and opens, says little: inside another virtual machine it may hang.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Final

from ovs_lwt.lab.kernel.cache import cache
from ovs_lwt.lab.kernel.machine import run_in_kernel
from ovs_lwt.lab.kernel.vm.maker import VirtualMachine

_DEVICE: Final = Path("/dev/kvm")
# With KVM a machine is up in two seconds.
_SECONDS: Final = 20.0
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


def absent() -> str | None:
    """Return why there is no KVM to be tried, or None if there is."""
    if not _DEVICE.exists():
        return f"there is no {_DEVICE}"
    if not os.access(_DEVICE, os.R_OK | os.W_OK):
        return f"{_DEVICE} may not be opened by this user"
    return None


def trouble(machine: VirtualMachine) -> str | None:
    """Return why KVM does not run `machine`, or None if it does.

    What was found is remembered until this machine's next boot.
    """
    why = absent()
    if why is not None:
        return why
    remembered = cache() / "kvm.json"
    asked = {"boot": _BOOT_ID.read_text().strip(), "kernel": str(machine.image.kernel)}
    try:
        known = json.loads(remembered.read_text())
        if known["asked"] == asked:
            return None if known["said"] is None else str(known["said"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    said = _try(machine)
    new = remembered.with_suffix(f".{os.getpid()}")
    new.write_text(json.dumps({"asked": asked, "said": said}))
    new.replace(remembered)
    return said


def _try(machine: VirtualMachine) -> str | None:
    result = run_in_kernel(
        replace(machine, kvm=True), ["true"], timeout=_SECONDS, memory=machine.least_memory
    )
    if result.status == 0:
        return None
    if result.timed_out:
        return f"{_DEVICE} opens, but a kernel does not come up in {_SECONDS:.0f} s"
    return f"{_DEVICE} runs no kernel: {result.last_words(1) or 'it ended without a word'}"
