"""Random overlays: few tenants, hosts and endpoints, so that they collide where they may.

MACs, IP addresses and endpoint names come from small pools and repeat across tenants; each
tenant's hosts have VTEPs of one family.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from ovs_lwt.sources.overlay_file import from_dict
from ovs_lwt.topology import Topology

HOSTS = ("host1", "host2", "host3", "edge-4", "Host.5", "_6")
TENANTS = ("blue", "red", "green", "no", "1010", "a.b-c")
ENDPOINTS = ("web1", "web2", "db", "7", "x" * 63, "true")
VNIS = (1, 2, 10, 1010, 4095, 65536, 0xFFFFFF)
# Apart from every VNI, since the VNI is the mark of a tenant that names none.
MARKS = (3, 0x100, 0x01000000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
MACS = (
    "02:00:00:00:00:01",
    "02:00:00:00:00:02",
    "02:00:00:00:00:ff",
    "02:00:00:00:01:00",
    "52:54:00:AB:cd:ef",
    "00:00:00:00:00:01",
    "fe:ff:ff:ff:ff:ff",
)
# Each holds some of MACS. A host takes one of a pair, and another host none of the same pair: they
# would overlap.
MAC_PREFIXES = (
    ("02:00:00:00:00:00/46", "02:00:00:00:00:00/40"),
    ("02:00:00:00:01:00/40", "02:00:00:00:01:00/47"),
    ("52:54:00:00:00:00/24", "52:54:00:ab:cd:00/40"),
    ("00:00:00:00:00:00/8", "00:00:00:00:00:00/47"),
    ("fe:00:00:00:00:00/8", "FE:FF:FF:00:00:00/24"),
)
ADDRESSES4 = ("10.0.0.1/24", "10.0.0.2/24", "10.0.0.11/8", "192.0.2.1/32", "172.16.0.0/31")
# What endpoints may have beside their own: several may have the same.
PAIR_MACS = ("00:00:5e:00:01:01", "02:00:00:00:00:f0", None)
PAIR_ADDRESSES = ("10.0.0.100", "10.0.0.101", "fd00::100", "fe80::100")
ADDRESSES6 = ("fd00::1/64", "fd00::2/64", "fe80::1/10", "2001:db8::ffff:1/128", "fd00:0:0:1::/48")


def lies_under(mac: str, prefix: str | None) -> bool:
    """Whether a MAC begins as a prefix says."""
    start, _, bits = (prefix or "").partition("/")
    return bool(bits) and _number(mac) >> 48 - int(bits) == _number(start) >> 48 - int(bits)


def _number(mac: str) -> int:
    return int(mac.replace(":", ""), 16)


def _some(pool: tuple[Any, ...], least: int = 0, most: int = 6) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.sampled_from(pool), unique=True, min_size=least, max_size=most)


@st.composite
def vteps(draw: st.DrawFn, family: int | None = None) -> dict[str, dict[str, Any]]:
    """Draw the `vteps` part; of one family if `family` (4 or 6) is given."""
    result: dict[str, dict[str, Any]] = {}
    prefixes = draw(st.permutations(MAC_PREFIXES))
    for name in draw(_some(HOSTS, least=1, most=5)):
        number = HOSTS.index(name) + 1
        which = family or draw(st.sampled_from((4, 6)))
        address = f"192.0.2.{number}" if which == 4 else f"2001:db8::{number:x}"
        vtep: dict[str, Any] = {"address": address}
        if draw(st.booleans()):
            vtep["external"] = draw(st.booleans())
        if draw(st.booleans()):
            vtep["mac_prefix"] = draw(st.sampled_from(prefixes.pop()))
        if not vtep.get("external") and draw(st.integers(0, 3)) == 0:
            vtep["replicator"] = True
        if draw(st.integers(0, 3)) == 0:
            vtep["datapath_id"] = f"{number:016x}"
        result[name] = vtep
    return result


@st.composite
def tenants(draw: st.DrawFn, hosts: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Draw the `tenants` part over `hosts`."""
    names = draw(_some(TENANTS, most=4))
    count = len(names)
    vnis = draw(_some(VNIS, least=count, most=count))
    marks = draw(_some(MARKS, least=count, most=count))
    families = sorted({":" in vtep["address"] for vtep in hosts.values()})
    result: dict[str, dict[str, Any]] = {}
    for name, vni, mark in zip(names, vnis, marks, strict=True):
        six = draw(st.sampled_from(families))
        reachable = [host for host, vtep in hosts.items() if (":" in vtep["address"]) == six]
        tenant: dict[str, Any] = {"vni": vni}
        if draw(st.booleans()):
            tenant["mark"] = mark
        if draw(st.booleans()):
            tenant["unknown_unicast"] = draw(st.sampled_from(("flood", "drop")))
        if draw(st.booleans()):
            tenant["neighbours"] = draw(st.sampled_from(("answer", "flood")))
        if draw(st.integers(0, 3)) == 0:
            tenant["vlan_tagged"] = draw(st.sampled_from(("drop", "carry")))
        tenant["endpoints"] = draw(endpoints(reachable))
        result[name] = tenant
    return result


@st.composite
def allowed_pairs(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Draw the `allowed_pairs` of an endpoint."""
    every = [(mac, ip) for mac in PAIR_MACS for ip in PAIR_ADDRESSES]
    chosen = draw(_some(tuple(every), most=3))
    return [{"mac": mac, "ip": ip} if mac else {"ip": ip} for mac, ip in chosen]


@st.composite
def endpoints(draw: st.DrawFn, hosts: list[str]) -> dict[str, dict[str, Any]]:
    """Draw the `endpoints` of one tenant, each on one of `hosts`."""
    names = draw(_some(ENDPOINTS, most=5))
    macs = draw(_some(MACS, least=len(names), most=len(names)))
    free4, free6 = draw(st.permutations(ADDRESSES4)), draw(st.permutations(ADDRESSES6))
    result: dict[str, dict[str, Any]] = {}
    for name, mac in zip(names, macs, strict=True):
        ips = [free4.pop() for _ in range(draw(st.integers(0, min(2, len(free4)))))]
        ips += [free6.pop() for _ in range(draw(st.integers(0, min(2, len(free6)))))]
        endpoint: dict[str, Any] = {"host": draw(st.sampled_from(hosts)), "mac": mac}
        if len(ips) > 0 or draw(st.booleans()):
            endpoint["ip"] = ips
        if draw(st.integers(0, 3)) == 0:
            endpoint["spoofing"] = draw(st.sampled_from(("deny", "allow")))
        if draw(st.integers(0, 3)) == 0:
            endpoint["router"] = draw(st.booleans())
        if draw(st.integers(0, 3)) == 0:
            endpoint["allowed_pairs"] = draw(allowed_pairs())
        result[name] = endpoint
    return result


@st.composite
def overlays(draw: st.DrawFn, family: int | None = None) -> dict[str, Any]:
    """Draw a valid overlay, ready for `yaml.safe_dump`.

    `family` 4 or 6 gives an underlay of that family alone; by default both may occur.
    """
    hosts = draw(vteps(family))
    overlay: dict[str, Any] = {"vteps": hosts, "tenants": draw(tenants(hosts))}
    if draw(st.booleans()):
        overlay["underlay"] = {"udp_port": draw(st.sampled_from((4789, 8472))), "mtu": 1500}
    return overlay


def topologies(family: int | None = None) -> st.SearchStrategy[Topology]:
    """Draw the topology of a valid overlay."""
    return overlays(family).map(from_dict)
