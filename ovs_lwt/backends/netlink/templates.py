"""A template: one entry of the kernel's tables as a netlink message with slots, and as text.

The message is written down as pyroute2 takes it and encoded by pyroute2, once; where its slots
are, `Stencil.trace` finds. N rows are then stamped by numpy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyroute2.netlink import NLM_F_REQUEST

from ovs_lwt.backends import words
from ovs_lwt.backends.netlink.bytecode import Bytecode
from ovs_lwt.backends.netlink.kinds import Kind
from ovs_lwt.backends.netlink.slots import WORDS, Slot, host
from ovs_lwt.columns import U32, Indices
from ovs_lwt.mistakes import NotNow
from ovs_lwt.stencil import Bytes, Column, Columns, Stencil

Attributes = tuple[tuple[str, Any], ...]
"""Names and values of attributes, in the order in which the kernel lists them. A value is what
pyroute2 takes, or a Slot, or Attributes (nested)."""

DEVICES: Final = ("dev", "iif", "announcer")
"""The slots that hold devices: their columns number the `Devices`."""

_SEQUENCE: Final = host("sequence")


@dataclass(frozen=True, slots=True, eq=False)
class Devices:
    """The network devices that rows speak of, by number.

    index: uint32[n], the kernel's interface indices; 0 where the device does not exist (yet)
    """

    names: tuple[str, ...]
    index: U32

    @classmethod
    def of(cls, indices: Mapping[str, int]) -> Devices:
        """The devices of these names and indices, numbered in that order."""
        return cls(tuple(indices), np.fromiter(indices.values(), np.uint32, len(indices)))

    def indices(self, column: Column) -> U32:
        """Interface indices of devices given by number; raises Refused if one does not exist."""
        found: U32 = self.index[column]
        if not found.all():
            missing = self.names[int(column[int(np.flatnonzero(found == 0)[0])])]
            raise NotNow(f"there is no device {missing}: create it first")
        return found

    def name(self, index: int) -> str:
        """The name of the device with this interface index, written as `ip` does if unknown."""
        found = np.flatnonzero(self.index == index)
        return self.names[int(found[0])] if len(found) else f"if{index}"


@dataclass(frozen=True, slots=True)
class _Variant:
    """What changes a message's length: how long the names in it are, and a default route."""

    name_length: int = 0
    everywhere: bool = False  # prefix length 0: the kernel lists no destination then


