"""The controller is killed and started again, with everything installed, while two guests talk."""

from __future__ import annotations

import re

from bench.results import Row
from bench.scale import guests, stage
from bench.scale.overlays import Fabric, address_of
from bench.scale.pinger import pinging
from tests.support.ovs import OvsHost

_CHANGED = re.compile(r"(\d+) flows written, (\d+) deleted.* (\d+) groups written, (\d+) deleted")
_RECEIVED = re.compile(r"ofproto_recv_openflow .* total: (\d+)")
_WITHOUT_FLOWS = 200  # messages that a connection takes: greetings, lists, echoes


def rows(fabric: Fabric) -> list[Row]:
    """Start it with a switch that holds nothing; kill it, and start it again."""
    size = fabric.size
    fabric.fill()
    with OvsHost(stage.NETNS) as host, stage.started(host, fabric.overlay) as first:
        cold = first.agreed() - first.began
        with guests.two(host):
            first.settle()
            with pinging(guests.GUESTS[0], address_of(guests.PLACES[1])) as tally:
                first.kill()
                before = _received(host)
                with stage.started(host, fabric.overlay) as again:
                    seconds = again.agreed() - again.began
                    changed = sum(map(int, _CHANGED.findall(str(again.status()["last"]))[0]))
        messages = _received(host) - before
    if changed == 0 and messages > _WITHOUT_FLOWS:
        raise SystemExit(
            f"nothing was changed, it says, but the switch has got {messages} messages"
        )
    return [
        Row.compare("restart against cold start, both from exec", size, "s", seconds, cold, 0.7),
        Row.limit("restart: flow-mods and group-mods", size, "sent", changed, 0),
        Row.limit(f"restart: pings lost, of {tally.sent:,} at 100/s", size, "lost", tally.lost, 0),
        Row.state("restart: the longest that a ping took", size, "s", tally.longest),
    ]


def _received(host: OvsHost) -> int:
    """OpenFlow messages that the switch has got since it started."""
    found = _RECEIVED.search(host.appctl("coverage/show"))
    assert found is not None, "coverage/show counts them"
    return int(found[1])
