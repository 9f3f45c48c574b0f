"""The guest's end of a veth: an ordinary interface with the overlay's MAC, MTU and addresses."""

from __future__ import annotations

import errno
from contextlib import closing
from ipaddress import ip_interface
from typing import Any, Final

from pyroute2.ethtool.ioctl import IoctlEthtool

from ovs_lwt.netns import entered
from ovs_lwt.veth.netlink import ignoring, link_named
from ovs_lwt.veth.plan import AttachPlan
from ovs_lwt.veth.route_guest import set_gateways

_IFF_UP: Final = 0x1
_IFA_F_DADFAILED: Final = 0x08
_IFA_F_PERMANENT: Final = 0x80
# What a veth has of what `ethtool -K eth0 tx off` turns off.
_TX_CHECKSUMS: Final = ("tx-checksum-ip-generic", "tx-checksum-sctp")


def set_guest_end(guest: Any, plan: AttachPlan, *, checksums: bool) -> None:
    """Make the guest's end what the plan says. guest: an `IPRoute` in its namespace

    checksums: whether a packet may leave with its checksum still to be computed, as it may where
    the kernel forwards it
    """
    link = link_named(guest, plan.interface)
    if link.get("mtu") != plan.mtu:
        guest.link("set", index=link["index"], mtu=plan.mtu)
    if link.get("address") != plan.mac:
        guest.link("set", index=link["index"], address=plan.mac)
    if not checksums:
        _checksum_in_software(plan.netns, plan.interface)
    if not link["flags"] & _IFF_UP:
        guest.link("set", index=link["index"], state="up")
    _set_addresses(guest, link["index"], plan.addresses)
    set_gateways(guest, link["index"], plan)


def _set_addresses(guest: Any, index: int, addresses: tuple[str, ...]) -> None:
    """Make the interface's static global addresses exactly `addresses`."""
    wanted = {str(ip_interface(address)) for address in addresses}
    for found in list(guest.get_addr(index=index)):
        flags = found["flags"]
        own = found.get("local") or found.get("address")
        text = str(ip_interface(f"{own}/{found['prefixlen']}"))
        static = found["scope"] == 0 and flags & _IFA_F_PERMANENT
        # An address that lost duplicate address detection once stays unusable for ever.
        if static and (text not in wanted or flags & _IFA_F_DADFAILED):
            ignoring(errno.EADDRNOTAVAIL, guest.addr, "del", index=index, **_address(text))
    for text in sorted(wanted):
        # Anew for each: removing an IPv4 address takes its secondaries with it.
        ignoring(errno.EEXIST, guest.addr, "add", index=index, **_address(text))


def _address(text: str) -> dict[str, Any]:
    interface = ip_interface(text)
    return {"address": str(interface.ip), "prefixlen": interface.network.prefixlen}


def _checksum_in_software(netns: str, interface: str) -> None:
    """Let the guest compute its own checksums: the userspace datapath would send them blank."""
    with entered(netns), closing(IoctlEthtool(interface)) as ethtool:
        features = ethtool.get_features()
        enabled = [name for name in _TX_CHECKSUMS if features[name]]
        for name in enabled:
            features[name] = False
        if enabled:
            ethtool.set_features(features)
