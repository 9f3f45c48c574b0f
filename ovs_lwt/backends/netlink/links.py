"""Make what a plane stands on (devices, their places in bridges, sysctls) as it should be.

Looks before it acts: only what differs is touched, and doing it twice is fine. What is ours bears
the alias "ovs-lwt"; a device of another's is left as it is.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from ovs_lwt.backends.netlink import linkchange, portfilters, present
from ovs_lwt.backends.netlink.linkchange import OURS, Change
from ovs_lwt.backends.netlink.present import Present
from ovs_lwt.backends.netlink.setup import Link, Member, Setup
from ovs_lwt.backends.netlink.transaction import Transaction
from ovs_lwt.backends.netlink.transport import Failure, Kernel
from ovs_lwt.mistakes import NotNow, Refused
from ovs_lwt.netns import entered

KINDS: Final = ("vlan", "vrf", "vxlan", "dummy", "bridge")
"""The kinds of devices that are made here, in the order in which they are deleted."""

_MODULES: Final = {"vlan": "8021q", "net/mpls": "mpls_router"}
# What the kernel can set while a device is in use; all else is as it was made.
_IN_PLACE: Final = {"vxlan": frozenset({"IFLA_VXLAN_LEARNING"})}
_SINCE: Final = {
    "IFLA_VXLAN_VNIFILTER": "Linux 5.18",
    "IFLA_BR_VLAN_FILTERING": "CONFIG_BRIDGE_VLAN_FILTERING",
    "IFLA_BRPORT_VLAN_TUNNEL": "CONFIG_BRIDGE_VLAN_FILTERING",
    "IFLA_BRPORT_LOCKED": "Linux 5.18",
}
_SYSCTLS: Final = Path("/proc/sys")
_IPV6: Final = "net/ipv6"
_ADDRESSLESS: Final = _IPV6 + "/conf/{}/addr_gen_mode"
_NONE: Final = "1"  # IN6_ADDR_GEN_MODE_NONE

Devices = Mapping[str, Present]


@dataclass(slots=True, eq=False)
class Links:
    """The devices of one network namespace, as far as they are ours to care for.

    netns: where sysctls are set: a name or a path, None for the one that we are in
    log: what has been done since somebody last looked, in `ip`'s and `sysctl`'s words
    lost: something that had been right was made again since: the kernel may have dropped entries
    along with it
    """

    kernel: Kernel
    netns: str | None
    log: list[str] = field(default_factory=list)
    lost: bool = False
    _right: set[str] = field(default_factory=set)
    _joined: set[int] = field(default_factory=set)
    _aside: set[int] = field(default_factory=set)
    # Path -> (its device's index, value): what has been set, or found, and not changed by us since.
    _set: dict[str, tuple[int, str]] = field(default_factory=dict)

    def there(self) -> dict[str, Present]:
        """All devices, by name."""
        return present.devices(self.kernel)

    def forget(self) -> None:
        """Do not trust in what was set before: others may have changed it."""
        self._set.clear()

    def apply(self, setup: Setup, there: Devices) -> Devices:
        """Make it so, and return the devices that there are then.

        Raises Refused; devices made on the way are then gone again.
        """
        for link in setup.links:
            _refuse_others(link, there.get(link.name))
        missing = [link.name for link in setup.links if link.name not in there]
        readdressed = [link for link in setup.links if _has_another_mac(link, there)]
        try:
            there = self._make(setup.links, there)
            there = self._join(setup, there)
            self._sysctls(_sysctls(setup), there)
            turned = self._turn(setup.links, there)
        except Refused:
            self._send([linkchange.delete(name) for name in reversed(missing)])
            raise
        touched = [*missing, *(link.name for link in (*turned, *readdressed))]
        self.lost = self.lost or not self._right.isdisjoint(touched)
        self._right |= {link.name for link in setup.links}
        return self.there() if self.log else there

    def evict(self, setup: Setup, there: Devices) -> None:
        """Take ports that are not wanted any more out of their bridges, and our filters off them.

        To be done before what is installed is read: nobody asks such a port what it holds, and it
        would be in a VLAN that is about to be another tenant's.
        """
        for name in _leaving(setup, there, self._joined):
            self._unfilter(name, there)
            self._run(_left(there[name]), there)
        for member in setup.members:
            device = there.get(member.device)
            if member.device in setup.aside and device and device.index not in self._aside:
                # It stays behind the bridge, but in no VLAN: those it loses by leaving.
                self._unfilter(device.name, there)
                changes = [*_left(device), linkchange.join(member, there[member.bridge].index)]
                self._run(changes, there)
                if device.up:
                    self._run([linkchange.up(device.name, linkchange.GONE)], there)
                self._aside.add(device.index)
        self._aside &= {there[name].index for name in setup.aside if name in there}

    def _unfilter(self, name: str, there: Devices) -> None:
        steps = list(portfilters.removal(name, there[name].index))
        if failures := self.kernel.run(Transaction(steps)).failures:
            raise Refused(f"the kernel refuses 'tc {failures[0].what}': {failures[0]}")

    def prune(self, setup: Setup, there: Devices) -> None:
        """Take away devices and places in bridges that are ours, and are not wanted any more; set
        what was left for later.
        """
        for name in _leaving(setup, there, self._joined):
            self._run(_left(there[name]), there)
        self._run(_flags([replace(each, flags=each.later) for each in setup.members], there), there)
        wanted = {link.name for link in setup.links}
        for kind in KINDS:
            gone = [
                linkchange.delete(each.name)
                for each in there.values()
                if each.kind == kind and each.alias == OURS and each.name not in wanted
            ]
            self._run(gone, there)

    def _make(self, links: Sequence[Link], there: Devices) -> Devices:
        for link in links:
            what = _unchangeable(link, there.get(link.name))
            if what:
                self.log.append(f"{link.name} is made anew: {what} cannot be changed in place")
                self._run([linkchange.delete(link.name)], there)
                # What was on it is gone with it.
                there = self.there()
        # A device that stands on another one, after that one.
        while missing := [link for link in links if link.name not in there]:
            ready = [link for link in missing if link.over is None or link.over in there]
            if not ready:
                raise NotNow(
                    f"cannot make {missing[0].name} over {missing[0].over}: there is no such device"
                )
            self._run(_added(ready, there), there)
            there = self.there()
            if gone := [link.name for link in ready if link.name not in there]:
                raise NotNow(f"{gone[0]} is gone as soon as it is made: see who does that")
        self._run(_mended(links, there), there)
        there = self.there() if self.log else there
        for link in links:
            _refuse_untaken(link.name, _differing(link, there.get(link.name)))
        return there

    def _join(self, setup: Setup, there: Devices) -> Devices:
        members = setup.members
        here = [member for member in members if member.device in there]
        outside = [m for m in here if there[m.device].master != there[m.bridge].index]
        self._run([linkchange.join(m, there[m.bridge].index) for m in outside], there)
        # Out of its bridge, a port loses its VLANs and all that was known to be behind it.
        self.lost = self.lost or any(there[m.device].index in self._joined for m in outside)
        self._joined |= {there[member.device].index for member in here}
        if outside:
            there = self.there()
        flags = list(_flags(members, there))
        # Now that the bridge takes its guest's frames, and no sooner, a port may hear them.
        made = {link.name for link in setup.links}
        ports = [m.device for m in outside if m.device in there and m.device not in made]
        down = [linkchange.up(name, linkchange.GONE) for name in ports if not there[name].up]
        self._run([*flags, *down], there)
        if flags or down:
            there = self.there()
            for member in members:
                _refuse_untaken(member.device, _unlike_flags(member, there.get(member.device)))
        return there

    def _turn(self, links: Sequence[Link], there: Devices) -> list[Link]:
        """Set devices up, and then down: with a device, the VLANs over it come up by themselves."""
        turned: list[Link] = []
        for up, change in ((True, linkchange.up), (False, linkchange.down)):
            wrong = [each for each in links if each.up is up and there[each.name].up is not up]
            self._run((change(each.name) for each in wrong), there)
            there = self.there() if wrong else there
            turned += wrong
        return turned

    def _sysctls(self, wanted: Mapping[str, str], there: Devices) -> None:
        due = {
            path: (_index(path, there), value)
            for path, value in wanted.items()
            if self._set.get(path) != (_index(path, there), value)
        }
        if not due:
            return
        with entered(self.netns):
            for path, (index, value) in due.items():
                if self._sysctl(path, value):
                    self._set[path] = (index, value)

    def _sysctl(self, path: str, value: str) -> bool:
        """Set one; False if its device has gone meanwhile."""
        file = _SYSCTLS / path
        try:
            if file.read_text().split() != value.split():
                file.write_text(value)
                self.log.append(f"sysctl {path}={value}")
        except FileNotFoundError:
            # net/FAMILY/conf/DEVICE/NAME
            if not file.parent.exists() and file.parent.parent.exists():
                return False
            family = "/".join(path.split("/")[:2])
            module = _MODULES.get(family)
            mend = f"load its module (modprobe {module})" if module else "use one that has it"
            raise Refused(f"this kernel has no sysctl {path}: {mend}") from None
        except OSError as error:
            raise Refused(
                f"cannot set sysctl {path}={value} ({error.strerror}): run this as root, where"
                " /proc/sys can be written to"
            ) from error
        return True

    def _run(self, changes: Iterable[Change], there: Devices) -> None:
        """Send changes. Raises Refused at the first that the kernel does not take."""
        for change in changes:
            failures = self._send([change])
            if failures:
                raise _refusal(change, failures[0], there)
            self.log.append(f"ip {change.words}")

    def _send(self, changes: Sequence[Change]) -> tuple[Failure, ...]:
        return self.kernel.run(Transaction([change.step() for change in changes])).failures


# What is to be changed


def _added(links: Sequence[Link], there: Devices) -> Iterator[Change]:
    for link in links:
        yield linkchange.add(link, there[link.over].index if link.over else 0)
        yield linkchange.claim(link.name)


def _mended(links: Sequence[Link], there: Devices) -> Iterator[Change]:
    for link in links:
        found = there[link.name]
        if link.mac is not None and _has_another_mac(link, there):
            yield linkchange.address(link.name, link.mac)
        if link.mtu is not None and found.mtu != link.mtu:
            yield linkchange.mtu(link.name, link.mtu)
        if _differing(link, found):
            yield linkchange.retune(link)


def _has_another_mac(link: Link, there: Devices) -> bool:
    """Whether a device is there whose MAC is not the one that is wanted."""
    found = there.get(link.name)
    return found is not None and link.mac is not None and found.mac != link.mac.lower()


def _flags(members: Sequence[Member], there: Devices) -> Iterator[Change]:
    for member in members:
        unlike = _unlike_flags(member, there.get(member.device))
        flags = {
            flag: on for flag, on in member.flags.items() if linkchange.flag_name(flag) in unlike
        }
        if flags:
            yield linkchange.mark_port(member.device, flags)


def _left(device: Present) -> Iterator[Change]:
    """How a port leaves its bridge: down, for outside its guest's frames are the host's stack's."""
    if device.up:
        yield linkchange.down(device.name)
    yield linkchange.leave(device.name)


