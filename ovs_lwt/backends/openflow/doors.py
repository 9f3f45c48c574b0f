"""Where switches come in: a socket that listens, and takes nobody's word for who calls.

The frameworks' own accept loops end for good at their first error, as when files run out; they wait
for a caller's handshake without end, and let anybody in.
"""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from ovs_lwt.backends.openflow import framework
from ovs_lwt.backends.openflow.callers import Stranger
from ovs_lwt.backends.openflow.streams import Stream

LOG = logging.getLogger("ovs_lwt")

HANDSHAKE: Final = 10.0
"""Seconds in which a caller has to have said which switch it is."""

WAITING: Final = 128
"""Callers in their handshake at a time, for each door: then the first of them has to go."""

_ROUND: Final = 1.0  # seconds from one look at who is late to the next
_PAUSE: Final = 0.2  # seconds to wait when there are no files or threads left
_SAID_EVERY: Final = 60.0
_BACKLOG: Final = 128
_SCARCE: Final = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}

Admit = Callable[[Any], Stream]
"""Makes a stream of a connected socket, of somebody who may come in. Raises Stranger, OSError."""


@dataclass(slots=True, eq=False)
class _Calling:
    """One who has called. hang_up: how to end it; datapath: the framework's, once it is let in"""

    since: float
    hang_up: Callable[[], None]
    datapath: Any = None


@dataclass(slots=True)
class _Warnings:
    """Says a thing once a minute at most: callers decide how often there is something to say."""

    _said: dict[str, float] = field(default_factory=dict)

    def say(self, text: str) -> None:
        now = time.monotonic()
        self._said = {said: at for said, at in self._said.items() if now - at < _SAID_EVERY}
        if text not in self._said and len(self._said) < WAITING:
            self._said[text] = now
            LOG.warning("%s", text)


class Door:
    """Lets callers of a listening socket in, each on a thread of its own, until closed.

    where: what it is called in the log; admit: who may come in
    """

    def __init__(self, server: Any, where: str, admit: Admit) -> None:
        self.where = where
        self._server, self._admit = server, admit
        self._calling: dict[_Calling, None] = {}
        self._closed = False
        self._warnings = _Warnings()
        # A queue that is shorter has callers whose turn would come refused (a reconnecting fleet).
        server.listen(_BACKLOG)
        server.settimeout(_ROUND)

    def serve(self) -> None:
        """Take callers until closed."""
        hub = framework.current().hub
        while not self._closed:
            try:
                connected, address = self._server.accept()
            except TimeoutError:
                self._end_late()
                continue
            except OSError as error:
                if self._closed or error.errno == errno.EBADF:
                    return
                if error.errno in _SCARCE:
                    self._warnings.say(f"{self.where}: cannot take calls: {error.strerror}")
                    hub.sleep(_PAUSE)
                self._end_late()
                continue
            self._make_room()
            calling = _Calling(time.monotonic(), partial(_shut, connected))
            self._calling[calling] = None
            try:
                hub.spawn(self._receive, connected, address, calling)
            except RuntimeError as error:  # no thread to be had
                self._warnings.say(f"{self.where}: cannot take calls: {error}")
                self._calling.pop(calling, None)
                connected.close()
                hub.sleep(_PAUSE)

    def close(self) -> None:
        """Take no more callers; those who are in stay."""
        self._closed = True
        self._server.close()

    def _receive(self, connected: Any, address: Any, calling: _Calling) -> None:
        try:
            with closing(connected):
                connected.settimeout(HANDSHAKE)
                stream = self._admit(connected)
                self._speak(stream, address, calling)
        except Stranger as stranger:
            self._warnings.say(f"{self.where}: hung up on a caller: {stranger}")
        except OSError as error:
            LOG.debug("%s: a caller is lost: %s", self.where, error)
        except Exception as error:
            self._warnings.say(f"{self.where}: a caller's connection ends: {error!r}")
        finally:
            self._calling.pop(calling, None)

    def _speak(self, stream: Stream, address: Any, calling: _Calling) -> None:
        """What the framework does with a connection of its own."""
        controller = framework.current().module("controller.controller")
        # Others expect a pair.
        there = address if isinstance(address, tuple) else (stream.caller.about, 0)
        with closing(stream), closing(controller.Datapath(stream, there)) as datapath:
            calling.datapath, calling.hang_up = datapath, stream.hang_up
            stream.known = lambda: _known(calling)
            datapath.serve()

    def _end_late(self) -> None:
        """Hang up on those who have not said in time which switch they are."""
        now = time.monotonic()
        for calling in list(self._calling):
            if _known(calling):
                self._calling.pop(calling, None)
            elif now - calling.since > HANDSHAKE:
                self._calling.pop(calling, None)
                calling.hang_up()

    def _make_room(self) -> None:
        if len(self._calling) < WAITING:
            return
        self._end_late()
        if len(self._calling) >= WAITING:
            first = next(iter(self._calling))
            self._calling.pop(first, None)
            first.hang_up()
            self._warnings.say(
                f"{self.where}: {WAITING} callers at a time have not said who they are"
            )


def _known(calling: _Calling) -> bool:
    datapath = calling.datapath
    if datapath is None:
        return False
    handler = framework.current().handler
    return datapath.state not in (handler.HANDSHAKE_DISPATCHER, handler.CONFIG_DISPATCHER)


def _shut(connected: Any) -> None:
    with suppress(OSError):
        connected.shutdown(2)
