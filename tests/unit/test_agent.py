"""The agent: what it makes of the overlay, of the ports, and of the switches that come and go.

Every `yield` in a story means: the agent works until it is quiet.
"""

from __future__ import annotations

from typing import Literal

import pytest

from ovs_lwt.agent import Received, Reload
from ovs_lwt.backends.openflow import rawstats
from ovs_lwt.backends.openflow.session import PATIENCE
from ovs_lwt.backends.outcome import AUDIT
from ovs_lwt.mistakes import Refused
from ovs_lwt.vswitch import LocalPort
from tests.support.fake_switch import Flow
from tests.support.line import holding
from tests.support.overlays import TUNNEL, endpoint, view
from tests.support.solicitations import frame_of, packet_in, solicitation
from tests.support.world import Story, World


def test_a_switch_that_connects_gets_its_flows(world: World) -> None:
    def story() -> Story:
        assert world.status("host1")["state"] == "offline"
        world.connect("host1")
        yield
        held = world.switch["host1"].state
        assert held == holding(view())
        said = world.status("host1")
        assert said.pop("synced") >= 0
        assert said == {
            "plane": "ovs",
            "state": "in-sync",
            "sync": "in-sync",
            "findings": [],
            "checked": None,
            "repaired": 0,
            "repaired_at": None,
            "trouble": [],
            "tunnel": {"port": "vx-lwt", "udp_port": 4789, "local": "192.0.2.11", "number": TUNNEL},
            "flows": len(held.flows),
            "groups": 4,
            "errors": {},
            "marking": {},
            "wide_floods": {},
            "strangers": {},
            "portless": [],
            "replication": "none",
            "foreign": {"count": 0, "passing": 0, "flows": []},
            "refused": [],
            "waiting": None,
            "seconds": 0.0,
            "ports": {"blue-web1": "blue/web1", "red-web1": "red/web1"},
            "last": f"{len(held.flows)} flows written, 0 deleted, 0 as they were;"
            " 4 groups written, 0 deleted",
        }

    world.run(story())


def test_the_local_switch_is_prepared_for_what_the_overlay_says(world: World) -> None:
    world.source.overlay["underlay"] = {"udp_port": 8472}
    world.source.overlay["vteps"]["host1"]["datapath_id"] = "00000000000000aa"
    world.run(iter(()))
    (plan,) = world.ovsdb["host1"].plans
    assert (plan.local_vtep, plan.udp_port, plan.datapath_id) == ("192.0.2.11", 8472, 0xAA)
    assert (0, "classify") in plan.table_names
    assert world.ovsdb["host2"].plans == []


def test_an_external_host_is_not_ours_to_run(world: World) -> None:
    world.source.overlay["vteps"]["host1"]["external"] = True
    with pytest.raises(Refused, match="host1 is external"):
        world.run(iter(()))


def test_an_unknown_host_is_refused_by_name(world: World) -> None:
    with pytest.raises(Refused, match=r"no host 'host9'.*host1"):
        world.run(iter(()), "host9")


def test_two_switches_get_their_own_flows(world: World) -> None:
    def story() -> Story:
        world.connect("host2")
        world.connect("host1")
        yield
        assert world.switch["host1"].state == holding(view(host="host1"))
        assert world.switch["host2"].state == holding(view(host="host2"))

    world.run(story(), "host1", "host2")


