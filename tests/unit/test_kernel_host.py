"""A host on a plane of the kernel: what it makes of the overlay and of the devices it finds."""

from __future__ import annotations

import errno
import logging
from dataclasses import replace

import pytest

from ovs_lwt import kernel_host
from ovs_lwt.backends.netlink.kinds import VNI
from ovs_lwt.backends.outcome import AUDIT
from ovs_lwt.kernel_host import KernelHost
from ovs_lwt.mistakes import Refused
from ovs_lwt.sources.overlay_file import from_dict
from ovs_lwt.topology import Topology
from tests.support.fake_machine import Keeper, Machine, Mutes, Plane
from tests.support.overlays import endpoint, two_tenants

LOG = "ovs_lwt"


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine()
    monkeypatch.setattr(kernel_host, "Kernel", lambda: machine)
    monkeypatch.setattr(kernel_host, "Links", lambda *_: machine)
    monkeypatch.setattr(kernel_host, "Notices", lambda *_: machine)
    monkeypatch.setattr(kernel_host, "MarkKeeper", lambda *_, **__: Keeper(machine))
    monkeypatch.setattr(kernel_host, "MuteKeeper", lambda *_: Mutes(machine))
    return machine


@pytest.fixture
def plane() -> Plane:
    return Plane()


@pytest.fixture
def topology() -> Topology:
    return from_dict(two_tenants())


@pytest.fixture
def host(machine: Machine, plane: Plane, topology: Topology) -> KernelHost:
    """Prepared, with blue's and red's guests plugged in, and looked at once."""
    machine.plug("tap0", "ovs-lwt red/web1")
    machine.plug("blue-web1", "ovs-lwt blue/web1")
    host = KernelHost("host1", None, plane, lambda: machine.time)
    host.prepare(topology)
    settle(host, machine, topology)
    return host


def settle(host: KernelHost, machine: Machine, topology: Topology) -> None:
    """What the agent does until nothing is new."""
    host.look(topology, machine.time)
    host.flush()
    while host.poll():
        host.look(topology, machine.time)
        host.flush()
    host.tick(machine.time)
    host.flush()


def test_a_host_makes_devices_writes_entries_and_says_so(
    host: KernelHost, machine: Machine
) -> None:
    assert list(machine.devices) == ["tap0", "blue-web1", "br-lwt", "vx-lwt"]
    assert machine.written[0] == "vni add vni 1010 dev vx-lwt"
    # In the view's order, which is the overlay's and not that of the devices.
    assert machine.applied[-1].devices == ("vx-lwt", "blue-web1", "tap0", "br-lwt")
    assert {tuple(line.split()[5:8]) for line in machine.written if "rule" in line} == {
        ("blue-web1", "fwmark", "10/4294967295"),
        ("tap0", "fwmark", "2020/4294967295"),
    }
    said = host.status()
    assert said.pop("synced") is not None
    assert said == {
        "plane": "bridge",
        "state": "in-sync",
        "entries": 7,
        "ports": {"blue-web1": "blue/web1", "tap0": "red/web1"},
        "errors": {},
        "portless": [],
        "strangers": {},
        "marking": {"blue-web1": "tc", "tap0": "tc"},
        "repaired": 0,
        "repaired_at": None,
        "trouble": [],
        "refused": [],
        "last": "7 written, 0 deleted, 0 as they were",
        "seconds": 0.0,
    }
    assert machine.marks == {"blue-web1": 10, "tap0": 2020}


def test_a_guest_that_leaves_takes_its_entries_along_without_reading(
    host: KernelHost, machine: Machine, plane: Plane, topology: Topology
) -> None:
    reads = plane.reads
    machine.written.clear()
    del machine.devices["tap0"]
    machine.news = True
    settle(host, machine, topology)
    assert [line.split()[:6] for line in machine.written] == [
        ["rule", "del", "priority", "100", "iif", "tap0"]
    ]
    assert (plane.reads, host.guests) == (reads, {"blue-web1": "blue/web1"})
    assert machine.marks == {"blue-web1": 10}


def test_a_device_made_anew_under_its_old_name_gets_its_entries_again(
    host: KernelHost, machine: Machine, topology: Topology
) -> None:
    machine.written.clear()
    machine.devices["vx-lwt"] = replace(machine.devices["vx-lwt"], index=77)
    machine.news = True
    settle(host, machine, topology)
    assert sum(line.startswith("fdb replace") for line in machine.written) == 3


