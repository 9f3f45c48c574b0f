"""A host offers to replicate while any host of the overlay is a replicator, and a minute longer."""

from __future__ import annotations

import pytest

from ovs_lwt.mistakes import Refused
from ovs_lwt.offer import GRACE
from ovs_lwt.vswitch import SwitchPlan
from tests.support.overlays import REQUESTS
from tests.support.world import Story, World


def replicate(world: World, *hosts: str) -> None:
    for name, vtep in world.source.overlay["vteps"].items():
        vtep["replicator"] = name in hosts
    world.ask("reload")


def offered(world: World) -> bool:
    """Whether the host has the port that requests come by."""
    return world.ovsdb["host1"].requests is not None


def serves(world: World) -> bool:
    """Whether the switch takes frames that come in by the request port."""
    match = b"\x80\x00\x00\x04" + REQUESTS.to_bytes(4, "big")
    return any(match in key[2] for key in world.switch["host1"].state.flows)


def later(world: World, seconds: float) -> None:
    world.now += seconds


def test_no_host_offers_it_where_none_replicates(world: World) -> None:
    def story() -> Story:
        world.connect("host1")
        yield
        assert not offered(world)
        assert not serves(world)
        assert world.status("host1")["replication"] == "none"

    world.run(story(), "host1")


def test_every_host_offers_it_before_the_first_asks_and_after_the_last(world: World) -> None:
    def story() -> Story:
        world.connect("host1")
        yield
        # host1 is no replicator itself.
        replicate(world, "host2")
        assert offered(world), "the port is there before any flow names it"
        assert not serves(world)
        yield
        assert serves(world)
        assert world.status("host1")["replication"] == "offered"

        replicate(world)
        yield
        later(world, GRACE - 1)
        yield
        assert offered(world)
        assert serves(world)
        assert world.status("host1")["replication"].startswith("ends soon")

        later(world, 2)
        yield
        assert not offered(world)
        yield
        assert not serves(world)
        assert world.status("host1")["replication"] == "none"

    world.run(story(), "host1")


def test_reloads_do_not_lengthen_the_grace_and_a_new_replicator_ends_it(world: World) -> None:
    def story() -> Story:
        world.connect("host1")
        replicate(world, "host1")
        yield
        replicate(world)
        yield
        for _ in range(3):
            later(world, GRACE / 3 + 1)
            yield
            replicate(world)
            yield
        assert not offered(world)

        replicate(world, "host1")
        yield
        replicate(world)
        yield
        replicate(world, "host3")
        yield
        later(world, 2 * GRACE)
        yield
        assert offered(world)
        assert serves(world)

    world.run(story(), "host1")


def test_an_agent_that_finds_its_host_offering_lets_the_grace_begin_anew(world: World) -> None:
    world.ovsdb["host1"].requests = REQUESTS

    def story() -> Story:
        world.connect("host1")
        yield
        assert offered(world)
        assert serves(world)
        later(world, GRACE - 1)
        yield
        assert serves(world)
        later(world, 2)
        yield
        yield
        assert not offered(world)
        assert not serves(world)

    world.run(story(), "host1")


def test_a_request_port_that_has_gone_is_not_asked_by(world: World) -> None:
    """By hand, say: the host replicates for itself, and serves nobody."""

    def story() -> Story:
        world.connect("host1")
        replicate(world, "host2")
        yield
        asks = [number for number in world.switch["host1"].state.groups if number > 1_380_000_000]
        assert asks == [1_380_001_010, 1_380_002_020]
        ovsdb = world.ovsdb["host1"]
        ovsdb.requests, ovsdb.changed = None, True
        yield
        assert not serves(world)
        assert not [n for n in world.switch["host1"].state.groups if n > 1_380_000_000]

    world.run(story(), "host1")


def test_a_request_port_that_cannot_be_made_leaves_everything_as_it_was(world: World) -> None:
    def story() -> Story:
        world.connect("host1")
        yield
        before = world.switch["host1"].state.copy()
        world.ovsdb["host1"].refusal = "port 'vx-lwt-ar' does not work: address in use"
        for name, vtep in world.source.overlay["vteps"].items():
            vtep["replicator"] = name == "host2"
        asker = world.ask("reload")
        yield
        assert asker.refusal is not None
        assert "'vx-lwt-ar' does not work" in asker.refusal
        assert world.switch["host1"].state == before

    world.run(story(), "host1")


def test_a_plan_that_no_switch_could_follow_is_refused() -> None:
    with pytest.raises(Refused, match="UDP port 4789 cannot be both"):
        SwitchPlan("192.0.2.11", 4789, 1, replication_udp_port=4789)
    with pytest.raises(Refused, match="UDP port 0 is not within"):
        SwitchPlan("192.0.2.11", 4789, 1, replication_udp_port=0)
    with pytest.raises(Refused, match="'vx-lwt-ar' is the name of the port that requests"):
        SwitchPlan("192.0.2.11", 4789, 1, bridge="vx-lwt-ar")