def _leaving(setup: Setup, there: Devices, joined: set[int]) -> Iterator[str]:
    """The ports of ours that are in a bridge of ours, and are not wanted there."""
    bridges = {link.index for link in there.values() if link.alias == OURS}
    wanted = {member.device for member in setup.members}
    for each in there.values():
        ours = each.index in joined or each.alias.split(" ")[0] == OURS
        if each.master in bridges and ours and each.name not in wanted:
            yield each.name


def _sysctls(setup: Setup) -> dict[str, str]:
    """The setup's, and that no device of ours gets an address of the host's by itself."""
    own = {_ADDRESSLESS.format(link.name): _NONE for link in setup.links}
    every = own | dict(setup.sysctls)
    if (_SYSCTLS / _IPV6).exists():
        return every
    return {path: value for path, value in every.items() if not path.startswith(_IPV6)}


def _index(path: str, there: Devices) -> int:
    """The index of the device that a sysctl is about, 0 if it is about none."""
    found = there.get(Path(path).parent.name)
    return found.index if found else 0


def _differing(link: Link, found: Present | None) -> dict[str, object]:
    """The settings of a device that are not as wanted, by the kernel's names."""
    if found is None:
        return {}
    wanted = linkchange.settings(link)
    return {name: value for name, value in wanted.items() if found.settings.get(name) != value}


