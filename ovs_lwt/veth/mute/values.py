"""What a mute port is: values.

The host's end of a guest's cable is a device of the host's, and what it receives goes to the host's
own stack unless something stands before it: the walls.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from ovs_lwt.findings import Finding, fail

Wall = Literal["userspace", "system", "bridge", "route"]
"""What forwards for a port. On `system` (Open vSwitch's kernel datapath) and `bridge` it takes
every frame before the stack does, as long as the port is its own. On `userspace` it reads along,
and on `route` it is the stack itself."""

MASTERS: Final[Mapping[Wall, str]] = {"system": "openvswitch", "bridge": "bridge"}
"""The kind of the device that a port is in, where that is what takes its frames."""

# Nothing that a guest sends makes the host speak IPv6, believe a router, or forward. Strict
# filtering by reverse path drops IPv4 from every source, since no route leads to such a port.
_SILENT: Final = {
    "ipv6/disable_ipv6": "1",
    "ipv6/accept_ra": "0",
    "ipv4/rp_filter": "1",
    "ipv4/forwarding": "0",
}
# There the plane itself says the rest: its guests' packets are forwarded.
_ROUTED: Final = {"ipv6/accept_ra": "0"}

_NAMED: Final = 5  # ports that a finding names


@dataclass(frozen=True, slots=True)
class Mute:
    """How a port is kept from the host's stack.

    mark: on plane route, the tenant's: what bears it is forwarded; None: nothing is
    own: sysctls that the plane wants otherwise: FAMILY/NAME -> value ("ipv4/rp_filter" -> "0")
    index, mac: the device's where they are known, so that another of that name stays as it is
    """

    wall: Wall
    mark: int | None = None
    own: Mapping[str, str] = field(default_factory=dict)
    index: int | None = None
    mac: str | None = None

    @property
    def sysctls(self) -> dict[str, str]:
        """FAMILY/NAME -> value, of /proc/sys/net/FAMILY/conf/DEVICE/NAME."""
        return {**(_ROUTED if self.wall == "route" else _SILENT), **self.own}


def heard(ports: Mapping[str, str]) -> tuple[Finding, ...]:
    """What to say of ports whose guests the host may hear. ports: name -> why, with the mend"""
    by_reason: dict[str, list[str]] = {}
    for name, why in ports.items():
        by_reason.setdefault(why, []).append(name)
    return tuple(
        fail("host's stack", f"the host may hear what is sent at {_ports(names)}", why)
        for why, names in by_reason.items()
    )


def _ports(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"port{'s' * (len(names) > 1)} {', '.join(names[:_NAMED])}{more}"


class CannotMute(Exception):
    """This machine lacks what it takes to keep a port from the host's stack: what, and how it is
    had."""
