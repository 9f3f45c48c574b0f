"""The control socket: the running controller answers `ovs-appctl -t SOCKET COMMAND`, as OVS's own
daemons do.

`status`, `reload` and `exit`. A reply may come later, once the work is done.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from socket import gethostname
from typing import Any, Final

from ovs_lwt import __version__, folders, unixsockets
from ovs_lwt.mistakes import NotNow, Refused
from ovs_lwt.names import check_name
from ovs_lwt.ovslib import ovs

LOG = logging.getLogger(__name__)

FOLDER = Path("/var/run/ovs-lwt")

ANSWERS_WITHIN: Final = 20.0
"""Seconds that a controller has for an answer; it may be reading a large overlay meanwhile."""

RELOADS_WITHIN: Final = 180.0
"""... for one that comes when the work is done; the controller itself gives up sooner."""

_WHAT: Final = "the control socket"
_CHOOSE: Final = "choose another with --control"


def socket_of(host: str) -> Path:
    """Return where the agent of this (first) host listens if nobody says where else. Raises
    Refused if no host can be called so: it becomes a part of paths.
    """
    check_name("host", host)
    return FOLDER / f"{host}.ctl"


def check_path(path: Path) -> None:
    """Raise Refused if no agent can listen at `path`, whether or not one does."""
    unixsockets.refuse_other(path.absolute(), _WHAT, _CHOOSE)


def introduction(path: Path) -> str:
    """Who this agent is, by its control socket, for another one that comes second."""
    return f"process {os.getpid()} on {gethostname()}, control socket {path}"


class Request:
    """One command that somebody waits for. Answer it once, now or later."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def reply(self, text: str) -> None:
        """Done, and this is what it says."""
        self._answer("reply", text)

    def error(self, text: str) -> None:
        """Not done, and this is why."""
        self._answer("reply_error", text)

    def _answer(self, method: str, text: str) -> None:
        try:
            getattr(self._connection, method)(text)
        except (AssertionError, AttributeError, OSError):
            LOG.debug("whoever asked has hung up")


class ControlSocket:
    """Listens on `path` until closed; `run` serves what has come in, without waiting.

    Raises Refused if that is another controller's, or cannot be a socket: to be made before
    anything is touched.
    """

    def __init__(self, path: Path) -> None:
        # The library takes others for files of Open vSwitch's.
        path = path.absolute()
        unixsockets.refuse_long(path, _WHAT, _CHOOSE)
        # The library would remove whatever is there.
        if (other := _listener(path)) is not None:
            known = f" ({other})" if other.pid else ""
            says = "answers" if _answers(path) else "listens, and does not answer,"
            raise Refused(f"another controller{known} {says} on {path}: stop it, or {_CHOOSE}")
        self._made = unixsockets.make_room(path, _WHAT, _CHOOSE)
        error, self._server = ovs.unixctl.server.UnixctlServer.create(str(path), __version__)
        if error:
            said = os.strerror(error) if isinstance(error, int) else error
            raise Refused(f"cannot listen on {path} ({said}): {_CHOOSE}")
        # The library names the program by its file, and as one of Open vSwitch's.
        self.offer({"version": lambda request: request.reply(f"ovs-lwt {__version__}")})
        self.path = path
        self._identity = unixsockets.identity(path)

    def offer(self, commands: Mapping[str, Callable[[Request], None]]) -> None:
        """Understand these from now on."""
        for name, serve in commands.items():
            ovs.unixctl.command_register(
                name, "", 0, 0, lambda connection, _, serve: serve(Request(connection)), serve
            )

    def run(self) -> None:
        """Take connections and commands that have come in."""
        self._server.run()

    def close(self) -> None:
        """Stop listening, and take the socket away."""
        unixsockets.remove(self.path, self._identity)
        # The library would remove what has taken its place, too.
        ovs.fatal_signal.remove_file_to_unlink(self._server._listener.bind_path)
        self._server._listener.bind_path = None
        self._server.close()

    def abandon(self) -> None:
        """Close it, and leave nothing behind: whoever was to listen does not start."""
        self.close()
        folders.unmake(self._made)


def ask(path: Path, command: str, within: float | None = None) -> str:
    """Send `command` to the controller behind `path`; return its reply.

    Raises Refused when nobody listens there, when there is no reply within so many seconds, or
    with what the controller says is wrong.
    """
    path = path.absolute()
    check_path(path)
    if within is None:
        within = RELOADS_WITHIN if command.startswith("reload") else ANSWERS_WITHIN
    deadline = time.monotonic() + within
    error, stream = _open(path, deadline)
    if error in (errno.EACCES, errno.EPERM):
        raise Refused(f"not permitted to ask the controller behind {path}: do it as root (sudo)")
    if error and error not in (errno.EAGAIN, errno.ETIMEDOUT):
        raise NotNow(
            f"no controller answers on {path}: is `ovs-lwt run` up? (--control names its socket)"
        )
    reply = None
    if not error:
        connection = ovs.jsonrpc.Connection(stream)
        try:
            error, reply = _transact(connection, command, deadline)
        finally:
            connection.close()
    if error in (errno.EAGAIN, errno.ETIMEDOUT):
        raise NotNow(
            f"the controller behind {path} did not answer `{command}` within {within:g} s: it is"
            " busy, or stuck (its log says what it last did)"
        )
    if reply is None:
        raise NotNow(f"the controller behind {path} hung up")
    if reply.error is not None:
        raise NotNow(*str(reply.error).strip().split("\n"))
    return str(reply.result)


def _open(path: Path, deadline: float) -> tuple[int, Any]:
    while True:
        left = max(1, int((deadline - time.monotonic()) * 1000))
        error, stream = ovs.stream.Stream.open_block(ovs.stream.Stream.open(f"unix:{path}"), left)
        # So it says when its queue of callers is full.
        if error != errno.EAGAIN or time.monotonic() > deadline:
            return error, stream
        time.sleep(0.05)


def _transact(connection: Any, command: str, deadline: float) -> tuple[int, Any]:
    """What `UnixctlClient.transact` does, with an end: (errno, the reply)."""
    request = ovs.jsonrpc.Message.create_request(command, [])
    error = connection.send(request)
    while not error:
        connection.run()
        error, reply = connection.recv()
        if reply is not None and reply.id == request.id:
            return 0, reply
        if error == errno.EAGAIN:
            left = deadline - time.monotonic()
            if left <= 0:
                return errno.ETIMEDOUT, None
            poller = ovs.poller.Poller()
            connection.wait(poller)
            connection.recv_wait(poller)
            poller.timer_wait(max(1, int(left * 1000)))
            poller.block()
            error = 0
    return error, None


def _listener(path: Path) -> unixsockets.Process | None:
    try:
        return unixsockets.listener(path)
    except PermissionError as error:
        raise Refused(
            f"not permitted to use {path}: run this as root (sudo), or {_CHOOSE}"
        ) from error


def _answers(path: Path) -> bool:
    try:
        ask(path, "version", 5.0)
    except Refused:
        return False
    return True