def _unlike_flags(member: Member, found: Present | None) -> dict[str, object]:
    if found is None:
        return {}
    named = {linkchange.flag_name(flag): int(on) for flag, on in member.flags.items()}
    return {name: on for name, on in named.items() if found.port.get(name) != on}


def _unchangeable(link: Link, found: Present | None) -> str:
    """What keeps a device from being put right in place; empty if nothing does."""
    if found is None or link.kind == "bridge":
        return ""
    fixed = _differing(link, found).keys() - _IN_PLACE.get(link.kind, frozenset())
    return ", ".join(sorted(name.removeprefix("IFLA_").lower() for name in fixed))


# What cannot be


def _refuse_others(link: Link, found: Present | None) -> None:
    if found is None or (found.kind == link.kind and found.alias == OURS):
        return
    mend = f"remove it (ip link del {link.name})"
    if found.kind == "openvswitch":
        mend = f"remove it (ovs-vsctl del-br {link.name})"
    elif found.kind == link.kind:
        mend += f", or say that it is ours (ip link set {link.name} alias {OURS})"
    what = f"a {found.kind or 'physical'} device"
    raise Refused(f"there is {what} '{link.name}' already that is not ours: {mend}")


def _refuse_untaken(device: str, untaken: Mapping[str, object]) -> None:
    """Raise Refused if the kernel passed over what it was told: older ones do."""
    for name, value in untaken.items():
        since = f" (it came with {_SINCE[name]})" if name in _SINCE else ""
        raise Refused(
            f"this kernel does not take {name}={value} for {device}{since}: use one that does"
        )


