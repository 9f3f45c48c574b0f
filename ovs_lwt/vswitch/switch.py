"""The local switch: prepared once, then watched by an agent that polls it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final, Self

from ovs_lwt.claims import ATTACHED_MAC_KEY, IFACE_ID_KEY, claimed_endpoint
from ovs_lwt.mistakes import NotNow, Refused
from ovs_lwt.vswitch.database import Database, Row, Transaction
from ovs_lwt.vswitch.deviations import halves_gone
from ovs_lwt.vswitch.plan import (
    DEFAULT_BRIDGE,
    DEFAULT_OVSDB,
    DEFAULT_REQUEST_PORT,
    DEFAULT_TUNNEL_PORT,
    HIGHEST_OFPORT,
    DatapathType,
    LocalPort,
    SwitchPlan,
    check_port_name,
)
from ovs_lwt.vswitch.prepare import (
    add_port_rows,
    assign,
    assign_key,
    bridge_of,
    datapath_type_of,
    kernel_datapath,
    refuse_conflicts,
    write_plan,
)
from ovs_lwt.vswitch.seen import Seen, seen

# What ovs-vswitchd found out while applying a change may follow its cur_cfg by this much (s).
_SETTLE: Final = 2.0


class LocalSwitch:
    """One bridge of one OVSDB server, kept in step by `run`.

    `remote` is the server's address (``unix:PATH``, ``tcp:ADDR:PORT``), `timeout` how many
    seconds it may take to answer, and ovs-vswitchd to apply a change. Raises `Refused` if
    nobody answers. Later losses of the connection heal by themselves: see `connected`. To be
    used from one thread, native or green.
    """

    def __init__(
        self,
        remote: str = DEFAULT_OVSDB,
        bridge: str = DEFAULT_BRIDGE,
        *,
        tunnel_port: str = DEFAULT_TUNNEL_PORT,
        timeout: float = 10.0,
    ) -> None:
        self.remote = remote
        self.bridge = bridge
        self._tunnel_port = tunnel_port
        self._request_port = DEFAULT_REQUEST_PORT
        self._timeout = timeout
        self._database = Database(remote, timeout)
        # What has been prepared is ours from then on: the bridge's datapath, the ports' types.
        self._datapath: DatapathType | None = None
        self._made: frozenset[str] = frozenset()
        self._seqno = -1
        self._now = Seen()
        self._reported = Seen()
        self._refresh()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection. The switch stays as it is."""
        self._database.close()

    # Preparing

    def prepare(self, plan: SwitchPlan) -> None:
        """Make the switch what `plan` says; commit nothing if it already is.

        Returns when ovs-vswitchd has applied it and the VXLAN ports work. Raises `Refused`, with
        nothing touched, if something else is in the way; and, after the fact, if ovs-vswitchd does
        not run or cannot do it. Settings of others on the same rows stay; the bridge's datapath is
        kept as it was the first time.
        """
        if plan.bridge != self.bridge:
            raise ValueError(f"a plan for bridge {plan.bridge} given to {self.bridge}")
        self._tunnel_port, self._request_port = plan.tunnel_port, plan.request_port
        self._database.run()
        datapath_type = self._choose_datapath(plan)

        def compose(transaction: Transaction) -> None:
            # Within the transaction: composed anew, it must also be judged anew.
            refuse_conflicts(self._database, plan, self._made)
            write_plan(self._database, transaction, plan, datapath_type)

        what = f"prepare bridge {plan.bridge}"
        committed, config = self._database.transact(what, compose, self._timeout)
        self._await_applied(config)
        for tunnel in plan.tunnels:
            if not committed and datapath_type == "system" and self._given_up(tunnel.name):
                self._make_half(tunnel.name)
            self._await_ofport(tunnel.name, fresh=committed)
        for name in halves_gone(self._database, plan):
            self._make_half(name)
        deadline = time.monotonic() + _SETTLE
        if not self._database.wait_until(lambda: not halves_gone(self._database, plan), deadline):
            (text, *_) = halves_gone(self._database, plan).values()
            raise NotNow(f"{text} as soon as it was made again: see who deletes it (ip monitor)")
        self._datapath = datapath_type
        self._made = frozenset((plan.bridge, *(tunnel.name for tunnel in plan.tunnels)))

    def _make_half(self, name: str) -> None:
        """Have ovs-vswitchd make the kernel's half of a VXLAN port again.

        It does so where a port takes another number. The row keeps what others have set, flows
        stay, and whoever asks for the port's number meanwhile is told the one that it gets back.
        """
        rows = self._interfaces()
        taken = {number for row in rows for number in (*row.ofport, *row.ofport_request)}
        spare = next(number for number in range(HIGHEST_OFPORT, 0, -1) if number not in taken)
        numbers = [n for r in rows if r.name == name for n in (*r.ofport, *r.ofport_request)]
        own = [number for number in numbers if number > 0][:1]
        for request in ([spare], own):

            def compose(_: Transaction, request: list[int] = request) -> None:
                for row in self._interfaces():
                    if row.name == name:
                        assign(row, "ofport_request", request)

            what = f"make the kernel's half of port {name} again"
            self._await_applied(self._database.transact(what, compose, self._timeout)[1])
        self._await_ofport(name, fresh=True)

    def _given_up(self, name: str) -> bool:
        """Whether ovs-vswitchd could not make this port, as when its device is taken away at that
        very moment. It tries again when something else of the bridge changes, which may be never.
        """
        interface = self._interface(name)
        return interface is not None and interface.ofport == [-1]

    def _choose_datapath(self, plan: SwitchPlan) -> DatapathType:
        if self._datapath is not None:
            return self._datapath
        bridge = self._database.named("Bridge", plan.bridge)
        if bridge is not None:
            return datapath_type_of(bridge)
        if plan.datapath_type == "netdev":
            return "netdev"
        if kernel_datapath():
            return "system"
        if plan.datapath_type == "system":
            raise NotNow(
                "this kernel has no openvswitch module: install it (modprobe openvswitch must"
                " succeed) or use the userspace datapath (datapath type netdev)"
            )
        return "netdev"

    # Watching

    def run(self) -> bool:
        """Take in what changed; return True if something an agent would ask for did.

        Never blocks, and sends nothing: call it as often as once in 100 ms.
        """
        self._database.run()
        self._refresh()
        changed = self._now != self._reported
        self._reported = self._now
        return changed

    @property
    def connected(self) -> bool:
        """Whether ovsdb-server answers. If not, everything else is as it was last seen."""
        return self._database.connected

    def ports(self) -> tuple[LocalPort, ...]:
        """Return the bridge's ports that the datapath knows, by name; not its VXLAN ports."""
        return self._now.ports

    def tunnel_ofport(self) -> int | None:
        """Return the OpenFlow number of the shared VXLAN port; None while it has none."""
        return self._now.tunnel_ofport

    def request_ofport(self) -> int | None:
        """Return the OpenFlow number of the request port; None while it has none."""
        return self._now.request_ofport

    def bridge_datapath_id(self) -> int | None:
        """Return the datapath id in effect; None while there is no bridge."""
        return self._now.datapath_id

    def datapath_type(self) -> DatapathType:
        """Return "system" (the kernel's) or "netdev" (userspace); raise `Refused` for no bridge."""
        return self._now.datapath_type or datapath_type_of(self._bridge_row())

    def claim_of(self, name: str) -> str | None:
        """Return the endpoint that port `name` of the bridge claims, known to the datapath or not.

        None if it claims none, or if there is no such port.
        """
        self._database.run()
        interface = self._interface(name)
        return None if interface is None else claimed_endpoint(interface.external_ids)

    def claimants(
        self, identity: str, uuid: str | None = None, mac: str | None = None
    ) -> tuple[str, ...]:
        """Return the names of the bridge's ports that claim the endpoint ``TENANT/NAME``, or claim
        none and have this ``iface-id`` or ``attached-mac``.
        """
        self._database.run()

        def is_one(external_ids: Mapping[str, str]) -> bool:
            claim = claimed_endpoint(external_ids)
            if claim is not None:
                return claim == identity
            known = ((IFACE_ID_KEY, uuid), (ATTACHED_MAC_KEY, mac))
            return any(
                value is not None and external_ids.get(key, "").lower() == value
                for key, value in known
            )

        found = (each.name for each in self._interfaces() if is_one(each.external_ids))
        return tuple(sorted(found))

    def bridge_with(self, name: str) -> str | None:
        """Return the name of the bridge that has a port called `name`, or None."""
        self._database.run()
        owner = bridge_of(self._database, name)
        return None if owner is None else str(owner.name)

    def tunnel_address(self) -> str | None:
        """Return the VTEP's address that the shared VXLAN port is given; None without one."""
        self._database.run()
        interface = self._interface(self._tunnel_port)
        return None if interface is None else interface.options.get("local_ip")

    def _refresh(self) -> None:
        connected = self._database.connected
        if self._database.seqno == self._seqno and connected == self._now.connected:
            return
        self._seqno = self._database.seqno
        self._now = seen(self._database, self.bridge, self._tunnel_port, self._request_port)

    # Ports of guests

    def add_port(
        self,
        name: str,
        external_ids: Mapping[str, str],
        type: str = "",
        mtu_request: int | None = None,
    ) -> None:
        """Add port `name` to the bridge with these `external_ids`; mend it if it is there.

        `type` is the Interface's type ("" for a device of this machine), `mtu_request` in bytes.
        Other keys stay. Returns when the datapath has the port. Raises `Refused` if the name is
        taken by another bridge or type, or if ovs-vswitchd cannot add the port (then the row
        stays, with its error: see `del_port`).
        """
        check_port_name("port", name)

        def compose(transaction: Transaction) -> None:
            bridge = self._bridge_row()
            owner = bridge_of(self._database, name)
            if name in (self.bridge, self._tunnel_port, self._request_port) or (
                owner is not None and owner.name != self.bridge
            ):
                where = self.bridge if owner is None else owner.name
                raise Refused(f"'{name}' is already in use on bridge '{where}': name another port")
            interface = self._interface(name)
            if interface is None:
                interface = add_port_rows(self._database, transaction, bridge, name, type)
            elif interface.type != type:
                raise Refused(
                    f"port '{name}' of bridge '{self.bridge}' has type"
                    f" {interface.type or 'system'}, not {type or 'system'}: remove it"
                    f" (ovs-vsctl del-port {name})"
                )
            for key, value in external_ids.items():
                assign_key(interface, "external_ids", key, value)
            if mtu_request is not None:
                assign(interface, "mtu_request", [mtu_request])

        self._database.run()
        committed, config = self._database.transact(f"add port {name}", compose, self._timeout)
        self._await_applied(config)
        self._await_ofport(name, fresh=committed)

    def del_port(self, name: str) -> bool:
        """Remove port `name` from the bridge; return False if it was not there.

        Returns when ovs-vswitchd has let go of it: a port of the same name added before that
        would keep the old device's sockets. One that does not run holds nothing. Raises `Refused`
        for the bridge's own ports.
        """
        self._database.run()
        interface = self._interface(name)
        asked = name == self._request_port and interface is not None and interface.type == "vxlan"
        if asked or name in (self.bridge, self._tunnel_port):
            raise Refused(f"'{name}' carries the overlay on bridge '{self.bridge}': it stays")

        def compose(_: Transaction) -> None:
            bridge = self._database.named("Bridge", self.bridge)
            if bridge is not None:
                for port in bridge.ports:
                    if port.name == name:
                        bridge.delvalue("ports", port)

        what = f"remove port {name}"
        committed, config = self._database.transact(what, compose, self._timeout)
        if committed:
            self._applied(config)
            self._refresh()
        return committed

    # Rows and waiting

    def _bridge_row(self) -> Row:
        bridge = self._database.named("Bridge", self.bridge)
        if bridge is None:
            raise NotNow(
                f"there is no bridge '{self.bridge}' at {self.remote}: start `ovs-lwt run` on this"
                " host first, or name its bridge with --bridge"
            )
        return bridge

    def _interfaces(self) -> list[Any]:
        bridge = self._database.named("Bridge", self.bridge)
        ports = () if bridge is None else bridge.ports
        return [interface for port in ports for interface in port.interfaces]

    def _interface(self, name: str) -> Row | None:
        return next((row for row in self._interfaces() if row.name == name), None)

    def _applied(self, config: int | None) -> bool:
        """Wait until ovs-vswitchd has applied `config`; None: whatever was asked of it so far."""

        def applied() -> bool:
            root = self._database.root()
            return root is not None and root.cur_cfg >= (config or root.next_cfg)

        return self._database.wait_until(applied, time.monotonic() + self._timeout)

    def _await_applied(self, config: int | None) -> None:
        if not self._applied(config):
            if not self.connected:
                raise NotNow(
                    f"ovsdb-server at {self.remote} went away before ovs-vswitchd had taken up the"
                    " change: see whether it runs (systemctl status ovsdb-server)"
                )
            raise NotNow(
                f"ovs-vswitchd did not take up the change within {self._timeout:g} s: see whether"
                " it runs (systemctl status ovs-vswitchd) and what its log says"
            )

    def _await_ofport(self, name: str, *, fresh: bool) -> None:
        """Wait until port `name` works; `fresh`: what its row says is from this very change."""
        deadline = time.monotonic() + (_SETTLE if fresh else self._timeout)

        def error() -> str | None:
            interface = self._interface(name)
            return None if interface is None else next(iter(interface.error), None)

        def works() -> bool:
            interface = self._interface(name)
            return interface is not None and next(iter(interface.ofport), 0) > 0

        # An old error may be about to go: ovs-vswitchd looks again when devices come and go.
        self._database.wait_until(lambda: works() or (fresh and error() is not None), deadline)
        if not works():
            reason = error() or f"ovs-vswitchd could not set up bridge '{self.bridge}'; see its log"
            raise NotNow(f"port '{name}' of bridge '{self.bridge}' does not work: {reason}")
        self._refresh()
