"""One host of SmallPlane in a namespace of this machine, and the agent's part in driving it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from ovs_lwt.backends.netlink.present import devices
from ovs_lwt.backends.netlink.transport import Kernel
from ovs_lwt.backends.outcome import AUDIT
from ovs_lwt.kernel_host import KernelHost
from ovs_lwt.netns import entered
from ovs_lwt.sources.overlay_file import from_dict
from tests.support.overlays import Overlay, two_tenants
from tests.support.ovs import in_netns, network_namespace
from tests.support.small_plane import SmallPlane

NETNS = f"kernelhost-{os.getpid()}"


class Stage:
    """One host in a namespace, and the agent's part in driving it."""

    def __init__(self, plane: SmallPlane) -> None:
        self.plane = plane
        self.overlay: Overlay = two_tenants()
        self.now = 1000.0
        self.host = KernelHost("host1", NETNS, plane, lambda: self.now)
        self.topology = from_dict(self.overlay)

    def start(self) -> None:
        self.host.prepare(self.topology)
        self.look()

    def reload(self) -> None:
        topology = from_dict(self.overlay)
        self.host.prepare(topology)
        self.topology = topology
        self.look()

    def look(self) -> None:
        self.host.look(self.topology, self.now)
        self.host.flush()
        self.quiet()

    def quiet(self) -> None:
        while self.host.poll():
            self.host.look(self.topology, self.now)
            self.host.flush()

    def audit(self) -> None:
        self.now += AUDIT + 1
        self.host.tick(self.now)
        self.host.flush()
        self.quiet()

    @property
    def state(self) -> object:
        return self.host.status()["state"]

    @property
    def last(self) -> object:
        return self.host.status()["last"]


Make = Callable[..., Stage]


@contextmanager
def stages() -> Iterator[Make]:
    """Make the namespace, and in it a stage for every plane it is called with."""
    made: list[Stage] = []

    def make(plane: SmallPlane | None = None) -> Stage:
        made.append(Stage(plane or SmallPlane()))
        return made[-1]

    with network_namespace(NETNS):
        yield make
        for each in made:
            each.host.close()


@pytest.fixture
def make() -> Iterator[Make]:
    with stages() as make:
        yield make


@pytest.fixture
def stage(make: Make) -> Stage:
    """Running, with blue's and red's guests plugged in."""
    plug("blue-web1", "ovs-lwt blue/web1")
    plug("tap0", "ovs-lwt red/web1")
    stage = make()
    stage.start()
    return stage


def ip(*words: str) -> str:
    return in_netns(NETNS, "ip", *words)


def bridge(*words: str) -> str:
    return in_netns(NETNS, "bridge", *words)


def plug(name: str, alias: str) -> None:
    ip("link", "add", name, "type", "veth", "peer", "name", f"{name}.in")
    ip("link", "set", name, "alias", alias)
    ip("link", "set", name, "up")


def shown(name: str) -> str:
    return ip("-d", "link", "show", name)


def index(name: str) -> int:
    with entered(NETNS), Kernel() as kernel:
        return devices(kernel)[name].index


def settled(link: str) -> str:
    """What `ip link` shows, without timers and the states that follow from them."""
    return re.sub(r"_timer +[\d.]+|state \w+|,M-DOWN|promiscuity \d|allmulti \d", "", link)
