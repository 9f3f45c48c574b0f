"""Notices: whether something has happened in the kernel, without what."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable
from typing import Final

from ovs_lwt.netns import entered

# include/uapi/linux/netlink.h
_SOL_NETLINK: Final = 270
_NETLINK_ADD_MEMBERSHIP: Final = 1


class Notices:
    """A socket that hears what the kernel tells these multicast groups, and keeps none of it.

    protocol: NETLINK_ROUTE, NETLINK_NETFILTER; groups: RTNLGRP_…, NFNLGRP_…, by their numbers
    netns: a namespace's name or path; None: ours
    """

    def __init__(self, protocol: int, groups: Iterable[int], netns: str | None = None) -> None:
        with entered(netns):
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol)
        self._socket.setblocking(False)
        # Without an address it passes for the kernel's own, which is told nothing.
        self._socket.bind((0, 0))
        for group in groups:
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, group)

    def poll(self) -> bool:
        """Say whether anything has happened since the last time, or since the beginning."""
        happened = False
        while True:
            try:
                self._socket.recv(1)  # of a datagram: the rest of it goes
            except BlockingIOError:
                return happened
            except OSError as error:
                # More than the socket holds: then something has happened for certain.
                if error.errno != errno.ENOBUFS:
                    raise
            happened = True

    def fileno(self) -> int:
        """The socket's number, for whoever waits for several things."""
        return self._socket.fileno()

    def close(self) -> None:
        """Hear no more."""
        self._socket.close()
