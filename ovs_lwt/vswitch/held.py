"""The local switch in the hands of one agent: an OVSDB lock says whose its bridge is."""

from __future__ import annotations

import time
from typing import Final

from ovs_lwt.mistakes import Refused
from ovs_lwt.vswitch.plan import SwitchPlan
from ovs_lwt.vswitch.prepare import AGENT_KEY, refuse_conflicts
from ovs_lwt.vswitch.switch import LocalSwitch

_LOCK_SECONDS: Final = 5.0


class HeldSwitch(LocalSwitch):
    """One bridge that nobody else drives.

    Raises Refused like `LocalSwitch`, and if another agent drives the bridge: two would undo each
    other's flows without end. The lock is the server's own (RFC 7047, 4.1.8), so that it ends with
    the connection of whoever has it.
    """

    def __init__(self, remote: str, bridge: str) -> None:
        super().__init__(remote, bridge)
        try:
            # An <id> of RFC 7047, 3.1: no other signs.
            self._database.lock(f"ovs_lwt_{bridge.encode().hex()}")
            deadline = time.monotonic() + _LOCK_SECONDS
            self._database.wait_until(lambda: self._database.locked is not None, deadline)
            if self._database.locked is None:
                raise Refused(f"ovsdb-server at {remote} does not lock bridge '{bridge}'")
            self.refuse_second()
        except BaseException:
            self.close()
            raise

    def refuse_second(self) -> None:
        """Raise Refused, with the other's name, if another agent drives the bridge now."""
        if self._database.locked is not False:
            return
        bridge = self._database.named("Bridge", self.bridge)
        other = "" if bridge is None else bridge.external_ids.get(AGENT_KEY, "")
        raise Refused(
            f"bridge '{self.bridge}' at {self.remote} is driven by another agent"
            f" ({other or 'which has not said its name'}): stop that one first, or name another"
            " bridge with --bridge"
        )

    def check(self, plan: SwitchPlan) -> None:
        """Raise Refused if something is in the way of the plan, as far as is known; wait for
        nothing. May be called from any thread.
        """
        with self._database.guard:
            refuse_conflicts(self._database, plan)

    def wait(self, wake: int, seconds: float) -> None:
        """Wait for news, for the file `wake` to be readable, or so many seconds."""
        self._database.wait(wake, seconds)
