"""From an overlay to a lab's names and addresses, and to its record; nothing is made here."""

from __future__ import annotations

import os
import shutil
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovs_lwt.lab import requirements, state
from ovs_lwt.lab.controllers import arguments
from ovs_lwt.lab.guests import attachments
from ovs_lwt.lab.plan import Controllers, Datapath, LabPlan, make_plan, underlay_network
from ovs_lwt.lab.requirements import check_machine
from ovs_lwt.mistakes import Refused
from ovs_lwt.sources.overlay_file import from_dict, load
from ovs_lwt.values import unusable
from tests.support.overlays import two_tenants


def plan_of(
    overlay: dict[str, Any],
    controllers: Controllers = "each",
    labs: Path = Path("/labs"),
    **options: Any,
) -> LabPlan:
    return make_plan(
        from_dict(overlay),
        name="lab",
        overlay=Path("overlay.yaml"),
        controllers=controllers,
        python="python3",
        labs=labs,
        **options,
    )


def hosts(**addresses: str) -> dict[str, Any]:
    vteps: dict[str, Any] = {name: {"address": address} for name, address in addresses.items()}
    return {"vteps": vteps, "tenants": {}}


def _at(host: str) -> dict[str, Any]:
    return {"host": host, "mac": "02:00:00:00:00:01"}


def test_every_host_and_endpoint_gets_a_namespace_named_after_it() -> None:
    plan = plan_of(two_tenants())

    assert plan.underlay == "lab-underlay"
    assert [host.namespace for host in plan.hosts] == ["lab-host1", "lab-host2", "lab-host3"]
    assert {guest.id: guest.namespace for guest in plan.guests} == {
        "blue/web1": "lab-blue-web1",
        "blue/web2": "lab-blue-web2",
        "blue/web3": "lab-blue-web3",
        "red/web1": "lab-red-web1",
        "red/web2": "lab-red-web2",
    }
    assert [str(address) for address in plan.guests[0].addresses] == ["10.0.0.11/24", "fd00::11/64"]


def test_names_that_would_meet_are_told_apart() -> None:
    overlay = hosts(underlay="192.0.2.1", **{"a-b-c": "192.0.2.2", "lab.json": "192.0.2.3"})
    overlay["tenants"] = {
        "a-b": {"vni": 1, "endpoints": {"c": _at("underlay")}},
        "a": {"vni": 2, "endpoints": {"b-c": _at("underlay")}},
    }

    plan = plan_of(overlay)

    # Underlay and host "underlay"; host "a-b-c", endpoints "a-b/c" and "a/b-c".
    assert len(set(plan.namespaces)) == 1 + 3 + 2
    assert "underlay" not in {host.uplink for host in plan.hosts}
    assert len({guest.port for guest in plan.guests}) == 2
    assert plan.directory / "lab.json" not in {host.rundir for host in plan.hosts}


def test_the_longest_names_fit_where_they_go() -> None:
    overlay = hosts(**{f"{'h' * 62}{n}": f"192.0.2.{n}" for n in range(1, 10)})
    overlay["tenants"] = {
        "t" * 63: {
            "vni": 1,
            "endpoints": {"e" * 63: _at("h" * 62 + "1")},
        }
    }

    plan = plan_of(overlay)

    uplinks = [host.uplink for host in plan.hosts]
    assert len(set(uplinks)) == 9
    assert max(map(len, uplinks)) <= 15
    assert max(map(len, plan.namespaces)) < 255


@pytest.mark.parametrize(
    ("addresses", "network"),
    [
        (["192.0.2.11", "192.0.2.12"], "192.0.2.0/24"),
        (["192.0.2.11", "192.0.3.12"], "192.0.2.0/23"),
        (["10.1.2.3", "192.0.2.7"], "0.0.0.0/0"),
        # 10.0.0.0 and 10.0.1.255 are a network and a broadcast address in /23, and hosts in /22.
        (["10.0.1.255", "10.0.0.1"], "10.0.0.0/22"),
        (["192.0.2.255"], "192.0.2.0/23"),
        (["fd00::1", "fd00::2"], "fd00::/64"),
        (["fd00:1::1", "2001:db8::7"], "::/0"),
    ],
)
def test_every_vtep_is_on_link(addresses: list[str], network: str) -> None:
    assert underlay_network(map(ip_address, addresses)) == ip_network(network)


