"""Ports of a switch that the host's own stack shall not hear: kept, claimed by hand or attached.

A port that claims an endpoint has a guest behind it, whether or not the claim is right, and so has
one that bears what libvirt and Neutron write, whether or not the overlay knows it. One whose device
is in another network namespace than ours, or on another machine, is its agent's there.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence

from ovs_lwt.findings import Finding
from ovs_lwt.mistakes import Refused
from ovs_lwt.veth import Mute, MuteKeeper
from ovs_lwt.veth.mute import Wall, heard
from ovs_lwt.vswitch import LocalPort
from ovs_lwt.vswitch.watched import WatchedSwitch


class PortMutes:
    """Keeps the ports of one switch from the stack, as far as they are in our network namespace."""

    def __init__(self, switch: WatchedSwitch) -> None:
        self._switch = switch
        self._keeper: MuteKeeper | None = None
        self._found: Sequence[LocalPort] | None = None

    def run(self) -> list[str]:
        """Mend what differs. Returns what was mended, in sentences."""
        found = self._switch.ports()
        if found is not self._found:
            self._found = found
            self._want(found)
        return [] if self._keeper is None else self._keeper.run()

    def findings(self) -> Sequence[Finding]:
        """Ports whose guests the host may hear, and the mend."""
        return () if self._keeper is None else heard(self._keeper.errors())

    def close(self) -> None:
        """Close the keeper's sockets. Ports stay mute."""
        if self._keeper is not None:
            self._keeper.close()

    def _want(self, found: Sequence[LocalPort]) -> None:
        here = [port for port in found if _has_guest(port) and _is_here(port)]
        if self._keeper is None:
            if not here:
                return
            self._keeper = MuteKeeper()
        wall = self._wall() if here else "system"
        self._keeper.want(
            {
                port.name: Mute(wall, index=port.device[0], mac=port.device[1])
                for port in here
                if port.device is not None
            }
        )

    def _wall(self) -> Wall:
        # A bridge may go while its ports are asked for: then they have gone as well.
        try:
            return "userspace" if self._switch.datapath_type() == "netdev" else "system"
        except Refused:
            return "system"


def _has_guest(port: LocalPort) -> bool:
    return any(said is not None for said in (port.claim, port.iface_id, port.attached_mac))


def _is_here(port: LocalPort) -> bool:
    """Whether the device of that name in our namespace may be this one: its index is the same."""
    try:
        return port.device is not None and socket.if_nametoindex(port.name) == port.device[0]
    except OSError:
        return False
