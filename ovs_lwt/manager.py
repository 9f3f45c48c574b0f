"""`ovs-lwt manager`: run Ryu apps, ours and others, on os-ken or Ryu, with ryu-manager's options.

os-ken has no launcher any more and Ryu's fails on current Pythons. The order of work is theirs,
with one difference: the modules of the named apps are imported *before* the command line is read,
so that the options which they register are known without ``--user-flags``.
"""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from oslo_config import cfg as oslo

from ovs_lwt import __version__, appfiles, stopping
from ovs_lwt.backends.openflow import framework, listening
from ovs_lwt.backends.openflow.framework import Framework
from ovs_lwt.ending import ended
from ovs_lwt.journal import formatter_for
from ovs_lwt.mistakes import Refused

PROGRAM = "ovs-lwt manager"
_NO_OVERRIDES: Mapping[str, object] = MappingProxyType({})
_OFP_HANDLER = "controller.ofp_handler"
_OFP_TCP_PORT = 6653


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``ovs-lwt manager``; return its exit status, as `ending.ended` has it.

    Wrong options end the process with status 2, ``--help`` and ``--version`` with 0.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    return ended(
        PROGRAM,
        lambda: launch((), arguments, _framework_named(arguments)),
        verbose="--verbose" in arguments,
    )


def launch(
    apps: Sequence[str],
    args: Sequence[str],
    framework_name: str | None = None,
    overrides: Mapping[str, object] = _NO_OVERRIDES,
) -> int:
    """Run `apps` (modules or files) until SIGTERM or SIGINT; return the exit status.

    `args` is ryu-manager's command line and may name further apps; `overrides` maps names of
    options (``ofp_tcp_listen_port``) to values that win over it. To be called in the main thread,
    once a process. Raises `Refused` if something cannot be loaded or listened on, and whatever an
    app's constructor raises; wrong options raise SystemExit(2), as argparse does.
    """
    fw = framework.choose(framework_name)
    words = [*apps, *args]
    if fw.green:
        # Sockets now, for what the imports take; threads once it is known whether they may be.
        _patch(fw, thread=False)
    _raise_file_limit()
    with _understood(), stopping.on_signal() as stop, contextlib.ExitStack() as starting:
        starting.enter_context(stopping.no_hangups())
        conf = _configure(fw, words, overrides)
        with _pid_file(conf.pid_file), _started(fw, conf):
            starting.close()
            stop.wait()
    return 0


