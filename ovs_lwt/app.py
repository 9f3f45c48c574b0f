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
from typing import Any, cast

from ovs_lwt.agent import Agent, Closed, Drained, Item, Opened, Received, Reload
from ovs_lwt.backends.openflow import framework, listening
from ovs_lwt.backends.openflow.connection import SwitchConnection
from ovs_lwt.checker import Checker
from ovs_lwt.control import FOLDER, ControlSocket, introduction, socket_of
from ovs_lwt.here import this_host_in
from ovs_lwt.mistakes import Refused
from ovs_lwt.model import PLANES
from ovs_lwt.names import check_name
from ovs_lwt.plane import STATE, Options
from ovs_lwt.sources import Source, on_plane
from ovs_lwt.sources.kept import accepted_in
from ovs_lwt.sources.overlay_file import OverlayFile
from ovs_lwt.stopping import Hangups
from ovs_lwt.transitions import BRAKE_SHARE
from ovs_lwt.vswitch import DEFAULT_BRIDGE, DEFAULT_OVSDB, run_directory
from ovs_lwt.vswitch.database import use_tls

FW = framework.current()

HERE = "unix"
"""As --overlay-controller: the switches call by a unix socket of their own."""

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
            default=HERE,
            help="where the switches find this controller, as an OVSDB target; empty: theirs stay;"
            f" {HERE}: a unix socket of their own, where their OVSDB has one",
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
            "overlay-keep-foreign",
            # Other apps may run beside this one; whoever runs it alone says so.
            default=True,
            help="leave flows with other cookies alone",
        ),
        _GROUP.BoolOpt(
            "overlay-watch",
            default=False,
            help="take over changes of the overlay file as they are saved",
        ),
        _GROUP.StrOpt("overlay-plane", choices=PLANES, help="all hosts on this plane"),
        _GROUP.StrOpt(
            "overlay-state", default=str(STATE), help="where is kept what must outlive the agent"
        ),
        _GROUP.IntOpt(
            "overlay-brake",
            default=BRAKE_SHARE,
            min=0,
            max=100,
            help="percent of the endpoints that one change of the overlay may take away",
        ),
        _GROUP.StrOpt("overlay-control", help=f"control socket (default: {FOLDER}/HOST.ctl)"),
    ]
)


class Reception:
    """Where the hosts' switches call.

    controller: an OVSDB target for all of them; or HERE: the socket in a host's run directory, made
    when it is first asked for; or "": they keep what they have
    elsewhere: the target of hosts that are not on this machine; None: there can be none
    """

    def __init__(self, bridge: str, controller: str, elsewhere: str | None) -> None:
        self._bridge, self._controller, self._elsewhere = bridge, controller, elsewhere
        self._doors: dict[str, listening.HostDoor] = {}

    def target(self, host: str, ovsdb: str) -> str | None:
        """What the host's Controller row is to say. Raises Refused. Never for one host at a time in
        two threads.
        """
        if self._controller != HERE:
            return self._controller or None
        rundir = run_directory(ovsdb)
        if rundir is None and self._elsewhere is not None:
            return self._elsewhere
        if rundir is None:
            raise Refused(
                f"{host}'s switch is not on this machine, by its OVSDB {ovsdb}: say where it is to"
                " call (--listen ADDRESS:PORT, with --tls-key, --tls-cert and --tls-ca)"
            )
        if host not in self._doors:
            self._doors[host] = listening.HostDoor(host, self._bridge, rundir)
        return self._doors[host].target()

    def places(self) -> list[str]:
        """Where switches may call, for the log."""
        doors = [str(door.path) for door in self._doors.values()]
        return doors if self._elsewhere is None else [*doors, self._elsewhere]

    def close(self) -> None:
        """Listen no more."""
        for door in self._doors.values():
            door.close()


def _switch_owners() -> set[int]:
    hosts = _hosts(FW.CONF.overlay, FW.CONF.overlay_host)
    rundirs = [run_directory(where or DEFAULT_OVSDB) for _, where in hosts]
    return listening.owners([rundir for rundir in rundirs if rundir is not None])


listening.guard(_switch_owners)


