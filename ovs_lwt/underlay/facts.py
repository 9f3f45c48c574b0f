"""What this machine's kernel says of the network that carries the tunnels: read once, by netlink.

What flows in: a network namespace, the addresses of the peers. What flows out: values that
`ovs_lwt.underlay.paths` judges. Nothing is changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pyroute2 import Ethtool, IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from ovs_lwt.mistakes import Refused
from ovs_lwt.netns import entered

_IFF_UP: Final = 0x1
_IFF_LOWER_UP: Final = 0x10000
_UDP_TABLES: Final = ("/proc/thread-self/net/udp", "/proc/thread-self/net/udp6")
# Who has a socket, where we may not look into other users' processes.
_HIDDEN: Final = "a program of another user"


@dataclass(frozen=True, slots=True)
class Device:
    """A network device.

    kind: "" for hardware; up: somebody set it up; running: it has a carrier, or needs none
    vxlan_port: its UDP port, if it is a VXLAN device, else None
    """

    name: str
    kind: str
    mtu: int
    up: bool
    running: bool
    vxlan_port: int | None = None


@dataclass(frozen=True, slots=True)
class Way:
    """The way to one address.

    device: where packets leave; mtu: the largest packet the route takes; error: why there is none
    """

    device: str = ""
    mtu: int = 0
    source: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is there.

    addresses: address -> name of its device; devices: by name; ways: by the peer's address
    udp_owners: programs that hold a UDP port of the tunnels, by port
    merging: devices whose card merges packets that it receives (LRO)
    """

    addresses: Mapping[str, str]
    devices: Mapping[str, Device]
    ways: Mapping[str, Way]
    udp_owners: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    merging: frozenset[str] = frozenset()


def read(netns: str | None, peers: Iterable[str], udp_ports: Iterable[int]) -> Facts:
    """Ask the kernel. netns: a namespace's name or path; None: our own.

    Raises Refused where we may not enter the namespace or may not ask.
    """
    try:
        with entered(netns):
            speaking, ethtool = IPRoute(), Ethtool()
            owners = {port: _owners(port) for port in udp_ports}
    except OSError as error:
        raise Refused(f"the kernel cannot be asked about the underlay: {error}") from error
    with speaking, ethtool:
        links = {link["index"]: link for link in speaking.get_links()}
        devices = {device.name: device for device in map(_device, links.values())}
        addresses = {
            # Of a point-to-point link "address" is the other end's.
            str(address.get("local") or address.get("address")): str(
                links[address["index"]].get("ifname")
            )
            for address in speaking.get_addr()
            if address["index"] in links
        }
        ways = {peer: _way(speaking, peer, links) for peer in peers}
        merging = frozenset(
            name for name in devices if not devices[name].kind and _merges(ethtool, name)
        )
    taken = {device.vxlan_port for device in devices.values()}
    for port, found in owners.items():
        if port in taken:
            # Then the socket whose owner we may not see is the device's.
            owners[port] = tuple(owner for owner in found if owner != _HIDDEN)
    return Facts(addresses, devices, ways, owners, merging)


def _device(link: Any) -> Device:
    flags = link["flags"]
    port = link.get(("linkinfo", "data", "vxlan_port"))
    return Device(
        name=str(link.get("ifname")),
        kind=str(link.get(("linkinfo", "kind")) or ""),
        mtu=int(link.get("mtu") or 0),
        up=bool(flags & _IFF_UP),
        running=bool(flags & _IFF_LOWER_UP),
        vxlan_port=int(port) if port is not None else None,
    )


def _way(speaking: Any, peer: str, links: Mapping[int, Any]) -> Way:
    try:
        (route,) = speaking.route("get", dst=peer)
    except NetlinkError as error:
        return Way(error=str(error.args[1] if len(error.args) > 1 else error))
    link = links.get(route.get("oif") or 0)
    if link is None:
        return Way(error="the route leads to no device")
    mtu = int(link.get("mtu") or 0)
    metrics = route.get("metrics")
    # A route can bound its packets, or the kernel has learnt that a router on the way does.
    bound = metrics.get("mtu") if metrics is not None else None
    return Way(
        str(link.get("ifname")), min(mtu, int(bound)) if bound else mtu, str(route.get("prefsrc"))
    )


def _owners(port: int) -> tuple[str, ...]:
    """The programs that have a socket on this UDP port; the kernel's own are no program's."""
    wanted = f":{port:04X}"
    inodes = set()
    for table in _UDP_TABLES:
        with suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                words = line.split()
                if words[1].endswith(wanted) and words[9] != "0":
                    inodes.add(f"socket:[{words[9]}]")
    if not inodes:
        return ()
    found, hidden = set(), False
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(str(file.readlink()) in inodes for file in (process / "fd").iterdir()):
                found.add(f"{(process / 'comm').read_text().strip()} (process {process.name})")
        except PermissionError:
            hidden = True
        except OSError:
            continue
    # A VXLAN device's socket has an inode (seen with 6.1), but nobody has it open.
    return tuple(sorted(found)) or ((_HIDDEN,) if hidden else ())


def _merges(ethtool: Any, device: str) -> bool:
    """Whether large receive offload is on."""
    try:
        return bool(ethtool.get_features(device).features["rx-lro"].enable)
    except Exception:
        # What a driver, or an old kernel, does not know it says in many ways.
        return False
