"""Marks that stay: what an agent wants its guests' ports marked with, kept against drift.

A keeper looks only after the kernel has told of a change, and now and then because it may have
told nobody; a look is one list of what tc sets and one of what nft does, however many ports there
are.
"""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final

from pyroute2.netlink import NETLINK_NETFILTER, NETLINK_ROUTE
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.rtnl import RTNLGRP_LINK, RTNLGRP_TC

from ovs_lwt.mistakes import Refused
from ovs_lwt.netns import entered
from ovs_lwt.veth.marking import (
    BOTH_WAYS,
    ONE_WAY,
    CannotMark,
    Direction,
    KernelMarking,
    Marked,
    clear_mark,
    nft,
    set_mark,
    tc,
)
from ovs_lwt.veth.netlink import inside
from ovs_lwt.veth.notices import Notices

_NFNLGRP_NFTABLES: Final = 7  # include/uapi/linux/netfilter/nfnetlink.h
# Looking again at once would make a host that starts a hundred guests look a hundred times.
_PAUSE: Final = 0.2
_SHARE: Final = 4  # of the time that a look takes, between two
# tc's action, which a look finds, outlives its filter for a moment: so once more, a little later.
_AFTERMATH: Final = 1.0


@dataclass(frozen=True, slots=True)
class Found:
    """What a port is marked with, by either: direction -> mark."""

    tc: dict[Direction, int]
    nft: dict[Direction, int]

    @classmethod
    def of(
        cls,
        device: Marked,
        by_tc: Mapping[tuple[int, Direction], int],
        by_nft: Mapping[tuple[str, Direction], int],
    ) -> Found:
        """Pick out what is about this device."""
        return cls(
            {way: by_tc[device.index, way] for way in BOTH_WAYS if (device.index, way) in by_tc},
            {way: by_nft[device.name, way] for way in BOTH_WAYS if (device.name, way) in by_nft},
        )

    @property
    def way(self) -> KernelMarking | None:
        """Who marks it already."""
        return "tc" if self.tc else "nft" if self.nft else None

    def right(self, device: Marked, way: KernelMarking) -> bool:
        """Whether the device is marked as it should be, this way and no other."""
        mine, other = (self.tc, self.nft) if way == "tc" else (self.nft, self.tc)
        return mine == device.marks and not other

    def __str__(self) -> str:
        parts = [
            f"{mark if mark >= 0 else 'something else'} from {who} ({direction})"
            for who, marks in (("tc", self.tc), ("nft", self.nft))
            for direction, mark in marks.items()
        ]
        return ", ".join(parts) or "none"


@dataclass(frozen=True, slots=True)
class _Port:
    """A port that is not marked as it should be. way: who is to do it; None: whoever can"""

    device: Marked
    found: Found
    way: KernelMarking | None

    @property
    def name(self) -> str:
        return self.device.name

    def said(self, before: Mapping[str, tuple[KernelMarking, int]]) -> str:
        """What to say when it is. before: who set which mark, as far as was known"""
        mark = self.device.mark
        again = " again" if before.get(self.name) == (self.way, mark) else ""
        return (
            f"port {self.name} gets its tenant's mark {mark} from {self.way}{again}:"
            f" it had {self.found}"
        )


