"""README, "Without a controller": its very lines make two hosts whose guests reach each other."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.markdown import CHECKOUT, blocks, commands
from tests.support.ovs import OvsHost

README = (CHECKOUT / "README.md").read_text("utf-8")
# What the README says of host1, said of host2.
TO_HOST2 = {"host1": "host2", "192.0.2.11": "192.0.2.12", "web1": "web2"}


@dataclass(frozen=True, slots=True)
class Site:
    """Two hosts on one underlay, and a folder with the overlay of the README."""

    hosts: dict[str, OvsHost]
    folder: Path
    prefix: str
    printed: dict[str, str] = field(default_factory=dict)

    def follow(self, name: str) -> str:
        """Type the README's lines on a host; return what they print."""
        lines = [command.line for command in commands(README) if command.where == "host1"]
        script = "\n".join(["set -e", *lines])
        if name == "host2":
            for ours, theirs in TO_HOST2.items():
                script = script.replace(ours, theirs)
        # This machine may lack the kernel module, and may have a namespace called web1.
        script = script.replace("fail_mode=secure", "fail_mode=secure datapath_type=netdev")
        for before in ("netns add ", "--netns "):
            script = script.replace(before, before + self.prefix)
        host = self.hosts[name]
        environment = host.env | {
            "PATH": f"{self.folder}:{os.environ['PATH']}",
            "PYTHONPATH": str(CHECKOUT),
            "OVSDB": host.remote,
        }
        # Unlike `ip netns exec`, this leaves the mounts alone: `ip netns add` must be seen outside.
        command = ["nsenter", f"--net=/run/netns/{host.netns}", "sh", "-c", script]
        done = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
        return done.stdout

    def ping(self, guest: str, address: str) -> bool:
        command = ["ip", "netns", "exec", self.prefix + guest, "ping", "-c1", "-W3", address]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Both hosts, after everything that the README says has been typed."""
    folder = tmp_path_factory.mktemp("site")
    prefix = f"hand-{os.getpid()}-"
    (overlay,) = blocks(README, "yaml")
    (folder / "overlay.yaml").write_text(overlay, "utf-8")
    # `ovs-lwt`, speaking to the host's own database as it would on a machine of its own.
    command = folder / "ovs-lwt"
    run = f'exec {sys.executable} -m ovs_lwt.cli "$@"'
    command.write_text(
        f'#!/bin/sh\ncase "$1" in attach) set -- "$@" --ovsdb "$OVSDB" ;; esac\n{run}\n'
    )
    command.chmod(0o755)
    with ExitStack() as stack:
        hosts = {name: stack.enter_context(OvsHost(prefix + name)) for name in ("host1", "host2")}
        for guest in ("web1", "web2"):
            remove = ["ip", "netns", "del", prefix + guest]
            stack.callback(subprocess.run, remove, check=False)
        ends = [f"u0 netns {host.netns}" for host in hosts.values()]
        subprocess.run(f"ip link add {ends[0]} type veth peer name {ends[1]}".split(), check=True)
        for number, host in enumerate(hosts.values(), 1):
            lay_underlay(host, number)
        site = Site(hosts, folder, prefix)
        site.printed.update({name: site.follow(name) for name in hosts})
        yield site


def lay_underlay(host: OvsHost, number: int) -> None:
    """Put the VTEP's address where the userspace datapath finds it."""
    host.vsctl(
        *("add-br", "br-phy", "--", "set", "bridge", "br-phy", "datapath_type=netdev"),
        f"other_config:hwaddr=02:00:00:0a:00:{number:02x}",
        *("--", "add-port", "br-phy", "u0"),
    )
    host.run("ip", "address", "add", f"192.0.2.{10 + number}/24", "dev", "br-phy")
    for device in ("u0", "br-phy"):
        host.run("ip", "link", "set", device, "up")


def test_hosts_loaded_by_hand_carry_a_tenant(site: Site) -> None:
    for host in site.hosts.values():
        assert host.vsctl("get-controller", "br-lwt") == "", "no controller"

    assert site.ping("web1", "10.0.0.12")
    assert site.ping("web2", "10.0.0.11")


def test_the_bridge_holds_what_the_text_says(site: Site) -> None:
    for name, printed in site.printed.items():
        # The one line is what `attach` says: diff-flows, the last command, adds nothing.
        assert [line.partition(":")[0] for line in printed.splitlines()] == [
            "blue/web1" if name == "host1" else "blue/web2"
        ]

        dump = site.hosts[name].ofctl("-O", "OpenFlow14", "--names", "dump-groups", "br-lwt")
        loaded = {line.strip().replace('"', "") for line in dump.splitlines() if "group_" in line}
        text = (
            (site.folder / f"{name}.groups").read_text().replace("set_field:10-", "set_field:0xa-")
        )
        assert loaded == {line for line in text.splitlines() if line.startswith("group_")}


def test_a_guest_that_is_not_attached_is_named_and_nothing_is_loaded(site: Site) -> None:
    host, flows = site.hosts["host1"], site.folder / "absent.flows"
    dump = ("-O", "OpenFlow14", "--no-stats", "dump-flows", "br-lwt")
    before = sorted(host.ofctl(*dump).splitlines()[1:])
    flows.write_text((site.folder / "host1.flows").read_text().replace("blue-web1", "blue-web9"))

    with pytest.raises(AssertionError, match="blue-web9: invalid or unknown port"):
        host.ofctl("-O", "OpenFlow14", "--bundle", "add-flows", "br-lwt", str(flows))

    assert sorted(host.ofctl(*dump).splitlines()[1:]) == before
