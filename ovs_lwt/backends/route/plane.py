"""The route plane: the kernel's own routing carries the tenants, one table for each.

What comes from a guest bears its tenant's mark, what comes out of a tunnel gets it; the mark leads
to the table, and the table's routes say into which tunnel.
"""

from __future__ import annotations

from collections.abc import Sequence
from socket import AF_INET, AF_INET6
from typing import Final, Literal

import numpy as np

from ovs_lwt.backends.netlink import carried, dumps, vteps
from ovs_lwt.backends.netlink.machine import Machine, ThisMachine
from ovs_lwt.backends.netlink.program import Rows
from ovs_lwt.backends.netlink.setup import TUNNEL, Link, Member, Setup
from ovs_lwt.backends.netlink.templates import Devices
from ovs_lwt.backends.netlink.transport import Kernel
from ovs_lwt.backends.netlink.wire import Listed
from ovs_lwt.backends.route import labels, tree
from ovs_lwt.backends.route.plan import Plan, carries_ipv6
from ovs_lwt.backends.route.rows import rows
from ovs_lwt.mistakes import Refused
from ovs_lwt.veth.plan import tunnel_mtu
from ovs_lwt.view import View

_RESERVED_TABLES: Final = range(252, 256)
"""252 to 255: `default`, `main`, `local`, and one that the kernel keeps."""


