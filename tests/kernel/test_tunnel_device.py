"""The kernel's half of a tunnel port, `vxlan_sys_4789`: in somebody else's hands.

ovs-vswitchd makes it once, and goes on to say that all is well when it is gone.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from ovs_lwt.control import ask
from ovs_lwt.lab.plan import BRIDGE, TUNNEL_PORT
from ovs_lwt.lab.processes import inside
from ovs_lwt.mistakes import Refused
from ovs_lwt.names import kernel_half
from tests.support.conformance_fabric import Fabric
from tests.support.ovs import eventually
from tests.support.roundtrip import OPENFLOW, difference

pytestmark = pytest.mark.parametrize("fabric", ["ovs"], indirect=True, scope="session")

HALF = kernel_half(4789)
# Seconds: of a machine in user-mode Linux, which is slow; and for which it is taken away each time.
_SLOW, _STRIFE = 30.0, 9.0
LOSSES = {
    "the device is deleted": ["ip", "link", "del", HALF],
    "the datapath's port is deleted": ["ovs-appctl", "dpctl/del-if", "ovs-system", HALF],
}


def status(fabric: Fabric) -> dict[str, Any]:
    """What the agent of host1 says of it."""
    told: dict[str, Any] = json.loads(ask(fabric.host("host1").control, "status"))
    return dict(told["hosts"]["host1"])


def interface(fabric: Fabric, column: str) -> str:
    return fabric.run("host1", "ovs-vsctl", "get", "interface", TUNNEL_PORT, column).strip()


def youngest(fabric: Fabric) -> float:
    """Seconds for which the switch has had the flow that came last."""
    shown = fabric.run("host1", "ovs-ofctl", *OPENFLOW, "dump-flows", BRIDGE)
    return min(float(age) for age in re.findall(r"duration=([\d.]+)s", shown))


def there(fabric: Fabric) -> bool:
    return HALF in fabric.run("host1", "ip", "-brief", "link")


@pytest.mark.parametrize("loss", LOSSES)
def test_it_is_made_again(fabric: Fabric, loss: str) -> None:
    """Within seconds, counted, said; no flow is written anew, and no setting of others is lost."""
    others = ["options:tos=inherit", "external_ids:theirs=yes"]
    fabric.run("host1", "ovs-vsctl", "set", "interface", TUNNEL_PORT, *others)
    host, before = fabric.host("host1"), status(fabric)["repaired"]
    said, age = len(host.log.read_text()), youngest(fabric)

    fabric.run("host1", *LOSSES[loss])

    assert eventually(lambda: status(fabric)["repaired"] > before, _SLOW), host.log.read_text()
    assert eventually(lambda: there(fabric), _SLOW)
    assert eventually(lambda: not fabric.reach("blue/web1", "blue/web2").wrong, _SLOW)
    assert f"{HALF}, the kernel's half of {TUNNEL_PORT}, was gone" in host.log.read_text()[said:]
    assert "WARNING" in host.log.read_text()[said:]
    assert youngest(fabric) >= age
    assert difference(fabric.plan.overlay, host) == ""
    assert interface(fabric, "ofport") == interface(fabric, "ofport_request") == "4789"
    assert interface(fabric, "options:tos") == "inherit"
    assert interface(fabric, "external_ids:theirs") == "yes"
    fabric.run("host1", "ovs-vsctl", "remove", "interface", TUNNEL_PORT, "options", "tos")
    fabric.in_sync("host1")


def test_an_agent_that_starts_makes_it_again(fabric: Fabric) -> None:
    fabric.stop("host1")
    fabric.run("host1", "ip", "link", "del", HALF)
    fabric.start("host1")
    assert there(fabric)
    assert not fabric.reach("blue/web1", "blue/web2").wrong


@pytest.fixture
def strife(fabric: Fabric) -> Iterator[subprocess.Popen[bytes]]:
    """Somebody who deletes the device whenever it is there."""
    delete = f"while sleep 0.1; do ip link del {HALF} 2>/dev/null; done"
    command = inside(fabric.host("host1").namespace, ["sh", "-c", delete])
    process = subprocess.Popen(command)
    yield process
    process.kill()
    process.wait()


def test_who_takes_it_away_each_time_is_not_fought(
    fabric: Fabric, strife: subprocess.Popen[bytes]
) -> None:
    """It is made again later each time, and said what to look for; then all is well again."""
    before, began = status(fabric)["repaired"], time.monotonic()
    assert eventually(lambda: status(fabric)["state"] == "degraded", _SLOW), status(fabric)
    told = [finding["text"] for finding in status(fabric)["findings"]]
    assert any("see who deletes it" in sentence for sentence in told), told
    time.sleep(max(0.0, began + _STRIFE - time.monotonic()))
    # At once, after one second, two, four: the fifth time is due after 15 s.
    took = time.monotonic() - began
    assert status(fabric)["repaired"] - before <= 2 + took / 4, fabric.host("host1").log.read_text()
    strife.kill()
    log = fabric.host("host1").log
    assert eventually(lambda: there(fabric), 2 * _SLOW), log.read_text()[-4000:]
    assert eventually(lambda: not fabric.reach("blue/web1", "blue/web2").wrong, 2 * _SLOW)
    assert eventually(lambda: status(fabric)["state"] == "in-sync", 2 * _SLOW), status(fabric)


@pytest.mark.parametrize(
    ("change", "mend", "said"),
    [
        ("down", "up", f"is down → set it up (ip link set {HALF} up)"),
        ("mtu 1400", "mtu 65000", "takes 1400 bytes, and the overlay says 1500"),
    ],
)
def test_what_else_may_be_wrong_with_it_is_named(
    fabric: Fabric, change: str, mend: str, said: str
) -> None:
    where = ["check", str(fabric.plan.overlay), "--host", "host1"]
    command = [sys.executable, "-m", "ovs_lwt.cli", *where, "--ovsdb", fabric.host("host1").ovsdb]
    fabric.run("host1", "ip", "link", "set", HALF, *change.split())
    try:
        with pytest.raises(Refused, match=re.escape(said)):
            fabric.run("host1", *command)
    finally:
        fabric.run("host1", "ip", "link", "set", HALF, *mend.split())
    fabric.run("host1", *command)