class OvsLwt(framework.App):
    """Tenants over one shared VXLAN port on every host named by --overlay-host."""

    OFP_VERSIONS = (FW.ofproto_v1_4.OFP_VERSION,)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        conf = FW.CONF
        hosts = _hosts(conf.overlay, conf.overlay_host)
        self._inbox = FW.hub.Queue()
        self._hangups = Hangups()
        self._stopping = False
        self._connections: dict[int, SwitchConnection] = {}
        control_path = Path(conf.overlay_control or socket_of(hosts[0][0]))
        self._reception = Reception(
            conf.overlay_bridge, conf.overlay_controller, listening.target(conf)
        )
        tls = conf.ctl_privkey, conf.ctl_cert, conf.ca_certs
        if any(tls):
            use_tls(*tls)
        options = Options(
            bridge=conf.overlay_bridge,
            target=self._reception.target,
            datapath_type=conf.overlay_datapath,
            neighbour_discovery=conf.overlay_nd,
            keep_foreign=conf.overlay_keep_foreign,
            watch=conf.overlay_watch,
            state=Path(conf.overlay_state),
            agent=introduction(control_path),
            brake=conf.overlay_brake,
        )
        source = self.source()
        # First of all: where another controller runs, it shall not lose its switch.
        listening.open_asked(conf)
        control = ControlSocket(control_path)
        try:
            self._agent = Agent(source, hosts, options, self._receive, checker=Checker())
        except BaseException:
            control.abandon()
            self._reception.close()
            raise
        self._agent.listen(control)

    def source(self) -> Source:
        """Where the overlay comes from. An app that has it from elsewhere is a subclass."""
        conf = FW.CONF
        ((first, _), *_) = _hosts(conf.overlay, conf.overlay_host)
        keep = accepted_in(Path(conf.overlay_state), first)
        return on_plane(OverlayFile(Path(conf.overlay), keep), conf.overlay_plane)

    def start(self) -> None:
        """Begin: called by the framework once every app is there."""
        super().start()
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGHUP, self._hangups.note)
        listening.begin()
        self._thread = FW.hub.spawn(self._work)

    def _work(self) -> None:
        self._agent.run(self._reception.places())
        self._reception.close()
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
        if self._hangups.taken():
            return Reload()
        try:
            item: Item = self._inbox.get(timeout=seconds)
        except FW.hub.QueueEmpty:
            return None
        if isinstance(item, Received):
            cast(SwitchConnection, item.connection).taken(len(item.message))
        return item

    def _drained(self, connection: SwitchConnection) -> None:
        self._inbox.put(Drained(connection))

    @FW.handles("EventOFPStateChange", "main", "dead")
    def _state_change(self, event: Any) -> None:
        datapath = event.datapath
        if event.state == FW.handler.MAIN_DISPATCHER:
            connection = SwitchConnection(datapath, self._drained)
            self._connections[id(datapath)] = connection
            self._inbox.put(Opened(connection))
        elif gone := self._connections.pop(id(datapath), None):
            gone.ended()
            self._inbox.put(Closed(gone))

    @FW.handles("EventOFPFlowStatsReply", "main")
    @FW.handles("EventOFPGroupDescStatsReply", "main")
    @FW.handles("EventOFPBarrierReply", "main")
    @FW.handles("EventOFPEchoReply", "main")
    @FW.handles("EventOFPBundleCtrlMsg", "main")
    @FW.handles("EventOFPErrorMsg", "main")
    @FW.handles("EventOFPPacketIn", "main")
    @FW.handles("EventOFPFlowMonitorReply", "main")
    @FW.handles("EventOFPRequestForward", "main")
    @FW.handles("EventOFPPortDescStatsReply", "main")
    @FW.handles("EventOFPPortStatus", "main")
    def _message(self, event: Any) -> None:
        connection = self._connections.get(id(event.msg.datapath))
        if connection is not None and connection.arrived(len(event.msg.buf)):
            self._inbox.put(Received(connection, bytes(event.msg.buf)))


def _hosts(overlay: str | None, words: list[str]) -> list[tuple[str, str]]:
    """(host, where) of every --overlay-host; the host that bears this machine's name if none is."""
    if not overlay:
        raise Refused("ovs_lwt.app needs --overlay FILE (see --help)")
    pairs = [word.partition("=") for word in words or [this_host_in(Path(overlay))]]
    for host, _, _ in pairs:
        check_name("host", host)
    return [(host, where) for host, _, where in pairs]
