"""Small questions to the kernel, each with one answer. Links are pyroute2's messages (`Any`)."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from ovs_lwt.mistakes import Refused
from ovs_lwt.netns import entered


@contextmanager
def inside(netns: str | None) -> Iterator[Any]:
    """Speak netlink within a namespace (a name or a path), or within our own (None)."""
    with entered(netns):
        ipr = IPRoute()
    with ipr:
        yield ipr


@contextmanager
def spoken_by_kernel(what: str) -> Iterator[None]:
    """Turn what the kernel answers into one sentence."""
    try:
        yield
    except NetlinkError as error:
        mend = ": run this as root (sudo)" if error.code == errno.EPERM else ""
        raise Refused(f"cannot {what}: the kernel says '{error.args[1]}'{mend}") from error
    except OSError as error:
        mend = ": run this as root (sudo)" if error.errno == errno.EPERM else ""
        raise Refused(f"cannot {what}: {error}{mend}") from error


def ask(ipr: Any, message: Any, kind: int, flags: int) -> list[Any]:
    """Send a message for which pyroute2 has no word of its own; return the answers.

    kind, flags: nlmsg_type and nlmsg_flags, NLM_F_ACK or NLM_F_DUMP among them
    """
    message["header"]["type"] = kind
    message["header"]["flags"] = flags
    # `IPRoute.nlm_request` of 0.9.7 fails with a KeyError.
    return list(ipr.nlm_request_batch([message]))


def link_named(ipr: Any, name: str) -> Any:
    """Return the link called `name`, or None if there is none."""
    try:
        # One link asked for by name: a dump would grow with the guests of the host.
        return ipr.link("get", ifname=name)[0]
    except NetlinkError as error:
        if error.code != errno.ENODEV:
            raise
        return None


def delete_link(ipr: Any, name: str) -> bool:
    """Delete the link called `name`; return False if there is none."""
    link = link_named(ipr, name)
    return link is not None and ignoring(errno.ENODEV, ipr.link, "del", index=link["index"])


def ignoring(code: int, call: Any, *arguments: Any, **keywords: Any) -> bool:
    """Make a netlink call for which the answer `code` means: it already is so (False)."""
    try:
        call(*arguments, **keywords)
    except NetlinkError as error:
        if error.code != code:
            raise
        return False
    return True
