"""Who lives in a lab that is up, whatever its planes: who is where, their cables, and strangers."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from itertools import count

from ovs_lwt.lab import namespaces, probe
from ovs_lwt.lab.matrix import Matrix
from ovs_lwt.lab.plan import (
    GUEST_INTERFACE,
    UNDERLAY_BRIDGE,
    Address,
    HostPlan,
    LabPlan,
    host_of,
)
from tests.support.overlays import Overlay
from tests.support.packets import BROADCAST, ForeignVtep, Wire, ethernet
from tests.support.wires import Wires

_NUMBERS = count(1)


class Inhabited:
    """A lab that is up, and its overlay.

    guests: those attached now, by TENANT/NAME
    """

    def __init__(self, plan: LabPlan, overlay: Overlay) -> None:
        self.plan = plan
        self.overlay = copy.deepcopy(overlay)
        self.guests = {guest.id: guest for guest in plan.guests}

    # What there is

    def host(self, name: str) -> HostPlan:
        """The host with that name."""
        found = host_of(self.plan, name)
        assert found is not None, name
        return found

    def vtep(self, host: str) -> str:
        """The address of a host's VTEP."""
        return str(self.host(host).address)

    def mac(self, guest: str) -> str:
        """A guest's MAC."""
        return self.guests[guest].mac

    def ip(self, guest: str, version: int = 4) -> str:
        """A guest's address."""
        return next(str(a.ip) for a in self.guests[guest].addresses if a.version == version)

    def at(self, guest: str, version: int = 4) -> tuple[str, str]:
        """A guest's MAC and address."""
        return self.mac(guest), self.ip(guest, version)

    def peers(self, guest: str) -> dict[str, int]:
        """The other guests of a guest's tenant, each once: who hears its broadcasts."""
        tenant = self.guests[guest].tenant
        return {g.id: 1 for g in self.guests.values() if g.tenant == tenant and g.id != guest}

    # Hearing it

    def reach(self, *guests: str) -> Matrix:
        """Who of these guests (default: of all) reaches whom, as `ovs-lwt lab ping` has it."""
        asked = tuple(self.guests[guest] for guest in guests or self.guests)
        return probe.measure(replace(self.plan, guests=asked), sample=0)

    def followers(self, sender: str, mark: bytes) -> Sequence[bytes]:
        """Frames of a guest that all of its tenant are sure to hear, with this token."""
        return [ethernet(self.mac(sender), BROADCAST, mark)]

    @contextlib.contextmanager
    def listening(self) -> Iterator[Wires]:
        """Hear the cables of every guest that is attached now, and of every host."""
        with ExitStack() as stack:
            guests: dict[str, Wire] = {}
            uplinks: dict[str, Wire] = {}
            stack.callback(lambda: _close([*guests.values(), *uplinks.values()]))
            for guest in self.guests.values():
                guests[guest.id] = Wire(guest.namespace, GUEST_INTERFACE)
            for host in self.plan.own_hosts:
                uplinks[host.name] = Wire(self.plan.underlay, host.uplink)
            yield Wires(self, guests, uplinks)

    def warm_up(self) -> None:
        """Let every host find the others' MACs on the underlay: it drops what comes before."""
        with self.listening() as wires:
            for guest in self.guests:
                wires.settle(guest)

    @contextlib.contextmanager
    def foreign(self, address: Address) -> Iterator[ForeignVtep]:
        """Plug somebody else's machine, with this address, into the underlay."""
        network = next(h.network for h in self.plan.hosts if h.address.version == address.version)
        number = next(_NUMBERS)
        name, uplink = f"{self.plan.name}-foreign{number}", f"foreign{number}"
        namespaces.create(name)
        try:
            namespaces.plug(
                self.plan.underlay, UNDERLAY_BRIDGE, uplink, name, GUEST_INTERFACE, self.plan.mtu
            )
            namespaces.give_address(name, GUEST_INTERFACE, address, network)
            with namespaces.links(name) as netlink:
                index = namespaces.index_of(netlink, GUEST_INTERFACE)
                for host in self.plan.own_hosts:
                    netlink.neigh("replace", dst=str(host.address), lladdr=host.mac, ifindex=index)
            with contextlib.closing(ForeignVtep(name, str(address))) as vtep:
                yield vtep
        finally:
            namespaces.remove(name)


def _close(wires: Sequence[Wire]) -> None:
    # At once: for each, the kernel waits until nobody looks at it any more.
    with ThreadPoolExecutor(max(len(wires), 1)) as pool:
        list(pool.map(Wire.close, wires))
