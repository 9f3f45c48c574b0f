"""Ports of a kernel's plane that the host's own stack shall not hear: what each is to be kept from.

On plane route the stack forwards for guests, so it lets in what bears the tenant's mark, as far as
that; on plane bridge it is to hear nothing. A port with a claim that is wrong has a guest all the
same, and nothing is forwarded for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from ovs_lwt.backends.netlink.present import Present
from ovs_lwt.veth import Mute
from ovs_lwt.veth.mute import Wall

_CONF: Final = 5  # net/FAMILY/conf/DEVICE/NAME


class Mutes(Protocol):
    """Who keeps the guests' ports from the host's own stack; `MuteKeeper` does."""

    def want(self, ports: Mapping[str, Mute]) -> None:
        """Keep these, by port name."""

    def run(self, *, news: bool = False) -> list[str]:
        """Mend what differs; say what that was. news: see only to ports that have just come."""

    def errors(self) -> Mapping[str, str]:
        """What keeps a port from being mute, by its name."""

    def close(self) -> None:
        """Let go; they stay mute."""


def wanted(
    wall: Wall,
    claimed: Mapping[str, Present],
    marks: Mapping[str, int],
    sysctls: Mapping[str, str],
) -> dict[str, Mute]:
    """What to keep the claimed ports from: port name -> how.

    claimed: devices that claim an endpoint; marks: the tenants', of those whose claim is right
    sysctls: what the plane has set, by path: those of these devices are kept as well
    """
    own: dict[str, dict[str, str]] = {}
    for path, value in sysctls.items():
        parts = path.split("/")
        if len(parts) == _CONF and parts[3] in claimed:
            own.setdefault(parts[3], {})[f"{parts[1]}/{parts[4]}"] = value
    return {
        name: Mute(
            wall,
            mark=marks.get(name) if wall == "route" else None,
            own=own.get(name, {}),
            index=device.index,
            mac=device.mac,
        )
        for name, device in claimed.items()
    }
