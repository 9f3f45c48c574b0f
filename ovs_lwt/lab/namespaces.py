"""Namespaces, bridges, veths and addresses of a lab, through pyroute2."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import socket
import struct
from collections.abc import Iterator
from contextlib import closing, contextmanager
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute, netns
from pyroute2.ethtool.ioctl import IoctlEthtool

from ovs_lwt.lab.plan import Address, Network
from ovs_lwt.mistakes import Refused
from ovs_lwt.netns import NAMED, at_home, entered

__all__ = [
    "create",
    "entered",
    "exists",
    "give_address",
    "has_up",
    "index_of",
    "links",
    "make_underlay",
    "plug",
    "remove",
    "set_sysctl",
    "taken",
]

_LIBC = ctypes.CDLL(None, use_errno=True)
_TX_CHECKSUMS = ("tx-checksum-ip-generic", "tx-checksum-sctp")
_CLONE_NEWNET = 0x40000000  # <linux/sched.h>
_SIOCGIFFLAGS = 0x8913  # <linux/sockios.h>
_IFF_UP = 0x1


def create(name: str) -> None:
    """Make the namespace `name` with its loopback up; raise `Refused` if it exists already."""
    try:
        with at_home():
            if _LIBC.unshare(_CLONE_NEWNET) < 0:
                raise OSError(ctypes.get_errno(), "unshare")
            # Not `netns.create`: it forks, 10 ms each time and not for use among threads. A "pid"
            # is only ever part of a path in /proc there.
            netns.attach(name, "thread-self")
    except FileExistsError:
        raise taken(name) from None
    except PermissionError:
        raise Refused(
            "this machine lets nobody make a network namespace (in a container: it needs the"
            " capabilities SYS_ADMIN and NET_ADMIN)"
        ) from None
    with links(name) as netlink:
        netlink.link("set", index=1, state="up")


def taken(name: str) -> Refused:
    """Return the refusal of a namespace that is somebody else's."""
    return Refused(
        f"a network namespace '{name}' exists that no lab has on record: remove it with"
        f" 'ip netns del {name}', or give the lab another --name"
    )


def remove(name: str) -> bool:
    """Remove the namespace `name` and all links in it; say whether there was one."""
    try:
        netns.remove(name)
    except OSError as error:
        if error.errno == errno.ENOENT:
            return False
        # A file that never became a mount point: `create` was cut short.
        if error.errno != errno.EINVAL:
            raise
        (NAMED / name).unlink(missing_ok=True)
    return True


def exists(name: str) -> bool:
    """Say whether there is a network namespace `name`."""
    return (NAMED / name).exists()


@contextmanager
def links(namespace: str) -> Iterator[Any]:
    """Yield a netlink connection in `namespace`."""
    with entered(namespace):
        netlink = IPRoute()
    with netlink:
        yield netlink


def make_underlay(namespace: str, bridge: str, mtu: int) -> None:
    """Make the underlay: a plain bridge that knows nothing of tenants."""
    with links(namespace) as netlink:
        # Multicast snooping would hold back IPv6 neighbour solicitations until it has learned.
        netlink.link("add", ifname=bridge, kind="bridge", br_mcast_snooping=0, mtu=mtu)
        index = index_of(netlink, bridge)
        set_sysctl(namespace, f"net/ipv6/conf/{bridge}/accept_dad", "0")
        netlink.link("set", index=index, state="up")


def plug(
    underlay: str,
    bridge: str,
    uplink: str,
    namespace: str,
    interface: str,
    mtu: int,
    *,
    mac: str | None = None,
    checksummed: bool = True,
) -> None:
    """Lay a cable from the underlay's bridge (end `uplink`) to `interface` in `namespace`.

    `mac` is that of `interface`. `checksummed` if whoever reads there takes frames as they are.
    """
    with NAMED.joinpath(namespace).open() as other, links(underlay) as netlink:
        netlink.link(
            "add",
            ifname=uplink,
            kind="veth",
            mtu=mtu,
            peer={
                "ifname": interface,
                "net_ns_fd": other.fileno(),
                "mtu": mtu,
                **({"address": mac} if mac else {}),
            },
        )
        if checksummed:
            _checksum_in_software(underlay, uplink)
        netlink.link(
            "set", index=index_of(netlink, uplink), master=index_of(netlink, bridge), state="up"
        )
    with links(namespace) as netlink:
        netlink.link("set", index=index_of(netlink, interface), state="up")


def _checksum_in_software(namespace: str, interface: str) -> None:
    """Fill in checksums before frames leave by `interface`.

    The userspace datapath at the other end reads frames as they are: with checksums left to a
    network card that is not there, TCP with a controller on the underlay stalls, and so does what
    a foreign VTEP of the kernel sends.
    """
    with entered(namespace), closing(IoctlEthtool(interface)) as ethtool:
        features = ethtool.get_features()
        for name in _TX_CHECKSUMS:
            features[name] = False
        ethtool.set_features(features)


def give_address(namespace: str, interface: str, address: Address, network: Network) -> None:
    """Give `interface` the address of a VTEP, with all of `network` on-link, and set it up."""
    # Duplicate detection would keep an IPv6 address unusable for a second or more.
    set_sysctl(namespace, f"net/ipv6/conf/{interface}/accept_dad", "0")
    with links(namespace) as netlink:
        index = index_of(netlink, interface)
        netlink.link("set", index=index, state="up")
        netlink.addr("replace", index=index, address=str(address), prefixlen=network.prefixlen)
        if isinstance(address, IPv4Address):
            # The kernel makes no such route of itself where the network begins with 0.
            netlink.route("replace", dst=str(network), oif=index, scope=253, prefsrc=str(address))


def has_up(namespace: str, interface: str) -> bool:
    """Say whether `namespace` is there, and `interface` in it, and up."""
    try:
        with entered(namespace):
            asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with asking:
            answer = fcntl.ioctl(
                asking, _SIOCGIFFLAGS, struct.pack("16sH14x", interface.encode(), 0)
            )
    except (Refused, OSError):
        return False
    return bool(struct.unpack("16sH14x", answer)[1] & _IFF_UP)


def index_of(netlink: Any, interface: str) -> int:
    """Return the index of a link; raise `Refused` if there is no such link."""
    found = netlink.link_lookup(ifname=interface)
    if not found:
        raise Refused(f"there is no interface '{interface}'")
    return int(found[0])


def set_sysctl(namespace: str, key: str, value: str) -> None:
    """Write a sysctl of `namespace`; one that this kernel lacks is left."""
    # /proc/sys/net shows the namespace of the thread that looks.
    with entered(namespace):
        try:
            Path(f"/proc/sys/{key}").write_text(value)
        except FileNotFoundError:
            return
