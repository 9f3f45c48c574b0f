"""`ovs-lwt run` beside a real switch: started, asked and stopped as a user would, and overheard.

    with controller(host, overlay) as running:
        assert running.in_sync("blue/web1")
        assert host_holds_what_export_says(host, overlay) == ""

What the switch holds is read with ovs-ofctl, and what it was told in its own log: never from the
controller.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ovs_lwt.control import ask
from ovs_lwt.mistakes import Refused
from tests.support.frameworks import Running, environment, running
from tests.support.ovs import OvsHost, eventually
from tests.support.roundtrip import compared, export

BRIDGE = "br-lwt"
OF14 = ("-O", "OpenFlow14")

_STATS = re.compile(r"duration=(?P<duration>[\d.]+)s, (?P<table>.*?)n_packets=(?P<packets>\d+), "
                    r"n_bytes=\d+, ")  # fmt: skip
# By its controller, that is: ovs-ofctl calls the switch ("unix#12").
_TOLD = re.compile(r"\|(?:tcp|ssl|unix):\S+ received: ")
_ENTRY = re.compile(r"^\d{4}-\d\d-\d\dT", re.MULTILINE)
_CHANGE = re.compile(r"OFPT_(?:FLOW|GROUP)_MOD \(OF1\.\d\) \(xid=\w+\):\s+(?P<what>.*)")


# The overlay


def write(path: Path, overlay: Mapping[str, Any] | str) -> Path:
    """Save an overlay as an editor does: the new file takes the old one's place at once."""
    text = overlay if isinstance(overlay, str) else yaml.safe_dump(dict(overlay), sort_keys=False)
    new = path.with_suffix(".new")
    new.write_text(text, "utf-8")
    new.replace(path)
    return path


def cli(*arguments: str, netns: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run `ovs-lwt` to its end."""
    prefix = ("ip", "netns", "exec", netns) if netns else ()
    return subprocess.run(
        [*prefix, sys.executable, "-m", "ovs_lwt.cli", *arguments],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


# The controller


@dataclass(frozen=True, slots=True)
class Controller:
    """A running controller and its control socket."""

    running: Running
    control: Path

    @property
    def log(self) -> str:
        """All it has logged so far."""
        return self.running.output

    def status(self, host: str = "host1") -> dict[str, Any]:
        """What it says of a host; nothing while it does not listen yet."""
        try:
            found: dict[str, Any] = json.loads(ask(self.control, "status"))["hosts"][host]
        except Refused:
            return {}
        return found

    def state(self, host: str = "host1") -> str:
        """Whether the host's switch holds what it should. (Whether packets can pass is a story of
        its own: many a test has no underlay.)
        """
        return str(self.status(host).get("sync", ""))

    def in_sync(self, *endpoints: str, host: str = "host1", within: float = 20) -> bool:
        """Wait until the switch is in sync, and serves exactly these guests if any are named."""

        def there() -> bool:
            assert self.running.process.poll() is None, self.log
            now = self.status(host)
            guests = set(now.get("ports", {}).values())
            return now.get("sync") == "in-sync" and (not endpoints or guests == set(endpoints))

        return eventually(there, within)

    def reload(self) -> str:
        """Let it read the overlay again; raises Refused with what it finds wrong."""
        return ask(self.control, "reload")


@contextlib.contextmanager
def started(command: list[str], control: Path, netns: str | None) -> Iterator[Controller]:
    """Run this command line of a controller; it is killed at the end if it still runs."""
    with running(command, control.with_suffix(".log"), netns) as process:
        yield Controller(process, control)


@contextlib.contextmanager
def controller(
    host: OvsHost, overlay: Path, *options: str, name: str = "host1", python: str = sys.executable
) -> Iterator[Controller]:
    """`ovs-lwt run OVERLAY --host NAME`, on the host, in sync; stopped at the end."""
    control = host.rundir / "lwt.ctl"
    command = [python, "-m", "ovs_lwt.cli", "run", str(overlay), "--host", name]
    command += ["--ovsdb", host.remote, "--control", str(control), "--datapath", "netdev", *options]
    with started(command, control, host.netns) as here:
        assert here.in_sync(host=name), here.log
        yield here
        if here.running.process.poll() is None:
            assert here.running.stop()[0] == 0, here.log
            assert "Traceback" not in here.log, here.log


# The switch


def plug(host: OvsHost, claims: Mapping[str, str], key: str = "ovs-lwt-endpoint") -> None:
    """Add a port for every claim (port name -> TENANT/NAME); its guest is the host's own stack."""
    command: list[str] = []
    for name, claim in claims.items():
        command += ["--", "add-port", BRIDGE, name, "--", "set", "interface", name]
        command += ["type=internal", f"external_ids:{key}={claim}"]
    host.vsctl(*command[1:])