class MarkKeeper:
    """Keeps the marks of the ports in one network namespace.

    netns: its name or path; None: ours; egress: whether packets handed to a guest are marked by the
    kernel too; audit: seconds after which to look although nothing was heard
    """

    def __init__(
        self, netns: str | None = None, *, egress: bool = False, audit: float = 30.0
    ) -> None:
        self._netns = netns
        self._directions = BOTH_WAYS if egress else ONE_WAY
        self._audit = audit
        self._wanted: dict[str, int] = {}
        self._chosen: dict[str, KernelMarking] = {}
        self._given_up: set[str] = set()
        self._kept: dict[str, tuple[KernelMarking, int]] = {}
        self._errors: dict[str, str] = {}
        self._by_nft: dict[tuple[str, Direction], int] = {}
        self._links = Notices(NETLINK_ROUTE, [RTNLGRP_LINK, RTNLGRP_TC], netns)
        self._chains: Notices | None = None
        # A kernel without netfilter has no such protocol.
        with suppress(OSError):
            self._chains = Notices(NETLINK_NETFILTER, [_NFNLGRP_NFTABLES], netns)
        self._due = self._chains_due = True
        self._heard = False
        self._not_before = self._audit_at = 0.0

    def want(
        self, marks: Mapping[str, int], chosen: Mapping[str, KernelMarking] | None = None
    ) -> None:
        """Keep these marks from the next `run` on: port name -> mark.

        chosen: who is to set them, where that is on record; else whoever does already, else who can
        Ports that are not in our namespace are left out; those no longer wanted lose their mark.
        """
        if marks == self._wanted and (chosen or {}) == self._chosen:
            return
        self._given_up = (self._given_up | self._wanted.keys()) - marks.keys()
        self._wanted, self._chosen = dict(marks), dict(chosen or {})
        self._due = True

    def run(self) -> list[str]:
        """Mend what differs, if it is time to look. Returns what was mended, in sentences."""
        now = time.monotonic()
        audit = now >= self._audit_at
        links = self._links.poll()
        chains = self._chains is not None and self._chains.poll()
        self._heard = self._heard or links or chains
        self._due = self._due or self._heard or audit
        # Older kernels tell nobody of a chain that goes with its device.
        gone = links and bool(self._by_nft)
        self._chains_due = self._chains_due or chains or audit or gone
        if not self._due or now < self._not_before:
            return []
        heard, self._heard = self._heard, False
        said = self._look()
        ended = time.monotonic()
        self._not_before = ended + max(_PAUSE, _SHARE * (ended - now))
        self._audit_at = ended + (min(_AFTERMATH, self._audit) if heard else self._audit)
        return said

    def marking(self) -> dict[str, KernelMarking]:
        """Who sets the marks: port name -> "tc" or "nft", of those here that are marked."""
        return {name: way for name, (way, _) in self._kept.items()}

    def errors(self) -> dict[str, str]:
        """Ports that are here and cannot be marked: port name -> why."""
        return dict(self._errors)

    def close(self) -> None:
        """Keep them no longer. The marks stay."""
        for notices in (self._links, self._chains):
            if notices is not None:
                notices.close()

    def _look(self) -> list[str]:
        self._due = False
        if self._chains_due:
            self._by_nft = nft.marks(self._netns)
            self._chains_due = False
        with entered(self._netns):
            here = {name: index for index, name in socket.if_nameindex()}
        kept, errors = self._kept, self._errors
        self._kept, self._errors = {}, {}
        said: list[str] = []
        with inside(self._netns) as host:
            for name in self._given_up:
                clear_mark(host, self._netns, name, here.get(name))
            self._given_up.clear()
            wrong = list(self._wrong(here, tc.marks(host), kept))
            said += [port.said(kept) for port in self._mend(host, wrong)]
        return said + [text for name, text in self._errors.items() if errors.get(name) != text]

    def _wrong(
        self,
        here: Mapping[str, int],
        by_tc: Mapping[tuple[int, Direction], int],
        before: Mapping[str, tuple[KernelMarking, int]],
    ) -> Iterator[_Port]:
        """The ports that are not marked as they should be; what is right goes into `_kept`."""
        for name, mark in self._wanted.items():
            if name not in here:
                continue
            device = Marked(name, here[name], mark, self._directions)
            found = Found.of(device, by_tc, self._by_nft)
            way = self._chosen.get(name) or (before[name][0] if name in before else found.way)
            if way is not None and found.right(device, way):
                self._kept[name] = way, mark
            else:
                yield _Port(device, found, way)

    def _mend(self, host: Any, wrong: list[_Port]) -> Iterator[_Port]:
        """Mark these ports; yield those that now are."""
        if undecided := [port for port in wrong if port.way is None]:
            # What one of them finds out, the machine being the same, the others need not try.
            first = undecided[0]
            yield from self._mend_one(host, first)
            way = self._kept[first.name][0] if first.name in self._kept else None
            wrong = [replace(port, way=port.way or way) for port in wrong if port is not first]
        by_nft = [port for port in wrong if port.way == "nft" and not port.found.tc]
        # One that has just gone spoils the batch: then each by itself.
        with suppress(CannotMark):
            if len(by_nft) > 1:
                nft.set_marks(self._netns, [port.device for port in by_nft], self._by_nft)
                for port in by_nft:
                    self._kept[port.name] = "nft", port.device.mark
                    yield port
        for port in wrong:
            if port.name not in self._kept:
                yield from self._mend_one(host, port)

    def _mend_one(self, host: Any, port: _Port) -> Iterator[_Port]:
        device = port.device
        clean = not (port.found.nft if port.way == "tc" else port.found.tc)
        try:
            way = set_mark(host, self._netns, device, port.way or "auto", clean=clean)
        except (CannotMark, Refused) as lacking:
            why = str(lacking)
        except NetlinkError as error:
            if error.code == errno.ENODEV:  # it has just gone
                return
            why = f"the kernel says '{error.args[1]}'"
        else:
            self._kept[port.name] = way, device.mark
            yield replace(port, way=way)
            return
        self._errors[port.name] = (
            f"port {port.name} does not get its tenant's mark {device.mark}: {why}"
        )
