"""A switch's connection, as the agent's loop wants it: never to be waited for.

The framework's own `send` waits while the switch does not read. Here that is done by a thread of
the connection's own; the loop is told when there is room, and asks before it makes more.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

from ovs_lwt.backends.openflow import framework
from ovs_lwt.backends.openflow.callers import Caller

LOG = logging.getLogger("ovs_lwt")

ROOM: Final = 1 << 21
"""Bytes that may wait to be sent before there is no room; the framework's queue has some more."""

UNREAD: Final = 1 << 28
"""Bytes from the switch that may wait for the loop; who sends more without being asked for them
(no list is asked for that large) is hung up on."""

_SEND_SECONDS: Final = 120
"""The frameworks give a whole send this long; a switch that commits a large bundle reads nothing
meanwhile."""


class SwitchConnection:
    """What `ovs_lwt.plane.Connection` asks for, over the framework's datapath.

    drained: called, on a thread of the connection's own, when there is room again
    """

    def __init__(self, datapath: Any, drained: Callable[[SwitchConnection], None]) -> None:
        self._datapath, self._drained = datapath, drained
        self.datapath_id: int = datapath.id
        # One that the framework has called itself (ofp-switch-address-list) has been chosen.
        self._caller: Caller = getattr(datapath.socket, "caller", Caller(str(datapath.address)))
        datapath.socket.settimeout(_SEND_SECONDS)
        hub = framework.current().hub
        self._outgoing = hub.Queue()
        # Counters of bytes, each of which one thread alone writes.
        self._queued = self._sent = self._arrived = self._taken = 0
        self._full = False
        hub.spawn(self._feed)

    @property
    def about(self) -> str:
        """Who is behind it, in words."""
        return self._caller.about

    def may_be(self, host: str) -> bool:
        """Whether whoever is behind it is believed to be this host's switch."""
        return self._caller.may_be(host)

    def send(self, data: bytes | memoryview) -> None:
        """Queue bytes, and go on."""
        self._queued += len(data)
        self._outgoing.put(data)

    @property
    def ready(self) -> bool:
        """Whether there is room for more; if not, `drained` will be called."""
        if self._queued - self._sent < ROOM:
            return True
        self._full = True
        # It may have become empty just before that was said.
        return self._queued - self._sent < ROOM

    def arrived(self, size: int) -> bool:
        """Note that a message has come in; say whether it may be kept."""
        self._arrived += size
        if self._arrived - self._taken <= UNREAD:
            return True
        LOG.warning(
            "switch %016x (%s) sends more than is asked for, %d MB so far: hung up on",
            *(self.datapath_id, self.about, UNREAD >> 20),
        )
        self.close()
        return False

    def taken(self, size: int) -> None:
        """Note that the loop has taken a message."""
        self._taken += size

    def close(self) -> None:
        """Hang up."""
        self._datapath.close()
        stream = self._datapath.socket
        if hang_up := getattr(stream, "hang_up", None):
            # The framework only ends what it sends, and waits for the other side to end the rest.
            hang_up()
        self.ended()

    def ended(self) -> None:
        """The other side is gone: nothing can be sent any more."""
        self._outgoing.put(None)

    def _feed(self) -> None:
        while (data := self._outgoing.get()) is not None:
            if not self._datapath.send(data):
                return
            self._sent += len(data)
            if self._full and self._queued - self._sent <= ROOM // 2:
                self._full = False
                self._drained(self)