@given(st.lists(st.ip_addresses(v=4).filter(lambda ip: unusable(ip) is None), min_size=1))
def test_every_vtep_is_a_host_of_the_underlay_network(addresses: list[Any]) -> None:
    network = underlay_network(addresses)

    assert all(address in network for address in addresses)
    assert network.network_address not in addresses
    assert network.broadcast_address not in addresses


def test_one_controller_drives_all_hosts() -> None:
    plan = plan_of(hosts(host1="192.0.2.254", host2="fd00::12"), "one")

    command = arguments(plan, plan.own_hosts)
    assert "--listen" not in command
    assert [word for word in command if word.startswith("host")] == [
        "host1=unix:/labs/lab/host1/db.sock",
        "host2=unix:/labs/lab/host2/db.sock",
    ]


def test_a_controller_for_each_host_has_that_host_alone() -> None:
    plan = plan_of(hosts(host1="192.0.2.1", host2="192.0.2.2"))

    command = arguments(plan, [plan.hosts[1]])

    assert command[:5] == ["python3", "-P", "-m", "ovs_lwt.cli", "run"]
    assert command[command.index("--host") + 1] == "host2=unix:/labs/lab/host2/db.sock"
    assert "--listen" not in command


def test_somebody_else_s_machine_gets_no_namespace() -> None:
    overlay = two_tenants()
    overlay["vteps"]["host3"]["external"] = True

    plan = plan_of(overlay)

    assert [host.name for host in plan.own_hosts] == ["host1", "host2"]
    assert "blue/web3" not in {guest.id for guest in plan.guests}
    assert "" not in plan.namespaces


def test_an_overlay_of_external_hosts_alone_is_refused() -> None:
    overlay = hosts(host1="192.0.2.1")
    overlay["vteps"]["host1"]["external"] = True

    with pytest.raises(Refused, match="every host of the overlay is external"):
        plan_of(overlay)


@pytest.mark.parametrize("name", ["", "-x", "a/b", "a b", "x" * 33, ".."])
def test_a_name_that_cannot_begin_a_namespace_s_is_refused(name: str) -> None:
    with pytest.raises(Refused, match="cannot be called"):
        make_plan(from_dict(two_tenants()), name=name, overlay=Path("overlay.yaml"))


# Planes


def on_planes(**planes: str) -> dict[str, Any]:
    """Two tenants; the hosts named here are on planes of their own."""
    overlay = two_tenants()
    for host, plane in planes.items():
        overlay["vteps"][host]["plane"] = plane
    return overlay


def test_each_host_is_on_its_plane_and_only_a_switch_has_a_datapath() -> None:
    plan = plan_of(on_planes(host2="bridge"), datapath="system")

    assert [(host.plane, host.datapath) for host in plan.hosts] == [
        ("ovs", "system"),
        ("bridge", None),
        ("ovs", "system"),
    ]
    assert not any(guest.routed for guest in plan.guests)


def test_one_plane_for_all_is_the_controllers_too() -> None:
    plan = plan_of(on_planes(host2="bridge"), plane="route")

    assert {host.plane for host in plan.hosts} == {"route"}
    assert all(guest.routed for guest in plan.guests)
    command = arguments(plan, plan.hosts[:1])
    assert command[command.index("--plane") + 1] == "route"
    assert "--plane" not in arguments(plan_of(two_tenants()), plan.hosts[:1])


def test_one_controller_finds_switches_by_database_and_the_others_by_namespace() -> None:
    plan = plan_of(on_planes(host2="bridge"), "one")

    command = arguments(plan, plan.own_hosts)

    assert [word for word in command if word.startswith("host")] == [
        "host1=unix:/labs/lab/host1/db.sock",
        "host2=lab-host2",
        "host3=unix:/labs/lab/host3/db.sock",
    ]


def test_what_controllers_remember_goes_with_the_lab() -> None:
    plan = plan_of(on_planes(host2="bridge"))

    command = arguments(plan, [plan.hosts[1]])

    assert Path(command[command.index("--state") + 1]).is_relative_to(plan.directory)


