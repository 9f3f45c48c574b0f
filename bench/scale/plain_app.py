"""The app that one writes after the framework's tutorial: for each row of a file an OFPFlowMod.

    python -m bench.scale.plain_app OVERLAY

Prints how many flows it sent, and the seconds from the first line read to the barrier's reply. It
only does what an endpoint needs: no flows of tenants, no groups, and nothing checked.
"""

from __future__ import annotations

import csv
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, Final

import yaml
from os_ken.lib import hub
from os_ken.ofproto import ofproto_v1_4

from ovs_lwt.backends.openflow import framework

FW: Final = framework.current()

_FORWARD: Final = 6
_PRIORITY: Final = 200
_TUNNEL: Final = 1
_HERE: Final = "h0"
_OVERLAY: Final = "OVS_LWT_BENCH_OVERLAY"


class PlainApp(framework.App):
    """Loads one switch, and ends."""

    OFP_VERSIONS = (ofproto_v1_4.OFP_VERSION,)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._overlay = Path(os.environ[_OVERLAY])
        self._began, self._sent = 0.0, 0

    @FW.handles("EventOFPStateChange", "main")
    def connected(self, event: Any) -> None:
        """Go, on a thread of its own: the dispatcher must not wait for a full queue."""
        hub.spawn(self._load, event.datapath)

    @FW.handles("EventOFPBarrierReply", "main")
    def done(self, _: Any) -> None:
        """All that went before is in the switch."""
        print(self._sent, time.perf_counter() - self._began, flush=True)
        os.kill(os.getpid(), signal.SIGTERM)

    def _load(self, datapath: Any) -> None:
        self._began = time.perf_counter()
        overlay = yaml.load(self._overlay.read_text(), yaml.CSafeLoader)
        vteps = {name: vtep["address"] for name, vtep in overlay["vteps"].items()}
        vnis = {name: tenant["vni"] for name, tenant in overlay["tenants"].items()}
        parser, ofproto = datapath.ofproto_parser, datapath.ofproto
        with (self._overlay.parent / overlay["endpoints_file"]).open(newline="") as file:
            for row in csv.DictReader(file):
                if row["host"] == _HERE:
                    continue
                match = parser.OFPMatch(metadata=vnis[row["tenant"]], eth_dst=row["mac"])
                actions = [
                    parser.OFPActionSetField(tun_ipv4_dst=vteps[row["host"]]),
                    parser.OFPActionOutput(_TUNNEL, 0),
                ]
                apply = [parser.OFPInstructionActions(ofproto.OFPIT_APPLY_ACTIONS, actions)]
                self._sent += 1
                datapath.send_msg(
                    parser.OFPFlowMod(
                        datapath,
                        table_id=_FORWARD,
                        priority=_PRIORITY,
                        match=match,
                        instructions=apply,
                    )
                )
        datapath.send_msg(parser.OFPBarrierRequest(datapath))


if __name__ == "__main__":
    from ovs_lwt.manager import launch

    os.environ[_OVERLAY] = sys.argv[1]
    sys.exit(launch(["bench.scale.plain_app"], []))