def _refusal(change: Change, failure: Failure, there: Devices) -> Refused:
    """What the kernel's no means, and what to do about it."""
    words = change.words.split()
    kind = words[words.index("type") + 1] if "type" in words else ""
    said = f"the kernel refuses 'ip {change.words}': {failure}".replace(f"{failure.what}: ", "")
    if failure.code == errno.EPERM:
        return Refused("cannot change network devices: run this as root (sudo)")
    if failure.code == errno.EOPNOTSUPP and words[:2] == ["link", "add"]:
        if "vlan_filtering" in words:
            return Refused(
                "this kernel has no bridges that filter VLANs: load the module (modprobe bridge),"
                " or use a kernel with CONFIG_BRIDGE_VLAN_FILTERING"
            )
        module = _MODULES.get(kind, kind)
        return Refused(f"this kernel has no {kind} devices: load its module (modprobe {module})")
    taken = failure.code == errno.EADDRINUSE or (failure.code == errno.EEXIST and kind == "vxlan")
    if taken:
        return Refused(f"{said}: {_whose_port(there)}")
    return Refused(said)


def _whose_port(there: Devices) -> str:
    """Who has the UDP port that a VXLAN device wants."""
    others = [each.name for each in there.values() if each.kind == "vxlan" and each.alias != OURS]
    if others:
        return (
            f"its UDP port is taken, by '{others[0]}' it seems: remove that (ip link del"
            f" {others[0]}), or choose another underlay.udp_port"
        )
    return "its UDP port is taken: see who has it (ss -lun), or choose another underlay.udp_port"


# The same as text


def commands(setup: Setup) -> Iterator[str]:
    """What `ip -batch` makes the same devices of."""
    for link in setup.links:
        yield linkchange.add(link).words
        yield linkchange.claim(link.name).words
        yield f"link set dev {link.name} addrgenmode none"
    for member in setup.members:
        yield linkchange.join(member).words
        if flags := {**member.flags, **member.later}:
            yield linkchange.mark_port(member.device, flags).words
    made = {link.name for link in setup.links}
    for name in (member.device for member in setup.members if member.device not in made):
        yield linkchange.up(name).words
    for up, change in ((True, linkchange.up), (False, linkchange.down)):
        yield from (change(link.name).words for link in setup.links if link.up is up)


def sysctl_lines(setup: Setup) -> Iterator[str]:
    """What `sysctl -p` sets the same of: a device's are there once it is."""
    # With a slash first, it takes dots for what they are: part of a device's name.
    return (f"{path} = {value}" for path, value in setup.sysctls.items())
