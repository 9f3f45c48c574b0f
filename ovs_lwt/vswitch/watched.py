"""What a host of plane ovs asks of its local switch, wherever that is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from ovs_lwt.claims import Renamed
from ovs_lwt.mistakes import Refused
from ovs_lwt.vswitch.plan import DatapathType, LocalPort, SwitchPlan


class WatchedSwitch(Protocol):
    """A switch that is prepared and then watched; nothing of it waits.
    `ovs_lwt.vswitch.keeper.SwitchKeeper` is one.

    remote: where its OVSDB listens; trouble: why the switch is not what the last plan says; None if
    it is, or while `preparing`
    """

    remote: str
    trouble: Refused | None

    def check(self, plan: SwitchPlan) -> None:
        """Raise Refused if something is known to be in the way of the plan."""

    def prepare(self, plan: SwitchPlan) -> None:
        """Begin to make the switch what the plan says, and try until it is."""

    @property
    def preparing(self) -> bool:
        """Whether nobody knows yet how the last `prepare` comes out."""

    def run(self) -> bool:
        """Say whether anything that can be asked for has changed."""

    def repairs(self) -> list[str]:
        """Return what others had changed and has been put right since the last time."""

    @property
    def connected(self) -> bool:
        """Whether ovsdb-server answers."""

    def ports(self) -> tuple[LocalPort, ...]:
        """Return the bridge's ports, without its VXLAN ports."""

    def tunnel_ofport(self) -> int | None:
        """Return the OpenFlow number of the shared VXLAN port; None while it has none."""

    def request_ofport(self) -> int | None:
        """Return the OpenFlow number of the request port; None while it has none."""

    def datapath_type(self) -> DatapathType:
        """Return "system" or "netdev"."""

    def report_errors(self, errors: Mapping[str, str]) -> None:
        """Say on each of these ports what is wrong with it, and on no other."""

    def record_markings(self, markings: Mapping[str, str]) -> None:
        """Say on each of these ports who sets the tenant's mark."""

    def rewrite_claims(self, claims: Renamed) -> None:
        """Have these ports claim what they are to claim now."""

    def close(self) -> None:
        """Let go of the switch, which stays as it is."""