def test_a_switch_that_is_none_of_our_hosts_is_left_alone(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    def story() -> Story:
        connection = world.connect("host2")
        yield
        assert world.switch["host2"].seen == []
        world.inbox.append(Received(connection, b"\x05\x0a\x00\x08\x00\x00\x00\x00"))
        connection.hang_up()
        yield
        assert "is none of our hosts: left alone" in caplog.text
        assert "unexpected" not in caplog.text

    world.run(story())


def test_a_port_that_is_plugged_in_gets_its_flows_and_loses_them(world: World) -> None:
    ovsdb = world.ovsdb["host1"]
    ovsdb.found = []

    def story() -> Story:
        world.connect("host1")
        yield
        assert world.switch["host1"].state == holding(view(ports=[]))
        world.plug("host1")
        yield
        assert world.switch["host1"].state == holding(view())
        ovsdb.found, ovsdb.changed = ovsdb.found[:1], True
        yield
        assert world.status("host1")["ports"] == {"blue-web1": "blue/web1"}
        assert world.switch["host1"].state == holding(view(ports=ovsdb.found))

    world.run(story())


def test_wrong_claims_are_told_to_whoever_made_them_and_logged_once(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    ovsdb = world.ovsdb["host1"]
    ovsdb.found.append(LocalPort("stray", 9, "blue/web9"))

    def story() -> Story:
        yield
        assert list(ovsdb.errors) == ["stray"]
        assert "no endpoint 'web9'" in ovsdb.errors["stray"]
        assert world.status("host1")["errors"] == ovsdb.errors
        assert "stray" not in world.status("host1")["ports"]
        ovsdb.changed = True
        yield
        assert caplog.text.count("port stray: tenant 'blue' has no endpoint 'web9'") == 1
        del ovsdb.found[-1]
        ovsdb.changed = True
        yield
        assert ovsdb.errors == {}

    world.run(story())


def test_nothing_is_sent_before_the_tunnel_port_is_there(world: World) -> None:
    world.ovsdb["host1"].tunnel = None

    def story() -> Story:
        world.connect("host1")
        yield
        assert world.switch["host1"].seen == []
        world.ovsdb["host1"].tunnel = TUNNEL
        world.ovsdb["host1"].changed = True
        yield
        assert world.status("host1")["state"] == "in-sync"

    world.run(story())


def test_a_lost_connection_and_a_new_one(world: World) -> None:
    def story() -> Story:
        connection = world.connect("host1")
        yield
        connection.hang_up()
        yield
        assert world.status("host1")["state"] == "offline"
        endpoint(world.source.overlay, "blue/web2")["host"] = "host3"
        world.inbox.append(Reload())
        yield
        world.connect("host1")
        yield
        assert world.switch["host1"].state == holding(view(world.source.overlay))

    world.run(story())


def test_the_newer_connection_of_a_switch_counts(world: World) -> None:
    def story() -> Story:
        stale = world.connect("host1")
        world.switch["host1"].silent = True
        yield
        world.switch["host1"].silent = False
        newer = world.connect("host1")
        yield
        stale.hang_up()
        yield
        assert world.status("host1")["state"] == "in-sync"
        assert not {stale, newer} & rawstats._expected.keys()

    world.run(story())


def test_a_silent_switch_is_hung_up_on(world: World) -> None:
    def story() -> Story:
        world.switch["host1"].silent = True
        connection = world.connect("host1")
        yield
        world.now += PATIENCE
        yield
        assert connection.closed
        assert world.status("host1")["state"] == "offline"

    world.run(story())


def test_an_unexpected_message_costs_the_connection_and_not_the_agent(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    def story() -> Story:
        connection = world.connect("host1")
        yield
        world.inbox.append(Received(connection, b"\x05\x01\x00"))
        yield
        assert "unexpected; going on" in caplog.text
        assert connection.closed
        world.connect("host1")
        yield
        assert world.status("host1")["state"] == "in-sync"

    world.run(story())


def test_foreign_flows_are_named_in_the_log(world: World, caplog: pytest.LogCaptureFixture) -> None:
    match_all = bytes.fromhex("0001000400000000")

    def story() -> Story:
        world.connect("host1")
        yield
        for priority in range(12):
            flow = Flow(0xBEEF, (0, 0), (0, 0), b"")
            world.switch["host1"].state.flows[99, priority, match_all] = flow
        world.now += AUDIT
        yield
        assert "host1: removed 12 flows or groups that are not ours" in caplog.text
        assert "host1:   cookie=0xbeef table=99 priority=0" in caplog.text
        assert caplog.text.count("cookie=0xbeef") == 10, "ten are enough to know"

    world.run(story())


def test_solicitations_that_the_datapath_cannot_answer_are_answered_here(world: World) -> None:
    world.ovsdb["host1"].datapath = "system"

    def story() -> Story:
        connection = world.connect("host1")
        world.inbox.append(Received(connection, packet_in(solicitation("fd00::11"))))
        yield
        assert connection.others == [], "there were no flows yet"
        world.inbox.append(Received(connection, packet_in(solicitation("fd00::11"))))
        yield
        (answer,) = connection.others
        assert frame_of(answer)[1][6:12] == bytes.fromhex("020000000001")
        assert world.switch["host1"].state == holding(view(nd_by_flow=False))

    world.run(story())


@pytest.mark.parametrize(
    ("chosen", "datapath", "by_flow"),
    [
        *(("auto", "netdev", True), ("auto", "system", False)),
        *(("flow", "system", True), ("app", "netdev", False)),
    ],
)
def test_who_answers_neighbours_is_the_datapaths_or_the_users_choice(
    chosen: str,
    datapath: Literal["system", "netdev"],
    by_flow: bool,
) -> None:
    world = World(neighbour_discovery=chosen)
    world.ovsdb["host1"].datapath = datapath

    def story() -> Story:
        world.connect("host1")
        yield
        assert world.switch["host1"].state == holding(view(nd_by_flow=by_flow))

    world.run(story())


def test_exit_ends_it_and_leaves_the_flows(world: World) -> None:
    def story() -> Story:
        world.connect("host1")
        yield
        assert world.ask("exit").answer == ""
        yield
        raise AssertionError("it goes on")

    world.run(story())
    assert world.switch["host1"].state == holding(view())
