"""From a domain's XML to a guest that answers, by libvirt itself.

The XML, the overlay and the commands are those of docs/libvirt.md.
"""

from __future__ import annotations

import copy
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.controller import BRIDGE, Controller, cli, controller, write
from tests.support.libvirt import READY, Libvirt, console, domain
from tests.support.ovs import OvsHost, eventually, in_netns, network_namespace

PAGE = (Path(__file__).parents[2] / "docs" / "libvirt.md").read_text()
PEER = f"libvirt-web2-{os.getpid()}"
BOOTED = 120.0  # emulated, on a machine with neighbours; a quiet one takes 10 s


def block(language: str) -> str:
    (text,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return str(text)


def shown(command: str) -> str:
    """The page's line that begins with this command."""
    (line,) = re.findall(rf"^# ({re.escape(command)}.*)$", block("console"), re.MULTILINE)
    return str(line)


@pytest.fixture
def overlay(tmp_path: Path) -> Path:
    """The page's, with both guests on this host."""
    described: dict[str, Any] = copy.deepcopy(yaml.safe_load(block("yaml")))
    described["tenants"]["blue"]["endpoints"]["web2"]["host"] = "host1"
    return write(tmp_path / "overlay.yaml", described)


@pytest.fixture
def host() -> Iterator[OvsHost]:
    with OvsHost(f"libvirtd-{os.getpid()}") as host:
        yield host


@pytest.fixture
def agent(host: OvsHost, overlay: Path) -> Iterator[Controller]:
    with controller(host, overlay) as running:
        yield running


@pytest.fixture
def libvirt(host: OvsHost, tmp_path: Path) -> Iterator[Libvirt]:
    folder = tmp_path / "libvirt"
    folder.mkdir()
    with Libvirt(host, folder) as libvirt:
        yield libvirt


@pytest.fixture
def web2(host: OvsHost, overlay: Path, agent: Controller) -> Iterator[str]:
    """The other guest, in a network namespace."""
    assert agent.state() == "in-sync"
    with network_namespace(PEER):
        attach = ("attach", str(overlay), "blue/web2", "--netns", PEER, "--host", "host1")
        done = cli(*attach, "--ovsdb", host.remote, netns=host.netns)
        assert done.returncode == 0, done.stderr
        yield PEER
        cli("detach", "blue/web2", "--ovsdb", host.remote, netns=host.netns)


def typed(libvirt: Libvirt, line: str) -> str:
    """A line of the page, as typed into a shell."""
    done = subprocess.run(
        ["sh", "-c", line], env=dict(libvirt.env), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{line}: {done.stderr}"
    return done.stdout


def test_from_the_domain_to_a_guest_that_answers(
    host: OvsHost, agent: Controller, libvirt: Libvirt, web2: str, tmp_path: Path
) -> None:
    libvirt.virsh("define", str(domain(tmp_path, "web1", block("xml"), "10.0.0.11/24")))
    typed(libvirt, shown("virsh start web1"))
    assert agent.in_sync("blue/web1", "blue/web2"), agent.log
    [port] = [name for name, who in agent.status()["ports"].items() if who == "blue/web1"]
    assert port in typed(libvirt, shown("ovs-vsctl --columns=name,external_ids find"))
    assert host.vsctl("get", "interface", port, "mtu") == "1450"

    said = console(tmp_path, "web1")
    assert eventually(lambda: READY in said.read_text("utf-8", "replace"), BOOTED), said.read_text()
    in_netns(web2, "ping", "-c", "3", "-i", "0.2", "-W", "5", "10.0.0.11")
    # The guest has the page's MAC, and its peer has learnt it.
    assert "52:54:00:00:00:01" in in_netns(web2, "ip", "neigh", "show", "10.0.0.11")

    libvirt.virsh("destroy", "web1")
    assert agent.in_sync("blue/web2"), agent.log
    assert agent.status()["portless"] == ["blue/web1"]
    assert port not in host.vsctl("list-ports", BRIDGE).split()
