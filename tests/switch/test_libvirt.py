"""A guest of libvirt's: what docs/libvirt.md says, with the domain XML and the overlay of that
page, a tap device, and the very command with which libvirt plugs it
(src/util/virnetdevopenvswitch.c).
"""

from __future__ import annotations

import contextlib
import copy
import fcntl
import os
import re
import select
import struct
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from ovs_lwt.netns import entered
from tests.support.controller import BRIDGE, Controller, controller, difference, unplug, write
from tests.support.ovs import OvsHost, eventually

PAGE = (Path(__file__).parents[2] / "docs" / "libvirt.md").read_text()
DOMAIN = "4f1c9b8e-7a42-4d0a-9f55-0d4ac3f0c0de"
SOMEBODYS = "11111111-2222-3333-4444-555555555555"
_TUNSETIFF, _IFF_TAP, _IFF_NO_PI = 0x400454CA, 0x0002, 0x1000


def block(language: str) -> str:
    (text,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return str(text)


@dataclass(frozen=True)
class Interface:
    """An interface of a domain, as the page's XML describes it."""

    mac: str
    uuid: str
    bridge: str

    @classmethod
    def of_page(cls) -> Interface:
        root = ElementTree.fromstring(block("xml"))

        def said(path: str, attribute: str) -> str:
            found = root.find(path)
            assert found is not None
            return found.attrib[attribute]

        return cls(
            said("mac", "address"),
            said("virtualport/parameters", "interfaceid"),
            said("source", "bridge"),
        )


WEB1 = Interface.of_page()


def plugged_by_libvirt(host: OvsHost, tap: str, mac: str, uuid: str) -> None:
    """virNetDevOpenvswitchAddPort of libvirt 9."""
    host.vsctl(
        *("--", "--if-exists", "del-port", tap, "--", "add-port", WEB1.bridge, tap),
        *("--", "set", "Interface", tap, f'external-ids:attached-mac="{mac}"'),
        *("--", "set", "Interface", tap, f'external-ids:iface-id="{uuid}"'),
        *("--", "set", "Interface", tap, f'external-ids:vm-id="{DOMAIN}"'),
        *("--", "set", "Interface", tap, "external-ids:iface-status=active"),
    )


class Tap:
    """The tap device of a domain, from its side: what qemu writes and reads."""

    def __init__(self, host: OvsHost, name: str, mac: str) -> None:
        self.mac = bytes.fromhex(mac.replace(":", ""))
        with entered(host.netns):
            self._file = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            request = struct.pack("16sH22x", name.encode(), _IFF_TAP | _IFF_NO_PI)
            fcntl.ioctl(self._file, _TUNSETIFF, request)
        host.run("ip", "link", "set", name, "up")

    def who_has(self, address: str, sender: str = "10.0.0.11") -> bytes | None:
        """Ask for an address by ARP, a few times; return the MAC of the answer."""
        asked, own = (bytes(map(int, text.split("."))) for text in (address, sender))
        head = b"\xff" * 6 + self.mac + b"\x08\x06\0\1\x08\0\6\4\0\1"
        for _ in range(10):
            os.write(self._file, head + self.mac + own + bytes(6) + asked)
            until = time.monotonic() + 0.3
            while select.select([self._file], [], [], max(0, until - time.monotonic()))[0]:
                frame = os.read(self._file, 2048)
                reply = frame[12:14] == b"\x08\x06" and frame[20:22] == b"\0\2"
                if reply and frame[28:32] == asked:
                    return frame[22:28]
        return None

    def close(self) -> None:
        os.close(self._file)


@contextlib.contextmanager
def tap(host: OvsHost, name: str, mac: str = WEB1.mac) -> Iterator[Tap]:
    made = Tap(host, name, mac)
    try:
        yield made
    finally:
        made.close()


def overlay() -> dict[str, Any]:
    return copy.deepcopy(dict(yaml.safe_load(block("yaml"))))


@pytest.fixture(scope="module")
def host() -> Iterator[OvsHost]:
    with OvsHost(f"libvirt-{os.getpid()}") as host:
        yield host


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("libvirt") / "overlay.yaml", overlay())


@pytest.fixture(scope="module")
def one(host: OvsHost, file: Path) -> Iterator[Controller]:
    with controller(host, file) as running:
        yield running


@pytest.fixture
def running(host: OvsHost, one: Controller, file: Path) -> Iterator[Controller]:
    yield one
    if ports := set(host.vsctl("list-ports", BRIDGE).split()) - {"vx-lwt"}:
        unplug(host, *sorted(ports))
    write(file, overlay())
    one.reload()
    assert eventually(lambda: one.status()["ports"] == {}), one.log


