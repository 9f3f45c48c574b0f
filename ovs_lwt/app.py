"""The Ryu application: a thin shim between the framework's connections and the agent.

    ryu-manager ovs_lwt.app --overlay overlay.yaml --overlay-host host1

It runs on os-ken and on Ryu. Its handlers only queue what they get; the agent works on a thread of
its own.
"""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

from ovs_lwt.agent import Agent, Closed, Item, Opened, Received, Reload
from ovs_lwt.backends.openflow import framework
from ovs_lwt.checker import Checker
from ovs_lwt.control import FOLDER, ControlSocket
from ovs_lwt.mistakes import Refused
from ovs_lwt.model import PLANES
from ovs_lwt.plane import STATE, Options
from ovs_lwt.sources import Source, on_plane
from ovs_lwt.sources.overlay_file import OverlayFile
from ovs_lwt.vswitch import DEFAULT_BRIDGE, DEFAULT_OVSDB

FW = framework.current()

_GROUP = FW.cfg
FW.register_options(
    [
        _GROUP.StrOpt("overlay", help="the overlay file"),
        _GROUP.MultiStrOpt(
            "overlay-host",
            default=[],
            metavar="HOST[=WHERE]",
            help="a host of the overlay to drive; where its OVSDB listens, or on planes bridge and"
            f" route, its network namespace; may be given several times (default: {DEFAULT_OVSDB},"
            " or this namespace)",
        ),
        _GROUP.StrOpt("overlay-bridge", default=DEFAULT_BRIDGE, help="the bridge on every host"),
        _GROUP.StrOpt(
            "overlay-controller",
            default="tcp:127.0.0.1:6653",
            help="where the switches find this controller, as an OVSDB target; empty: theirs stay",
        ),
        _GROUP.StrOpt(
            "overlay-datapath",
            default="auto",
            choices=["auto", "system", "netdev"],
            help="datapath of a new bridge",
        ),
        _GROUP.StrOpt(
            "overlay-nd",
            default="auto",
            choices=["auto", "flow", "app"],
            help="who answers neighbour solicitations: flows where the datapath can, else this app",
        ),
        _GROUP.BoolOpt(
            "overlay-keep-foreign", default=False, help="leave flows with other cookies alone"
        ),
        _GROUP.BoolOpt(
            "overlay-watch",
            default=False,
            help="take over changes of the overlay file as they are saved",
        ),
        _GROUP.StrOpt("overlay-plane", choices=PLANES, help="all hosts on this plane"),
        _GROUP.StrOpt(
            "overlay-state", default=str(STATE), help="where VLAN numbers of plane bridge are kept"
        ),
        _GROUP.StrOpt("overlay-control", help=f"control socket (default: {FOLDER}/HOST.ctl)"),
    ]
)


class _Connection:
    """The framework's datapath, as the agent wants it."""

    def __init__(self, datapath: Any) -> None:
        self._datapath = datapath
        self.datapath_id: int = datapath.id
        # The frameworks give a whole send this long; a switch that commits a large bundle reads
        # nothing meanwhile.
        datapath.socket.settimeout(_SEND_SECONDS)

    def send(self, data: bytes | memoryview) -> None:
        self._datapath.send(data)

    def close(self) -> None:
        self._datapath.close()


_SEND_SECONDS = 120


class OvsLwt(framework.App):
    """Tenants over one shared VXLAN port on every host named by --overlay-host."""

    OFP_VERSIONS = (FW.ofproto_v1_4.OFP_VERSION,)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        conf = FW.CONF
        hosts = _hosts(conf.overlay, conf.overlay_host)
        self._inbox = FW.hub.Queue()
        self._stopping = False
        self._connections: dict[int, _Connection] = {}
        options = Options(
            bridge=conf.overlay_bridge,
            controller=conf.overlay_controller or None,
            datapath_type=conf.overlay_datapath,
            neighbour_discovery=conf.overlay_nd,
            keep_foreign=conf.overlay_keep_foreign,
            watch=conf.overlay_watch,
            state=Path(conf.overlay_state),
        )
        source = self.source()
        # First of all: where another controller runs, it shall not lose its switch.
        control = ControlSocket(Path(conf.overlay_control or FOLDER / f"{hosts[0][0]}.ctl"))
        try:
            self._agent = Agent(source, hosts, options, self._receive, checker=Checker())
        except BaseException:
            control.close()
            raise
        self._agent.listen(control)

    def source(self) -> Source:
        """Where the overlay comes from. An app that has it from elsewhere is a subclass."""
        conf = FW.CONF
        return on_plane(OverlayFile(Path(conf.overlay)), conf.overlay_plane)

    def start(self) -> None:
        """Begin: called by the framework once every app is there."""
        super().start()
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGHUP, lambda *_: self._inbox.put(Reload()))
        self._thread = FW.hub.spawn(self._work)

    def _work(self) -> None:
        self._agent.run()
        if not self._stopping:
            # `exit`, by the control socket: the framework would go on listening, for nobody.
            os.kill(os.getpid(), signal.SIGTERM)

    def stop(self) -> None:
        """End: called by the framework. Flows stay."""
        self._stopping = True
        self._agent.stop()
        FW.hub.joinall([self._thread])
        super().stop()

    def _receive(self, seconds: float) -> Item | None:
        try:
            item: Item = self._inbox.get(timeout=seconds)
        except FW.hub.QueueEmpty:
            return None
        return item

    @FW.handles("EventOFPStateChange", "main", "dead")
    def _state_change(self, event: Any) -> None:
        datapath = event.datapath
        if event.state == FW.handler.MAIN_DISPATCHER:
            connection = self._connections[id(datapath)] = _Connection(datapath)
            self._inbox.put(Opened(connection))
        elif gone := self._connections.pop(id(datapath), None):
            self._inbox.put(Closed(gone))

    @FW.handles("EventOFPFlowStatsReply", "main")
    @FW.handles("EventOFPGroupDescStatsReply", "main")
    @FW.handles("EventOFPBarrierReply", "main")
    @FW.handles("EventOFPBundleCtrlMsg", "main")
    @FW.handles("EventOFPErrorMsg", "main")
    @FW.handles("EventOFPPacketIn", "main")
    @FW.handles("EventOFPFlowMonitorReply", "main")
    @FW.handles("EventOFPRequestForward", "main")
    @FW.handles("EventOFPPortDescStatsReply", "main")
    @FW.handles("EventOFPPortStatus", "main")
    def _message(self, event: Any) -> None:
        if connection := self._connections.get(id(event.msg.datapath)):
            self._inbox.put(Received(connection, bytes(event.msg.buf)))


def _hosts(overlay: str | None, words: list[str]) -> list[tuple[str, str]]:
    """(host, where) of every --overlay-host."""
    if not overlay or not words:
        raise Refused("ovs_lwt.app needs --overlay FILE and --overlay-host HOST (see --help)")
    pairs = [word.partition("=") for word in words]
    return [(host, where) for host, _, where in pairs]