@dataclass(frozen=True, slots=True, eq=False)
class Template:
    """One entry with slots.

    tool: whose batch `text` is a line of ("bridge", "ip", "ip -6"); header: fields of the kind's
    fixed header; why: for the reader of an export
    """

    kind: Kind
    why: str
    tool: str
    text: str
    header: Mapping[str, int | Slot]
    attributes: Attributes

    def stamp(
        self, count: int, columns: Columns, devices: Devices
    ) -> Iterator[tuple[Indices, Bytes]]:
        """Messages that add `count` rows: (which rows, uint8[n, width]), once for every width.

        A column may hold one value for all rows. Raises KeyError for a slot without a column, and
        Refused for a device that does not exist.
        """
        for variant, rows in self._variants(count, columns, devices):
            everyone = len(rows) == count
            values = {
                slot.name: self._octets(
                    slot,
                    columns[slot.name]
                    if everyone or len(columns[slot.name]) == 1
                    else columns[slot.name][rows],
                    devices,
                )
                for slot in self.slots
                if not (variant.everywhere and slot.name.startswith("prefix"))
            }
            # A message has its number when it is sent.
            yield rows, _stencil(self, variant).stamp(len(rows), values, leave=(_SEQUENCE.name,))

    def lines(self, count: int, columns: Columns, devices: Devices) -> pa.StringArray:
        """`count` rows as text; a column may hold one value for all of them."""
        return words.fill(self.text, count, lambda slot: _words(slot, columns[slot], devices))

    @property
    def slots(self) -> tuple[Slot, ...]:
        """The slots of the message, each name once."""
        found = [value for value in self.header.values() if isinstance(value, Slot)]
        return tuple({slot.name: slot for slot in (*found, *_within(self.attributes))}.values())

    def encode(self, variant: _Variant, values: Mapping[str, bytes], sequence: int) -> bytes:
        """The message as pyroute2 encodes it, with these bytes in the slots."""
        message = self.kind.message()
        message["header"]["type"] = self.kind.new
        message["header"]["flags"] = NLM_F_REQUEST | self.kind.add
        message["header"]["sequence_number"] = sequence
        message["header"]["pid"] = 0
        for field, value in self.header.items():
            message[field] = _filled(value, values)
        message["attrs"] = [
            (name, _filled(value, values))
            for name, value in self.attributes
            if not (variant.everywhere and isinstance(value, Slot) and value.name not in values)
        ]
        message.encode()
        return bytes(message.data)

    def _octets(self, slot: Slot, column: Column, devices: Devices) -> Bytes:
        if slot.name not in DEVICES:
            return slot.octets(column)
        if slot.width:
            return slot.octets(devices.indices(column))
        names = np.array([name.encode() for name in devices.names])[column]
        return slot.octets(names.astype(f"S{len(names[0])}"))

    def _variants(
        self, count: int, columns: Columns, devices: Devices
    ) -> Iterator[tuple[_Variant, Indices]]:
        names = [slot.name for slot in self.slots if not slot.width]
        prefixed = any(slot.name.startswith("prefix") for slot in self.slots)
        if not count:
            return
        lengths = np.zeros(1, np.intp)
        if names:
            lengths = np.array([len(name.encode()) for name in devices.names])[columns[names[0]]]
        everywhere = columns["length"] == 0 if prefixed else np.zeros(1, np.bool_)
        codes: NDArray[np.intp] = np.broadcast_to(lengths * 2 + everywhere, count)
        if (codes == codes[0]).all():
            yield _variant(int(codes[0])), np.arange(count)
            return
        for code in np.unique(codes).tolist():
            yield _variant(code), np.flatnonzero(codes == code)


def _words(slot: str, column: Column, devices: Devices) -> pa.StringArray:
    if slot in DEVICES:
        return pa.array(devices.names, pa.string()).take(pa.array(column.astype(np.int64)))
    return WORDS[slot](column)


def _variant(code: int) -> _Variant:
    return _Variant(code // 2, bool(code % 2))


@cache
def _stencil(template: Template, variant: _Variant) -> Stencil:
    """The message with its slots, and `sequence`."""
    widths = {
        slot.name: slot.width or variant.name_length
        for slot in template.slots
        if not (variant.everywhere and slot.name.startswith("prefix"))
    }

    def encode(values: Mapping[str, int]) -> bytes:
        octets = {name: values[name].to_bytes(width, "big") for name, width in widths.items()}
        return template.encode(variant, octets, values[_SEQUENCE.name])

    return Stencil.trace(encode, widths | {_SEQUENCE.name: _SEQUENCE.width})


def _within(value: Any) -> Sequence[Slot]:
    match value:
        case Slot():
            return [value]
        case Bytecode():
            return value.slots
        case Mapping():
            return [slot for inner in value.values() for slot in _within(inner)]
        case tuple():
            return [slot for _, inner in value for slot in _within(inner)]
    return []


def _filled(value: Any, values: Mapping[str, bytes]) -> Any:
    """A value as pyroute2 takes it, with these bytes in its slots."""
    match value:
        case Slot():
            return value.decoded(values[value.name])
        case Bytecode():
            return value.octets(values)
        case Mapping():
            return {name: _filled(inner, values) for name, inner in value.items()}
        case tuple():
            return {"attrs": [(name, _filled(inner, values)) for name, inner in value]}
    return value