class RoutePlane:
    """Forwarding by routes (`Forwarding` of backends/netlink/setup.py).

    machine: asked by `check` and `setup` what the kernel can do, and where the underlay is
    """

    plane: Literal["bridge", "route"] = "route"

    def __init__(self, machine: Machine | None = None) -> None:
        self._machine = machine or ThisMachine()

    def check(self, view: View) -> None:
        """Raise Refused if routes cannot carry the view here; nothing has been touched yet."""
        carried.check(view, "route")
        topology = view.topology
        self._machine.forget()
        here = np.flatnonzero(view.here)
        names, mark = topology.tenants.name, topology.tenants.mark[here]
        for place in np.flatnonzero(np.isin(mark, _RESERVED_TABLES)).tolist():
            raise Refused(
                f"tenant {names[here[place]]} has mark {mark[place]}, which would be the number of"
                " its routing table, and 252 to 255 are the kernel's own: give it another mark"
            )
        mac = vteps.macs(topology.vteps)
        for peer in view.peers[mac[view.peers] == mac[view.host]].tolist():
            raise Refused(
                f"{topology.vteps.name[peer]} and {topology.vteps.name[view.host]} would have the"
                f" same MAC on {TUNNEL}, which follows from a VTEP's address: give one of them"
                " another address"
            )
        if carries_ipv6(view) and not self._machine.ipv6:
            raise Refused(
                f"{topology.vteps.name[view.host]} has IPv6 to forward, and its kernel has none:"
                " boot it without ipv6.disable=1 (modprobe ipv6)"
            )
        tree.tree(mark, mark)
        labels.check(view, self._machine)

    def setup(self, view: View, ports: Sequence[str]) -> Setup:
        """What the view stands on; ports: the names of the guests' ports, in the view's order."""
        vrfs = labels.links(view)
        underlay = sorted(set(self._underlay(view).values()))
        names = (TUNNEL, *ports, *(link.name for link in vrfs), *underlay)
        return Setup(
            devices=tuple(dict.fromkeys(names)),
            links=(self._tunnel(view), *vrfs),
            sysctls=self._sysctls(view, ports) | (labels.sysctls(underlay) if len(vrfs) else {}),
        )

    def aside(self, port: str) -> Member | None:
        """Nowhere: a port is in no device of ours."""
        return None

    def rows(self, view: View, setup: Setup) -> Sequence[Rows]:
        """All entries."""
        underlay = np.zeros(len(view.topology.vteps), np.uint32)
        towards = self._underlay(view)
        underlay[list(towards)] = setup.numbers(list(towards.values()))
        vrfs = setup.numbers([link.name for link in labels.links(view)])
        machine = self._machine
        return rows(
            Plan(
                view,
                marks_tunnels=machine.marks_tunnels,
                ipv6=machine.ipv6,
                six=carries_ipv6(view),
                underlay=underlay,
                vrfs=vrfs,
            )
        )

    def read(self, kernel: Kernel, devices: Devices) -> list[Listed]:
        """What the kernel holds where ours belong."""
        tunnel = int(devices.index[0])
        families = (AF_INET, AF_INET6) if self._machine.ipv6 else (AF_INET,)
        found = dumps.vnis(kernel, tunnel)
        if self._machine.marks_tunnels:
            found += dumps.filters(kernel, tunnel)
        if self._machine.labels:
            found += dumps.labels(kernel)
        for family in families:
            found += dumps.neighbours(kernel, family)
            found += dumps.routes(kernel, family)
            found += dumps.rules(kernel, family)
            found += dumps.local_rules(kernel, family)
        return found

    def _underlay(self, view: View) -> dict[int, str]:
        """The device towards each VTEP that labels are sent to."""
        topology = view.topology
        found = {
            peer: self._machine.towards(topology.vteps.address(peer))
            for peer in labels.peers(view).tolist()
        }
        return {peer: device for peer, device in found.items() if device is not None}

    def _tunnel(self, view: View) -> Link:
        topology = view.topology
        address, port = topology.vteps.address(view.host), topology.underlay.udp_port
        family = int(topology.vteps.family[view.host])
        return Link(
            TUNNEL,
            "vxlan",
            {
                "vxlan_port": port,
                "vxlan_local" if family == 4 else "vxlan_local6": address,
                "vxlan_learning": 0,
                "vxlan_collect_metadata": 1,
                "vxlan_vnifilter": 1,
            },
            f"dstport {port} local {address} nolearning external vnifilter",
            mtu=tunnel_mtu(topology.underlay.mtu, family),
            mac=int(vteps.macs(topology.vteps)[view.host]).to_bytes(6, "big").hex(":"),
        )

    def _sysctls(self, view: View, ports: Sequence[str]) -> dict[str, str]:
        topology = view.topology
        free = topology.endpoints.spoofing[view.ports.endpoint].tolist()
        dual = np.isin(view.ports.endpoint, topology.addresses6.endpoint).tolist()
        found = {
            # What the kernel says about a tenant's packet (too big, unreachable) is the tenant's.
            "net/ipv4/fwmark_reflect": "1",
            # The stricter of this and a device's own is what counts, and 2 is no stricter than 1:
            # without 0 here, the guests' ports could not be strict. Devices keep their own.
            "net/ipv4/conf/all/rp_filter": "0",
            **_ipv4(TUNNEL, strict=False),
            # A tenant's address may be one of the host's: only ports are asked where a source is.
            f"net/ipv4/conf/{TUNNEL}/accept_local": "1",
        }
        for port, anything in zip(ports, free, strict=True):
            found |= _ipv4(port, strict=not anything)
        if self._machine.ipv6:
            found |= self._sysctls6(view, dict(zip(ports, dual, strict=True)))
        return found

    @staticmethod
    def _sysctls6(view: View, ports: dict[str, bool]) -> dict[str, str]:
        """ports: whose guest has an IPv6 address. A device without has no IPv6 at all: nobody can
        reach the host's own addresses through it.
        """
        six = carries_ipv6(view)
        found = {
            f"net/ipv6/conf/{port}/disable_ipv6": str(int(not dual)) for port, dual in ports.items()
        }
        found[f"net/ipv6/conf/{TUNNEL}/disable_ipv6"] = str(int(not six))
        if six:
            found |= {"net/ipv6/conf/all/forwarding": "1", "net/ipv6/fwmark_reflect": "1"}
        return found


def _ipv4(device: str, *, strict: bool) -> dict[str, str]:
    place = f"net/ipv4/conf/{device}"
    return {
        f"{place}/forwarding": "1",
        f"{place}/rp_filter": str(int(strict)),
        f"{place}/src_valid_mark": "1",
    }