def _raise_file_limit() -> None:
    """Take as many files as are allowed: a shell's usual 1,024 are few for a server."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _patch(fw: Framework, *, thread: bool) -> None:
    """Have eventlet take over the standard library, without its word on locks that were made before
    (our imports' own, which nobody waits for). It comes by a logger that nobody can reach.
    """
    said, logging.lastResort = logging.lastResort, logging.NullHandler()
    try:
        fw.hub.patch(thread=thread)
    finally:
        logging.lastResort = said


def _framework_named(words: Sequence[str]) -> str | None:
    """Return the value of ``--framework``, which decides who parses the command line."""
    for word, following in _with_following(words):
        option, given, value = word.partition("=")
        if option == "--framework":
            return value if given else following
    return None


def _with_following(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield every word and the one behind it, which may be its value; "" behind the last."""
    return zip(words, [*words[1:], *[""][: len(words)]], strict=True)


def _configure(fw: Framework, words: Sequence[str], overrides: Mapping[str, object]) -> Any:
    """Import the apps, read the command line with their options in it, start the log."""
    _register_options(fw)
    appfiles.import_candidates([*words, *_apps_of_config_files(words)])
    conf = _parse(fw, words, overrides)
    _start_log(fw)
    if fw.green and not conf.enable_debugger:
        _patch(fw, thread=True)
    return conf


@contextlib.contextmanager
def _understood() -> Iterator[None]:
    """Options are read late, with the ``$`` in them: what is wrong with one is whoever wrote it's
    to mend.
    """
    try:
        yield
    except oslo.Error as error:
        raise Refused(f"the configuration cannot be used: {error}") from error


@contextlib.contextmanager
def _started(fw: Framework, conf: Any) -> Iterator[None]:
    """Start the apps; stop and close them at the end, also if only some of them could start."""
    names = [name for words in (*conf.app_lists, *conf.app) for name in words.split(",")]
    manager = fw.app_manager.AppManager.get_instance()
    try:
        _load(fw, manager, names or [f"{fw.package}.{_OFP_HANDLER}"])
        manager.instantiate_apps(**manager.create_contexts())
        _start_web(fw, manager)
        yield
    finally:
        with stopping.deadline():
            manager.close()


def _register_options(fw: Framework) -> None:
    """Register what ryu-manager offers: its own options and those of the modules it imports."""
    # The app manager first: the controller module cannot be imported before it.
    for path in ("base.app_manager", "controller.controller", "flags", "log", "topology.switches"):
        fw.module(path)
    if fw.name == framework.RYU:
        fw.module("app.wsgi")  # os-ken dropped the web server
    option = fw.cfg
    fw.CONF.register_cli_opts(
        [
            option.StrOpt("framework", help="os-ken or ryu (default: os-ken if it is installed)"),
            option.MultiStrOpt(
                "app", positional=True, default=[], help="modules or files of the apps to run"
            ),
            option.ListOpt("app-lists", default=[], help="more apps, separated by commas"),
            option.StrOpt("user-flags", help="file that registers more options"),
            option.StrOpt("pid-file", help="file to write the process id to"),
            option.BoolOpt(
                "enable-debugger", default=False, help="leave Python's threads as they are"
            ),
        ]
    )


def _apps_of_config_files(words: Sequence[str]) -> list[str]:
    """Return the apps that the configuration files name: they may register options, too."""
    files = [
        part
        for word, following in _with_following(words)
        for option, given, value in [word.partition("=")]
        if option in ("--config-file", "--config-dir")
        for part in (option, value if given else following)
    ]
    probe = oslo.ConfigOpts()
    probe.register_opts(
        [oslo.ListOpt("app_lists", default=[]), oslo.MultiStrOpt("app", default=[])]
    )
    try:
        probe(args=files, project="ovs-lwt", default_config_files=[])
    except oslo.Error as error:
        raise Refused(f"the configuration cannot be read: {error}") from error
    return [*probe.app_lists, *probe.app]


def _parse(fw: Framework, words: Sequence[str], overrides: Mapping[str, object]) -> Any:
    conf = fw.CONF
    default = Path(f"/usr/local/etc/{fw.package}/{fw.package}.conf")
    conf(
        args=list(words),
        project=fw.package,
        prog=PROGRAM,
        version=f"{PROGRAM} {__version__}, {fw.name} {fw.version}",
        default_config_files=[str(default)] if default.exists() else [],
        default_config_dirs=[],
    )
    for name, value in overrides.items():
        conf.set_override(name, _literal(value))
    return conf


def _literal(value: object) -> object:
    """The value as an option whose ``$`` are no references to other options."""
    if isinstance(value, list):
        return [_literal(part) for part in value]
    return value.replace("$", "$$") if isinstance(value, str) else value


def _start_log(fw: Framework) -> None:
    """Log as the framework's options say, with the time or for the journal the priority, which
    neither framework gives.
    """
    fw.module("log").init_log()
    for handler in logging.getLogger().handlers:
        if handler.formatter is None:
            handler.setFormatter(formatter_for(handler))


def _load(fw: Framework, manager: Any, names: Sequence[str]) -> None:
    """Load the app classes of `names`, and of the services that they need, into `manager`."""
    modules = [appfiles.import_app(name) for name in names]
    manager.load_apps(modules)
    contexts = {context.__module__ for context in manager.contexts_cls.values()}
    for name, module in zip(names, modules, strict=True):
        if module not in manager.applications_cls and module not in contexts:
            raise Refused(
                f"{name} defines no app for {fw.name}: a subclass of {fw.App.__name__} is wanted"
            )
    if listening.guarded():
        listening.open_asked(fw.CONF)
    elif f"{fw.package}.{_OFP_HANDLER}" in manager.applications_cls:
        _check_listen_address(fw.CONF)


def _check_listen_address(conf: Any) -> None:
    """Raise `Refused` if the OpenFlow port is taken: the framework would only log it, and be deaf.

    Addresses that it listens on in other ways (TLS, a Unix socket's path) are left to it.
    """
    host = conf.ofp_listen_host
    if (conf.ctl_privkey and conf.ctl_cert) or "/" in host:
        return
    port = conf.ofp_tcp_listen_port or _OFP_TCP_PORT
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        raise Refused(
            f"cannot listen on {host}:{port}: {error.strerror}; free it or choose another with "
            "--listen (of the manager: --ofp-listen-host, --ofp-tcp-listen-port)"
        ) from error


def _start_web(fw: Framework, manager: Any) -> None:
    """Serve the REST interfaces of Ryu's apps, if one of them has any."""
    if fw.name == framework.RYU and (web := fw.module("app.wsgi").start_service(manager)):
        fw.hub.spawn(web)


@contextlib.contextmanager
def _pid_file(path: str | None) -> Iterator[None]:
    if path is None:
        yield
        return
    Path(path).write_text(str(os.getpid()), "ascii")
    try:
        yield
    finally:
        Path(path).unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
