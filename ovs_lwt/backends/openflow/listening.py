"""Which doors there are: a unix socket for each host's switch, and TCP where it was asked for.

An app that drives hosts says so (`guard`), when its module is imported: from then on nothing is
listened on unasked, and nobody is let in whose name is not known.
"""

from __future__ import annotations

import os
import secrets
import socket
import ssl
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

from ovs_lwt import unixsockets
from ovs_lwt.backends.openflow import framework
from ovs_lwt.backends.openflow.callers import (
    Caller,
    Stranger,
    by_certificate,
    by_loopback,
    by_process,
)
from ovs_lwt.backends.openflow.doors import HANDSHAKE, Admit, Door
from ovs_lwt.backends.openflow.streams import GreenTlsStream, Stream, TlsStream
from ovs_lwt.mistakes import Refused

Uids = Callable[[], Collection[int]]
"""Says at this moment whose processes may be switches."""

_ANYWHERE: Final = "0.0.0.0"  # the frameworks' default for ofp_listen_host
_PORT: Final = 6653
_ROOT: Final = 0
_TOKEN: Final = 8  # hex digits
_STEP: Final = 0.02  # seconds
_MEND: Final = (
    "listen on 127.0.0.1, or give TLS all of --tls-key, --tls-cert and --tls-ca (of the manager:"
    " --ctl-privkey, --ctl-cert, --ca-certs)"
)


class HostDoor:
    """The socket on which a host's switch calls, and nobody else: in the switch's run directory,
    of a name that no agent before has used.

    Open vSwitch calls a name that is new at once, and one that it has failed to reach after its
    back-off. Sockets that agents before have left are removed.

    host: the host's name in the overlay; rundir: where `remote`, its OVSDB, has its socket
    """

    def __init__(self, host: str, bridge: str, rundir: Path) -> None:
        self._host, self._rundir = host, rundir
        self._prefix = f"ovs-lwt.{bridge}."
        self._door: Door | None = None
        self._path, self._identity = rundir, (0, 0)

    @property
    def path(self) -> Path:
        """The socket; the folder that it is to be in, as long as there is none."""
        return self._path

    def target(self) -> str:
        """Return what the switch's Controller row is to say; listen, unless the socket is there.

        "" (what it says now) until callers are answered: Open vSwitch waits for that a second, and
        then longer and longer from one call to the next. Raises Refused if it cannot be made.
        """
        if self._door is None or unixsockets.identity(self._path) != self._identity:
            self.close()
            self._listen()
            self._sweep()
        # Without a folder: the switch looks in its own, wherever we see that.
        return f"unix:{self._path.name}" if _PROCESS.begun else ""

    def close(self) -> None:
        """Listen no more, and take the socket away."""
        if self._door is not None:
            self._door.close()
            unixsockets.remove(self._path, self._identity)
            self._door = None

    def _listen(self) -> None:
        path = self._rundir / f"{self._prefix}{secrets.token_hex(_TOKEN // 2)}"
        server = socket.socket(socket.AF_UNIX)
        try:
            # What the file then may be used for, from its first moment: root alone may knock.
            os.fchmod(server.fileno(), 0o600)
            with unixsockets.address(path) as short:
                server.bind(short)
            self._let_owner_in(path)
        except OSError as error:
            server.close()
            raise Refused(
                f"cannot listen on {path} ({error.strerror or error}), where {self._host}'s switch"
                " would call: run this as root or as the switch's user, or let the switch call by"
                " TCP (--listen ADDRESS:PORT --controller tcp:ADDRESS:PORT)"
            ) from error
        self._path, self._identity = path, unixsockets.identity(path)
        self._door = Door(server, f"{self._host}: {path}", self._admit)
        framework.current().hub.spawn(_serve, self._door)

    def _let_owner_in(self, path: Path) -> None:
        owner = (self._rundir / "db.sock").stat() if self._uids() != {_ROOT} else None
        if owner is None or owner.st_uid == os.geteuid():
            return
        try:
            os.chown(path, owner.st_uid, owner.st_gid)
        except PermissionError:
            # Without that power everybody may knock; who it is, is looked at inside anyway.
            path.chmod(0o666)

    def _sweep(self) -> None:
        """Remove sockets of agents that were killed. Nobody else of this bridge is about to listen:
        the bridge's lock is ours.
        """
        for path in self._rundir.glob(f"{self._prefix}*"):
            token = path.name.removeprefix(self._prefix)
            ours = len(token) == _TOKEN and set(token) <= set("0123456789abcdef")
            with suppress(OSError):
                if ours and path.is_socket() and unixsockets.listener(path) is None:
                    path.unlink()

    def _uids(self) -> set[int]:
        return owners([self._rundir])

    def _admit(self, connected: Any) -> Stream:
        return Stream(connected, by_process(connected, self._uids(), self._host))


def _serve(door: Door) -> None:
    while not _PROCESS.begun:
        framework.current().hub.sleep(_STEP)
    door.serve()


def owners(rundirs: Collection[Path]) -> set[int]:
    """Return whose processes the switches with these run directories may be: root's, and those of
    whoever owns their databases' sockets.
    """
    found = {_ROOT}
    for rundir in rundirs:
        with suppress(OSError):
            found.add((rundir / "db.sock").stat().st_uid)
    return found


@dataclass(slots=True)
class _Process:
    """A process has one framework, and it one way to listen.

    begun: every app is there; uids: whose processes may be switches, None while no app drives
    hosts; opened: the door that was asked for, until it is served
    """

    begun: bool = False
    uids: Uids | None = None
    opened: Door | None = None


