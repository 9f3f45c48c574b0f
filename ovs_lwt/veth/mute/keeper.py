"""Ports that stay mute: kept against drift, whoever changes sysctls, tables or filters.

A keeper looks after the kernel has told of a change, and every few seconds, because it tells nobody
of most sysctls. A look is one list of all devices; our table is listed when nftables has told of a
change, and now and then.
"""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, Final

from pyroute2.netlink import NETLINK_NETFILTER, NETLINK_ROUTE
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.rtnl import RTNLGRP_LINK, RTNLGRP_TC

from ovs_lwt.netns import entered
from ovs_lwt.veth.mute import nft, sysctls, tc
from ovs_lwt.veth.mute.devices import Device, Devices
from ovs_lwt.veth.mute.values import MASTERS, CannotMute, Mute, heard
from ovs_lwt.veth.netlink import inside
from ovs_lwt.veth.nftables import NftBusy, NftLacks
from ovs_lwt.veth.notices import Notices

_NFNLGRP_NFTABLES: Final = 7  # include/uapi/linux/netfilter/nfnetlink.h
# enum rtnetlink_groups, include/uapi/linux/rtnetlink.h; pyroute2 0.9.7 has no names for these.
_RTNLGRP_IPV6_IFADDR, _RTNLGRP_IPV4_NETCONF, _RTNLGRP_IPV6_NETCONF = 9, 24, 25
_PAUSE: Final = 0.2
_SHARE: Final = 4  # of the time that a look takes, between two
_LONGEST: Final = 2.0  # what is open shall not wait for a machine that is slow
_AFTERMATH: Final = 1.0  # tc's action outlives its filter for a moment
# An `attach` has its port's name kept before there is a device, and the claim comes last of all.
_GRACE: Final = 60.0
# An agent's loop does not wait for another process; it looks again soon.
_PATIENCE: Final = 0.3
_AGAIN: Final = "hears nothing of its guest again"


