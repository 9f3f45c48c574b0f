"""What stands below the entries, as values: network devices, their places in a bridge, sysctls.

A plane says what it wants here; `links` makes it so, and `export` prints it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

import numpy as np

from ovs_lwt.backends.netlink.program import Rows
from ovs_lwt.backends.netlink.templates import Devices
from ovs_lwt.backends.netlink.transport import Kernel
from ovs_lwt.backends.netlink.wire import Listed
from ovs_lwt.view import View

TUNNEL: Final = "vx-lwt"
"""The one shared VXLAN device."""


@dataclass(frozen=True, slots=True)
class Link:
    """A network device of ours.

    kind: "bridge", "vxlan", "vlan", "vrf"; settings: what it is made with, in pyroute2's words
    (`vxlan_port`); words: the same for `ip link add NAME type KIND …`; mac: None where any will do
    over: the device that a VLAN is one of (`ip link add NAME link OVER type vlan …`)
    up: False for one that only holds something, and is to pass nothing
    """

    name: str
    kind: str
    settings: Mapping[str, object]
    words: str
    mtu: int | None = None
    mac: str | None = None
    over: str | None = None
    up: bool = True


@dataclass(frozen=True, slots=True)
class Member:
    """A device's place in a bridge. flags: of the port, by their names in `bridge link` (learning,
    neigh_suppress, vlan_tunnel, locked, flood, …) -> on or off; later: the same, of what is changed
    only once all entries are there, since one of them takes its place.
    """

    device: str
    bridge: str
    flags: Mapping[str, bool] = field(default_factory=dict)
    later: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Setup:
    """What one host's entries stand on.

    devices: all devices that rows may speak of, by number: the tunnel first, then the guests'
    ports in the order of the view's, then others
    links: in the order in which they are made; members; sysctls: path below /proc/sys -> value
    aside: guests' ports that are members and for which nothing is forwarded
    """

    devices: tuple[str, ...]
    links: tuple[Link, ...] = ()
    members: tuple[Member, ...] = ()
    sysctls: Mapping[str, str] = field(default_factory=dict)
    aside: frozenset[str] = frozenset()

    def numbers(self, names: Sequence[str]) -> np.ndarray[tuple[int], np.dtype[np.uint32]]:
        """The numbers of these devices, as a column."""
        places = {name: number for number, name in enumerate(self.devices)}
        return np.array([places[name] for name in names], np.uint32)


class Forwarding(Protocol):
    """A plane of this kernel: what it needs for a view. No I/O but in `read`.

    plane: its name; in the view, `tunnel` is device number 0 and the ports are numbered from 1
    """

    plane: Literal["bridge", "route"]

    def check(self, view: View) -> None:
        """Raise Refused if this plane cannot carry the view; nothing has been touched yet."""

    def setup(self, view: View, ports: Sequence[str]) -> Setup:
        """What the view stands on; ports: the names of the guests' ports, in the view's order."""

    def aside(self, port: str) -> Member | None:
        """Where a port belongs that claims an endpoint, as long as nothing is forwarded for it.

        None on a plane that has no place for it.
        """

    def rows(self, view: View, setup: Setup) -> Sequence[Rows]:
        """All entries."""

    def read(self, kernel: Kernel, devices: Devices) -> list[Listed]:
        """What the kernel holds where ours belong."""
