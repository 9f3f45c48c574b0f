"""os-ken and Ryu are one controller framework under two names; this is the place that knows.

Everything else asks `current()` and uses what it returns::

    FW = framework.current()

    class Shim(framework.App):
        @FW.handles("EventOFPErrorMsg", "main")
        def error(self, event): ...

An app that names neither framework runs on both. Which one runs is decided once a process: the one
that already runs (an app started by ``ryu-manager`` must use Ryu), else the one given to `choose`,
else the first installed of os-ken and Ryu.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import importlib.util
import logging
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

from ovs_lwt.backends.openflow import quirks
from ovs_lwt.mistakes import Refused

OS_KEN = "os-ken"
RYU = "ryu"
#: Framework name -> the package it is imported as, in order of preference.
PACKAGES = {OS_KEN: "os_ken", RYU: "ryu"}
#: Framework name -> what a user types to have it. Ryu's sdist builds under old setuptools only.
INSTALL = {
    OS_KEN: "pip install 'os-ken>=4,<5'",
    RYU: "echo 'setuptools>=66.1,<67' > /tmp/ryu-build.txt && "
    "PIP_CONSTRAINT=/tmp/ryu-build.txt PIP_BUILD_CONSTRAINT=/tmp/ryu-build.txt "
    "pip install 'ovs-lwt[ryu]'",
}

LOG = logging.getLogger(__name__)

_Handler = TypeVar("_Handler", bound=Callable[..., Any])


if TYPE_CHECKING:

    class App:
        """The base class of apps on the current framework: what `OSKenApp` and `RyuApp` share."""

        CONF: Any
        name: str
        logger: logging.Logger

        def __init__(self, *args: Any, **kwargs: Any) -> None: ...
        def start(self) -> Any:
            """Called once every app is there; a thread that it returns is killed at the end."""

        def stop(self) -> None:
            """Called at the end: waits for the app's threads."""

        def close(self) -> None:
            """Called last."""


def __getattr__(name: str) -> Any:
    """Give `App`, which is known once the framework is."""
    if name == "App":
        return current().App
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@dataclass(frozen=True, slots=True)
class Framework:
    """One of the two frameworks. Its modules are imported when first asked for.

    `name` is ``os-ken`` or ``ryu``, `package` the import name, `version` the installed release.
    """

    name: str
    package: str
    version: str

    def module(self, path: str) -> Any:
        """Import and return ``PACKAGE.path``, e.g. ``module("lib.packet.arp")``."""
        return importlib.import_module(f"{self.package}.{path}")

    @property
    def App(self) -> Any:  # noqa: N802 - a class, named as one
        """The base class of apps: `OSKenApp` or `RyuApp`."""
        return getattr(self.app_manager, "OSKenApp" if self.name == OS_KEN else "RyuApp")

    @property
    def CONF(self) -> Any:  # noqa: N802 - as both frameworks spell it
        """The framework's own oslo.config object: command line, config files, overrides."""
        return self.cfg.CONF

    @property
    def green(self) -> bool:
        """Whether threads are eventlet's (Ryu; os-ken on demand): then never block in C code."""
        return cast(str, self.hub.HUB_TYPE) == "eventlet"

    @property
    def app_manager(self) -> Any:
        """`base.app_manager`: loads and runs apps."""
        return self.module("base.app_manager")

    @property
    def cfg(self) -> Any:
        """`cfg`: option classes (`StrOpt`, …) and `CONF`."""
        return self.module("cfg")

    @property
    def hub(self) -> Any:
        """`lib.hub`: `spawn`, `sleep`, `Queue`, `Event`, for threads of whichever kind."""
        return self.module("lib.hub")

    @property
    def ofp_event(self) -> Any:
        """`controller.ofp_event`: the events of OpenFlow connections."""
        return self.module("controller.ofp_event")

    @property
    def handler(self) -> Any:
        """`controller.handler`: `set_ev_cls` and the negotiation phases (`MAIN_DISPATCHER`, …)."""
        return self.module("controller.handler")

    @property
    def ofproto_protocol(self) -> Any:
        """`ofproto.ofproto_protocol`: `ProtocolDesc`, a datapath for encoding without a switch."""
        return self.module("ofproto.ofproto_protocol")

    @property
    def ofproto_parser(self) -> Any:
        """`ofproto.ofproto_parser`: parses a message of any version."""
        return self.module("ofproto.ofproto_parser")

    @property
    def ofproto_v1_4(self) -> Any:
        """`ofproto.ofproto_v1_4`: the constants of OpenFlow 1.4."""
        return self.module("ofproto.ofproto_v1_4")

    @property
    def ofproto_v1_4_parser(self) -> Any:
        """`ofproto.ofproto_v1_4_parser`: the messages of OpenFlow 1.4."""
        return self.module("ofproto.ofproto_v1_4_parser")

    @property
    def packet(self) -> Any:
        """`lib.packet.packet`: builds and parses whole packets."""
        return self.module("lib.packet.packet")

    @property
    def ethernet(self) -> Any:
        """`lib.packet.ethernet`."""
        return self.module("lib.packet.ethernet")

    @property
    def arp(self) -> Any:
        """`lib.packet.arp`."""
        return self.module("lib.packet.arp")

    @property
    def ipv6(self) -> Any:
        """`lib.packet.ipv6`."""
        return self.module("lib.packet.ipv6")

    @property
    def icmpv6(self) -> Any:
        """`lib.packet.icmpv6`."""
        return self.module("lib.packet.icmpv6")

    def handles(self, event: str, *phases: str) -> Callable[[_Handler], _Handler]:
        """Decorate an app's method as the handler of an OpenFlow event, guarded.

        `event` names a class of `ofp_event` (``"EventOFPErrorMsg"``); `phases` are the negotiation
        phases it is wanted in (``"handshake"``, ``"config"``, ``"main"``, ``"dead"``), none meaning
        all. May be repeated for several events. An exception is logged with its traceback, and the
        app goes on.
        """
        declare = self.handler.set_ev_cls(getattr(self.ofp_event, event), list(phases))

        def decorate(method: _Handler) -> _Handler:
            return cast(_Handler, declare(_guarded(method)))

        return decorate

    def register_options(self, options: Iterable[Any]) -> None:
        """Add an app's options (`cfg.StrOpt`, …) to the framework's command line and config files.

        To be called when the app's module is imported. If the command line was parsed before that
        (``ryu-manager`` without ``--user-flags``), the options still work from ``--config-file``.
        """
        try:
            self.CONF.register_cli_opts(list(options))
        except importlib.import_module("oslo_config.cfg").ArgsAlreadyParsedError:
            self.CONF.register_opts(list(options))