def test_what_went_with_a_device_that_was_mended_is_found_by_reading(
    host: KernelHost, machine: Machine, plane: Plane, topology: Topology
) -> None:
    reads, machine.lost, machine.news = plane.reads, True, True
    settle(host, machine, topology)
    assert plane.reads == reads + 1
    assert host.status()["state"] == "in-sync"


def test_nothing_new_costs_no_entry(host: KernelHost, machine: Machine, topology: Topology) -> None:
    written, pruned = len(machine.written), len(machine.pruned)
    machine.news = True
    settle(host, machine, topology)
    assert (len(machine.written), len(machine.pruned)) == (written, pruned)


def test_what_is_not_wanted_any_more_goes_before_anything_is_read(
    host: KernelHost, machine: Machine, topology: Topology
) -> None:
    """Nobody asks it what it holds. Where that is known, it goes after its entries."""
    settle(host, machine, topology)
    evicted = len(machine.evicted)
    assert evicted == 1
    machine.plug("tap5", "ovs-lwt red/web1")
    settle(host, machine, topology)
    assert len(machine.evicted) == evicted


def test_claims_that_are_wrong_are_told_once(
    host: KernelHost, machine: Machine, topology: Topology, caplog: pytest.LogCaptureFixture
) -> None:
    machine.plug("tap7", "ovs-lwt blue/web9")
    machine.plug("tap8", "ovs-lwt blue/web2")
    machine.plug("tap9", "ovs-lwt blue/web1")
    machine.plug("eth0", "uplink to the rack")
    for _ in range(2):
        machine.news = True
        settle(host, machine, topology)
    errors = host.errors
    assert list(errors) == ["tap7", "tap8", "tap9"]
    assert "no endpoint 'web9'" in errors["tap7"]
    assert "lives on host2" in errors["tap8"]
    # The one that was there first has it.
    assert "behind port 'blue-web1' already" in errors["tap9"]
    assert caplog.text.count("host1: port tap7: tenant 'blue' has no endpoint 'web9'") == 1
    assert list(host.guests) == ["tap0", "blue-web1"]


def test_a_port_that_is_down_is_not_there_until_it_is_up(
    host: KernelHost, machine: Machine, topology: Topology
) -> None:
    machine.devices["tap0"] = replace(machine.devices["tap0"], up=False)
    machine.news = True
    settle(host, machine, topology)
    assert host.errors == {"tap0": "is down: set it up (ip link set tap0 up)"}
    assert host.guests == {"blue-web1": "blue/web1"}
    machine.devices["tap0"] = replace(machine.devices["tap0"], up=True)
    machine.news = True
    settle(host, machine, topology)
    assert (host.errors, list(host.guests)) == ({}, ["tap0", "blue-web1"])


def test_an_endpoint_that_moves_is_written_alone(host: KernelHost, machine: Machine) -> None:
    overlay = two_tenants()
    endpoint(overlay, "blue/web2")["host"] = "host3"
    machine.written.clear()
    host.prepare(from_dict(overlay))
    settle(host, machine, from_dict(overlay))
    assert machine.written == [
        "fdb replace 02:00:00:00:00:02 dev vx-lwt dst 192.0.2.13 src_vni 1010 self permanent"
    ]


def test_an_external_host_is_not_ours_to_run(machine: Machine, plane: Plane) -> None:
    overlay = two_tenants()
    overlay["vteps"]["host1"]["external"] = True
    with pytest.raises(Refused, match="host1 is external"):
        KernelHost("host1", None, plane).prepare(from_dict(overlay))
    assert machine.applied == []


def test_what_the_plane_cannot_carry_is_refused_before_anything_is_touched(
    machine: Machine, plane: Plane, topology: Topology
) -> None:
    plane.refuse = "5,000 tenants and 4,094 VLANs"
    with pytest.raises(Refused, match="5,000 tenants"):
        KernelHost("host1", None, plane).prepare(topology)
    assert machine.applied == []


def test_devices_that_cannot_be_made_are_tried_again(
    host: KernelHost, machine: Machine, topology: Topology, caplog: pytest.LogCaptureFixture
) -> None:
    machine.refuse_links = "there is a veth device 'br-lwt' already that is not ours"
    machine.news = True
    settle(host, machine, topology)
    for _ in range(3):
        machine.news = True
        settle(host, machine, topology)
    assert host.status()["state"] == "refused"
    assert host.refusals() == (machine.refuse_links,)
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 3, "the same refusal is told once: its head, reason, and next try"
    machine.refuse_links = None
    machine.time += 300
    settle(host, machine, topology)
    assert (host.status()["state"], host.refusals()) == ("in-sync", ())