_PROCESS: Final = _Process()


def guard(uids: Uids) -> None:
    """From now on listen only on what was asked for, and let in only who has a name."""
    _PROCESS.uids = uids


def begin() -> None:
    """Every app is there: let callers in. Until then those of hosts' doors wait outside, for what
    they say would be heard by nobody.
    """
    _PROCESS.begun = True


def asked(conf: Any) -> bool:
    """Whether the framework's options ask for a door: an address or a port."""
    ports = conf.ofp_tcp_listen_port, conf.ofp_ssl_listen_port
    return any(ports) or conf.ofp_listen_host != _ANYWHERE


def target(conf: Any) -> str | None:
    """Return what a Controller row has to say to reach the door that was asked for."""
    host = conf.ofp_listen_host
    if not asked(conf) or "/" in host:
        return None
    where = f"[{host}]" if ":" in host else host
    if conf.ctl_cert:
        return f"ssl:{where}:{conf.ofp_ssl_listen_port or _PORT}"
    return f"tcp:{where}:{conf.ofp_tcp_listen_port or _PORT}"


def guarded() -> bool:
    """Whether there is an app that drives hosts."""
    return _PROCESS.uids is not None


def open_asked(conf: Any) -> None:
    """Open what was asked for, before anything else is done; `serve` then lets callers in.

    Raises Refused if that cannot be listened on, or would let in anybody.
    """
    if _PROCESS.opened is None and asked(conf):
        _PROCESS.opened = _door(conf, conf.ofp_tcp_listen_port, conf.ofp_ssl_listen_port)


def serve(conf: Any, tcp_port: int, tls_port: int) -> None:
    """In place of the frameworks' own listening: take callers on these ports until the end."""
    if not guarded():
        _door(conf, tcp_port, tls_port).serve()
    # They ask a second time, for the port of OpenFlow's early days, when none was chosen.
    door, _PROCESS.opened = _PROCESS.opened, None
    if door is not None:
        door.serve()
    while True:  # ryu-manager ends when this does
        framework.current().hub.sleep(3600)


def _door(conf: Any, tcp_port: int | None, tls_port: int | None) -> Door:
    host = conf.ofp_listen_host
    if conf.ctl_privkey or conf.ctl_cert:
        context = _tls(conf)
        return _on_port(host, tls_port or _PORT, partial(_admit_tls, context))
    if "/" in host:
        return _on(socket.socket(socket.AF_UNIX), host, host, partial(_admit, by_process))
    if guarded() and not _is_loopback(host):
        raise Refused(
            f"whoever reaches {host}:{tcp_port or _PORT} could pretend to be a host's switch:"
            f" {_MEND}"
        )
    return _on_port(host, tcp_port or _PORT, partial(_admit, by_loopback))


def _on_port(host: str, port: int, admit: Admit) -> Door:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    server = socket.socket(family, socket.SOCK_STREAM)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return _on(server, (host, port), f"{host}:{port}", admit)


def _on(server: socket.socket, address: Any, place: str, admit: Admit) -> Door:
    try:
        server.bind(address)
        return Door(server, place, admit)
    except (OSError, OverflowError, ValueError) as error:
        server.close()
        said = (isinstance(error, OSError) and error.strerror) or error
        raise Refused(
            f"cannot listen on {place}: {said}; free it or choose another with "
            "--listen (of the manager: --ofp-listen-host, --ofp-tcp-listen-port)"
        ) from error


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _admit(look: Callable[[Any, Collection[int]], Caller], connected: Any) -> Stream:
    if _PROCESS.uids is None:
        return Stream(connected, Caller("somebody"))
    return Stream(connected, look(connected, _PROCESS.uids()))


def _tls(conf: Any) -> ssl.SSLContext:
    files = {"key": conf.ctl_privkey, "cert": conf.ctl_cert, "ca": conf.ca_certs}
    missing = [f"--tls-{name}" for name, file in files.items() if not file]
    if missing and (guarded() or not (conf.ctl_privkey and conf.ctl_cert)):
        raise Refused(f"TLS lacks {' and '.join(missing)}: {_MEND}")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(conf.ctl_cert, conf.ctl_privkey)
        if conf.ca_certs:
            context.load_verify_locations(conf.ca_certs)
            context.verify_mode = ssl.CERT_REQUIRED
        if getattr(conf, "ciphers", None):  # os-ken's alone
            context.set_ciphers(conf.ciphers)
    except (OSError, ValueError) as error:
        said = ", ".join(str(file) for file in files.values() if file)
        raise Refused(f"TLS cannot be set up from {said}: {error}") from error
    return context


def _admit_tls(context: ssl.SSLContext, connected: Any) -> Stream:
    address = connected.getpeername()[0]
    wrapped = context.wrap_socket(connected, server_side=True, do_handshake_on_connect=False)
    wrapped.settimeout(HANDSHAKE)  # for all of it
    try:
        wrapped.do_handshake()
    except ssl.SSLError as error:
        # An authority that is not ours, a certificate that has expired, no TLS at all.
        said = getattr(error, "verify_message", None) or error.reason or str(error)
        raise Stranger(f"{address} by TLS: {said}") from error
    caller = Caller(address)
    if context.verify_mode == ssl.CERT_REQUIRED:
        caller = by_certificate(wrapped.getpeercert() or {}, address)
    green = framework.current().green
    return (GreenTlsStream if green else TlsStream)(wrapped, caller)
