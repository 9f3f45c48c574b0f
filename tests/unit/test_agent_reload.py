"""Reloading the overlay: what is taken over, what is not, and who is told."""

from __future__ import annotations

import gc
import json
from weakref import ReferenceType, ref

import pytest

from ovs_lwt.agent import Reload
from ovs_lwt.backends.openflow.pipeline import COOKIE_VNI_MASK
from ovs_lwt.mistakes import Mistake
from ovs_lwt.topology import Topology
from ovs_lwt.transitions import REST
from ovs_lwt.vswitch import LocalPort
from tests.support.fake_switch import BAD_SET_ARGUMENT
from tests.support.line import holding
from tests.support.overlays import endpoint, two_tenants, view
from tests.support.world import FakeSource, Story, World


def test_a_reload_takes_the_changed_overlay_over(world: World) -> None:
    def story() -> Story:
        world.connect("host1")
        yield
        endpoint(world.source.overlay, "blue/web2")["host"] = "host3"
        world.inbox.append(Reload())
        yield
        assert world.switch["host1"].state == holding(view(world.source.overlay))
        assert len(world.ovsdb["host1"].plans) == 1, "its switch stands as it stood"
        world.source.overlay["underlay"] = {"udp_port": 8472}
        world.inbox.append(Reload())
        yield
        assert [plan.udp_port for plan in world.ovsdb["host1"].plans] == [4789, 8472]

    world.run(story())


def test_a_reload_is_answered_once_the_switch_has_it(world: World) -> None:
    def story() -> Story:
        world.connect("host1")
        yield
        endpoint(world.source.overlay, "blue/web2")["host"] = "host3"
        changed = world.ask("reload")
        assert changed.waits()
        yield
        assert changed.answer is not None
        assert changed.answer.startswith("host1: ")
        assert " 0 deleted" in changed.answer
        same = world.ask("reload")
        yield
        assert same.answer is not None
        assert same.answer.startswith("host1: 0 flows written")

    world.run(story())


def test_a_reload_finds_what_others_have_broken(world: World) -> None:
    def story() -> Story:
        world.connect("host1")
        yield
        del world.switch["host1"].state.groups[1010]
        asker = world.ask("reload")
        yield
        assert asker.answer is not None
        assert "1 groups written" in asker.answer
        assert world.switch["host1"].state == holding(view())

    world.run(story())


def test_a_reload_while_the_switch_is_away_says_so(world: World) -> None:
    def story() -> Story:
        asker = world.ask("reload")
        yield
        assert asker.refusal == "host1: offline: its switch has it once it is back"

    world.run(story())


