"""The bridge plane's tables as a kernel keeps them, refusing what a kernel refuses.

Entries are told by the messages alone, as the kernel tells them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import numpy as np
from pyroute2.netlink.rtnl.ndmsg import NTF_SELF

from ovs_lwt.backends.netlink import wire
from ovs_lwt.backends.netlink.kinds import BRIDGE_FDB, FDB, FLOOD, KINDS, NEIGHBOUR, Kind
from ovs_lwt.backends.netlink.program import Program
from ovs_lwt.backends.netlink.transaction import Transaction
from ovs_lwt.stencil import Bytes

_AF_BRIDGE: Final = 7
_FAMILY, _NDM_FLAGS = 16, 26
_MACS: Final = slice(32, 38)  # the first attribute of an FDB entry

Key = tuple[str, bytes]


@dataclass
class BridgeModel:
    """entries: (kind, key) -> value, as bytes"""

    entries: dict[Key, bytes] = field(default_factory=dict)

    def take(self, transaction: Transaction) -> None:
        """Do it, step by step; an AssertionError says what a kernel would have refused."""
        for step in transaction.steps:
            for number in range(len(step.rows)):
                self._one(step.rows[[number]], partial(step.describe, number))

    def _one(self, row: Bytes, what: Callable[[], str]) -> None:
        kind = _kind_of(row)
        key, value = _entry(wire.sent(kind, row), 0)
        if int(wire.numbers(row, wire.TYPE)[0]) == kind.delete:
            self._leaned_on(kind, row, what)
            # What a guest's new port has taken over is gone from the old one already.
            self.entries.pop(key, None)
            return
        if kind.name == "VLAN's VNI":
            there = {each: vni for each, vni in self.entries.items() if each[0] == kind.name}
            assert there.get(key, value) == value, f"File exists: {what()}"
            assert value not in [vni for each, vni in there.items() if each != key], what()
        self._leaned_on(kind, row, what)
        if kind is BRIDGE_FDB:
            # One entry for a VLAN and a MAC, whatever its port.
            self.entries = {
                each: found
                for each, found in self.entries.items()
                if each[0] != kind.name or each[1][4:] != key[1][4:]
            }
        self.entries[key] = value

    def _leaned_on(self, kind: Kind, row: Bytes, what: Callable[[], str]) -> None:
        """There is no MAC in a VLAN that its port is not in, and no VNI of such a VLAN."""
        device = row[0, 20:24].tobytes()
        if kind is BRIDGE_FDB:
            vlan = row[0, wire.sent(kind, row).shape[5]][4:6].tobytes()
        elif kind.name == "VLAN's VNI":
            place = kind.key[1]
            assert isinstance(place, slice)
            vlan = row[0, place].tobytes()
        else:
            return
        assert ("VLAN", device + vlan) in self.entries, f"Invalid argument: {what()}"


def entries_of(program: Program) -> dict[Key, bytes]:
    """What a host that holds this program has."""
    return dict(_entry(listed, row) for listed in program.entries for row in range(len(listed)))


def _entry(listed: wire.Listed, row: int) -> tuple[Key, bytes]:
    octets = listed.block.rows[row]
    key, value = (_joined(octets, parts) for parts in (listed.block.key, listed.block.value))
    return (listed.kind.name, key), value


def _joined(octets: np.ndarray[tuple[int], np.dtype[np.uint8]], parts: Sequence[slice]) -> bytes:
    return b"".join(octets[part].tobytes() for part in parts)


def _kind_of(row: Bytes) -> Kind:
    number = int(wire.numbers(row, wire.TYPE)[0])
    kinds = [kind for kind in KINDS if number in (kind.new, kind.delete)]
    if NEIGHBOUR not in kinds:
        return kinds[0]
    if row[0, _FAMILY] != _AF_BRIDGE:
        return NEIGHBOUR
    if not row[0, _NDM_FLAGS] & NTF_SELF:
        return BRIDGE_FDB
    return FDB if row[0, _MACS].any() else FLOOD
