"""Hosts of several planes in one lab, where any kernel has them: ovs in userspace, and route."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ovs_lwt.lab import lifecycle
from ovs_lwt.lab.hosts import worth_a_look
from tests.support.lab import Lab, lab, lab_name, left_of, ovs_lwt

__all__ = ["lab"]

# Blue is switched, green is routed; they share MACs and addresses.
OVERLAY = """\
vteps:
  host1: {address: 192.0.2.11}
  host2: {address: 192.0.2.12}
  host3: {address: 192.0.2.13, plane: route}
  host4: {address: 192.0.2.14, plane: route}
tenants:
  blue:
    vni: 1010
    endpoints:
      web1: {host: host1, mac: "02:00:00:00:00:01", ip: [10.0.0.11/24]}
      web2: {host: host2, mac: "02:00:00:00:00:02", ip: [10.0.0.12/24]}
  green:
    vni: 3030
    endpoints:
      web1: {host: host3, mac: "02:00:00:00:00:01", ip: [10.0.0.11/24]}
      web2: {host: host4, mac: "02:00:00:00:00:02", ip: [10.0.0.12/24]}
"""


def test_hosts_of_other_planes_are_in_the_same_lab(lab: Callable[..., Lab]) -> None:
    up = lab(OVERLAY, controllers="one")

    assert up.ping().wrong == ()
    hosts = up.status().hosts
    assert {name: (host.plane, host.datapath) for name, host in hosts.items()} == {
        "host1": ("ovs", "netdev"),
        "host2": ("ovs", "netdev"),
        "host3": ("route", None),
        "host4": ("route", None),
    }
    assert up.status().endpoints["green/web1"].marking in ("tc", "nft")
    assert up.status().endpoints["blue/web1"].marking == "flow"
    # What `lab up` names as worth a look is there.
    for host in up.plan.own_hosts:
        for command, _ in worth_a_look(host):
            assert up.run(host.name, *command.split()) != "", command


def test_one_plane_for_all_hosts(tmp_path: Path) -> None:
    overlay, name = tmp_path / "overlay.yaml", lab_name()
    overlay.write_text(OVERLAY)
    up = ("lab", "up", str(overlay), "--name", name, "--controllers", "one", "--plane", "route")
    try:
        shown = ovs_lwt(*up)
        assert shown.returncode == 0, shown.stdout + shown.stderr
        assert f"exec --name {name} host1 -- ip rule" in shown.stdout
        assert ovs_lwt("lab", "ping", "--name", name).returncode == 0
    finally:
        lifecycle.down(name)
    assert left_of(name) == []
