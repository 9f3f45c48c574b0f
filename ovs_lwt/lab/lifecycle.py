"""Bringing a lab up, and taking it down again whatever happened."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from ovs_lwt.lab import controllers, guests, hosts, namespaces, requirements, state
from ovs_lwt.lab.controllers import Interrupted
from ovs_lwt.lab.kernel import slowness, we_are_in
from ovs_lwt.lab.plan import (
    UNDERLAY_BRIDGE,
    Controllers,
    Datapath,
    Framework,
    HostPlan,
    LabPlan,
    make_plan,
)
from ovs_lwt.lab.processes import stop_all
from ovs_lwt.model import Plane
from ovs_lwt.sources import overlay_file
from ovs_lwt.veth import AttachPlan

Report = Callable[[str, str], None]
"""Called with a host's name and the stage it has come to; from several threads."""

SYNC_SECONDS = 60.0
_WORKERS = 8


@dataclass(frozen=True, slots=True)
class Gone:
    """What `down` found and removed."""

    namespaces: int
    processes: int


def up(
    overlay: Path,
    *,
    name: str = "lab",
    plane: Plane | None = None,
    datapath: Datapath | None = None,
    controllers: Controllers = "each",
    framework: Framework | None = None,
    python: str = sys.executable,
    report: Report = lambda host, stage: None,
    sync_seconds: float | None = None,
) -> LabPlan:
    """Bring up the whole of `overlay` as the lab `name` and return its plan.

    `plane` puts every host on one plane, whatever the overlay says; `datapath` is that of the
    switches (None: see `default_datapath`). Returns once every controller has its host in sync
    with all endpoints' ports found. On any failure, a signal included, all that was made is
    removed again before the error goes on. Raises `OverlayInvalid` and `Refused`.
    """
    requirements.check_machine()
    topology = overlay_file.load(overlay)
    plan = make_plan(
        topology,
        name=name,
        overlay=overlay,
        plane=plane,
        datapath=datapath or requirements.default_datapath(),
        controllers=controllers,
        framework=framework,
        python=python,
    )
    attachments = guests.attachments(topology, plan)
    requirements.check_kernel(plan)
    _refuse_strangers(plan)
    state.record(plan)
    try:
        until = time.monotonic() + (sync_seconds or default_sync_seconds())
        _Builder(plan, attachments, report, until).build()
    except BaseException:
        with shielded():
            down(plan.name)
        raise
    return plan


def default_sync_seconds() -> float:
    """Return how long controllers may take to have their hosts in sync, here."""
    return SYNC_SECONDS * slowness(we_are_in())


def _refuse_strangers(plan: LabPlan) -> None:
    """Refuse a lab one of whose namespaces exists: `down` would remove what somebody else made."""
    if state.load(plan.name) is not None:
        return  # its own; `record` refuses that better
    for namespace in plan.namespaces:
        if namespaces.exists(namespace):
            raise namespaces.taken(namespace)


def down(name: str) -> Gone | None:
    """Remove the lab `name`: processes, namespaces, files. Return None if there was none."""
    plan = state.load(name)
    if plan is None:
        return Gone(0, 0) if state.forget(name) else None
    ended = stop_all(plan.namespaces)
    removed = sum(namespaces.remove(namespace) for namespace in plan.namespaces)
    state.forget(name)
    return Gone(removed, ended)


@contextmanager
def shielded() -> Iterator[None]:
    """Let no signal cut a clean-up short (in the main thread; others receive none)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    wanted = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, signal.SIG_IGN) for number in wanted]
    try:
        yield
    finally:
        for number, handler in zip(wanted, before, strict=True):
            signal.signal(number, handler)


@contextmanager
def ending_on_signals() -> Iterator[None]:
    """Turn the signals that ask us to end into SystemExit, so that what was begun is cleaned up.

    A signal may be lost on its way through somebody's callback, or show as the failure of a helper
    program that a Ctrl-C reached first: what counts is that one was received.
    """
    ours = os.getpid()
    _asked.clear()

    def end(number: int, frame: FrameType | None) -> None:
        if os.getpid() != ours:
            # pyroute2 forks for a moment and ends its children by SIGTERM: there, no clean-up.
            os._exit(128 + number)
        _asked.append(number)
        _end_if_asked()

    wanted = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, end) for number in wanted}
    try:
        yield
    except BaseException:
        if _asked:
            sys.stderr.write("interrupted: what was made is removed again\n")
        _end_if_asked()
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# The signals that asked this process to end.
_asked: list[int] = []


def _end_if_asked() -> None:
    if _asked:
        raise SystemExit(128 + _asked[0])


@dataclass(slots=True)
class _Builder:
    plan: LabPlan
    attachments: dict[str, list[AttachPlan]]
    report: Report
    until: float
    give_up: threading.Event = field(default_factory=threading.Event)

    def build(self) -> None:
        plan = self.plan
        namespaces.create(plan.underlay)
        namespaces.make_underlay(plan.underlay, UNDERLAY_BRIDGE, plan.mtu)
        own = plan.own_hosts
        with ThreadPoolExecutor(min(_WORKERS, len(own))) as pool:
            self._all(pool, self._host)
            if plan.controllers == "one":
                controllers.start(plan, own)
            self._all(pool, self._guests)
        _end_if_asked()

    def _all(self, pool: ThreadPoolExecutor, step: Callable[[HostPlan], None]) -> None:
        """Do `step` for every own host at once; the first error stops the others."""
        futures: Sequence[Future[None]] = [pool.submit(step, h) for h in self.plan.own_hosts]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
            failed = [f.exception() for f in futures if f.done() and f.exception() is not None]
            # The first to fail made the others give up.
            errors = [error for error in failed if not isinstance(error, Interrupted)]
            if errors and errors[0] is not None:
                raise errors[0]
        except BaseException:
            self.give_up.set()
            # Nothing may still be made while `down` removes.
            with shielded():
                pool.shutdown(wait=True, cancel_futures=True)
            raise

    def _host(self, host: HostPlan) -> None:
        self._go_on()
        self.report(host.name, "switch" if host.plane == "ovs" else "host")
        hosts.start(self.plan, host)
        if self.plan.controllers == "each":
            self._go_on()
            self.report(host.name, "controller")
            controllers.start(self.plan, [host])

    def _guests(self, host: HostPlan) -> None:
        mine = self.attachments[host.name]
        self.report(host.name, f"{len(mine)} guests")
        hosts.add_guests(host, mine, self._go_on)
        self.report(host.name, "waiting for the controller")
        status = controllers.wait_in_sync(
            host, [guest.identity for guest in mine], until=self.until, give_up=self.give_up
        )
        self.report(host.name, f"in sync: {status.counts}")

    def _go_on(self) -> None:
        if self.give_up.is_set() or _asked:
            raise Interrupted
