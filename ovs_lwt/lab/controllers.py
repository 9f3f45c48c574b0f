"""The controller processes of a lab: started, asked, waited for."""

from __future__ import annotations

import json
import os
import socket
import struct
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from ovs_lwt.lab.kernel import slowness, we_are_in
from ovs_lwt.lab.plan import BRIDGE, STATE, HostPlan, LabPlan
from ovs_lwt.lab.processes import alive, inside, run, tail
from ovs_lwt.mistakes import NotNow, Refused, listing
from ovs_lwt.programs import program

_PROGRAM = "ovs_lwt.cli"
_POLL_SECONDS = 0.1
_INSTALLED = ("flows", "groups", "entries")
_CREDENTIALS = struct.Struct("3i")  # struct ucred, <sys/socket.h>


class Interrupted(Exception):
    """Bringing the lab up was given up elsewhere (another host failed, or Ctrl-C)."""


def arguments(plan: LabPlan, hosts: Sequence[HostPlan]) -> list[str]:
    """Return the command line of the controller that drives `hosts`.

    ``run OVERLAY --host H=WHERE …``: each host's switch calls by a socket in its run directory.
    """
    command = [*program(_PROGRAM, plan.python), "run", str(plan.overlay)]
    for host in hosts:
        command += ["--host", f"{host.name}={host.where}"]
    command += ["--plane", plan.plane] if plan.plane is not None else []
    command += ["--bridge", BRIDGE, "--control", str(hosts[0].control)]
    command += ["--state", str(plan.directory / STATE)]
    if plan.framework is not None:
        command += ["--framework", plan.framework]
    return command


def pid_file(host: HostPlan) -> Path:
    """Return where the process id of the host's controller is kept."""
    return host.control.with_suffix(".pid")


def start(plan: LabPlan, hosts: Sequence[HostPlan]) -> int:
    """Start the controller of `hosts` and return its process id; its log is the hosts' `log`."""
    first = hosts[0]
    namespace = plan.underlay if plan.controllers == "one" else first.namespace
    command = inside(namespace, arguments(plan, hosts))
    # A session of its own: a Ctrl-C at the terminal after `up` must not reach it.
    pid = os.posix_spawnp(
        command[0],
        command,
        {**os.environ, "PYTHONUNBUFFERED": "1"},
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(first.log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )
    pid_file(first).write_text(f"{pid}\n")
    return pid


def running(host: HostPlan) -> int | None:
    """Return the process id of the host's controller, or None if it does not run.

    Whoever listens on its control socket is it, also if it was not the lab that started it; one
    that does not listen yet is the one that the lab has started.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        # Not blocking: a controller that has stopped accepting keeps nobody here.
        asking.setblocking(False)
        with suppress(OSError):
            asking.connect(str(host.control))
            who = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            return int(_CREDENTIALS.unpack(who)[0])
    try:
        pid = int(pid_file(host).read_text())
    except (OSError, ValueError):
        return None
    return pid if alive(pid, str(host.control)) else None


@dataclass(frozen=True, slots=True)
class HostStatus:
    """What a controller says of one host.

    `state` is "degraded" where packets may not pass although all is installed; `sync` is about what
    is installed alone. `installed` counts by kind: flows and groups, or entries of the kernel's
    tables. `ports` is endpoint -> the name of the port that it found; `marking` is port name -> who
    sets the tenant's mark.
    """

    state: str
    sync: str
    installed: Mapping[str, int]
    ports: Mapping[str, str]
    marking: Mapping[str, str]

    @property
    def counts(self) -> str:
        """What is installed, in words."""
        return ", ".join(f"{count} {kind}" for kind, count in self.installed.items())


def ask(host: HostPlan, command: str = "status", timeout: float = 5) -> str:
    """Say `command` to the host's controller and return its reply; raise `Refused` on none."""
    patience = timeout * slowness(we_are_in())
    return run(
        ["ovs-appctl", f"--timeout={patience:.0f}", "-t", str(host.control), command],
        timeout=timeout + 1,
    )


def status(host: HostPlan) -> HostStatus | None:
    """Return what the host's controller says of it, or None while it says nothing."""
    if not host.control.exists():
        return None
    try:
        reply = json.loads(ask(host))
    except (Refused, ValueError):
        return None
    about = reply.get("hosts", {}).get(host.name)
    if not isinstance(about, dict):
        return None
    return HostStatus(
        state=str(about.get("state", "")),
        sync=str(about.get("sync", "")),
        installed={kind: int(about[kind] or 0) for kind in _INSTALLED if kind in about},
        ports={str(guest): str(port) for port, guest in (about.get("ports") or {}).items()},
        marking={str(port): str(who) for port, who in (about.get("marking") or {}).items()},
    )


def wait_in_sync(
    host: HostPlan, endpoints: Sequence[str], *, until: float, give_up: Event
) -> HostStatus:
    """Wait until the host forwards as it should and its ports are claimed; return its status.

    `until` is a `time.monotonic`. Raises `Refused`, with the end of the controller's log, if it
    dies or takes longer, and `Interrupted` once `give_up` is set.
    """
    last: HostStatus | None = None
    missing = set(endpoints)
    while not give_up.is_set():
        if running(host) is None:
            raise NotNow(
                f"the controller of {host.name} ended; its log, {host.log}, closes with",
                *tail(host.log),
            )
        last = status(host)
        if last is not None:
            missing = set(endpoints) - last.ports.keys()
            if last.sync == "in-sync" and not missing:
                return last
        if time.monotonic() > until:
            said = "says nothing yet" if last is None else f"says '{last.state}'"
            ports = f" and has not found the ports of {listing(sorted(missing))}" if missing else ""
            raise NotNow(
                f"the controller of {host.name} is not in sync: it {said}{ports}; its log,"
                f" {host.log}, closes with",
                *tail(host.log),
            )
        give_up.wait(_POLL_SECONDS)
    raise Interrupted
