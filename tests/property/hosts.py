"""On top of tests/strategies.py: overlays that change, and hosts whose ports come and go."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import strategies as st

from ovs_lwt.ports import resolve
from ovs_lwt.topology import Topology
from ovs_lwt.view import View
from ovs_lwt.vswitch import LocalPort
from tests.strategies import (
    ADDRESSES4,
    ADDRESSES6,
    ENDPOINTS,
    MAC_PREFIXES,
    MACS,
    MARKS,
    TENANTS,
    VNIS,
    allowed_pairs,
    lies_under,
    overlays,
    tenants,
)

Overlay = dict[str, Any]

# Of the first two of MACS.
LINK_LOCALS = ("fe80::ff:fe00:1/64", "fe80::ff:fe00:2/64")


FRESH = ("fresh1", "fresh2", "fresh3")
"""Names of endpoints that an edit adds."""


@st.composite
def views(draw: st.DrawFn, topology: Topology, host: int) -> View:
    """A host, most of its guests attached, each to a port that seldom is another than before."""
    span = range(len(topology.endpoints))
    local = [topology.endpoint_id(i) for i in span if topology.endpoints.vtep[i] == host]
    away = [topology.endpoint_id(i) for i in span if topology.endpoints.vtep[i] != host]
    ports = []
    for name in local:
        what = draw(st.sampled_from((*["no"] * 12, "away", "moved", "marked", "down")))
        if what != "away":
            number = _usual_port(name) + 500 * (what == "moved")
            marking = "tc" if what == "marked" else "flow"
            up = what != "down"
            ports.append(LocalPort(f"p{number}", number, name, marking=marking, up=up))
    # Claims that come to nothing, most of them.
    for claim in draw(st.lists(st.sampled_from([*local, *away, "nobody/here"]), max_size=2)):
        ports.append(LocalPort(f"q{len(ports)}", 900 + len(ports), claim))
    # Either is written into so many flows that everything is compared: keep it rare.
    odd = draw(st.integers(0, 15))
    tunnel, by_flow = 101 if odd == 15 else 100, odd != 14
    # Whether it offers to replicate, and on which datapath, shows in shared flows and lists.
    requests, userspace = draw(st.sampled_from((None, 102, 102, 103))), odd != 13
    found = resolve(topology, host, ports)[0]
    return View(topology, host, tunnel, found, by_flow, userspace, requests)


def _usual_port(identity: str) -> int:
    tenant, name = identity.split("/")
    names = [*ENDPOINTS, *FRESH]
    return 1 + [*TENANTS, "twin"].index(tenant) * len(names) + names.index(name)


@st.composite
def plans(draw: st.DrawFn, family: int | None = None) -> tuple[Overlay, Overlay]:
    """Two overlays that differ in their hosts' MAC prefixes alone; many guests lie under one."""
    old = draw(overlays(family))
    _crowd(draw, old)
    _fit(old)
    new = copy.deepcopy(old)
    for _ in range(draw(st.integers(1, 3))):
        _replan(draw, new["vteps"])
    return old, new


@st.composite
def changes(draw: st.DrawFn, family: int | None = None) -> tuple[Overlay, Overlay]:
    """Two overlays: the second is the first with a few edits, or other tenants over its hosts."""
    old = draw(overlays(family))
    _crowd(draw, old)
    if old["tenants"] and draw(st.booleans()):
        _twin(draw, old["tenants"])
    new = copy.deepcopy(old)
    if draw(st.integers(0, 5)) == 0:
        new["tenants"] = draw(tenants(new["vteps"]))
        return old, new
    for _ in range(draw(st.sampled_from((0, 1, 1, 1, 2, 4)))):
        _edit(draw, new)
    return old, new


def _crowd(draw: st.DrawFn, overlay: Overlay) -> None:
    """Have most tenants meet on one host."""
    hosts = overlay["vteps"]
    home = draw(st.sampled_from(sorted(hosts)))
    six = ":" in hosts[home]["address"]
    for tenant in overlay["tenants"].values():
        endpoints: dict[str, Any] = tenant["endpoints"]
        if not endpoints:
            mac, ip = MACS[0], [ADDRESSES4[0]]
            endpoints[ENDPOINTS[0]] = {"host": home, "mac": mac, "ip": ip}
        elif draw(st.integers(0, 3)):
            moved = endpoints[sorted(endpoints)[0]]
            if six == (":" in hosts[moved["host"]]["address"]):
                moved["host"] = home


def _twin(draw: st.DrawFn, every: dict[str, Any]) -> None:
    """Give a tenant a twin on the same hosts: the two share a flood list."""
    tenant = copy.deepcopy(every[draw(st.sampled_from(sorted(every)))])
    tenant["vni"] = draw(st.sampled_from((9, 0xABCDE, 0xEFFFFF)))
    tenant["mark"] = draw(st.sampled_from((11, 0xA0000000)))
    every["twin"] = tenant


def _edit(draw: st.DrawFn, overlay: Overlay) -> None:
    every: dict[str, Any] = overlay["tenants"]
    if not every or draw(st.integers(0, 5)) == 0:
        draw(st.sampled_from((_readdress, _replan)))(draw, overlay["vteps"])
        return
    name = draw(st.sampled_from(sorted(every)))
    if draw(st.booleans()) and every[name]["endpoints"]:
        _edit_endpoint(draw, overlay, every[name]["endpoints"])
    else:
        _edit_tenant(draw, every, name)