def _guarded(method: _Handler) -> _Handler:
    if hasattr(method, "callers"):  # declared for another event already, so it has its guard
        return method

    @functools.wraps(method)
    def guarded(app: Any, event: Any) -> None:
        try:
            method(app, event)
        except Exception:
            name = type(event).__name__
            LOG.exception("%s failed on %s; going on", method.__qualname__, name)

    return cast(_Handler, guarded)


_chosen: Framework | None = None


def current() -> Framework:
    """Return this process's framework, ready for use.

    Raises `Refused` with the line to install when neither is there.
    """
    return _chosen if _chosen is not None else choose(None)


def choose(name: str | None) -> Framework:
    """Decide for the framework `name` (``os-ken`` or ``ryu``; None: the default) and return it.

    Raises `Refused` if the name is unknown, if it is not installed, or if the other framework
    already runs in this process.
    """
    global _chosen  # noqa: PLW0603 - a process runs one framework: this is where it is written
    if name is not None and name not in PACKAGES:
        raise Refused(f"there is no framework '{name}': use --framework os-ken or --framework ryu")
    running = _chosen.name if _chosen is not None else _running()
    wanted = name or running or _default()
    if running is not None and wanted != running:
        raise Refused(
            f"{running} already runs in this process, so {wanted} cannot: start it in its own"
        )
    if _chosen is None:
        _require(wanted)
        quirks.mend(PACKAGES[wanted])
        _chosen = Framework(wanted, PACKAGES[wanted], importlib.metadata.version(wanted))
    return _chosen


def installed() -> tuple[str, ...]:
    """Return the names of the installed frameworks, in order of preference."""
    return tuple(name for name, package in PACKAGES.items() if importlib.util.find_spec(package))


def _running() -> str | None:
    for name, package in PACKAGES.items():
        if f"{package}.base.app_manager" in sys.modules:
            return name
    return None


def _default() -> str:
    found = installed()
    if not found:
        raise Refused(f"neither os-ken nor Ryu is installed here: {INSTALL[OS_KEN]}")
    return found[0]


def _require(name: str) -> None:
    if name not in installed():
        raise Refused(f"{name} is not installed for {sys.executable}: {INSTALL[name]}")
