"""Small questions to the kernel, each with one answer. Links are pyroute2's messages (`Any`)."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from ovs_lwt.mistakes import Refused


def namespace_path(name: str) -> str:
    """Return the path of namespace `name` (a name or a path); raise `Refused` if it is missing."""
    path = Path(name).absolute() if "/" in name else Path("/var/run/netns", name)
    if not path.exists():
        mend = f"create it (ip netns add {name})" if "/" not in name else "see that it exists"
        raise Refused(f"there is no network namespace {name}: {mend}")
    return str(path)


@contextmanager
def inside(path: str | None) -> Iterator[Any]:
    """Speak netlink within the namespace at `path`, or within our own (None)."""
    try:
        ipr = IPRoute() if path is None else IPRoute(netns=path, flags=0)
    except OSError as error:
        if path is None or error.errno == errno.EPERM:
            raise
        raise Refused(f"{path} is not a network namespace ({error})") from error
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
    if link is None:
        return False
    ignoring(errno.ENODEV, ipr.link, "del", index=link["index"])
    return True


def ignoring(code: int, call: Any, *arguments: Any, **keywords: Any) -> None:
    """Make a netlink call for which the answer `code` means: it already is so."""
    try:
        call(*arguments, **keywords)
    except NetlinkError as error:
        if error.code != code:
            raise