def error(host: OvsHost, port: str) -> str:
    return host.vsctl("--if-exists", "get", "interface", port, "external_ids:ovs-lwt-error")


def is_behind(running: Controller, port: str) -> bool:
    return eventually(lambda: running.status()["ports"] == {port: "blue/web1"})


def test_the_page_speaks_of_one_guest() -> None:
    web1 = overlay()["tenants"]["blue"]["endpoints"]["web1"]
    assert (web1["mac"], web1["port"], WEB1.bridge) == (WEB1.mac, WEB1.uuid, BRIDGE)


def test_a_domain_is_the_endpoint_that_lists_its_uuid(
    host: OvsHost, running: Controller, file: Path
) -> None:
    with tap(host, "vnet3") as guest:
        plugged_by_libvirt(host, "vnet3", WEB1.mac, WEB1.uuid)
        assert running.in_sync("blue/web1"), running.log
        assert running.status()["ports"] == {"vnet3": "blue/web1"}
        assert guest.who_has("10.0.0.12") == bytes.fromhex("525400000002")
        assert difference(host, file) == "", "export --ovsdb knows it as well"


def test_it_follows_a_domain_that_stops_and_starts_under_another_name(
    host: OvsHost, running: Controller
) -> None:
    for name in ("vnet3", "vnet4", "vnet4"):
        with tap(host, name) as guest:
            plugged_by_libvirt(host, name, WEB1.mac, WEB1.uuid)
            assert is_behind(running, name), running.log
            assert running.in_sync("blue/web1"), running.log
            assert guest.who_has("10.0.0.12") == bytes.fromhex("525400000002")
            host.vsctl("--", "--if-exists", "del-port", name)
        assert eventually(lambda: running.status()["ports"] == {}), running.log


def test_a_uuid_that_nobody_lists_is_nobodys(host: OvsHost, running: Controller) -> None:
    with tap(host, "vnet3") as guest:
        plugged_by_libvirt(host, "vnet3", WEB1.mac, SOMEBODYS)
        with tap(host, "vnet4", "52:54:00:00:00:09"):
            plugged_by_libvirt(host, "vnet4", "52:54:00:00:00:09", WEB1.uuid)
            assert running.in_sync("blue/web1"), running.log
            assert running.status()["ports"] == {"vnet4": "blue/web1"}
            assert running.status()["errors"] == {}
            assert running.status()["strangers"] == {"vnet3": SOMEBODYS}
            assert guest.who_has("10.0.0.12") is None


def test_the_overlay_learns_the_uuid_later(host: OvsHost, running: Controller, file: Path) -> None:
    later = overlay()
    del later["tenants"]["blue"]["endpoints"]["web1"]["port"]
    write(file, later)
    running.reload()
    with tap(host, "vnet3"):
        plugged_by_libvirt(host, "vnet3", WEB1.mac, WEB1.uuid)
        assert running.in_sync()
        assert running.status()["ports"] == {}
        assert running.status()["portless"] == ["blue/web1"]
        write(file, overlay())
        running.reload()
        assert running.in_sync("blue/web1"), running.log


def test_its_mac_is_enough_where_the_overlay_says_so(
    host: OvsHost, running: Controller, file: Path
) -> None:
    by_mac = overlay()
    web1 = by_mac["tenants"]["blue"]["endpoints"]["web1"]
    del web1["port"]
    web1["attached_mac"] = True
    write(file, by_mac)
    running.reload()
    with tap(host, "vnet3") as guest:
        plugged_by_libvirt(host, "vnet3", WEB1.mac, SOMEBODYS)
        assert running.in_sync("blue/web1"), running.log
        assert guest.who_has("10.0.0.12") == bytes.fromhex("525400000002")


def test_a_domain_that_has_moved_before_the_overlay(
    host: OvsHost, running: Controller, file: Path
) -> None:
    before = overlay()
    endpoints = before["tenants"]["blue"]["endpoints"]
    endpoints["web1"]["host"], endpoints["web2"]["host"] = "host2", "host1"
    write(file, before)
    running.reload()
    with tap(host, "vnet3"):
        plugged_by_libvirt(host, "vnet3", WEB1.mac, WEB1.uuid)
        assert eventually(lambda: "blue/web1 lives on host2" in error(host, "vnet3")), running.log
        write(file, overlay())
        running.reload()
        assert running.in_sync("blue/web1"), running.log
        assert eventually(lambda: error(host, "vnet3").strip() in ("", '""')), error(host, "vnet3")