def test_a_broken_overlay_changes_nothing_and_every_mistake_is_told(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    def story() -> Story:
        world.connect("host1")
        yield
        held = world.switch["host1"].state.copy()
        world.source.mistakes = tuple(
            Mistake(f"overlay.yaml:{line}", "tenants.blue.vni", "is 0") for line in (3, 14)
        )
        asker = world.ask("reload")
        assert asker.refusal is not None
        assert asker.refusal.splitlines() == [str(mistake) for mistake in world.source.mistakes]
        assert "overlay.yaml:14" in caplog.text
        yield
        assert world.switch["host1"].state == held
        world.source.mistakes = ()
        world.ask("reload")
        yield
        assert world.status("host1")["state"] == "in-sync"

    world.run(story())


def test_a_switch_that_cannot_be_prepared_keeps_the_old_overlay(world: World) -> None:
    def story() -> Story:
        world.connect("host1")
        yield
        held = world.switch["host1"].state.copy()
        endpoint(world.source.overlay, "blue/web2")["host"] = "host3"
        world.ovsdb["host1"].refusal = "the UDP port is taken: choose another"
        asker = world.ask("reload")
        yield
        assert asker.refusal == "the UDP port is taken: choose another"
        assert world.switch["host1"].state == held

    world.run(story())


def test_a_refused_reload_is_answered_with_the_flow(world: World) -> None:
    def story() -> Story:
        world.connect("host1")
        yield
        world.switch["host1"].forget()
        world.switch["host1"].refuse = {0: BAD_SET_ARGUMENT}
        endpoint(world.source.overlay, "blue/web2")["host"] = "host3"
        asker = world.ask("reload")
        yield
        assert asker.refusal is not None
        assert asker.refusal.startswith("host1: ")
        assert "OFPBAC_BAD_SET_ARGUMENT" in asker.refusal
        assert world.status("host1")["state"] == "refused"
        assert world.status("host1")["refused"] == [asker.refusal.removeprefix("host1: ")]
        world.switch["host1"].refuse = {}
        world.now += 5
        yield
        assert world.status("host1")["state"] == "in-sync"
        assert world.status("host1")["refused"] == []

    world.run(story())


@pytest.mark.parametrize("watch", [True, False])
def test_a_saved_overlay_is_taken_over_if_it_is_watched(watch: bool) -> None:
    world = World(watch=watch)

    def story() -> Story:
        world.connect("host1")
        yield
        endpoint(world.source.overlay, "blue/web2")["host"] = "host3"
        world.source.written += 1
        yield
        now = world.source.overlay if watch else two_tenants()
        assert world.switch["host1"].state == holding(view(now))

    world.run(story())


def green(world: World, host: str) -> None:
    """Tenant green is on this host alone."""
    guest = {"host": host, "mac": "02:00:00:00:00:01", "ip": ["10.0.0.11/24"]}
    world.source.overlay["tenants"]["green"] = {"vni": 3030, "endpoints": {"web1": guest}}
    world.inbox.append(Reload())


def test_a_wrong_claim_is_explained_by_the_overlay_as_it_is_now(world: World) -> None:
    world.ovsdb["host1"].found.append(LocalPort("stray", 9, "green/web1"))

    def story() -> Story:
        yield
        assert "no tenant 'green'" in world.ovsdb["host1"].errors["stray"]
        green(world, "host2")
        yield
        assert "green/web1 lives on host2" in world.ovsdb["host1"].errors["stray"]
        green(world, "host1")
        yield
        assert world.ovsdb["host1"].errors == {}

    world.run(story())


def test_who_takes_no_notice_of_a_change_does_not_hold_on_to_the_old_overlay(world: World) -> None:
    read: list[ReferenceType[Topology]] = []

    class Noting(FakeSource):
        def read(self) -> Topology:
            topology = FakeSource.read(self)
            read.append(ref(topology))
            return topology

    world.source = Noting()

    def story() -> Story:
        world.connect("host1")
        yield
        for host in ("host2", "host3", "host2"):
            green(world, host)
            yield
        yield
        gc.collect()
        assert read[0]() is None
        endpoint(world.source.overlay, "blue/web2")["host"] = "host3"
        world.inbox.append(Reload())
        yield
        assert world.switch["host1"].state == holding(view(world.source.overlay))

    world.run(story())


def test_a_vni_that_another_tenant_bears_is_refused_in_one_change(world: World) -> None:
    """While not all hosts know, one tenant would hear the other."""

    def story() -> Story:
        world.connect("host1")
        yield
        held = world.switch["host1"].state.copy()
        tenants = world.source.overlay["tenants"]
        tenants["blue"]["vni"], tenants["red"]["vni"] = 2020, 1010
        asker = world.ask("reload")
        yield
        assert asker.refusal is not None
        assert "Do it in two steps: first take VNI 1010 off blue" in asker.refusal
        assert world.switch["host1"].state == held
        about = json.loads(world.ask("status").answer or "")
        assert about["overlay"]["refused"]
        assert about["hosts"]["host1"]["state"] == "in-sync", "it runs what it ran"
        assert about["hosts"]["host1"]["findings"][0]["subject"] == "overlay"
        # Who knows better says so.
        asker = world.ask("reload-force")
        yield
        assert asker.answer is not None
        assert world.switch["host1"].state != held
        assert not json.loads(world.ask("status").answer or "")["overlay"]["refused"]

    world.run(story())


def test_a_vni_that_was_given_up_just_now_is_waited_for(world: World) -> None:
    """Packets with it may be under way. Nobody has to ask twice."""

    def story() -> Story:
        world.connect("host1")
        yield
        tenants = world.source.overlay["tenants"]
        tenants["blue"]["vni"] = 4711
        first = world.ask("reload")
        yield
        assert first.answer is not None
        held = world.switch["host1"].state.copy()
        tenants["red"]["vni"] = 1010
        asker = world.ask("reload")
        yield
        assert (asker.answer, asker.refusal) == (None, None)
        assert world.switch["host1"].state == held
        about = json.loads(world.ask("status").answer or "")
        [said] = about["overlay"]["refused"]
        assert "VNI 1010 was tenant blue's until just now" in said
        assert [found["mend"] for found in about["hosts"]["host1"]["findings"]] == [""]
        world.now += REST
        yield
        assert asker.answer is not None
        flows = world.switch["host1"].state.flows.values()
        assert {flow.cookie & COOKIE_VNI_MASK for flow in flows} == {0, 1010, 4711}
        assert not json.loads(world.ask("status").answer or "")["overlay"]["refused"]

    world.run(story())


def test_a_tenant_is_renamed_and_its_guests_stay(world: World) -> None:
    def story() -> Story:
        world.connect("host1")
        yield
        held = world.switch["host1"].state.copy()
        tenants = world.source.overlay["tenants"]
        tenants["azure"] = tenants.pop("blue")
        world.switch["host1"].forget()
        asker = world.ask("reload")
        yield
        assert asker.answer is not None
        yield
        assert "azure/web1" in world.status("host1")["ports"].values()
        assert world.switch["host1"].state == held

    world.run(story())