def unplug(host: OvsHost, *names: str) -> None:
    """Remove ports."""
    host.vsctl(*[word for name in names for word in ("--", "del-port", BRIDGE, name)][1:])


@dataclass(frozen=True, slots=True)
class Held:
    """A flow's statistics: seconds since it was installed, packets that matched."""

    duration: float
    packets: int


def flows(host: OvsHost, bridge: str = BRIDGE) -> dict[str, Held]:
    """The flows of a bridge as ovs-ofctl prints them, and their statistics."""
    found = {}
    for line in host.ofctl(*OF14, "dump-flows", bridge).splitlines():
        if stats := _STATS.search(line):
            text = _STATS.sub(r"\g<table>", line).strip()
            found[text] = Held(float(stats["duration"]), int(stats["packets"]))
    return found


def groups(host: OvsHost, bridge: str = BRIDGE) -> list[str]:
    """The groups of a bridge as ovs-ofctl prints them."""
    lines = host.ofctl(*OF14, "dump-groups", bridge).splitlines()
    return sorted(line.strip() for line in lines if "group_id=" in line)


def switch(host: OvsHost) -> tuple[set[str], list[str]]:
    """Flows and groups, without statistics."""
    return set(flows(host)), groups(host)


def untouched(before: Mapping[str, Held], after: Mapping[str, Held]) -> bool:
    """Whether every flow of `before` that is still there is the same one, not one put anew.

    A flow that is written again counts its seconds from zero, whatever it says.
    """
    kept = before.keys() & after.keys()
    return bool(kept) and all(after[flow].duration >= before[flow].duration for flow in kept)


class Ear:
    """Overhears what a switch is told over its OpenFlow connection: from its own debug log."""

    def __init__(self, host: OvsHost) -> None:
        self._host = host
        self.listen()

    def listen(self) -> None:
        """Hear everything from now on (again, after a restart of the switch)."""
        self._host.appctl("vlog/set", "vconn:file:dbg")
        self._host.appctl("vlog/disable-rate-limit", "vconn")
        self._from = len(self._host.log())

    def heard(self, what: str) -> bool:
        """Whether it was told something, in its own words, since `listen`."""
        return any(what in entry for entry in self._told())

    def changes(self) -> list[str]:
        """Every flow mod and group mod heard since `listen`, in order: `ADD table:6 …`."""
        return [change["what"] for entry in self._told() for change in _CHANGE.finditer(entry)]

    def _told(self) -> list[str]:
        # The switch writes its log by and by; what it closes it has written.
        self._host.appctl("vlog/reopen")
        entries = _ENTRY.split(self._host.log()[self._from :])
        return [entry for entry in entries if _TOLD.search(entry)]


# The round trip


def difference(host: OvsHost, overlay: Path, *options: str, name: str = "host1") -> str:
    """What differs between the bridge and `ovs-lwt export`; nothing, if it is as it should be."""
    return compared(export(overlay, name, host.remote, *options), host.env)
