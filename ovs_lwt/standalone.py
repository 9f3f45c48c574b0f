"""Run an agent whose hosts are all on planes of the kernel: no OpenFlow, so no framework for it."""

from __future__ import annotations

import logging
import signal
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from ovs_lwt import stopping
from ovs_lwt.agent import Agent, Item, Reload
from ovs_lwt.checker import Checker
from ovs_lwt.control import ControlSocket, introduction
from ovs_lwt.journal import formatter_for
from ovs_lwt.plane import Options
from ovs_lwt.sources import Source


def serve(
    source: Source,
    hosts: Sequence[tuple[str, str]],
    options: Options,
    control: Path,
    *,
    verbose: bool = False,
) -> int:
    """Drive the hosts until SIGTERM, SIGINT or `exit` through the control socket; return 0.

    hosts: (name, network namespace: a name or a path, "" for our own)
    SIGHUP reads the source again. What is installed stays. Raises Refused, as the agent does when
    it starts, and OverlayInvalid.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(formatter_for(handler))
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, handlers=[handler])
    hangups = stopping.Hangups()
    with stopping.on_signal() as stop, stopping.no_hangups():

        def receive(seconds: float) -> Item | None:
            if hangups.taken():
                return Reload()
            if stop.wait(seconds):
                agent.stop()
            return None

        with ExitStack() as starting:
            # First of all: where another agent runs, it shall not lose its devices.
            listening = ControlSocket(control)
            starting.callback(listening.abandon)
            named = replace(options, agent=introduction(control))
            agent = Agent(source, hosts, named, receive, checker=Checker())
            agent.listen(listening)
            starting.pop_all()
        before = signal.signal(signal.SIGHUP, hangups.note)
        try:
            agent.run()
        finally:
            signal.signal(signal.SIGHUP, before)
    return 0