def test_marks_are_left_to_flows_only_where_the_datapath_sees_no_other() -> None:
    overlay = on_planes(host2="bridge")

    def marking(datapath: Datapath) -> dict[str, set[str]]:
        plan = plan_of(overlay, datapath=datapath)
        found = attachments(from_dict(overlay), plan)
        return {host: {guest.marking for guest in guests} for host, guests in found.items()}

    assert marking("netdev") == {"host1": {"flow"}, "host2": {"auto"}, "host3": {"flow"}}
    assert marking("system") == {"host1": {"auto"}, "host2": {"auto"}, "host3": {"auto"}}


def test_a_kernel_that_lacks_what_a_host_needs_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements, "failure", lambda feature: "modprobe: FATAL: not found")
    lacking = [
        (plan_of(two_tenants(), datapath="system"), "host1 .*'Open vSwitch datapath'"),
        (plan_of(on_planes(host2="bridge")), "host2 is on plane bridge, .*'VLAN to VNI'"),
        (plan_of(two_tenants(), plane="route"), "host1 is on plane route"),
    ]
    for plan, said in lacking:
        with pytest.raises(Refused, match=f"{said}.*without --kernel here"):
            requirements.check_kernel(plan)
    requirements.check_kernel(plan_of(two_tenants()))


def test_a_kernel_is_asked_for_labels_only_where_a_tenant_is_carried_by_them() -> None:
    overlay = on_planes(host1="route", host2="route", host3="route")

    def asked() -> set[str]:
        return {feature.name for feature in requirements.needed(plan_of(overlay))}

    assert asked() == {"routes into VXLAN"}
    overlay["tenants"]["red"]["encapsulation"] = "mpls"
    assert asked() == {"routes into VXLAN", "MPLS routes", "VRF"}


EXAMPLES = sorted(Path(__file__).parents[2].joinpath("examples").glob("*.yaml"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_every_example_can_be_brought_up(example: Path) -> None:
    topology = load(example)
    plan = make_plan(topology, name="lab", overlay=example)

    attached = attachments(topology, plan)
    assert sum(map(len, attached.values())) == len(plan.guests) > 1


def test_the_guests_mtu_is_known_before_anything_is_made() -> None:
    overlay = two_tenants() | {"underlay": {"mtu": 1300}}
    topology = from_dict(overlay)

    with pytest.raises(Refused, match=r"raise underlay\.mtu to 1330"):
        attachments(topology, plan_of(overlay))


# The record


def test_a_lab_on_record_is_read_back_as_it_was(tmp_path: Path) -> None:
    plan = plan_of(two_tenants(), "one", labs=tmp_path)

    state.record(plan)

    assert state.load("lab", tmp_path) == plan
    assert state.names(tmp_path) == ["lab"]
    assert state.forget("lab", tmp_path)
    assert state.load("lab", tmp_path) is None


def test_of_two_labs_of_one_name_the_second_is_refused(tmp_path: Path) -> None:
    state.record(plan_of(two_tenants(), labs=tmp_path))

    with pytest.raises(Refused, match="ovs-lwt lab down --name lab"):
        state.record(plan_of(hosts(host1="192.0.2.1"), labs=tmp_path))

    kept = state.need("lab", tmp_path)
    assert len(kept.hosts) == 3


def test_a_lab_that_is_not_up_is_refused_with_those_that_are(tmp_path: Path) -> None:
    state.record(plan_of(two_tenants(), labs=tmp_path))

    with pytest.raises(Refused, match=r"did you mean 'lab'\?.*ovs-lwt lab up"):
        state.need("lap", tmp_path)


def test_a_record_of_another_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "lab.json").write_text('{"name": "lab"}')

    with pytest.raises(Refused, match="another version"):
        state.load("lab", tmp_path)


# The machine


def test_without_root_the_mend_is_sudo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    with pytest.raises(Refused, match="sudo"):
        check_machine()


def test_without_open_vswitch_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(
        shutil, "which", lambda tool: None if tool.startswith("ovs") else f"/usr/bin/{tool}"
    )

    with pytest.raises(Refused, match="apt-get install openvswitch-switch'"):
        check_machine()
