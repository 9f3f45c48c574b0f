"""One host and its guests in namespaces, without a switch: what `attach` makes, read and tried."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import subprocess
from collections.abc import Iterator
from typing import Any

from ovs_lwt.lab import namespaces
from ovs_lwt.veth import AttachPlan
from tests.support.ovs import in_netns

WEB1 = AttachPlan(
    tenant="blue",
    endpoint="web1",
    netns="",
    mac="02:00:00:00:00:01",
    addresses=("10.0.0.11/24", "fd00::11/64"),
    mtu=1450,
    mark=10,
    plane="bridge",
)
WEB2 = dataclasses.replace(
    WEB1,
    endpoint="web2",
    mac="02:00:00:00:00:02",
    addresses=("10.0.0.12/24", "fd00::12/64"),
)


def routed(plan: AttachPlan) -> AttachPlan:
    """The same guest on plane route."""
    alone = tuple(
        text.split("/")[0] + ("/128" if ":" in text else "/32") for text in plan.addresses
    )
    return dataclasses.replace(plan, plane="route", addresses=alone)


@contextlib.contextmanager
def made(*names: str) -> Iterator[None]:
    """Namespaces where an IPv6 address can be used at once. No process is run to make them."""
    with contextlib.ExitStack() as stack:
        for name in names:
            namespaces.create(name)
            stack.callback(namespaces.remove, name)
            namespaces.set_sysctl(name, "net/ipv6/conf/default/accept_dad", "0")
        yield


def listed(netns: str, *words: str) -> list[dict[str, Any]]:
    """What `ip -json …` lists."""
    return list(json.loads(in_netns(netns, "ip", "-json", *words) or "[]"))


def link(netns: str, name: str) -> dict[str, Any] | None:
    """A device as `ip -details link` shows it; None if there is none."""
    for found in listed(netns, "-details", "link", "show"):
        if found["ifname"] == name:
            return found
    return None


def addresses(netns: str) -> set[str]:
    """The global addresses of eth0."""
    (found,) = listed(netns, "address", "show", "dev", "eth0")
    return {
        f"{info['local']}/{info['prefixlen']}"
        for info in found["addr_info"]
        if info["scope"] == "global"
    }


def routes(netns: str) -> set[str]:
    """All of a guest's routes by eth0, but for link-local and multicast ones: "WHERE via WHOM"."""
    every = [*listed(netns, "route", "show"), *listed(netns, "-6", "route", "show")]
    return {
        route["dst"] + (f" via {route['gateway']}" if "gateway" in route else "")
        for route in every
        if not route["dst"].startswith(("fe80::/", "ff00::/"))
    }


def neighbours(netns: str) -> dict[str, tuple[str, str]]:
    """The guest's permanent neighbours: address -> (MAC, device)."""
    return {
        found["dst"]: (found["lladdr"], found["dev"])
        for found in listed(netns, "neighbour", "show", "nud", "permanent")
    }


def ping(netns: str, address: str, *options: str) -> bool:
    command = ["ip", "netns", "exec", netns, "ping", "-c1", "-W2", *options, address]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
