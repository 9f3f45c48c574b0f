"""The control socket: the running controller answers `ovs-appctl -t SOCKET COMMAND`, as OVS's own
daemons do.

`status`, `reload` and `exit`. A reply may come later, once the work is done.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ovs.daemon
import ovs.unixctl
import ovs.unixctl.client
import ovs.unixctl.server

from ovs_lwt import __version__
from ovs_lwt.mistakes import Refused

LOG = logging.getLogger(__name__)

FOLDER = Path("/var/run/ovs-lwt")


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

    Raises Refused if that is another controller's: to be made before anything is touched.
    """

    def __init__(self, path: Path) -> None:
        if path.exists() and _answers(path):
            raise Refused(
                f"another controller answers on {path}: stop it, or choose another with --control"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        error, self._server = ovs.unixctl.server.UnixctlServer.create(str(path), __version__)
        if error:
            raise Refused(f"cannot listen on {path}: errno {error}; choose another with --control")
        self.path = path

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
        self._server.close()
        self.path.unlink(missing_ok=True)


def ask(path: Path, command: str) -> str:
    """Send `command` to the controller behind `path`; return its reply.

    Raises Refused when nobody listens there, or with what the controller says is wrong.
    """
    error, client = ovs.unixctl.client.UnixctlClient.create(str(path))
    if error:
        raise Refused(
            f"no controller answers on {path}: is `ovs-lwt run` up? (--control names its socket)"
        )
    error_code, error_text, result = client.transact(command, [])
    client.close()
    if error_code:
        raise Refused(f"the controller behind {path} hung up")
    if error_text is not None:
        raise Refused(str(error_text).strip())
    return str(result)


def _answers(path: Path) -> bool:
    try:
        ask(path, "version")
    except Refused:
        return False
    return True
