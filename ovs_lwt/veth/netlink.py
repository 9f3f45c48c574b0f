"""Small questions to the kernel, each with one answer. Links are pyroute2's messages (`Any`)."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from pyroute2 import IPRoute
from pyroute2.netlink import NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.rtnl import RTM_GETLINK, RTM_NEWLINK

from ovs_lwt.mistakes import Refused
from ovs_lwt.netns import entered

_HEADER: Final = struct.Struct("=IHHII")  # struct nlmsghdr
_LINK: Final = struct.Struct("=BxHiII")  # struct ifinfomsg
_ATTRIBUTE: Final = struct.Struct("=HH")  # struct nlattr
# include/uapi/linux/if_link.h, rtnetlink.h
_IFLA_IFALIAS, _IFLA_EXT_MASK, _SKIP_STATS = 20, 29, 1 << 3
_CHUNK: Final = 1 << 16  # the kernel fills 32 KB at most


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


def links_aliased(ipr: Any, netns: str | None, alias: str) -> list[Any]:
    """Return the links whose alias is `alias`. netns: that in which `ipr` speaks

    pyroute2 takes a millisecond for each device of a dump, and there are as many as guests: it
    decodes only those that bear the alias.
    """
    found = []
    for index in _bearing(netns, alias.encode()):
        try:
            (link,) = ipr.link("get", index=index)
        except NetlinkError as error:
            if error.code != errno.ENODEV:
                raise
            continue
        if link.get("ifalias") == alias:
            found.append(link)
    return found


def _bearing(netns: str | None, alias: bytes) -> list[int]:
    """The indices of the devices in whose description the alias stands."""
    value = alias + bytes(1)
    attribute = _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), _IFLA_IFALIAS) + value
    mask = _ATTRIBUTE.pack(8, _IFLA_EXT_MASK) + struct.pack("=I", _SKIP_STATS)
    body = _LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + mask
    size = _HEADER.size + len(body)
    request = _HEADER.pack(size, RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, 1, 0) + body
    with entered(netns):
        line = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    found: list[int] = []
    with line:
        line.bind((0, 0))
        line.send(request)
        while True:
            data = line.recv(_CHUNK)
            at = 0
            while at < len(data):
                length, kind, *_ = _HEADER.unpack_from(data, at)
                start = at + _HEADER.size
                if kind == NLMSG_DONE:
                    return found
                if kind == NLMSG_ERROR:
                    code = -struct.unpack_from("=i", data, start)[0]
                    raise OSError(code, os.strerror(code))
                if kind == RTM_NEWLINK and attribute in data[start : at + length]:
                    found.append(_LINK.unpack_from(data, start)[2])
                at += length + 3 & ~3


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
