"""Which kinds of machines this one can have, and which to take."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ovs_lwt.lab.kernel.features import Feature, missing_features
from ovs_lwt.lab.kernel.maker import Kind, Maker
from ovs_lwt.lab.kernel.uml import maker as uml
from ovs_lwt.lab.kernel.vm import image, kvm
from ovs_lwt.lab.kernel.vm import maker as vm
from ovs_lwt.mistakes import Refused, listing

Say = Callable[[str], object]


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr)


@dataclass(frozen=True, slots=True)
class Choice:
    """What was taken: a machine, or None for the kernel we run on; and why, in words."""

    maker: Maker | None
    why: str


def find(kind: Kind, say: Say = _to_stderr) -> Maker:
    """Return the maker of such machines; raise `Refused` if this machine can have none.

    A virtual machine is run by KVM where KVM runs one, else emulated. If there is no kernel for it
    yet, Debian's is fetched; `say` is called with that.
    """
    if kind == "uml":
        return uml.find()
    emulated = _emulated(say)
    return replace(emulated, kvm=kvm.trouble(emulated) is None)


def choose(needed: Sequence[Feature], say: Say = _to_stderr) -> Choice:
    """Choose for a command that needs these features.

    The kernel we run on if it has them; else a virtual machine with KVM, user-mode Linux if that
    has them, an emulated virtual machine: the quickest first. Raises `Refused` if none can be had.
    """
    missing = missing_features(needed)
    if not missing:
        return Choice(None, "it has all that is needed")
    lacks = f"this machine's lacks {listing([f'{feature.name!r}' for feature in missing])}"
    against: list[str] = []
    machine: vm.VirtualMachine | None = None
    try:
        # Without KVM there is no need to fetch a kernel yet.
        absent = kvm.absent()
        if absent is not None:
            raise Refused(absent)
        machine = _emulated(say)
        trouble = kvm.trouble(machine)
        if trouble is None:
            return Choice(replace(machine, kvm=True), lacks)
        raise Refused(trouble)
    except Refused as refused:
        against.append(f"no KVM: {refused}")
    strange = [feature.name for feature in needed if not feature.in_uml]
    try:
        if strange:
            raise Refused(f"it lacks {listing(strange)}")
        return Choice(uml.find(), "; ".join((lacks, *against)))
    except Refused as refused:
        against.append(f"no user-mode Linux: {refused}")
    try:
        return Choice(machine or _emulated(say), "; ".join((lacks, *against)))
    except Refused as refused:
        against.append(f"no virtual machine: {refused}")
    raise Refused(f"no kernel here will do: {lacks}", *(f"  {why}" for why in against))


def _emulated(say: Say) -> vm.VirtualMachine:
    """Return qemu and a kernel for it, which is fetched if there is none."""
    qemu = vm.program()
    return vm.VirtualMachine(qemu, image.find() or image.fetch(say), kvm=False)
