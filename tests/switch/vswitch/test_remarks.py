"""What an agent writes on ports, kept by its thread, on a real ovsdb-server."""

from __future__ import annotations

import os
import signal
from dataclasses import replace

from ovs_lwt.vswitch.held import HeldSwitch
from ovs_lwt.vswitch.keeper import SwitchKeeper
from tests.support.local_switch import BRIDGE, HOST1, add_port, read
from tests.support.ovs import OvsHost, eventually

UUID = "5b0e6ac7-2bdd-4b8c-9d5c-1d0d0a2d8c11"


def claim(host: OvsHost, port: str) -> str:
    return read(host, "interface", port, "external_ids")


def test_a_tenant_is_renamed_where_ports_claim_it_still(host: OvsHost, held: HeldSwitch) -> None:
    """Not on a port that has become another's since, nor where nothing was said."""
    held.prepare(replace(HOST1, controller=None))
    add_port(host, "p1", "external_ids:ovs-lwt-endpoint=blue/web1")
    add_port(host, "p2", "external_ids:ovs-lwt-endpoint=red/web1")
    add_port(host, "p3", f"external_ids:iface-id={UUID}")
    add_port(host, "p4", "external_ids:iface-id=blue/web4")
    held.run()
    names = {f"p{n}": (f"blue/web{n}", f"azure/web{n}") for n in range(1, 6)}
    for _ in range(2):  # once more is no harm
        held.rewrite_claims(names)
        assert claim(host, "p1") == '{ovs-lwt-endpoint="azure/web1"}'
        assert claim(host, "p2") == '{ovs-lwt-endpoint="red/web1"}'
        assert claim(host, "p3") == f'{{iface-id="{UUID}"}}'
        assert 'ovs-lwt-endpoint="azure/web4"' in claim(host, "p4")


def test_what_the_server_did_not_take_is_written_later(host: OvsHost) -> None:
    """It hangs, and then dies with what it was told."""
    keeper = SwitchKeeper(host.remote, lambda: HeldSwitch(host.remote, BRIDGE), lambda: None)
    try:
        keeper.prepare(replace(HOST1, controller=None))
        assert eventually(lambda: not keeper.preparing, 10)
        add_port(host, "p1", "external_ids:ovs-lwt-endpoint=blue/web1")
        assert eventually(lambda: [port.name for port in keeper.ports()] == ["p1"], 10)
        pid = host.ovsdb_pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        keeper.rewrite_claims({"p1": ("blue/web1", "azure/web1")})
        keeper.record_markings({"p1": "flow"})
        # Taken from what waits, and given up after a second.
        assert eventually(lambda: not keeper._claims, 5)
        assert eventually(lambda: bool(keeper._claims), 5)
        os.kill(pid, signal.SIGKILL)
        host.restart_ovsdb()
        assert eventually(lambda: '"azure/web1"' in claim(host, "p1"), 15), claim(host, "p1")
        assert eventually(lambda: "ovs-lwt-marking=flow" in claim(host, "p1"), 15)
    finally:
        keeper.close()
