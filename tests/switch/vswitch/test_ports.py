"""The ports of the local switch, as OVSDB tells of them and as we make them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import pytest

from ovs_lwt.mistakes import Refused
from ovs_lwt.vswitch import LocalPort
from ovs_lwt.vswitch.held import HeldSwitch
from ovs_lwt.vswitch.switch import LocalSwitch
from tests.support.local_switch import (
    BRIDGE,
    HOST1,
    TUNNEL,
    add_device,
    add_port,
    committed,
    read,
    sees,
)
from tests.support.ovs import OvsHost, eventually


def claimed(switch: LocalSwitch) -> tuple[LocalPort, ...]:
    """The ports, whichever devices they are and whether their links are up."""
    return tuple(replace(port, device=None, up=True) for port in switch.ports())


class TestWatching:
    @pytest.fixture(autouse=True)
    def prepared(self, switch: LocalSwitch) -> None:
        switch.prepare(HOST1)
        assert switch.run()
        assert not switch.run(), "nothing happened since"

    def test_ports_come_and_go(self, host: OvsHost, switch: LocalSwitch) -> None:
        add_port(host, "web1", "external_ids:ovs-lwt-endpoint=blue/web1", "ofport_request=7")
        assert sees(switch, lambda: claimed(switch) == (LocalPort("web1", 7, "blue/web1"),))

        add_port(host, "vnet0", "external_ids:iface-id=blue/web2", "ofport_request=8")
        assert sees(
            switch,
            lambda: (
                claimed(switch)
                == (
                    LocalPort("vnet0", 8, "blue/web2", iface_id="blue/web2"),
                    LocalPort("web1", 7, "blue/web1"),
                )
            ),
        )

        host.vsctl("del-port", "web1")
        assert sees(
            switch,
            lambda: claimed(switch) == (LocalPort("vnet0", 8, "blue/web2", iface_id="blue/web2"),),
        )

    def test_a_port_moves_to_another_number(self, host: OvsHost, switch: LocalSwitch) -> None:
        add_port(host, "web1", "ofport_request=7")
        assert sees(switch, lambda: claimed(switch) == (LocalPort("web1", 7),))

        host.vsctl("set", "interface", "web1", "ofport_request=77")
        assert sees(switch, lambda: claimed(switch) == (LocalPort("web1", 77),))

    def test_what_counts_as_a_claim(self, host: OvsHost, switch: LocalSwitch) -> None:
        add_port(host, "p1", "external_ids:iface-id=0c9c5f4e-3b1f-4f6e-9f39-1f4a5b7c9d11")
        add_port(host, "p2", "external_ids:iface-id=blue/web1/eth0")
        add_port(host, "p3", "external_ids:iface-id=/web1")
        add_port(host, "p4", "external_ids:iface-id=a/b", "external_ids:ovs-lwt-endpoint=c/d")
        add_port(host, "p5", "external_ids:ovs-lwt-endpoint=nonsense")
        add_port(host, "p6", "external_ids:ovs-lwt-marking=tc")
        add_port(host, "p7", "external_ids:ovs-lwt-marking=flow")

        assert sees(switch, lambda: len(switch.ports()) == 7)
        claims = [port.claim for port in switch.ports()]
        assert claims == [None, None, None, "c/d", "nonsense", None, None]
        assert [port.name for port in switch.ports() if port.marked] == ["p6"]

    def test_a_device_that_is_missing_is_no_port_yet(
        self, host: OvsHost, switch: LocalSwitch
    ) -> None:
        host.vsctl("--may-exist", "--no-wait", "add-port", BRIDGE, "late")
        assert eventually(lambda: "No such device" in read(host, "interface", "late", "error"))
        switch.run()
        assert switch.ports() == ()

        add_device(host, "late")
        assert sees(switch, lambda: [port.name for port in switch.ports()] == ["late"])

    def test_errors_are_written_to_the_ports_and_cleared(
        self, host: OvsHost, held: HeldSwitch
    ) -> None:
        add_port(host, "p1", "external_ids:ovs-lwt-endpoint=blue/nobody")
        add_port(host, "p2", "external_ids:theirs=1")
        assert sees(held, lambda: len(held.ports()) == 2)

        held.report_errors({"p1": "no endpoint blue/nobody"})
        assert sees(held, lambda: held.ports()[0].error == "no endpoint blue/nobody")
        assert held.ports()[1].error is None

        before = committed(host)
        held.report_errors({"p1": "no endpoint blue/nobody"})
        assert committed(host) == before, "said already"

        held.report_errors({"p2": "claimed twice", "gone": "not a port"})
        assert read(host, "interface", "p1", "external_ids") == '{ovs-lwt-endpoint="blue/nobody"}'
        assert read(host, "interface", "p2", "external_ids:ovs-lwt-error") == '"claimed twice"'

        held.report_errors({})
        assert read(host, "interface", "p2", "external_ids") == '{theirs="1"}'

    def test_a_restarted_ovsdb_server_is_found_again(self, host: OvsHost, held: HeldSwitch) -> None:
        add_port(host, "before")
        assert sees(held, lambda: len(held.ports()) == 1)

        host.stop_ovsdb()
        assert sees(held, lambda: not held.connected)
        assert len(held.ports()) == 1, "as last seen"
        held.report_errors({"before": "nobody hears this"})

        host.start_ovsdb()
        assert sees(held, lambda: held.connected)
        add_port(host, "after", "external_ids:ovs-lwt-endpoint=blue/web1")
        assert sees(held, lambda: [p.name for p in held.ports()] == ["after", "before"])
        held.prepare(HOST1)

    def test_run_never_blocks(self, host: OvsHost, held: HeldSwitch) -> None:
        assert host.ovsdb_pid
        os.kill(host.ovsdb_pid, signal.SIGSTOP)
        try:
            began = time.monotonic()
            for _ in range(20):
                held.run()
            assert time.monotonic() - began < 0.2
            held.report_errors({BRIDGE: "the server hangs"})
            assert time.monotonic() - began < 3
        finally:
            os.kill(host.ovsdb_pid, signal.SIGCONT)
        assert sees(held, lambda: held.connected)

    def test_a_burst_of_changes(self, host: OvsHost, switch: LocalSwitch) -> None:
        """More than the library takes in at one go: the last one must not stay unseen."""
        add_port(host, "p1")
        steps = [f"set interface p1 external_ids:ovs-lwt-endpoint=blue/w{n}" for n in range(60)]
        for step in steps:
            host.vsctl("--no-wait", *step.split())
        assert sees(switch, lambda: switch.ports()[0].claim == "blue/w59")


class TestPortsOfOurs:
    @pytest.fixture(autouse=True)
    def prepared(self, switch: LocalSwitch) -> None:
        switch.prepare(HOST1)

    def test_added_once_mended_and_removed_once(self, host: OvsHost, switch: LocalSwitch) -> None:
        add_device(host, "web1")
        switch.add_port("web1", {"ovs-lwt-endpoint": "blue/web1"}, mtu_request=1450)
        assert switch.ports()[0].claim == "blue/web1"
        assert switch.claim_of("web1") == "blue/web1"
        assert read(host, "interface", "web1", "mtu_request") == "1450"
        ofport = switch.ports()[0].ofport

        before = committed(host)
        switch.add_port("web1", {"ovs-lwt-endpoint": "blue/web1"}, mtu_request=1450)
        assert committed(host) == before

        host.vsctl("set", "interface", "web1", "external_ids:theirs=1")
        switch.add_port("web1", {"ovs-lwt-endpoint": "blue/web2"})
        assert claimed(switch) == (LocalPort("web1", ofport, "blue/web2"),)
        assert 'theirs="1"' in read(host, "interface", "web1", "external_ids")

        assert switch.del_port("web1")
        assert not switch.del_port("web1")
        assert switch.claim_of("web1") is None
        assert host.vsctl("list-ports", BRIDGE) == TUNNEL

    def test_a_device_that_does_not_exist(self, switch: LocalSwitch) -> None:
        with pytest.raises(Refused, match=r"port 'ghost' of bridge 'br-lwt'.*No such device"):
            switch.add_port("ghost", {})

    def test_names_in_use(self, host: OvsHost, switch: LocalSwitch) -> None:
        host.vsctl("add-br", "br1", "--", "set", "bridge", "br1", "datapath_type=netdev")
        host.vsctl("add-port", "br1", "p1", "--", "set", "interface", "p1", "type=internal")
        with pytest.raises(Refused, match="'p1' is already in use on bridge 'br1'"):
            switch.add_port("p1", {})
        for own in (BRIDGE, TUNNEL):
            with pytest.raises(Refused, match=f"'{own}' is already in use"):
                switch.add_port(own, {})
            with pytest.raises(Refused, match="it stays"):
                switch.del_port(own)

        switch.add_port("p2", {}, type="internal")
        with pytest.raises(Refused, match="'p2' of bridge 'br-lwt' has type internal, not system"):
            switch.add_port("p2", {})


def test_under_eventlet_others_go_on_while_the_switch_is_awaited(host: OvsHost) -> None:
    """Ryu and os-ken may run on green threads: waiting for OVSDB must not stop them."""
    script = textwrap.dedent(
        f"""
        import warnings; warnings.simplefilter("ignore")
        import eventlet; eventlet.monkey_patch()
        import time
        from ovs_lwt.vswitch import SwitchPlan
        from ovs_lwt.vswitch.switch import LocalSwitch
        from ovs_lwt.mistakes import Refused

        ticks = []
        def tick():
            while True:
                ticks.append(1); eventlet.sleep(0.01)
        eventlet.spawn(tick)
        switch = LocalSwitch({host.remote!r}, timeout=5)
        plan = SwitchPlan("192.0.2.11", 4789, 1, datapath_type="netdev")
        switch.prepare(plan)
        switch.run()
        began = time.monotonic()
        for _ in range(50):
            switch.run()
        assert time.monotonic() - began < 0.5, "run() waits"
        ticks.clear()
        try:
            switch._database.wait_until(lambda: False, time.monotonic() + 0.5)
        finally:
            assert len(ticks) > 20, len(ticks)
        switch.close()
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
