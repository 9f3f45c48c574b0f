"""What the kinds of machines have in common: what is asked of each, and what it answers."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol, get_args

from ovs_lwt.lab.kernel.wire import Plug

Kind = Literal["uml", "vm"]
"""User-mode Linux; or a virtual machine of qemu's."""

How = Literal["uml", "kvm", "tcg"]
"""What runs a machine's programs: user-mode Linux; the processor (KVM); or qemu, which translates
them (TCG)."""

# How many times as long as outside a program may take. Python is that much slower in user-mode
# Linux, and all processes share one processor.
_SLOWNESS: Final[Mapping[How, float]] = {"uml": 5, "kvm": 2, "tcg": 10}
_HOW: Final = "ovs_lwt_machine="


@dataclass(frozen=True, slots=True)
class Order:
    """A machine that is wanted.

    `work` is its folder of files, with the script ``init`` that shall be its first process; `out`
    the folder that it shares for writing, if any; `memory` is in MB. `plugs` and `lines` are
    sockets that the machine's process inherits under their numbers here.
    """

    work: Path
    out: Path | None
    memory: int
    plugs: Sequence[Plug]
    lines: Sequence[int]


@dataclass(frozen=True, slots=True)
class Launch:
    """How a machine is started.

    `command` runs it to its end, in `environment`. Its standard output must be what the machine
    writes to `output` in there, its standard error what the kernel says. `settings` are variables
    of init.sh.
    """

    command: list[str]
    environment: Mapping[str, str]
    settings: Mapping[str, str]


class Maker(Protocol):
    """A kind of machine that can be had here."""

    @property
    def kind(self) -> Kind:
        """Which it is."""

    @property
    def how(self) -> How:
        """What runs it."""

    @property
    def least_memory(self) -> int:
        """What a machine needs to boot, in MB."""

    def launch(self, order: Order) -> Launch:
        """Put what the machine needs into its folder; return how it is started."""


def words_for(order: Order, how: How) -> tuple[str, str]:
    """Return the words on a machine's kernel command line that are for the first process and us."""
    return f"ovs_lwt_work={order.work}", f"{_HOW}{how}"


@functools.cache
def we_are_in() -> How | None:
    """Return what runs the machine of the lab that this process is in; None outside of them."""
    words = Path("/proc/cmdline").read_text().split()
    return next((how for how in get_args(How) if f"{_HOW}{how}" in words), None)


def slowness(how: How | None) -> float:
    """Return how many times as long as outside a program may take in such a machine."""
    return 1 if how is None else _SLOWNESS[how]


def title(how: How) -> str:
    """Return what people call such a machine."""
    match how:
        case "uml":
            return "user-mode Linux"
        case "kvm":
            return "a virtual machine (KVM)"
        case "tcg":
            return "a virtual machine (emulated)"