class MuteKeeper:
    """Keeps the ports of one network namespace from its stack.

    netns: its name or path; None: ours; glance: seconds after which to look at devices although
    nothing was heard; audit: the same for all there is
    """

    def __init__(
        self, netns: str | None = None, *, glance: float = 2.0, audit: float = 30.0
    ) -> None:
        self._netns = netns
        self._glance, self._audit = glance, audit
        self._wanted: dict[str, Mute] = {}
        # Every port that was ever wanted and is still there. What has been made mute stays so:
        # whoever takes a claim away has not taken the guest away.
        self._held: dict[str, Mute] = {}
        self._errors: dict[str, str] = {}
        self._table: nft.Table | None = None
        self._lacking = self._busy = ""
        # Names whose device is missed -> (how it stands with them, since when).
        self._strays: dict[str, tuple[tuple[bool, int], float]] = {}
        self._guarded: dict[str, tuple[int, int | None]] = {}
        self._filters_due = True
        self._devices = Devices(netns)
        groups = [
            RTNLGRP_LINK,
            RTNLGRP_TC,
            _RTNLGRP_IPV6_IFADDR,
            _RTNLGRP_IPV4_NETCONF,
            _RTNLGRP_IPV6_NETCONF,
        ]
        self._links = Notices(NETLINK_ROUTE, groups, netns)
        self._tables: Notices | None = None
        # A kernel without netfilter has no such protocol.
        with suppress(OSError):
            self._tables = Notices(NETLINK_NETFILTER, [_NFNLGRP_NFTABLES], netns)
        self._due = self._table_due = True
        self._not_before = self._glance_at = self._audit_at = 0.0

    def want(self, ports: Mapping[str, Mute]) -> None:
        """Keep these, from the next `run` on. Ports that are not in our namespace are left out."""
        if ports != self._wanted:
            self._wanted, self._due = dict(ports), True

    def run(self, *, news: bool = False) -> list[str]:
        """Mend what differs, if it is time to look. Returns what was mended, in sentences.

        news: see to ports that have come just now, and to nothing else, at once
        """
        if news:
            new = any(self._held.get(name) != mute for name, mute in self._wanted.items())
            return self._look() if new else []
        now = time.monotonic()
        audit = now >= self._audit_at
        heard = self._links.poll()
        self._table_due |= audit or (self._tables is not None and self._tables.poll())
        self._filters_due |= audit
        self._due |= heard or self._table_due or now >= self._glance_at
        if not self._due or now < self._not_before:
            return []
        if not (self._wanted or self._held):
            self._due = self._table_due = False
            self._audit_at = self._glance_at = now + self._audit
            return []
        self._due = False
        said = self._look()
        ended = time.monotonic()
        self._not_before = ended + min(max(_PAUSE, _SHARE * (ended - now)), _LONGEST)
        self._glance_at = ended + (min(_AFTERMATH, self._glance) if heard else self._glance)
        if audit:
            self._audit_at = ended + self._audit
        return said

    def errors(self) -> dict[str, str]:
        """Ports that are here and that the host may hear: port name -> why, and the mend."""
        return dict(self._errors)

    def close(self) -> None:
        """Keep them no longer. They stay mute."""
        self._devices.close()
        for notices in (self._links, self._tables):
            if notices is not None:
                notices.close()

    def _look(self) -> list[str]:
        there = self._devices.listed()
        self._held |= self._wanted
        before, self._errors = self._errors, {}
        known, asked = self._table, self._read_table()
        gone = self._gone(there)
        here = {name: mute for name, mute in self._held.items() if _is(there.get(name), mute)}
        said = [] if self._busy else list(self._at_the_stack(known, here, gone, asked=asked))
        self._blame_busy(here)
        for name in gone:
            self._held.pop(name, None)
            self._guarded.pop(name, None)
        with inside(self._netns) as host:
            lacks = any(map(self._lacks, here)) or self._guarded or self._filters_due
            filters = tc.found(host) if lacks else {}
            self._filters_due = False
            for name, mute in here.items():
                try:
                    said += self._at_the_device(host, name, there, mute, filters)
                except CannotMute as lacking:
                    self._fail(name, str(lacking))
                except NetlinkError as error:
                    if error.code != errno.ENODEV:  # it has just gone
                        self._fail(name, f"the kernel says '{error.args[1]}'")
        news = {name: why for name, why in self._errors.items() if before.get(name) != why}
        return said + [finding.sentence for finding in heard(news)]

    def _fail(self, name: str, why: str) -> None:
        self._errors[name] = why

    def _gone(self, there: Mapping[str, Device]) -> set[str]:
        """Names whose device is gone for good, and the name perhaps another's by now."""
        now = time.monotonic()
        names = self._held.keys() | (self._table.ports.keys() if self._table else ())
        missing = {
            name
            for name in names - self._wanted.keys()
            if name not in there or (name in self._held and not _is(there[name], self._held[name]))
        }
        ports = self._table.ports if self._table else {}
        strays = self._strays
        self._strays = {}
        for name in missing:
            # An `attach` that has begun since has put the name there, or another device of it.
            state = name in ports, there[name].index if name in there else 0
            before, since = strays.get(name, (state, now))
            self._strays[name] = state, since if state == before else now
        return {name for name, (_, since) in self._strays.items() if now - since >= _GRACE}

    def _is_there(self, name: str) -> bool:
        with entered(self._netns), suppress(OSError):
            return socket.if_nametoindex(name) > 0
        return False

    def _lacks(self, name: str) -> str:
        """What keeps nft from keeping this port; empty if it does."""
        return self._lacking or nft.unfit(name)

    # Where the stack begins

    def _read_table(self) -> bool:
        """List our table if it is time to; whether that has been done."""
        self._busy = ""
        if not self._table_due:
            return False
        try:
            self._table = nft.read(self._netns)
        except NftBusy as busy:
            self._busy = str(busy)
            return False
        self._table_due = False
        return True

    def _at_the_stack(
        self, known: nft.Table | None, here: Mapping[str, Mute], gone: set[str], *, asked: bool
    ) -> Iterator[str]:
        """known: what the table held before it was listed; asked: whether it was, just now"""
        if self._lacking and not asked:
            return  # asked again when it is time to look at all there is
        wanted = {name: mute.mark for name, mute in here.items() if not nft.unfit(name)}
        there = self._table or nft.Table({})
        if (self._table is not None or not wanted) and there.holds(wanted):
            gone = gone & there.ports.keys()
            if not gone:
                self._lacking = ""
                return
        try:
            nft.keep(self._netns, wanted, gone, self._is_there, _PATIENCE)
            self._table = nft.read(self._netns)
        except NftBusy as busy:
            self._busy = str(busy)
            return
        except NftLacks as lacking:
            self._lacking = str(lacking)
            return
        self._lacking = ""
        if wanted:
            yield from _said(known, there, wanted)

    def _blame_busy(self, here: Mapping[str, Mute]) -> None:
        """Name the ports that are not kept for want of a lock, and look again soon."""
        if not self._busy:
            return
        self._table_due = self._due = True
        there = self._table or nft.Table({})
        for name, mute in here.items():
            if not self._lacks(name) and not there.holds({name: mute.mark}):
                self._fail(name, self._busy)

    # At the port itself

    def _at_the_device(
        self,
        host: Any,
        name: str,
        there: Mapping[str, Device],
        mute: Mute,
        filters: tc.Found,
    ) -> Iterator[str]:
        device = there[name]
        wrong = _differing(device, mute)
        unseen = [sysctl for sysctl in mute.sysctls if device.setting(sysctl) is None]
        wrong |= sysctls.differing(self._netns, name, {s: mute.sysctls[s] for s in unseen})
        if wrong:
            sysctls.write(self._netns, name, {s: mute.sysctls[s] for s in wrong})
        if device.arp:
            host.link("set", index=device.index, arp=False)
        parts = [f"{sysctl}={value}" for sysctl, value in sorted(wrong.items())]
        if parts := [*parts, *(["ARP"] if device.arp else [])]:
            yield f"port {name} {_AGAIN}: it had {', '.join(parts)}"
        lacking = self._lacks(name)
        if not lacking:
            if device.index in filters and not self._busy:
                # Nft is there after all. They would stay when the mark or the plane is another.
                tc.clear(host, device.index)
                self._guarded.pop(name, None)
            return
        right = tc.right(filters, device.index, mute)
        # The list does not say for which mark a filter is.
        if not right or self._guarded.get(name) != (device.index, mute.mark):
            try:
                tc.guard(host, device.index, mute)
            except CannotMute as also:
                raise CannotMute(f"{lacking}; {also}") from also
            self._guarded[name] = device.index, mute.mark
        if not right:
            yield f"port {name} {_AGAIN}: filters of tc keep it from the host's stack"
        if device.up and mute.wall in MASTERS and not _walled(device, there, mute):
            host.link("set", index=device.index, state="down")
            yield (
                f"port {name} is set down: it is in no {MASTERS[mute.wall]} device, and the host's"
                " stack would hear its guest"
            )


def _is(device: Device | None, mute: Mute) -> bool:
    """Whether this is the device that is meant."""
    return (
        device is not None and mute.index in (None, device.index) and mute.mac in (None, device.mac)
    )


def _differing(device: Device, mute: Mute) -> dict[str, str]:
    found = {sysctl: device.setting(sysctl) for sysctl in mute.sysctls}
    return {
        sysctl: value
        for sysctl, value in found.items()
        if value is not None and value != mute.sysctls[sysctl]
    }


def _walled(device: Device, there: Mapping[str, Device], mute: Mute) -> bool:
    return any(
        each.index == device.master and each.kind == MASTERS[mute.wall] for each in there.values()
    )


def _said(known: nft.Table | None, there: nft.Table, wanted: nft.Marks) -> Iterator[str]:
    """What to say once the table holds these ports. known: what it held when we last looked"""
    if known is not None and (
        not there.right or known.ports.keys() & wanted.keys() - there.ports.keys()
    ):
        yield (
            f"the table inet ovs-lwt keeps {len(wanted)} guests' ports from the host's stack again:"
            " somebody has changed it"
        )
        return
    for name, mark in wanted.items():
        if there.ports.get(name, -1) != mark:
            yield f"port {name} is kept from the host's stack by nft"