def _readdress(draw: st.DrawFn, vteps: dict[str, Any]) -> None:
    name = draw(st.sampled_from(sorted(vteps)))
    spare = draw(st.integers(100, 110))
    six = ":" in vteps[name]["address"]
    address = f"2001:db8::{spare:x}" if six else f"192.0.2.{spare}"
    if address not in {vtep["address"] for vtep in vteps.values()}:
        vteps[name]["address"] = address


def _fit(overlay: Overlay) -> None:
    """Give hosts prefixes under which one of their guests lies, as far as they do not overlap."""
    for vtep in overlay["vteps"].values():
        vtep.pop("mac_prefix", None)
    free = list(MAC_PREFIXES)
    guests = [guest for each in overlay["tenants"].values() for guest in each["endpoints"].values()]
    for guest in guests:
        found = [pair for pair in free if lies_under(guest["mac"], pair[0])]
        if found and "mac_prefix" not in overlay["vteps"][guest["host"]]:
            overlay["vteps"][guest["host"]]["mac_prefix"] = found[0][0]
            free.remove(found[0])


def _replan(draw: st.DrawFn, vteps: dict[str, Any]) -> None:
    """A host gets another MAC prefix or none, or two hosts swap theirs."""
    names = st.sampled_from(sorted(vteps))
    one, two = (vteps[draw(names)] for _ in range(2))
    match draw(st.sampled_from(("another", "none", "swap"))):
        case "another":
            taken = {vtep.get("mac_prefix") for vtep in vteps.values() if vtep is not one}
            free = [prefix for pair in MAC_PREFIXES if not taken & {*pair} for prefix in pair]
            one["mac_prefix"] = draw(st.sampled_from(free))
        case "none":
            one.pop("mac_prefix", None)
        case "swap":
            one["mac_prefix"], two["mac_prefix"] = two.get("mac_prefix"), one.get("mac_prefix")


def _edit_tenant(draw: st.DrawFn, every: dict[str, Any], name: str) -> None:
    tenant = every[name]
    vnis = {other["vni"] for other in every.values()}
    marks = {other.get("mark", other["vni"]) for other in every.values()}
    match draw(
        st.sampled_from(("gone", "vni", "mark", "other's", "own", "unknown", "neighbours", "tags"))
    ):
        case "gone":
            del every[name]
        case "vni":
            # Its mark stays, so that the new VNI cannot be another's mark as well.
            tenant["mark"] = tenant.get("mark", tenant["vni"])
            tenant["vni"] = draw(st.sampled_from([v for v in VNIS if v not in vnis]))
        case "mark":
            tenant["mark"] = draw(st.sampled_from([m for m in MARKS if m not in marks]))
        case "other's":
            # A VNI may be another tenant's mark, if its own tenant goes by another one.
            free = sorted(vnis - marks) or [tenant.get("mark", tenant["vni"])]
            tenant["mark"] = draw(st.sampled_from(free))
        case "own" if tenant["vni"] not in marks:
            tenant.pop("mark", None)
        case "unknown":
            tenant["unknown_unicast"] = draw(st.sampled_from(("flood", "drop")))
        case "neighbours":
            tenant["neighbours"] = draw(st.sampled_from(("answer", "flood")))
        case "tags":
            tenant["vlan_tagged"] = draw(st.sampled_from(("drop", "carry")))


def _edit_endpoint(draw: st.DrawFn, overlay: Overlay, endpoints: dict[str, Any]) -> None:
    name = draw(st.sampled_from(sorted(endpoints)))
    endpoint = endpoints[name]
    six = {host: ":" in vtep["address"] for host, vtep in overlay["vteps"].items()}
    macs = {other["mac"].lower() for other in endpoints.values()}
    taken = {a for other in endpoints if other != name for a in endpoints[other].get("ip", [])}
    whats = ("gone", "moved", "mac", "ip", "no ip", "trusted", "renamed", "router", "pairs")
    match draw(st.sampled_from(whats)):
        case "gone":
            del endpoints[name]
        case "moved":
            near = [host for host in six if six[host] == six[endpoint["host"]]]
            endpoint["host"] = draw(st.sampled_from(near))
        case "mac":
            endpoint["mac"] = draw(st.sampled_from([m for m in MACS if m.lower() not in macs]))
        case "ip":
            # Also the address that another endpoint has by its MAC.
            pool = sorted({*ADDRESSES4, *ADDRESSES6, *LINK_LOCALS} - taken)
            endpoint["ip"] = draw(st.permutations(pool))[: draw(st.integers(0, 3))]
        case "no ip":
            endpoint.pop("ip", None)
        case "trusted":
            endpoint["spoofing"] = draw(st.sampled_from(("deny", "allow")))
        case "router":
            endpoint["router"] = draw(st.booleans())
        case "pairs":
            endpoint["allowed_pairs"] = draw(allowed_pairs())
        case "renamed":
            free = [n for n in ENDPOINTS if n not in endpoints]
            if free:
                endpoints[draw(st.sampled_from(free))] = endpoints.pop(name)