def test_devices_that_can_be_made_after_all_need_not_wait_for_the_next_try(
    host: KernelHost, machine: Machine, topology: Topology
) -> None:
    machine.refuse_links, machine.news = "no", True
    settle(host, machine, topology)
    machine.refuse_links, machine.news = None, True
    settle(host, machine, topology)
    assert host.status()["state"] == "in-sync"


def test_rows_that_the_kernel_refuses_are_named_and_tried_again(
    host: KernelHost, machine: Machine, plane: Plane, topology: Topology
) -> None:
    machine.refuse_rows = errno.ENOSPC
    machine.plug("vx-lwt", "ovs-lwt")  # anew
    settle(host, machine, topology)
    (reason,) = host.refusals()
    assert reason.endswith(": No space left on device")
    assert host.status()["state"] == "refused"
    assert host.status()["entries"] == 0, "what there is, is not known"
    machine.refuse_rows, reads = 0, plane.reads
    machine.time += 5
    settle(host, machine, topology)
    assert (plane.reads, host.status()["state"]) == (reads + 1, "in-sync")


def test_a_guest_that_leaves_while_its_entries_are_written_is_no_refusal(
    host: KernelHost, machine: Machine, topology: Topology, caplog: pytest.LogCaptureFixture
) -> None:
    machine.leave = "tap0"
    overlay = two_tenants()
    endpoint(overlay, "blue/web2")["host"] = "host3"
    settle(host, machine, from_dict(overlay))
    assert (host.status()["state"], host.refusals()) == ("in-sync", ())
    assert "refused" not in caplog.text
    assert host.guests == {"blue-web1": "blue/web1"}


def test_an_audit_reads_and_says_nothing_if_nothing_has_changed(
    host: KernelHost, machine: Machine, plane: Plane, topology: Topology
) -> None:
    program = host.session._installed
    assert program is not None
    plane.lost, before, last = program.entries, plane.reads, host.last
    machine.time += AUDIT
    settle(host, machine, topology)
    assert plane.reads == before + 1
    assert host.last is not None
    assert last is not None
    assert host.last.counts.written == last.counts.written, "the last change, not the audit"


def test_what_others_took_away_is_there_again_after_an_audit(
    host: KernelHost, machine: Machine, plane: Plane, topology: Topology
) -> None:
    program = host.session._installed
    assert program is not None
    plane.lost = [entries for entries in program.entries if entries.kind is not VNI]
    machine.written.clear()
    machine.time += AUDIT
    settle(host, machine, topology)
    assert machine.written == ["vni add vni 1010 dev vx-lwt", "vni add vni 2020 dev vx-lwt"]
    assert host.outcome() == "2 written, 0 deleted, 5 as they were"


def test_whoever_asks_for_an_audit_is_told_how_it_came_out(
    host: KernelHost, machine: Machine
) -> None:
    host.audit(machine.time)
    assert (host.busy, host.outcome()) == (True, "reading")
    host.flush()
    assert not host.busy
    assert host.outcome() == "7 written, 0 deleted, 0 as they were"


def test_an_overlay_that_is_not_taken_over_leaves_no_gap(
    host: KernelHost, machine: Machine, topology: Topology
) -> None:
    """Another host refuses the new overlay: this one made vx-lwt anew and back for nothing."""
    del machine.devices["vx-lwt"]
    machine.poll()
    machine.written.clear()
    host.prepare(topology)
    machine.news = False
    assert host.poll()
    host.look(topology, machine.time)
    host.flush()
    assert sum(line.startswith("fdb replace") for line in machine.written) == 3


def test_closing_lets_go_of_every_socket(host: KernelHost, machine: Machine) -> None:
    host.close()
    assert machine.closed == 4


def test_it_knows_who_has_no_port_and_which_ports_are_nobodys(
    host: KernelHost, machine: Machine, topology: Topology
) -> None:
    bridge = machine.devices["br-lwt"]
    machine.devices["br-lwt"] = replace(bridge, kind="bridge")
    machine.plug("eth7")
    machine.devices["eth7"] = replace(machine.devices["eth7"], master=bridge.index)
    machine.plug("eth8")
    del machine.devices["tap0"]
    settle(host, machine, topology)
    assert host.portless() == ["red/web1"]
    assert host.strangers == {"eth7": ""}
