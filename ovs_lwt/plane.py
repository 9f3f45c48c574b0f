"""What the agent asks of a host, whichever plane forwards there."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol, runtime_checkable

from ovs_lwt.findings import Finding
from ovs_lwt.mistakes import Refused
from ovs_lwt.topology import Topology
from ovs_lwt.transitions import BRAKE_SHARE
from ovs_lwt.underlay.expected import Expected

STATE: Final = Path(os.environ.get("STATE_DIRECTORY") or "/var/lib/ovs-lwt")
"""Where a host keeps what must outlive its agent. (systemd says it: systemd.exec(5).)"""


@dataclass(frozen=True, slots=True)
class Options:
    """What the user chose.

    bridge, target, datapath_type, neighbour_discovery, keep_foreign: of plane ovs; state: a folder,
    of plane bridge
    target: says the OVSDB target that a host's switch gets, by the host's name and its OVSDB; it
    may raise Refused; no target leaves the switch's own alone
    agent: who this is, for another agent that comes second
    brake: percent of the endpoints that one change of the overlay may take away
    """

    bridge: str
    target: Callable[[str, str], str | None] | None = None
    datapath_type: Literal["auto", "system", "netdev"] = "auto"
    neighbour_discovery: Literal["auto", "flow", "app"] = "auto"
    keep_foreign: bool = False
    watch: bool = False
    state: Path = STATE
    agent: str = ""
    brake: int = BRAKE_SHARE


class Plane(Protocol):
    """One host of the overlay, made to forward as the overlay says.

    name: the host's name in the overlay
    """

    name: str

    @property
    def errors(self) -> Mapping[str, str]:
        """What is wrong with guests' ports, by their names."""

    def prepare(self, topology: Topology) -> None:
        """Make what all tenants share (the switch, the devices) what the overlay needs.

        Raises Refused, with nothing changed.
        """

    def poll(self) -> bool:
        """Take note of what has happened on this machine; say whether `look` has something new."""

    def look(self, topology: Topology, now: float) -> None:
        """Desire what the overlay and this machine's own facts (its guests' ports) make."""

    def tick(self, now: float) -> None:
        """Do what is due: a retry, an audit."""

    def flush(self) -> bool | None:
        """Send a piece of what there is to send, and log what there is to tell.

        Returns True if there is more to send at once: then it is called again, after other hosts.
        """

    def audit(self, now: float) -> None:
        """Compare what is installed with what is desired, soon; forget how that last came out."""

    @property
    def busy(self) -> bool:
        """Whether it is about to agree, or to refuse."""

    @property
    def state(self) -> str:
        """What its session is at: "in-sync" when there is nothing left to do."""

    def outcome(self) -> str:
        """How it last came out, in a few words."""

    def refusals(self) -> tuple[str, ...]:
        """What was refused, and why; empty if nothing was."""

    def rename(self, renamed: Mapping[str, str]) -> None:
        """Have ports that claim endpoints of these tenants (old name -> new) claim them anew."""

    def expected(self, topology: Topology) -> Expected:
        """What the overlay expects of this machine, for a check."""

    def findings(self) -> Sequence[Finding]:
        """What it has found wrong itself; see `ovs_lwt.status` for what follows."""

    def tell_findings(self, findings: Sequence[Finding]) -> None:
        """Log what a check has found, as far as it is news."""

    def status(self) -> dict[str, object]:
        """The host's part of `ovs-appctl -t … status`.

        All planes say: plane, state ("in-sync" when there is nothing left to do), ports (port name
        -> endpoint), errors (port name -> what is wrong with its claim), portless (endpoints of the
        host that have no port here), strangers (port name -> ``iface-id``, "" for none, of ports
        beside the guests' that nothing says to be an endpoint's), marking (port name -> who sets
        the tenant's mark), repaired, refused, last, seconds, synced (seconds since then).
        """

    def close(self) -> None:
        """Let go of what it holds open. What is installed stays."""


class Connection(Protocol):
    """A switch's OpenFlow connection. Nothing of it waits for the other side."""

    datapath_id: int

    @property
    def about(self) -> str:
        """Who is behind it, in words."""

    def may_be(self, host: str) -> bool:
        """Whether whoever is behind it is believed to be this host's switch."""

    def send(self, data: bytes | memoryview) -> None:
        """Queue bytes."""

    @property
    def ready(self) -> bool:
        """Whether much may be queued. If not, the agent hears of it when there is room again."""

    def close(self) -> None:
        """Hang up."""


@runtime_checkable
class Switched(Plane, Protocol):
    """A host whose plane is a switch that calls us: plane ovs. `prepare` only begins there.

    connection: None while it is away
    """

    @property
    def connection(self) -> Connection | None:
        """Its switch's; None while it is away."""

    def check(self, topology: Topology) -> None:
        """Raise Refused if something is known to be in the way of what `prepare` would begin."""

    @property
    def preparing(self) -> bool:
        """Whether nobody knows yet how the last `prepare` comes out."""

    @property
    def trouble(self) -> Refused | None:
        """Why its switch is not what the overlay needs; None if it is."""

    def missing(self) -> str | None:
        """Why its switch does not hold what the overlay says yet; None if it does."""

    def silent(self, now: float) -> float:
        """Seconds without a sign of progress from its switch."""

    def connect(self, connection: Connection, now: float) -> None:
        """Its switch has connected, or somebody who says so."""

    def disconnect(self, connection: Connection, now: float) -> None:
        """A connection is gone; it may be that of another host, or one replaced since."""

    def follow(self, topology: Topology) -> None:
        """For this host `topology` is what it last looked at: compare with it from now on."""

    def receive(self, connection: Connection, message: bytes, now: float) -> None:
        """A message by this connection."""
