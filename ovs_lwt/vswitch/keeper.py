"""A host's switch in OVSDB, kept by a thread of its own, so that no other host waits for it.

What flows in: the plan to keep, remarks on ports. What flows out: what the switch last said of
itself, and what keeps the plan from being true.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Final, Protocol

from ovs_lwt.claims import Renamed, one_after_the_other
from ovs_lwt.mistakes import NotNow, Refused
from ovs_lwt.vswitch.patience import Patience
from ovs_lwt.vswitch.plan import DatapathType, LocalPort, SwitchPlan

_LOG: Final = logging.getLogger("ovs_lwt")

# Seconds from one look at what OVSDB does not tell (the door) to the next, and while nobody is in.
_LOOK, _LOOK_AT_START = 1.0, 0.05
_CLOSES_WITHIN: Final = 2.0


class Held(Protocol):
    """What the thread works with; `ovs_lwt.vswitch.held.HeldSwitch` is one, and says what is what.

    All of it may wait and raise Refused.
    """

    @property
    def connected(self) -> bool: ...
    def refuse_second(self) -> None: ...
    def prepare(self, plan: SwitchPlan) -> None: ...
    def check(self, plan: SwitchPlan) -> None: ...
    def run(self) -> bool: ...
    def ports(self) -> tuple[LocalPort, ...]: ...
    def tunnel_ofport(self) -> int | None: ...
    def request_ofport(self) -> int | None: ...
    def datapath_type(self) -> DatapathType: ...
    def report_errors(self, errors: Mapping[str, str]) -> None: ...
    def record_markings(self, markings: Mapping[str, str]) -> None: ...
    def rewrite_claims(self, claims: Renamed) -> None: ...
    def deviations(self, plan: SwitchPlan) -> list[str]: ...
    def halves_gone(self, plan: SwitchPlan) -> list[str]: ...
    def wait(self, wake: int, seconds: float) -> None: ...
    def close(self) -> None: ...


class SwitchKeeper:
    """A `WatchedSwitch` of which nothing waits: what takes time is done by its thread.

    remote: where its OVSDB listens; open: connects to the switch
    target: what its Controller row is to say at this moment (asked for anew every second, so that a
    socket that has gone is made again; "": what it says now, until there is somebody to answer;
    None: no row of ours)
    trouble: why the plan is not true; None if it is, or if that is not known yet
    """

    def __init__(
        self, remote: str, open: Callable[[], Held], target: Callable[[], str | None]
    ) -> None:
        self.remote = remote
        self._open, self._target = open, target
        self.trouble: Refused | None = None
        self._switch: Held | None = None
        # Each is written by one side alone: the agent's loop, or the thread.
        self._wanted: SwitchPlan | None = None
        self._asked = self._settled = self._tried = 0
        self._news = self._told = 0
        self._errors: Mapping[str, str] = {}
        self._markings: dict[str, str] = {}
        self._claims: dict[str, tuple[str, str]] = {}
        self._repairs: deque[str] = deque()
        self._remarks = threading.Lock()
        self._done: SwitchPlan | None = None
        # After a failure; and for devices in the kernel that somebody takes away again.
        self._retry, self._again = Patience(), Patience()
        self._over = False
        self._alarm, self._bell = socket.socketpair()
        for end in (self._alarm, self._bell):
            end.setblocking(False)
        self._thread = threading.Thread(target=self._work, daemon=True, name="ovsdb")

    # Asked by the agent's loop

    def check(self, plan: SwitchPlan) -> None:
        """Raise Refused if something is known to be in the way of the plan."""
        if self._switch is not None and self._switch.connected:
            self._switch.check(plan)

    def prepare(self, plan: SwitchPlan) -> None:
        """Make the switch what the plan says from now on; see `preparing` and `trouble`."""
        self._wanted = plan
        self._asked += 1
        self._ring()
        if self._asked == 1:
            self._thread.start()

    @property
    def preparing(self) -> bool:
        """Whether nobody knows yet how the last `prepare` comes out."""
        return self._settled != self._asked

    def run(self) -> bool:
        """Say whether there is news since the last time."""
        news, before = self._news, self._told
        self._told = news
        return news != before

    def repairs(self) -> list[str]:
        """What others had changed and has been put right since the last time, a sentence each."""
        found: list[str] = []
        while self._repairs:
            found.append(self._repairs.popleft())
        return found

    @property
    def connected(self) -> bool:
        """Whether ovsdb-server answers, as far as is known."""
        return self._switch is None or self._switch.connected

    def ports(self) -> tuple[LocalPort, ...]:
        """Return the bridge's ports as last seen, without the tunnel's."""
        return () if self._switch is None else self._switch.ports()

    def tunnel_ofport(self) -> int | None:
        """Return the OpenFlow number of the shared VXLAN port; None while it has none."""
        return None if self._switch is None else self._switch.tunnel_ofport()

    def request_ofport(self) -> int | None:
        """Return that of the port by which requests to a replicator come; None for no port."""
        return None if self._switch is None else self._switch.request_ofport()

    def datapath_type(self) -> DatapathType:
        """Return "system" or "netdev"; to be asked once there is a tunnel port."""
        assert self._switch is not None, "a port has been seen"
        return self._switch.datapath_type()

    def report_errors(self, errors: Mapping[str, str]) -> None:
        """Say on each of these ports what is wrong with it, and on no other, as soon as may be."""
        if errors != self._errors:
            self._errors = dict(errors)
            self._ring()

    def record_markings(self, markings: Mapping[str, str]) -> None:
        """Say on each of these ports who sets the tenant's mark, as soon as may be."""
        with self._remarks:
            self._markings |= markings
        self._ring()

    def rewrite_claims(self, claims: Renamed) -> None:
        """Have these ports claim what they are to claim now, as soon as may be."""
        with self._remarks:
            self._claims = dict(one_after_the_other(self._claims, claims))
        self._ring()

    def close(self) -> None:
        """Let go of the switch, which stays as it is."""
        self._over = True
        self._ring()
        if self._asked:
            self._thread.join(_CLOSES_WITHIN)

    def _ring(self) -> None:
        with suppress(OSError):  # there are rings enough
            self._bell.send(b"!")

    # Done by the thread

    def _work(self) -> None:
        while not self._over:
            try:
                self._keep()
            except Refused as refused:
                self._fail(refused)
            except Exception as error:
                _LOG.exception("unexpected; going on")
                self._fail(Refused(f"unexpected: {error!r}"))
            self._rest()
        if self._switch is not None:
            self._switch.close()

    def _keep(self) -> None:
        if not self._retry.ready(time.monotonic()) and self._settled == self._asked:
            if self._switch is not None and self._switch.run():
                self._news += 1
            return
        asked, wanted = self._asked, self._wanted
        self._tried = asked
        assert wanted is not None, "the thread starts when there is a plan"
        try:
            if self._switch is None:
                self._switch = self._open()
            if self._switch.run():
                self._news += 1
            self._switch.refuse_second()
            plan = replace(wanted, controller=self._target())
            kept = plan == self._done and asked == self._settled and self._switch.connected
            differing = self._switch.deviations(plan) if kept else []
            gone = self._switch.halves_gone(plan) if kept else []
            waits = self._wait_with(gone)
            if differing or (gone and waits is None):
                # Somebody else's hands, or a switch that was made anew.
                self._done = None
                self._repairs += [*differing, *gone]
            if plan != self._done or asked != self._settled:
                self._done = None
                self._switch.prepare(plan)
                self._switch.run()
                self._done = plan
                self._news += 1
            self._remark(self._switch)
        except BaseException:
            # Before it counts as settled: who waits for that must find the reason.
            self._news += 1
            raise
        self._retry.helped()
        self.trouble = waits
        self._settled = asked

    def _wait_with(self, gone: list[str]) -> NotNow | None:
        """Why what is gone is not made again at once: somebody takes it away each time."""
        if not gone:
            return None
        if self._again.ready(now := time.monotonic()):
            self._again.tried(now)
            return None
        return NotNow(f"{gone[0]} soon after it was made again: see who deletes it (ip monitor)")

    def _fail(self, trouble: Refused) -> None:
        self.trouble = trouble
        self._retry.tried(time.monotonic())
        self._settled = self._tried

    def _remark(self, switch: Held) -> None:
        if not switch.connected:
            return
        switch.report_errors(self._errors)
        with self._remarks:
            markings, self._markings = self._markings, {}
            claims, self._claims = self._claims, {}
        try:
            if claims:
                switch.rewrite_claims(claims)
            if markings:
                switch.record_markings(markings)
        except Refused as refused:
            # Written again when that is no harm: what has been said since is what counts.
            with self._remarks:
                self._markings = markings | self._markings
                self._claims = dict(one_after_the_other(claims, self._claims))
            _LOG.warning("remarks on ports are not written yet: %s", refused)

    def _rest(self) -> None:
        """Until there is something to do."""
        if self._over:
            return
        wake = self._alarm.fileno()
        if self._switch is not None:
            early = self._done is not None and self._done.controller == ""
            self._switch.wait(wake, _LOOK_AT_START if early else _LOOK)
        else:
            self._alarm.settimeout(_LOOK)
            with suppress(OSError):
                self._alarm.recv(1)
            self._alarm.setblocking(False)
        with suppress(OSError):
            while self._alarm.recv(1000):
                pass
