"""Attach and detach: the pair, its two ends, and the port of the bridge."""

from __future__ import annotations

import errno
import socket
from collections.abc import Mapping
from contextlib import ExitStack, closing, suppress
from ipaddress import ip_interface
from typing import Any, Final, Protocol

from pyroute2 import netns
from pyroute2.ethtool.ioctl import IoctlEthtool

from ovs_lwt.claims import ENDPOINT_KEY, MARKING_KEY
from ovs_lwt.mistakes import Refused
from ovs_lwt.names import endpoint_id, port_name
from ovs_lwt.veth.mark import clear_mark, set_mark
from ovs_lwt.veth.netlink import (
    delete_link,
    ignoring,
    inside,
    link_named,
    namespace_path,
    spoken_by_kernel,
)
from ovs_lwt.veth.plan import AttachPlan

_IFF_UP: Final = 0x1
_IFF_NOARP: Final = 0x80
_IFA_F_DADFAILED: Final = 0x08
_IFA_F_PERMANENT: Final = 0x80
_ADDR_GEN_MODE_NONE: Final = 1
# What a veth has of what `ethtool -K eth0 tx off` turns off.
_TX_CHECKSUMS: Final = ("tx-checksum-ip-generic", "tx-checksum-sctp")


class Switch(Protocol):
    """What attaching needs of the local switch; `ovs_lwt.vswitch.LocalSwitch` is one."""

    bridge: str

    def datapath_type(self) -> str:
        """Return "system" or "netdev"."""

    def claim_of(self, name: str) -> str | None:
        """Return the endpoint that port `name` claims, or None."""

    def add_port(self, name: str, external_ids: Mapping[str, str]) -> None:
        """Add the port, or mend it."""

    def del_port(self, name: str) -> bool:
        """Remove the port if it is there."""


def attach(plan: AttachPlan, switch: Switch, *, host_netns: str | None = None) -> str:
    """Give the guest its interface and the bridge its port; return the port's name.

    `host_netns` is the namespace (name or path) that ovs-vswitchd runs in, where it is not ours.
    Raises `Refused` if a namespace is missing, a name is in use by something else, or the kernel
    or ovs-vswitchd will not; what this call had created is then removed again.
    """
    name = port_name(plan.tenant, plan.endpoint)
    userspace = switch.datapath_type() == "netdev"
    marking = plan.marking if plan.marking != "auto" else ("flow" if userspace else "tc")
    if marking == "tc" and userspace:
        # A mark set by the kernel does not reach packets that leave it by a packet socket.
        raise Refused(
            f"bridge '{switch.bridge}' has the userspace datapath, which does not see marks set"
            " by tc: attach with marking 'flow'"
        )
    claimed = _claimed(switch, name, plan.identity)
    path = namespace_path(plan.netns)
    with (
        spoken_by_kernel(f"attach {plan.identity} to {plan.netns}"),
        inside(host_netns and namespace_path(host_netns)) as host,
        ExitStack() as undo,
    ):
        with inside(path) as guest:
            link = _find_pair(host, guest, plan, name)
            if link is None:
                # A port left behind by a guest that was deleted hangs on the device that is no
                # more: the new one of that name would never be read.
                switch.del_port(name)
                claimed = False
                link = _create_pair(host, plan, name, path, undo)
            _set_host_end(host, link, plan)
            _set_guest_end(guest, path, plan, checksums=not userspace)
        if marking == "tc":
            set_mark(host, link["index"], plan.mark)
        elif not userspace:
            clear_mark(host, link["index"])
        if not claimed:
            undo.callback(_forget_port, switch, name)
        switch.add_port(name, {ENDPOINT_KEY: plan.identity, MARKING_KEY: marking})
        undo.pop_all()
    return name


def detach(tenant: str, endpoint: str, switch: Switch, *, host_netns: str | None = None) -> bool:
    """Remove the endpoint's port and veth; return False if there was neither.

    `host_netns` as for `attach`. Raises `Refused`, with nothing removed, if what has the port's
    name is not ours.
    """
    name, identity = port_name(tenant, endpoint), endpoint_id(tenant, endpoint)
    with (
        spoken_by_kernel(f"detach {identity}"),
        inside(host_netns and namespace_path(host_netns)) as host,
    ):
        link = link_named(host, name)
        claimed = _claimed(switch, name, identity)
        if link is not None and not _is_ours(link, identity):
            raise Refused(_in_use(name, link))
        removed = claimed and switch.del_port(name)
        return delete_link(host, name) or removed


