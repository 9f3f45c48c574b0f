"""Marks by tc: a clsact qdisc, and in each direction one matchall filter with a skbedit action.

The action's verdict is `continue`, so filters of others behind ours still see the packet. Its
index, which is ours to choose, says which device it is on: the kernel lists the actions of all
devices at once, filters only device by device. (tc-matchall(8), tc-skbedit(8),
include/uapi/linux/pkt_cls.h)
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

from pyroute2.netlink import NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.rtnl import RTM_DELTFILTER, RTM_NEWTFILTER
from pyroute2.netlink.rtnl.tcmsg import tcmsg

from ovs_lwt.mistakes import Refused
from ovs_lwt.veth.marking.actions import change, marks_set, skbedit, skbedits
from ovs_lwt.veth.marking.values import BOTH_WAYS, CannotMark, Direction, Marked
from ovs_lwt.veth.netlink import ask, ignoring

# tc's names for the two sides of a clsact qdisc, and the one filter that is ours there.
_PARENT: Final[dict[Direction, int]] = {"ingress": 0xFFFFFFF2, "egress": 0xFFFFFFF3}
_PREFERENCE: Final = 1
_HANDLE: Final = 1
_EVERY_PROTOCOL: Final = 0x0300  # ETH_P_ALL in network order: ARP must be marked too
# An action's index: the direction, and the device's. The kernel itself counts upwards from 1.
_INDEX: Final[dict[Direction, int]] = {"ingress": 0x60000000, "egress": 0x70000000}
_DEVICE: Final = 0x0FFFFFFF
# To delete what is not ours, to add ours, to change its mark; to find it right.
_TRIES: Final = 4
_LACKING: Final = (errno.ENOENT, errno.EOPNOTSUPP)


def set_mark(host: Any, device: Marked) -> None:
    """Have the kernel mark what passes the device; what is as it should be is left alone.

    host: an `IPRoute`
    Raises CannotMark if this kernel lacks what tc needs for it, and Refused if somebody else's
    filter is where ours belongs.
    """
    for direction in BOTH_WAYS:
        if direction not in device.directions:
            _clear(host, device.index, direction)
            continue
        for _ in range(_TRIES):
            if _mend(host, device, direction):
                break


def clear_mark(host: Any, index: int) -> None:
    """Undo `set_mark`; nothing to undo is fine. Filters of others stay."""
    for direction in BOTH_WAYS:
        _clear(host, index, direction)


def marks(host: Any) -> dict[tuple[int, Direction], int]:
    """All marks that tc sets in this namespace: (the device's index, direction) -> mark."""
    found: dict[tuple[int, Direction], int] = {}
    for index, mark in skbedits(host):
        for direction, base in _INDEX.items():
            if index & ~_DEVICE == base:
                found[index & _DEVICE, direction] = mark
    return found


def mark_filter(device: Marked, direction: Direction) -> tcmsg:
    """Return the message: ``tc filter add … prio 1 handle 1 matchall action skbedit mark M``."""
    actions = skbedit(_action(device.index, direction), device.mark)
    matchall = [("TCA_MATCHALL_ACT", actions)]
    message = _filter(device.index, direction)
    message["attrs"] = [("TCA_KIND", "matchall"), ("TCA_OPTIONS", {"attrs": matchall})]
    return message


def _mend(host: Any, device: Marked, direction: Direction) -> bool:
    """Do what brings the device nearer to its mark; return True if there is nothing to do."""
    ours = _action(device.index, direction)
    match _found(host, device, direction):
        case [((index, mark),)] if index == ours:
            if mark == device.mark:
                return True
            change(host, ours, device.mark)
        case []:
            # An action outlives its filter for a moment. A filter that comes within it takes up
            # the action as it was: another look will tell.
            _add(host, device, direction)
        case _:
            _delete(host, device.index, direction)
    return False


def _add(host: Any, device: Marked, direction: Direction) -> None:
    made = False
    try:
        made = ignoring(errno.EEXIST, host.tc, "add", "clsact", index=device.index)
        flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL
        message = mark_filter(device, direction)
        # There already: an agent and an `attach` may have looked at the same time.
        ignoring(errno.EEXIST, ask, host, message, RTM_NEWTFILTER, flags)
    except NetlinkError as error:
        if error.code not in _LACKING:
            raise
        if made:
            host.tc("del", "clsact", index=device.index)
        raise CannotMark(
            "tc needs modules that this kernel has not loaded (modprobe -a sch_ingress"
            " cls_matchall act_skbedit)"
        ) from error


def _clear(host: Any, index: int, direction: Direction) -> None:
    ours = _action(index, direction)
    if any(action == ours for _, does in _filters(host, index, direction) for action, _ in does):
        # The device may have gone by now, and the mark with it.
        ignoring(errno.ENODEV, _delete, host, index, direction)


def _delete(host: Any, index: int, direction: Direction) -> None:
    message = _filter(index, direction, handle=0)  # all of our preference
    message["attrs"] = [("TCA_KIND", "matchall")]
    flags = NLM_F_REQUEST | NLM_F_ACK
    ignoring(errno.ENOENT, ask, host, message, RTM_DELTFILTER, flags)


def _filter(index: int, direction: Direction, handle: int = _HANDLE) -> tcmsg:
    message = tcmsg()
    message["index"] = index
    message["handle"] = handle
    message["parent"] = _PARENT[direction]
    message["info"] = _PREFERENCE << 16 | _EVERY_PROTOCOL
    return message


def _action(index: int, direction: Direction) -> int:
    return _INDEX[direction] | index & _DEVICE


# What is there


Does = tuple[tuple[int, int], ...]
"""What a filter does to marks: (index of the action, mark) of each, see `marks_set`."""


def _found(host: Any, device: Marked, direction: Direction) -> list[Does]:
    """What stands where our filter belongs: one, or nothing."""
    found = []
    for kind, does in _filters(host, device.index, direction):
        if kind != "matchall":
            raise Refused(
                f"a filter of kind {kind} stands where the mark of '{device.name}' is set: give it"
                f" another preference than {_PREFERENCE} (tc filter show dev {device.name}"
                f" {direction})"
            )
        found.append(does)
    return found


def _filters(host: Any, index: int, direction: Direction) -> Iterator[tuple[str, Does]]:
    """The filters of our preference: kind, and what they do."""
    # A device without a clsact qdisc has no such parent: EINVAL, or nothing.
    with suppress(NetlinkError):
        for message in host.get_filters(index=index, parent=_PARENT[direction]):
            # A message without a handle only says that there are some of this kind.
            if message["info"] >> 16 == _PREFERENCE and message["handle"]:
                yield message.get_attr("TCA_KIND"), filter_marks(message)


def filter_marks(message: Any) -> Does:
    """What a filter (a `tcmsg`) does; nothing, if it is no matchall."""
    if message.get_attr("TCA_KIND") != "matchall":
        return ()
    return tuple(marks_set(message.get_attr("TCA_OPTIONS").get_attr("TCA_MATCHALL_ACT")))
