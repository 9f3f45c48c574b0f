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
    # Were an outer packet caught by its tenant's rule, it would meet the end of that table.
    outer = ("ip", "route", "get", "192.0.2.14", "from", "192.0.2.13", "mark", "3030")
    assert "dev u0" in up.run("host3", *outer)
    inner = ("ip", "route", "get", "192.0.2.14", "from", "10.0.0.11", "iif", "green-web1")
    caught = up.execute("host3", *inner, "mark", "3030")
    assert "No route to host" in caught.stderr
    # A guest knows its gateway and no more; the other host is known once, and to the host alone.
    assert len(up.run("green/web1", "ip", "neigh").splitlines()) == 1
    assert up.run("green/web1", "ip", "route").startswith("default via 169.254.0.1 dev eth0")
    assert len(up.run("green/web1", "ip", "route").splitlines()) == 1
    (peer,) = up.run("host3", "ip", "neigh", "show", "dev", "vx-lwt").splitlines()
    assert peer.startswith("192.0.2.14 lladdr 02:4c:c0:00:02:0e PERMANENT")
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
