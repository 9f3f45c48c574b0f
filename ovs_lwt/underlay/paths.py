"""Can this host's tunnel packets leave, arrive whole, and be answered? Facts are judged, nothing is
asked: `ovs_lwt.underlay.facts` has done that.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

from ovs_lwt.findings import Finding, fail, ok, warn
from ovs_lwt.mistakes import listing
from ovs_lwt.names import kernel_half
from ovs_lwt.underlay.expected import Expected
from ovs_lwt.underlay.facts import Facts, Way

_SHOWN = 3  # hosts named in one line
_WIDE = 65000  # what Open vSwitch gives a device of its kernel datapath's


def findings(
    expected: Expected, facts: Facts, userspace: Mapping[str, frozenset[str]] | None
) -> Iterator[Finding]:
    """What is to be said of the underlay, question by question.

    userspace: with Open vSwitch's userspace datapath its bridges -> the devices that are their
    ports; else None: then the kernel's own stack carries the tunnels
    """
    yield _address(expected, facts, userspace)
    yield from _carriers(expected, facts, userspace)
    yield from _ways(expected, facts, userspace)
    yield from _mtu(expected, facts, userspace)
    yield from _udp_ports(expected, facts, userspace)
    yield from _halves(expected, facts, userspace)
    yield from _offloads(expected, facts)


def _address(
    expected: Expected, facts: Facts, userspace: Mapping[str, frozenset[str]] | None
) -> Finding:
    subject, device = "vtep address", facts.addresses.get(expected.vtep)
    if device is None:
        for address in facts.addresses:
            if (other := expected.others.get(address)) is not None:
                return fail(
                    subject,
                    f"{expected.vtep} is on no interface of this machine, which has {address}:"
                    f" that is {other}, says the overlay, not {expected.host}",
                    f"say --host {other} here, or mend the addresses under vteps in the overlay",
                )
        length = 128 if ":" in expected.vtep else 32
        return fail(
            subject,
            f"{expected.vtep} is on no interface of this machine, so no tunnel packet arrives or"
            " leaves",
            f"see that this machine is {expected.host} and add it (ip address add"
            f" {expected.vtep}/{length} dev DEVICE)",
        )
    if userspace is not None and device not in userspace:
        return fail(
            subject,
            f"{expected.vtep} is on {device}, and the userspace datapath sends tunnel packets only"
            " by a bridge of its own type (native tunnel routing failed)",
            f"make a bridge with datapath_type=netdev, add {device} as a port, and move the"
            " address to the bridge (README, Without a controller)",
        )
    return ok(subject, f"{expected.vtep} is on {device}")


def _carriers(
    expected: Expected, facts: Facts, userspace: Mapping[str, frozenset[str]] | None
) -> Iterator[Finding]:
    """Is the device with the address up, and on the userspace datapath a port of its bridge?"""
    subject, name = "uplink", facts.addresses.get(expected.vtep)
    if name is None or (device := facts.devices.get(name)) is None:
        return
    if not device.up:
        yield fail(subject, f"{name} is down", f"set it up (ip link set {name} up)")
        return
    ports = [name]
    if userspace is not None:
        ports = [port for port in sorted(userspace.get(name, ())) if port in facts.devices]
        if not ports:
            yield fail(
                subject,
                f"bridge {name} has no port that leads to the underlay",
                f"add the network card to it (ovs-vsctl add-port {name} DEVICE)",
            )
            return
    down = [port for port in ports if not facts.devices[port].up]
    dead = [port for port in ports if port not in down and not facts.devices[port].running]
    if len(down) + len(dead) < len(ports):
        yield ok(subject, f"{' and '.join(ports)} {'is' if len(ports) == 1 else 'are'} up")
    elif down:
        yield fail(subject, f"{down[0]} is down", f"set it up (ip link set {down[0]} up)")
    else:
        yield fail(
            subject,
            f"{dead[0]} has no carrier",
            "see to the cable, the switch port, or the other end of the link",
        )


def _ways(
    expected: Expected, facts: Facts, userspace: Mapping[str, frozenset[str]] | None
) -> Iterator[Finding]:
    subject = "way to peers"
    if not expected.peers:
        yield ok(subject, "no other host shares a tenant with this one")
        return
    lost: dict[str, list[str]] = defaultdict(list)
    for peer, address in expected.peers.items():
        way = facts.ways[address]
        if way.error:
            lost[f"there is no route to {{}}: the kernel says '{way.error}'"].append(peer)
        elif way.device == "lo":
            lost["the address of {} is this machine's own"].append(peer)
        elif userspace is not None and way.device not in userspace:
            text = f"the route to {{}} leads out of {way.device}, which is no bridge of the"
            lost[f"{text} userspace datapath (native tunnel routing failed)"].append(peer)
    for text, peers in lost.items():
        named = _named(expected, peers)
        mend = f"see ip route get {expected.peers[peers[0]]}, and mend routes or the overlay"
        yield fail(subject, text.format(named), mend)
    if not lost:
        devices = sorted({facts.ways[address].device for address in expected.peers.values()})
        yield ok(subject, f"{len(expected.peers)} by {listing(devices)}")


def _mtu(
    expected: Expected, facts: Facts, userspace: Mapping[str, frozenset[str]] | None
) -> Iterator[Finding]:
    subject = "path mtu"
    narrow: dict[tuple[int, str], list[str]] = defaultdict(list)
    known = 0
    for peer, address in expected.peers.items():
        way = facts.ways[address]
        if way.error:
            continue
        known += 1
        mtu, device = _width(way, facts, userspace)
        if mtu < expected.mtu:
            narrow[mtu, device].append(peer)
    for (mtu, device), peers in narrow.items():
        yield fail(
            subject,
            f"packets to {_named(expected, peers)} may have {mtu} bytes by {device}, and the"
            f" overlay says {expected.mtu}: guests' largest packets are lost",
            f"raise it (ip link set {device} mtu {expected.mtu}, and the route's), or say"
            f" underlay: {{mtu: {mtu}}} in the overlay",
        )
    if known and not narrow:
        yield ok(subject, f"{expected.mtu} bytes to all {known}")


def _width(
    way: Way, facts: Facts, userspace: Mapping[str, frozenset[str]] | None
) -> tuple[int, str]:
    """The largest packet that this way takes, and the device that bounds it."""
    widths = [(way.mtu, way.device)]
    if userspace is not None:
        # A bridge has the packet leave by one of its ports, and its own MTU says nothing of those.
        ports = userspace.get(way.device, frozenset()) & facts.devices.keys()
        running = [(facts.devices[port].mtu, port) for port in ports if facts.devices[port].up]
        widths += [max(running)] if running else []
    # Open vSwitch narrows a bridge to its narrowest port: the port is what is to be mended.
    return min(widths, key=lambda width: (width[0], width[1] == way.device))


def _udp_ports(
    expected: Expected, facts: Facts, userspace: Mapping[str, frozenset[str]] | None
) -> Iterator[Finding]:
    # The userspace datapath takes tunnel packets before the kernel's stack has them.
    say, subject = (fail if userspace is None else warn), "udp port"
    for tunnel, port in expected.tunnels.items():
        ours = kernel_half(port)
        key = (
            "underlay.udp_port"
            if tunnel == next(iter(expected.tunnels))
            else ("underlay.replication_udp_port")
        )
        others = [
            device.name
            for device in facts.devices.values()
            if device.vxlan_port == port and device.name not in (tunnel, ours)
        ]
        if others:
            yield say(
                subject,
                f"VXLAN device {listing(others)} has UDP port {port} as well",
                f"remove it (ip link del {others[0]}), or choose another {key}",
            )
        if owners := facts.udp_owners.get(port):
            yield say(
                subject,
                f"{listing(owners)} listens on UDP port {port}",
                f"stop it, or choose another {key}",
            )
        if not others and not owners:
            yield ok(subject, f"nobody else has UDP port {port}")


def _halves(
    expected: Expected, facts: Facts, userspace: Mapping[str, frozenset[str]] | None
) -> Iterator[Finding]:
    """The devices that Open vSwitch's kernel datapath has for the tunnels' ports."""
    if expected.plane != "ovs" or userspace is not None:
        return
    for tunnel, port in expected.tunnels.items():
        name = kernel_half(port)
        subject, what = "tunnel port", f"{name}, the kernel's half of {tunnel},"
        device = facts.devices.get(name)
        if device is None:
            mend = f"a running agent makes it again; else ovs-vsctl del-port {tunnel}, and start it"
            yield fail(subject, f"{what} is gone", mend)
        elif not device.up:
            yield fail(subject, f"{what} is down", f"set it up (ip link set {name} up)")
        elif device.mtu < expected.mtu:
            yield fail(
                subject,
                f"{what} takes {device.mtu} bytes, and the overlay says {expected.mtu}: guests'"
                " largest packets are lost",
                f"raise it (ip link set {name} mtu {_WIDE})",
            )


def _offloads(expected: Expected, facts: Facts) -> Iterator[Finding]:
    subject = "offloads"
    used = {way.device for way in facts.ways.values()} | {facts.addresses.get(expected.vtep)}
    merging = sorted(name for name in facts.merging if name in used)
    for name in merging:
        yield warn(
            subject,
            f"{name} merges the packets that it receives (large-receive-offload), which forwarded"
            " packets do not survive",
            f"turn it off (ethtool -K {name} lro off)",
        )
    if not merging:
        yield ok(subject, "nothing that is known to harm tunnels")


def _named(expected: Expected, peers: list[str]) -> str:
    told = ", ".join(f"{peer} ({expected.peers[peer]})" for peer in peers[:_SHOWN])
    more = len(peers) - _SHOWN
    return f"{told} and {more} more" if more > 0 else told
