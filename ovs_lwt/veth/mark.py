"""The tenant's mark, set by the kernel on what the host's end of a veth receives."""

from __future__ import annotations

import errno
from contextlib import suppress
from typing import Any, Final

from pyroute2.netlink.exceptions import NetlinkError

from ovs_lwt.mistakes import Refused
from ovs_lwt.veth.netlink import ignoring

# tc's names for the ingress of a clsact qdisc, and the one filter that is ours there.
_CLSACT_INGRESS: Final = 0xFFFFFFF2
_FILTER_PRIORITY: Final = 1
_FILTER_HANDLE: Final = 1


def set_mark(host: Any, index: int, mark: int) -> None:
    """Have the kernel mark everything device `index` receives; ARP too, so match all.

    `host` is an `IPRoute`. Raises `Refused` if this kernel lacks what tc needs for it.
    """
    found = _marks(host, index)
    if found == [mark]:
        return
    try:
        ignoring(errno.EEXIST, host.tc, "add", "clsact", index=index)
        if found:
            # matchall knows no replacing in place: between the two, packets have no tenant.
            _delete_filter(host, index)
        host.tc("add-filter", **mark_filter(index, mark))
    except NetlinkError as error:
        if error.code not in (errno.ENOENT, errno.EOPNOTSUPP):
            raise
        raise Refused(
            "this kernel cannot set marks with tc: load its modules (modprobe -a sch_ingress"
            " cls_matchall act_skbedit), or attach with marking 'flow'"
        ) from error


def clear_mark(host: Any, index: int) -> None:
    """Undo `set_mark`; nothing to undo is fine. Filters of others stay."""
    if _marks(host, index):
        _delete_filter(host, index)


def mark_filter(index: int, mark: int) -> dict[str, Any]:
    """Return the tc filter as pyroute2 takes it: ``ingress matchall action skbedit mark``."""
    return {
        "kind": "matchall",
        "index": index,
        "handle": _FILTER_HANDLE,
        "parent": _CLSACT_INGRESS,
        "prio": _FILTER_PRIORITY,
        "action": {"kind": "skbedit", "mark": mark},
    }


def filter_mark(message: Any) -> int | None:
    """Return the mark that a tc filter message (pyroute2's `tcmsg`) sets, if it sets one."""
    found = message
    for name in (
        "TCA_OPTIONS",
        "TCA_MATCHALL_ACT",
        "TCA_ACT_PRIO_1",
        "TCA_ACT_OPTIONS",
        "TCA_SKBEDIT_MARK",
    ):
        found = found.get_attr(name) if hasattr(found, "get_attr") else None
    return None if found is None else int(found)


def _delete_filter(host: Any, index: int) -> None:
    host.tc(
        "del-filter",
        "matchall",
        index=index,
        handle=_FILTER_HANDLE,
        parent=_CLSACT_INGRESS,
        prio=_FILTER_PRIORITY,
    )


def _marks(host: Any, index: int) -> list[int | None]:
    """Return the mark of each filter that stands where ours does: one, or none."""
    found: list[int | None] = []
    # A device without a clsact qdisc has no such parent: EINVAL, or nothing.
    with suppress(NetlinkError):
        for message in host.get_filters(index=index, parent=_CLSACT_INGRESS):
            ours = (_FILTER_HANDLE, _FILTER_PRIORITY)
            if (message["handle"], message["info"] >> 16) == ours:
                found.append(filter_mark(message))
    return found
