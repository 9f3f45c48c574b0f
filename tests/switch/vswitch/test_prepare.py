"""Preparing the local switch through OVSDB, on a real ovsdb-server and ovs-vswitchd."""

from __future__ import annotations

import dataclasses
import os
import signal
import time

import pytest

from ovs_lwt.mistakes import Refused
from ovs_lwt.vswitch.switch import LocalSwitch
from tests.support.local_switch import (
    BRIDGE,
    HOST1,
    TUNNEL,
    committed,
    read,
)
from tests.support.ovs import OvsHost


class TestPrepare:
    def test_an_empty_host_becomes_a_vtep(self, host: OvsHost, switch: LocalSwitch) -> None:
        switch.prepare(HOST1)

        assert host.vsctl("list-ports", BRIDGE) == TUNNEL
        assert read(host, "bridge", BRIDGE, "fail_mode") == "secure"
        assert read(host, "bridge", BRIDGE, "datapath_type") == "netdev"
        assert read(host, "bridge", BRIDGE, "datapath_id") == '"00000200c0000201"'
        assert read(host, "interface", TUNNEL, "type") == "vxlan"
        assert read(host, "interface", TUNNEL, "options") == (
            '{dst_port="4789", key=flow, local_ip="192.0.2.11", remote_ip=flow}'
        )
        assert read(host, "interface", TUNNEL, "ofport") == "4789"
        controller = read(host, "bridge", BRIDGE, "controller").strip("[]")
        for column, value in (
            ("target", '"tcp:127.0.0.1:6653"'),
            ("connection_mode", "out-of-band"),
            ("inactivity_probe", "60000"),
            ("max_backoff", "1000"),
            ("controller_rate_limit", "1000"),
            ("controller_burst_limit", "250"),
        ):
            assert read(host, "controller", controller, column) == value

        host.ofctl("add-flow", BRIDGE, "table=1 actions=resubmit(,5)")
        flows = host.ofctl("--names", "--no-stats", "dump-flows", BRIDGE)
        assert "table=peer" in flows
        assert "forward" in flows

    def test_what_the_switch_says_of_itself(self, switch: LocalSwitch) -> None:
        with pytest.raises(Refused, match="ovs-lwt run"):
            switch.datapath_type()
        assert switch.bridge_datapath_id() is None
        assert switch.tunnel_ofport() is None

        switch.prepare(HOST1)

        assert switch.connected
        assert switch.datapath_type() == "netdev"
        assert switch.bridge_datapath_id() == HOST1.datapath_id
        assert switch.tunnel_ofport() == 4789
        assert switch.ports() == ()

    def test_preparing_again_commits_nothing(self, host: OvsHost, switch: LocalSwitch) -> None:
        switch.prepare(HOST1)
        before = committed(host)

        switch.prepare(HOST1)
        with LocalSwitch(host.remote) as restarted:
            restarted.prepare(HOST1)

        assert committed(host) == before

    def test_settings_of_others_survive(self, host: OvsHost, switch: LocalSwitch) -> None:
        host.vsctl("add-br", BRIDGE, "--", "set", "bridge", BRIDGE, "datapath_type=netdev")
        host.vsctl("set", "bridge", BRIDGE, "other_config:mac-table-size=99", "external_ids:a=b")
        host.vsctl("set-controller", BRIDGE, "tcp:127.0.0.1:6640")
        host.vsctl("add-port", BRIDGE, TUNNEL, "--", "set", "interface", TUNNEL, "type=vxlan")
        host.vsctl("set", "interface", TUNNEL, "options:tos=inherit", "external_ids:c=d")
        host.vsctl(
            *("--id=@t", "create", "flow_table", "name=theirs", "flow_limit=7"),
            *("--", "set", "bridge", BRIDGE, "flow_tables:200=@t"),
        )

        switch.prepare(HOST1)
        switch.prepare(dataclasses.replace(HOST1, controller=None, table_names=()))

        other_config = read(host, "bridge", BRIDGE, "other_config")
        assert other_config == '{datapath-id="00000200c0000201", mac-table-size="99"}'
        assert read(host, "bridge", BRIDGE, "external_ids") == "{a=b}"
        assert host.vsctl("get-controller", BRIDGE) == "tcp:127.0.0.1:6640"
        assert "tos=inherit" in read(host, "interface", TUNNEL, "options")
        assert "remote_ip=flow" in read(host, "interface", TUNNEL, "options")
        assert read(host, "interface", TUNNEL, "external_ids") == "{c=d}"
        assert read(host, "bridge", BRIDGE, "flow_tables").startswith("{200=")

    def test_a_changed_plan_changes_the_same_rows(self, host: OvsHost, switch: LocalSwitch) -> None:
        switch.prepare(HOST1)
        rows = [read(host, "bridge", BRIDGE, c) for c in ("_uuid", "ports", "controller")]

        switch.prepare(
            dataclasses.replace(
                HOST1,
                local_vtep="192.0.2.12",
                controller="tcp:127.0.0.1:6699",
                table_names=((0, "first"),),
            )
        )

        assert [read(host, "bridge", BRIDGE, c) for c in ("_uuid", "ports", "controller")] == rows
        assert 'local_ip="192.0.2.12"' in read(host, "interface", TUNNEL, "options")
        assert host.vsctl("get-controller", BRIDGE) == "tcp:127.0.0.1:6699"
        assert host.vsctl("--bare", "--columns=name", "list", "flow_table") == "first"

    def test_an_ipv6_underlay_sends_checksums(self, host: OvsHost, switch: LocalSwitch) -> None:
        switch.prepare(dataclasses.replace(HOST1, local_vtep="2001:db8:0:0::11"))

        options = read(host, "interface", TUNNEL, "options")
        assert 'csum="true"' in options
        assert 'local_ip="2001:db8::11"' in options

    def test_a_udp_port_above_the_port_numbers(self, host: OvsHost, switch: LocalSwitch) -> None:
        switch.prepare(dataclasses.replace(HOST1, udp_port=65300))

        assert read(host, "interface", TUNNEL, "ofport_request") == "[]"
        assert switch.tunnel_ofport() not in (None, 65300)

    def test_a_bridge_that_speaks_too_old_openflow_learns(
        self, host: OvsHost, switch: LocalSwitch
    ) -> None:
        host.vsctl("add-br", BRIDGE, "--", "set", "bridge", BRIDGE, "datapath_type=netdev")
        host.vsctl("set", "bridge", BRIDGE, "protocols=OpenFlow10")

        switch.prepare(HOST1)

        spoken = read(host, "bridge", BRIDGE, "protocols")
        assert all(version in spoken for version in ("OpenFlow10", "OpenFlow14", "OpenFlow15"))

    def test_the_datapath_follows_the_machine(
        self, host: OvsHost, switch: LocalSwitch, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("ovs_lwt.vswitch.switch.kernel_datapath", lambda: False)
        with pytest.raises(Refused, match="modprobe openvswitch"):
            switch.prepare(dataclasses.replace(HOST1, datapath_type="system"))

        switch.prepare(dataclasses.replace(HOST1, datapath_type="auto"))
        assert read(host, "bridge", BRIDGE, "datapath_type") == "netdev"

        monkeypatch.setattr("ovs_lwt.vswitch.switch.kernel_datapath", lambda: True)
        switch.prepare(dataclasses.replace(HOST1, datapath_type="auto"))
        assert read(host, "bridge", BRIDGE, "datapath_type") == "netdev", "a bridge keeps its own"


REQUESTS = "vx-lwt-ar"
OFFERING = dataclasses.replace(HOST1, replication_udp_port=14789)


class TestTheRequestPort:
    def test_it_is_there_while_the_plan_wants_it(self, host: OvsHost, switch: LocalSwitch) -> None:
        switch.prepare(HOST1)
        assert switch.request_ofport() is None

        switch.prepare(OFFERING)
        assert switch.request_ofport() == 14789
        assert read(host, "interface", REQUESTS, "options") == (
            '{dst_port="14789", key=flow, local_ip="192.0.2.11", remote_ip=flow}'
        )
        assert switch.ports() == (), "it is no guest's"
        before = committed(host)
        switch.prepare(OFFERING)
        assert committed(host) == before
        with pytest.raises(Refused, match=f"'{REQUESTS}' carries the overlay"):
            switch.del_port(REQUESTS)

        switch.prepare(HOST1)
        assert switch.request_ofport() is None
        assert host.vsctl("list-ports", BRIDGE) == TUNNEL

    def test_an_ipv6_underlay_sends_checksums(self, host: OvsHost, switch: LocalSwitch) -> None:
        switch.prepare(dataclasses.replace(OFFERING, local_vtep="2001:db8::11"))
        assert 'csum="true"' in read(host, "interface", REQUESTS, "options")

    def test_a_guests_port_of_that_name_stays(self, host: OvsHost, switch: LocalSwitch) -> None:
        switch.prepare(HOST1)
        host.vsctl("add-port", BRIDGE, REQUESTS, "--", "set", "interface", REQUESTS,
                   "type=internal")  # fmt: skip
        switch.prepare(HOST1)
        assert REQUESTS in host.vsctl("list-ports", BRIDGE)
        with pytest.raises(Refused, match=f"port '{REQUESTS}' of bridge '{BRIDGE}' has type int"):
            switch.prepare(OFFERING)

    @pytest.mark.parametrize("udp_port", [14789, 4790])
    def test_its_udp_port_is_taken(self, host: OvsHost, switch: LocalSwitch, udp_port: int) -> None:
        host.vsctl("add-br", "br0", "--", "add-port", "br0", "vtun", "--", "set", "interface",
                   "vtun", "type=vxlan", f"options:dst_port={udp_port}")  # fmt: skip
        plan = dataclasses.replace(OFFERING, replication_udp_port=udp_port)
        before = committed(host)
        with pytest.raises(
            Refused,
            match=f"'vtun' of bridge 'br0' already uses UDP port {udp_port}.*another"
            " underlay.replication_udp_port",
        ):
            switch.prepare(plan)
        assert committed(host) == before

    def test_the_two_swap_their_udp_ports(self, host: OvsHost, switch: LocalSwitch) -> None:
        switch.prepare(OFFERING)
        switch.prepare(dataclasses.replace(OFFERING, udp_port=14789, replication_udp_port=4789))
        assert 'dst_port="14789"' in read(host, "interface", TUNNEL, "options")
        assert 'dst_port="4789"' in read(host, "interface", REQUESTS, "options")
        assert switch.tunnel_ofport() is not None
        assert switch.request_ofport() is not None


DATAPATH_ID = "other_config:datapath-id=00000200c0000201"
CONFLICTS = {
    "the bridge's name is a port": (
        f"add-br br0 -- add-port br0 {BRIDGE}",
        rf"'{BRIDGE}' is a port of bridge 'br0'.*del-port {BRIDGE}",
    ),
    "the bridge has another datapath": (
        f"add-br {BRIDGE}",
        rf"'{BRIDGE}' exists with datapath_type=system, not netdev.*del-br {BRIDGE}",
    ),
    "the tunnel's name is another kind of port": (
        f"add-br br0 -- add-port br0 {TUNNEL}",
        f"port '{TUNNEL}' of bridge 'br0' has type system.*del-port {TUNNEL}",
    ),
    "the tunnel's name is on another bridge": (
        f"add-br br0 -- add-port br0 {TUNNEL} -- set interface {TUNNEL} type=vxlan",
        f"port '{TUNNEL}' belongs to another of bridge 'br0'",
    ),
    "the tunnel's name is a bond": (
        f"add-br br0 -- add-bond br0 {TUNNEL} e0 e1",
        f"'{TUNNEL}' is a bond of bridge 'br0'",
    ),
    "the UDP port is taken": (
        "add-br br0 -- add-port br0 vtun -- set interface vtun type=vxlan",
        "VXLAN port 'vtun' of bridge 'br0' already uses UDP port 4789",
    ),
    "the datapath id is taken": (
        f"add-br br0 -- set bridge br0 datapath_type=netdev {DATAPATH_ID}",
        "bridge 'br0' already has datapath id 00000200c0000201",
    ),
}


class TestRefusals:
    @pytest.mark.parametrize("conflict", CONFLICTS)
    def test_nothing_is_touched(self, host: OvsHost, conflict: str) -> None:
        arrangement, words = CONFLICTS[conflict]
        host.vsctl(*arrangement.split())
        before = committed(host)

        with LocalSwitch(host.remote) as switch, pytest.raises(Refused, match=words):
            switch.prepare(HOST1)

        assert committed(host) == before

    def test_a_datapath_that_cannot_be_made(self, host: OvsHost) -> None:
        host.vsctl("--no-wait", "add-br", BRIDGE, "--", "set", "bridge", BRIDGE, "datapath_type=no")
        plan = dataclasses.replace(HOST1, datapath_type="auto")

        with (
            LocalSwitch(host.remote) as switch,
            pytest.raises(Refused, match=f"'{TUNNEL}'.*could not set up bridge '{BRIDGE}'"),
        ):
            switch.prepare(plan)

    def test_ovs_vswitchd_is_not_running(self, host: OvsHost) -> None:
        host.stop_vswitchd()

        with (
            LocalSwitch(host.remote, timeout=0.5) as switch,
            pytest.raises(Refused, match="ovs-vswitchd did not take up the change"),
        ):
            switch.prepare(HOST1)

    @pytest.mark.parametrize(
        ("remote", "words"),
        [
            ("unix:/nonexistent/db.sock", "systemctl start openvswitch-switch"),
            ("tcp:127.0.0.1:1", "no ovsdb-server at tcp:127.0.0.1:1"),
            ("/var/run/openvswitch/db.sock", "write it like unix:"),
        ],
    )
    def test_nobody_answers(self, remote: str, words: str) -> None:
        with pytest.raises(Refused, match=words):
            LocalSwitch(remote, timeout=1)

    def test_a_server_that_hangs(self, host: OvsHost) -> None:
        assert host.ovsdb_pid
        os.kill(host.ovsdb_pid, signal.SIGSTOP)
        try:
            began = time.monotonic()
            with pytest.raises(Refused, match=r"did not answer within 0\.3 s"):
                LocalSwitch(host.remote, timeout=0.3)
            assert time.monotonic() - began < 2
        finally:
            os.kill(host.ovsdb_pid, signal.SIGCONT)

    @pytest.mark.parametrize(
        ("wrong", "words"),
        [
            ({"bridge": "br-of-a-whole-region"}, "cannot name a bridge"),
            ({"tunnel_port": "vx/0"}, "cannot name a tunnel port"),
            ({"tunnel_port": BRIDGE}, "both called"),
            ({"local_vtep": "192.0.2.256"}, "not an IPv4 or IPv6 VTEP address"),
            ({"udp_port": 0}, "UDP port 0"),
            ({"datapath_id": 0}, "datapath id"),
        ],
    )
    def test_a_plan_no_switch_could_follow(self, wrong: dict[str, str], words: str) -> None:
        with pytest.raises(Refused, match=words):
            dataclasses.replace(HOST1, **wrong)  # type: ignore[arg-type]
