"""Guests on h0: two that talk to each other, and ports of many tenants that packets are traced
from.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from bench.scale.overlays import address_of, mac_of, places_here
from bench.scale.stage import BRIDGE, NETNS, PATIENCE, Controller
from ovs_lwt.lab import namespaces
from tests.support.ovs import OvsHost, eventually

TENANT: Final = "t0"
PLACES: Final = places_here(2)
"""Which of its endpoints are the two."""
GUESTS: Final = tuple(f"{NETNS}-e{place}" for place in PLACES)
"""Their namespaces."""


@contextmanager
def two(host: OvsHost) -> Iterator[None]:
    """Attach both, and take them away again."""
    try:
        for guest, place in zip(GUESTS, PLACES, strict=True):
            namespaces.create(guest)
            port, mac = f"e{place}", mac_of(place)
            link = ("link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", guest)
            host.run("ip", *link, "address", mac)
            host.run("ip", "link", "set", port, "up")
            _claim(host, [port], [f"{TENANT}/e{place}"])
            inside = ("ip", "-n", guest)
            subprocess.run([*inside, "link", "set", "eth0", "up"], check=True)
            address = f"{address_of(place)}/16"
            subprocess.run([*inside, "address", "add", address, "dev", "eth0"], check=True)
        yield
    finally:
        for place in PLACES:
            host.vsctl("--if-exists", "del-port", BRIDGE, f"e{place}")
        for guest in GUESTS:
            namespaces.remove(guest)


@contextmanager
def ports(host: OvsHost, tenants: Sequence[int]) -> Iterator[list[str]]:
    """A port for the first endpoint of each of these tenants; yields their names."""
    names = [f"p{tenant}" for tenant in tenants]
    try:
        internal = ("type=internal",)
        _claim(host, names, [f"t{tenant}/e0" for tenant in tenants], internal)
        yield names
    finally:
        host.vsctl(*_each(("--if-exists", "del-port", BRIDGE, name) for name in names))


def await_ports(controller: Controller, count: int) -> None:
    """Wait until so many guests are attached, and the switch has their flows."""
    if not eventually(lambda: len(controller.status()["ports"]) == count, within=PATIENCE):
        raise SystemExit(f"not attached: {controller.status()['errors']}")
    controller.settle()


def _claim(
    host: OvsHost, names: Sequence[str], endpoints: Sequence[str], more: Sequence[str] = ()
) -> None:
    host.vsctl(
        *_each(
            (
                *("add-port", BRIDGE, name, "--", "set", "interface", name, *more),
                f"external_ids:ovs-lwt-endpoint={endpoint}",
            )
            for name, endpoint in zip(names, endpoints, strict=True)
        )
    )


def _each(commands: Iterator[tuple[str, ...]]) -> list[str]:
    return [word for command in commands for word in ("--", *command)]
