"""The local switch in the hands of one agent: an OVSDB lock says whose its bridge is."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Final

from ovs_lwt.claims import (
    ENDPOINT_KEY,
    ERROR_KEY,
    MARKING_KEY,
    Renamed,
    claimed_endpoint,
)
from ovs_lwt.mistakes import Refused
from ovs_lwt.vswitch.database import Transaction
from ovs_lwt.vswitch.deviations import deviations, halves_gone
from ovs_lwt.vswitch.plan import SwitchPlan
from ovs_lwt.vswitch.prepare import AGENT_KEY, assign_key, refuse_conflicts
from ovs_lwt.vswitch.switch import LocalSwitch

_LOG: Final = logging.getLogger(__name__)

_LOCK_SECONDS: Final = 5.0
# The thread that keeps a switch may stand still this long (s) for remarks; the rest comes later.
_REMARK_TIMEOUT: Final = 1.0


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
            refuse_conflicts(self._database, plan, self._made)

    def deviations(self, plan: SwitchPlan) -> list[str]:
        """Return what of the plan is not so, a sentence each; wait for nothing."""
        return deviations(self._database, plan, self._datapath)

    def halves_gone(self, plan: SwitchPlan) -> list[str]:
        """Return which VXLAN ports have lost their device in the kernel, a sentence each."""
        return list(halves_gone(self._database, plan).values())

    # Writing about ports

    def report_errors(self, errors: Mapping[str, str]) -> None:
        """Say on each port named in `errors` what is wrong with it, and on no other port.

        Writes ``external_ids:ovs-lwt-error``, only where it differs. Waits a second at most: what
        did not get through (the server is away) is logged, and said by the next call.
        """

        def compose(_: Transaction) -> None:
            for interface in self._interfaces():
                error = errors.get(interface.name)
                if error is not None:
                    assign_key(interface, "external_ids", ERROR_KEY, error)
                elif ERROR_KEY in interface.external_ids:
                    interface.delkey("external_ids", ERROR_KEY)

        self._refresh()
        if not self.connected or self._now.errors == errors:
            return
        try:
            self._database.transact("say what is wrong with ports", compose, _REMARK_TIMEOUT)
        except Refused as refusal:
            _LOG.warning("bridge %s: port errors are not written yet: %s", self.bridge, refusal)

    def record_markings(self, markings: Mapping[str, str]) -> None:
        """Say on each of these ports who sets the tenant's mark. Raises Refused after a second."""

        def compose(_: Transaction) -> None:
            for interface in self._interfaces():
                if (marking := markings.get(interface.name)) is not None:
                    assign_key(interface, "external_ids", MARKING_KEY, marking)

        self._database.transact("say who marks ports", compose, _REMARK_TIMEOUT)

    def rewrite_claims(self, claims: Renamed) -> None:
        """Have these ports claim what they are to claim now; like `record_markings` otherwise.

        A port that says nothing of the kind (it is known by its UUID, or its MAC) needs no word.
        """

        def compose(_: Transaction) -> None:
            for interface in self._interfaces():
                before, now = claims.get(interface.name, (None, ""))
                if before is not None and claimed_endpoint(interface.external_ids) == before:
                    assign_key(interface, "external_ids", ENDPOINT_KEY, now)

        self._database.transact("rename claims", compose, _REMARK_TIMEOUT)

    # Waiting

    def wait(self, wake: int, seconds: float) -> None:
        """Wait for news, for the file `wake` to be readable, or so many seconds."""
        self._database.wait(wake, seconds)
