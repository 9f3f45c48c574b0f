"""A plane of a few lines, which any kernel can carry: one bridge, one VXLAN device, no VLANs.

It stands where BridgePlane and RoutePlane do, for tests of what all planes of the kernel share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from socket import AF_INET
from typing import Literal

import numpy as np

from ovs_lwt.backends.netlink import dumps
from ovs_lwt.backends.netlink.kinds import RULE
from ovs_lwt.backends.netlink.program import Rows
from ovs_lwt.backends.netlink.setup import TUNNEL, Link, Member, Setup
from ovs_lwt.backends.netlink.templates import Devices
from ovs_lwt.backends.netlink.transport import Kernel
from ovs_lwt.backends.netlink.wire import Listed
from ovs_lwt.mistakes import Refused
from ovs_lwt.view import View

BRIDGE = "br-lwt"


@dataclass
class SmallPlane:
    """VNI filter, an FDB entry for each remote endpoint, and a rule for each guest's port.

    extra: more links; flags: of vx-lwt in the bridge; refuse: what `check` says
    """

    plane: Literal["bridge", "route"] = "bridge"
    extra: tuple[Link, ...] = ()
    flags: dict[str, bool] = field(default_factory=lambda: {"learning": False})
    refuse: str | None = None
    reads: int = 0

    def check(self, view: View) -> None:
        if self.refuse:
            raise Refused(self.refuse)

    def setup(self, view: View, ports: Sequence[str]) -> Setup:
        topology = view.topology
        address, port = topology.vteps.address(view.host), topology.underlay.udp_port
        vxlan = {
            "vxlan_port": port,
            "vxlan_local": address,
            "vxlan_learning": 0,
            "vxlan_collect_metadata": 1,
            "vxlan_vnifilter": 1,
        }
        words = f"dstport {port} local {address} nolearning external vnifilter"
        return Setup(
            devices=(TUNNEL, *ports, BRIDGE),
            links=(
                Link(BRIDGE, "bridge", {"br_mcast_snooping": 0}, "mcast_snooping 0"),
                Link(TUNNEL, "vxlan", vxlan, words, mtu=1400, mac="02:4c:c0:00:02:0b"),
                *self.extra,
            ),
            members=(
                Member(TUNNEL, BRIDGE, self.flags),
                *(Member(port, BRIDGE, {"learning": False}) for port in ports),
            ),
            sysctls={f"net/ipv4/conf/{port}/rp_filter": "1" for port in ports},
        )

    def aside(self, port: str) -> Member | None:
        return Member(port, BRIDGE, {"learning": False})

    def rows(self, view: View, setup: Setup) -> Sequence[Rows]:
        tenants, endpoints = view.topology.tenants, view.topology.endpoints
        vni = tenants.vni[view.here]
        remote = view.here[endpoints.tenant] & (endpoints.vtep != view.host)
        tunnel = np.zeros(1, np.uint32)
        return [
            Rows("vni.member", len(vni), {"vni": vni, "dev": tunnel}),
            Rows(
                "fdb.remote_endpoint",
                int(remote.sum()),
                {
                    "vni": tenants.vni[endpoints.tenant[remote]],
                    "mac": endpoints.mac[remote],
                    "vtep": view.topology.vteps.ipv4[endpoints.vtep[remote]],
                    "dev": tunnel,
                },
            ),
            Rows(
                "rule.port_mark",
                len(view.ports),
                {
                    "iif": view.ports.port,
                    "mark": tenants.mark[endpoints.tenant[view.ports.endpoint]],
                    "mask": np.full(1, 0xFFFFFFFF, np.uint32),
                    "table": tenants.mark[endpoints.tenant[view.ports.endpoint]],
                    "preference": np.full(1, 100, np.uint32),
                },
            ),
        ]

    def read(self, kernel: Kernel, devices: Devices) -> list[Listed]:
        self.reads += 1
        tunnel = int(devices.index[0])
        return [
            *dumps.vnis(kernel, tunnel),
            *dumps.fdb(kernel, tunnel),
            *(listed for listed in dumps.rules(kernel, AF_INET) if listed.kind is RULE),
        ]