def _claimed(switch: Switch, name: str, identity: str) -> bool:
    """Say whether port `name` is this endpoint's already; refuse if it is another's."""
    claim = switch.claim_of(name)
    if claim not in (None, identity):
        raise Refused(_in_use(name, None, claim))
    return claim == identity


def _forget_port(switch: Switch, name: str) -> None:
    # What made us go back says more than what may go wrong on the way.
    with suppress(Refused):
        switch.del_port(name)


# The pair


def _alias(identity: str) -> str:
    """What `ip link` shows on the host's end: whose it is, even if OVSDB never heard of it."""
    return f"ovs-lwt {identity}"


def _is_ours(link: Any, identity: str) -> bool:
    kind = link.get(("linkinfo", "kind"))
    return bool(kind == "veth" and link.get("ifalias") == _alias(identity))


def _in_use(name: str, link: Any, claim: str | None = None) -> str:
    if claim is not None:
        return (
            f"port '{name}' claims endpoint '{claim}': detach that one first, or remove the port"
            f" (ovs-vsctl del-port {name})"
        )
    whose = link.get("ifalias") or f"a {link.get(('linkinfo', 'kind')) or 'physical'} device"
    return f"'{name}' is in use by {whose}: remove it first (ip link del {name})"


def _find_pair(host: Any, guest: Any, plan: AttachPlan, name: str) -> Any | None:
    """Return the host's end if the whole pair is there, None if nothing is; else refuse."""
    mine, inner = link_named(host, name), link_named(guest, plan.interface)
    if mine is not None and not _is_ours(mine, plan.identity):
        raise Refused(_in_use(name, mine))
    if mine is None:
        if inner is not None:
            raise Refused(
                f"network namespace {plan.netns} already has an interface '{plan.interface}':"
                " choose another name with --interface"
            )
        return None
    if (
        inner is None
        or inner.get("link") != mine["index"]
        or mine.get("link") != inner["index"]
        or inner.get(("linkinfo", "kind")) != "veth"
    ):
        raise Refused(
            f"{plan.identity} is attached elsewhere, not to '{plan.interface}' of {plan.netns}:"
            f" detach it first (ovs-lwt detach {plan.identity})"
        )
    return mine


def _create_pair(host: Any, plan: AttachPlan, name: str, path: str, undo: ExitStack) -> Any:
    """Create both ends and return the host's; `undo` learns how to remove them."""
    # In one message: the guest's end never exists in the host's namespace.
    peer = {
        "ifname": plan.interface,
        "address": plan.mac,
        "mtu": plan.mtu,
        "net_ns_fd": path,
    }
    host.link("add", ifname=name, kind="veth", mtu=plan.mtu, peer=peer)
    undo.callback(delete_link, host, name)
    host.link("set", ifname=name, ifalias=_alias(plan.identity))
    return link_named(host, name)


def _set_host_end(host: Any, link: Any, plan: AttachPlan) -> None:
    index = link["index"]
    if link.get("mtu") != plan.mtu:
        host.link("set", index=index, mtu=plan.mtu)
    # The userspace datapath reads a copy of what this end receives; the host's own stack sees it
    # too. Without an address and without ARP it has nothing to say to the guest.
    host.link(
        "set",
        index=index,
        af_spec={
            "attrs": [("AF_INET6", {"attrs": [("IFLA_INET6_ADDR_GEN_MODE", _ADDR_GEN_MODE_NONE)]})]
        },
    )
    if link["flags"] & (_IFF_UP | _IFF_NOARP) != _IFF_UP | _IFF_NOARP:
        host.link("set", index=index, arp=False, state="up")


def _set_guest_end(guest: Any, path: str, plan: AttachPlan, *, checksums: bool) -> None:
    link = link_named(guest, plan.interface)
    if link.get("mtu") != plan.mtu:
        guest.link("set", index=link["index"], mtu=plan.mtu)
    if link.get("address") != plan.mac:
        guest.link("set", index=link["index"], address=plan.mac)
    if not checksums:
        _checksum_in_software(path, plan.interface)
    if not link["flags"] & _IFF_UP:
        guest.link("set", index=link["index"], state="up")
    _set_addresses(guest, link["index"], plan.addresses)


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


def _checksum_in_software(path: str, interface: str) -> None:
    """Let the guest compute its own checksums: the userspace datapath would send them blank."""
    with closing(IoctlEthtool(interface)) as ethtool:
        ethtool.sock.close()
        ethtool.sock = netns.create_socket(path, socket.AF_INET, socket.SOCK_DGRAM, flags=0)
        features = ethtool.get_features()
        enabled = [name for name in _TX_CHECKSUMS if features[name]]
        for name in enabled:
            features[name] = False
        if enabled:
            ethtool.set_features(features)
