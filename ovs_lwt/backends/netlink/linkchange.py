"""What is said to the kernel about one network device: a message, and the same in `ip`'s words."""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from pyroute2.netlink import NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, rtnl
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from ovs_lwt.backends.netlink import missing
from ovs_lwt.backends.netlink.setup import Link, Member
from ovs_lwt.backends.netlink.transaction import Step

missing.register()

OURS: Final = "ovs-lwt"
"""The alias of a device that is ours; with the endpoint after it, it is a guest's port's claim."""

FLAGS: Final = {
    "flood": "IFLA_BRPORT_UNICAST_FLOOD",
    "hairpin": "IFLA_BRPORT_MODE",
    "root_block": "IFLA_BRPORT_PROTECT",
    "fastleave": "IFLA_BRPORT_FAST_LEAVE",
}
"""Flags of a bridge's port whose names in `ip` are not the kernel's; see `flag_name`."""

GONE: Final = frozenset({errno.ENODEV})
"""What the kernel answers where a device has gone meanwhile: a guest's may at any time."""

_IFF_UP: Final = 1
_NEW: Final = NLM_F_CREATE | NLM_F_EXCL


@dataclass(frozen=True, slots=True)
class Change:
    """One message. words: what follows `ip`; up: what a device is set to, None if it is left as it
    is; done: answers that mean it is so already.
    """

    words: str
    kind: int = rtnl.RTM_NEWLINK
    flags: int = 0
    attributes: Sequence[tuple[str, Any]] = ()
    up: bool | None = None
    done: frozenset[int] = field(default_factory=frozenset)

    def step(self) -> Step:
        """As a transaction takes it."""
        message = ifinfmsg()
        message["header"]["type"] = self.kind
        message["header"]["flags"] = NLM_F_REQUEST | self.flags
        message["header"]["sequence_number"] = message["header"]["pid"] = 0
        if self.up is not None:
            message["change"] = _IFF_UP
            message["flags"] = _IFF_UP if self.up else 0
        message["attrs"] = list(self.attributes)
        message.encode()
        rows = np.frombuffer(bytearray(message.data), np.uint8).reshape(1, -1)
        return Step(rows, self.done, lambda _: self.words)


def attribute(setting: str) -> str:
    """The kernel's name of a link's setting: vxlan_port -> IFLA_VXLAN_PORT."""
    return f"IFLA_{setting.upper()}"


def flag_name(flag: str) -> str:
    """The kernel's name of a bridge port's flag: learning -> IFLA_BRPORT_LEARNING."""
    return FLAGS.get(flag, f"IFLA_BRPORT_{flag.upper()}")


def settings(link: Link) -> dict[str, object]:
    """What a link is made with, by the kernel's names."""
    return {attribute(name): value for name, value in link.settings.items()}


def add(link: Link, over: int = 0) -> Change:
    """Make a device. over: the index of the one that it is over"""
    words = ["link add"]
    attributes: list[tuple[str, Any]] = [("IFLA_IFNAME", link.name)]
    if link.over is not None:
        words += ["link", link.over]
        attributes.append(("IFLA_LINK", over))
    words += ["name", link.name]
    if link.mac is not None:
        words += ["address", link.mac]
        attributes.append(("IFLA_ADDRESS", link.mac))
    if link.mtu is not None:
        words += ["mtu", str(link.mtu)]
        attributes.append(("IFLA_MTU", link.mtu))
    words += ["type", link.kind, *filter(None, [link.words])]
    attributes.append(_info(link))
    return Change(" ".join(words), flags=_NEW, attributes=attributes)


def retune(link: Link) -> Change:
    """Set a device as it was to be made."""
    words = f"link set dev {link.name} type {link.kind} {link.words}"
    info = _info(link)
    return Change(words, attributes=[("IFLA_IFNAME", link.name), info])


def claim(name: str) -> Change:
    """Say that a device is ours."""
    return _set(name, f"alias {OURS}", ("IFLA_IFALIAS", OURS))


def address(name: str, mac: str) -> Change:
    """Give a device a MAC."""
    return _set(name, f"address {mac}", ("IFLA_ADDRESS", mac))


def mtu(name: str, octets: int) -> Change:
    """Give a device an MTU."""
    return _set(name, f"mtu {octets}", ("IFLA_MTU", octets))


def up(name: str, done: frozenset[int] = frozenset()) -> Change:
    """Set a device up."""
    words = f"link set dev {name} up"
    return Change(words, attributes=[("IFLA_IFNAME", name)], up=True, done=done)


def down(name: str) -> Change:
    """Set a device down."""
    words = f"link set dev {name} down"
    return Change(words, attributes=[("IFLA_IFNAME", name)], up=False, done=GONE)


def join(member: Member, bridge: int = 0) -> Change:
    """Put a device into a bridge. bridge: its index"""
    words = f"master {member.bridge}"
    return _set(member.device, words, ("IFLA_MASTER", bridge), GONE)


def leave(name: str) -> Change:
    """Take a device out of the bridge that it is in."""
    return _set(name, "nomaster", ("IFLA_MASTER", 0), GONE)


def mark_port(name: str, flags: Mapping[str, bool]) -> Change:
    """Set flags of a device's place in a bridge."""
    words = " ".join(f"{flag} {'on' if on else 'off'}" for flag, on in flags.items())
    data = [(flag_name(flag), int(on)) for flag, on in flags.items()]
    info = [("IFLA_INFO_SLAVE_KIND", "bridge"), ("IFLA_INFO_SLAVE_DATA", {"attrs": data})]
    return _set(name, f"type bridge_slave {words}", ("IFLA_LINKINFO", {"attrs": info}), GONE)


def delete(name: str) -> Change:
    """Delete a device."""
    attributes = [("IFLA_IFNAME", name)]
    return Change(f"link del {name}", rtnl.RTM_DELLINK, attributes=attributes, done=GONE)


def _set(
    name: str, words: str, attribute: tuple[str, Any], done: frozenset[int] = frozenset()
) -> Change:
    attributes = [("IFLA_IFNAME", name), attribute]
    return Change(f"link set dev {name} {words}", attributes=attributes, done=done)


def _info(link: Link) -> tuple[str, Any]:
    info: list[tuple[str, Any]] = [("IFLA_INFO_KIND", link.kind)]
    if link.settings:
        info.append(("IFLA_INFO_DATA", {"attrs": list(settings(link).items())}))
    return "IFLA_LINKINFO", {"attrs": info}
