"""Marks on the ports of a switch with the kernel datapath: kept, and put on record in OVSDB.

A port that was attached has its marking on record. One that was claimed by hand gets its mark here;
once it is on record, the flows rely on it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from ovs_lwt.claims import KERNEL_MARKINGS
from ovs_lwt.veth import MarkKeeper
from ovs_lwt.veth.marking import KernelMarking
from ovs_lwt.vswitch import LocalPort
from ovs_lwt.vswitch.watched import WatchedSwitch


class PortMarks:
    """Keeps the marks of one switch's ports, as far as they are in our network namespace."""

    def __init__(self, switch: WatchedSwitch) -> None:
        self._switch = switch
        self._keeper: MarkKeeper | None = None
        self._recorded: dict[str, str] = {}

    def want(self, ports: Sequence[LocalPort], marks: Mapping[str, int]) -> None:
        """Keep these marks. ports: the switch's; marks: port name -> mark, of the guests' ports."""
        self._recorded = {port.name: port.marking for port in ports if port.marking is not None}
        if self._switch.datapath_type() != "system":
            return
        by_kernel = {
            name: mark for name, mark in marks.items() if self._recorded.get(name) != "flow"
        }
        if self._keeper is None:
            self._keeper = MarkKeeper()
        chosen = {
            name: cast(KernelMarking, marking)
            for name, marking in self._recorded.items()
            if marking in KERNEL_MARKINGS
        }
        self._keeper.want(by_kernel, chosen)

    def run(self) -> list[str]:
        """Mend what differs. Returns what was mended, in sentences."""
        if self._keeper is None:
            return []
        mended = self._keeper.run()
        new = {
            name: marking
            for name, marking in self._keeper.marking().items()
            if name not in self._recorded
        }
        if new:
            self._switch.record_markings(new)
            self._recorded |= new
        return mended

    def marking(self) -> dict[str, str]:
        """Port name -> who sets the tenant's mark: "tc", "nft" or "flow"."""
        return dict(self._recorded)

    def close(self) -> None:
        """Close the keeper's sockets. Marks stay."""
        if self._keeper is not None:
            self._keeper.close()
