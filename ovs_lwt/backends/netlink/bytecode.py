"""Classic BPF, as tc's classifier `bpf` takes it: written down with labels, and slots for numbers.

A program reads a frame from its Ethernet header on, and says by its last word whether it means that
frame (Documentation/networking/filter.rst of the kernel). What it reads beyond the frame's end, it
does not mean.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ovs_lwt.backends.netlink.slots import Slot

# include/uapi/linux/filter.h, bpf_common.h.
_BYTE, _HALF, _WORD = 0x30, 0x28, 0x20  # BPF_LD | BPF_ABS | BPF_B, _H, _W
_KEEP, _AND = 0x07, 0x54  # BPF_MISC | BPF_TAX; BPF_ALU | BPF_AND | BPF_K
_EQUALS, _EQUALS_KEPT, _HAS = 0x15, 0x1D, 0x45  # BPF_JMP | BPF_JEQ | BPF_K or BPF_X; BPF_JSET
_RETURN: Final = 0x06
_VLAN_TAG_PRESENT: Final = 0xFFFFF000 + 48  # SKF_AD_OFF + SKF_AD_VLAN_TAG_PRESENT
_WIDTHS: Final = {1: _BYTE, 2: _HALF, 4: _WORD}
_INSTRUCTION: Final = struct.Struct("=HBBI")  # struct sock_filter


@dataclass(frozen=True, slots=True)
class Step:
    """One instruction. yes, no: the labels where it goes on; None: at the next."""

    code: int
    number: int | Slot = 0
    yes: str | None = None
    no: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Bytecode:
    """A program. instructions: (code, yes, no, number), the middle ones as distances"""

    instructions: tuple[tuple[int, int, int, int | Slot], ...]

    def __len__(self) -> int:
        return len(self.instructions)

    @property
    def slots(self) -> tuple[Slot, ...]:
        """The slots among its numbers."""
        return tuple(each[3] for each in self.instructions if isinstance(each[3], Slot))

    @property
    def text(self) -> str:
        """What follows the word `bytecode` on tc's command line."""
        lines = (
            f"{code} {yes} {no} {{{number.name}}}"
            if isinstance(number, Slot)
            else f"{code} {yes} {no} {number}"
            for code, yes, no, number in self.instructions
        )
        return f'"{len(self)},{",".join(lines)}"'

    def octets(self, values: Mapping[str, bytes]) -> bytes:
        """The program as the kernel takes it, with these bytes in its slots."""
        return b"".join(
            _INSTRUCTION.pack(
                code,
                yes,
                no,
                int.from_bytes(values[number.name], sys.byteorder)
                if isinstance(number, Slot)
                else number,
            )
            for code, yes, no, number in self.instructions
        )


def load(offset: int, width: int) -> Step:
    """Take these bytes of the frame as a number, the first of them the highest."""
    return Step(_WIDTHS[width], offset)


def load_tagged() -> Step:
    """Take 1 if the frame bore a VLAN tag, which the kernel has taken off; else 0."""
    return Step(_BYTE, _VLAN_TAG_PRESENT)


def equals(number: int | Slot, yes: str | None = None, no: str | None = None) -> Step:
    """Is what was taken this number?"""
    return Step(_EQUALS, number, yes, no)


def has(bits: int, yes: str | None = None, no: str | None = None) -> Step:
    """Has what was taken any of these bits?"""
    return Step(_HAS, bits, yes, no)


def equals_kept(yes: str | None = None, no: str | None = None) -> Step:
    """Is what was taken the same as what has been kept?"""
    return Step(_EQUALS_KEPT, 0, yes, no)


def keep() -> Step:
    """Keep what was taken, to compare something with it."""
    return Step(_KEEP)


def masked(bits: int) -> Step:
    """Of what was taken, only these bits."""
    return Step(_AND, bits)


def assemble(steps: Sequence[Step | str]) -> Bytecode:
    """The program of these steps and labels; "yes" and "no", at its end, say what it means."""
    lines = [*steps, "yes", Step(_RETURN, 0xFFFFFFFF), "no", Step(_RETURN, 0)]
    places: dict[str, int] = {}
    program: list[Step] = []
    for line in lines:
        if isinstance(line, str):
            places[line] = len(program)
        else:
            program.append(line)

    def distance(label: str | None, place: int) -> int:
        return 0 if label is None else places[label] - place - 1

    return Bytecode(
        tuple(
            (step.code, distance(step.yes, place), distance(step.no, place), step.number)
            for place, step in enumerate(program)
        )
    )
