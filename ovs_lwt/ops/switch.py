"""The switch of a host of plane ovs, as its OVSDB describes it: what is not as `ovs-lwt run` makes
it, and what others have put there.

What flows in: an OVSDB, read. What flows out: findings, and the bridges of the userspace datapath,
which the judgement of the underlay needs.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ovs_lwt.claims import ATTACHED_MAC_KEY, ENDPOINT_KEY, IFACE_ID_KEY
from ovs_lwt.findings import Finding, fail, ok, warn
from ovs_lwt.mistakes import NotNow, Refused, listing
from ovs_lwt.underlay.expected import Expected
from ovs_lwt.vswitch.database import Database, Row
from ovs_lwt.vswitch.plan import run_directory
from ovs_lwt.vswitch.prepare import CONTRARY, STILL, datapath_type_of, is_ours

_TESTED = (3, 1)  # Open vSwitch, Debian 12's
_CLAIMS = {ENDPOINT_KEY, IFACE_ID_KEY, ATTACHED_MAC_KEY}
_VERSION = "ovs-vswitchd has not said its version"
_SECONDS = 10.0  # in which a tool of Open vSwitch's answers


@dataclass(frozen=True, slots=True)
class SwitchFacts:
    """What an OVSDB holds about a host.

    userspace: bridges of the userspace datapath -> the devices that are their ports; None if the
    host's bridge has the kernel's
    """

    findings: tuple[Finding, ...]
    userspace: Mapping[str, frozenset[str]] | None


@contextmanager
def opened(remote: str, seconds: float) -> Iterator[Database]:
    """The database at `remote`, as a copy. Raises Refused if it does not answer in time."""
    database = Database(remote, seconds)
    try:
        yield database
    finally:
        database.close()


def namespace(remote: str) -> str | None:
    """The network namespace that the switch behind `remote` is in: a path, None for our own.

    Raises Refused if it is on another machine, or does not run.
    """
    rundir = run_directory(remote)
    if rundir is None:
        raise Refused(f"the switch behind {remote} is not on this machine: run this there")
    pidfile = rundir / "ovs-vswitchd.pid"
    try:
        theirs = Path("/proc", pidfile.read_text().strip(), "ns/net")
        there = theirs.readlink()
    except OSError as error:
        raise NotNow(
            f"ovs-vswitchd does not run, says {pidfile} ({error.strerror}): start it"
            " (systemctl start openvswitch-switch)"
        ) from error
    return None if there == Path("/proc/self/ns/net").readlink() else str(theirs)


def read(database: Database, expected: Expected) -> SwitchFacts:
    """Judge what the database says of the host's bridge."""
    bridge = database.named("Bridge", expected.bridge)
    if bridge is None:
        missing = fail(
            "bridge",
            f"there is no bridge {expected.bridge}",
            f"start the agent (ovs-lwt run OVERLAY --host {expected.host})",
        )
        return SwitchFacts((_version(database, expected), missing), None)
    userspace = _userspace(database) if datapath_type_of(bridge) == "netdev" else None
    found = (
        _version(database, expected),
        *_restoring(database),
        *_bridge(bridge, expected),
        *_mirrors(bridge),
        *_tunnels(bridge, expected),
        *_controllers(bridge),
        *_meters(expected),
    )
    return SwitchFacts(found, userspace)


def _version(database: Database, expected: Expected) -> Finding:
    root = database.root()
    # Open vSwitch's scripts write it there. Who starts the daemons by hand does not.
    text = next(iter(root.ovs_version), "") if root is not None else ""
    text = text or _asked_version(expected.where)
    words = text.split(".")
    if len(words) < 2 or not all(word.isdecimal() for word in words[:2]):
        return warn("open vswitch", _VERSION, "see whether it runs (systemctl status ovs-vswitchd)")
    if (int(words[0]), int(words[1])) < _TESTED:
        tested = ".".join(map(str, _TESTED))
        return warn("open vswitch", f"version {text}", f"{tested} is the oldest that was tested")
    return ok("open vswitch", f"version {text}")


def _asked_version(remote: str) -> str:
    """What the daemon behind a database's socket says its version is; "" if it does not."""
    directory = run_directory(remote)
    if directory is None:
        return ""
    try:
        number = (directory / "ovs-vswitchd.pid").read_text().strip()
        done = subprocess.run(
            ["ovs-appctl", "-t", str(directory / f"ovs-vswitchd.{number}.ctl"), "version"],
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return next(iter(done.stdout.split()[-1:]), "")


def _userspace(database: Database) -> dict[str, frozenset[str]]:
    return {
        bridge.name: frozenset(
            interface.name
            for port in bridge.ports
            for interface in port.interfaces
            if interface.type in ("", "system", "dpdk")
        )
        for bridge in database.rows("Bridge")
        if datapath_type_of(bridge) == "netdev"
    }


def _bridge(bridge: Row, expected: Expected) -> Iterator[Finding]:
    if bridge.fail_mode != ["secure"]:
        yield fail(
            "bridge",
            f"{bridge.name} has fail_mode={next(iter(bridge.fail_mode), 'standalone')}: when its"
            " controller is away for long it becomes an ordinary switch, and tenants meet",
            f"ovs-vsctl set-fail-mode {bridge.name} secure (a running agent does it)",
        )
    else:
        kind = "userspace" if datapath_type_of(bridge) == "netdev" else "kernel"
        yield ok("bridge", f"{bridge.name}, {kind} datapath, fail_mode secure")

    for column in STILL:
        if getattr(bridge, column):
            yield fail(
                "bridge",
                f"{bridge.name} has {column}=true: it holds ports still, and listens to guests'"
                " spanning trees",
                f"ovs-vsctl set bridge {bridge.name} {column}=false (a running agent does it)",
            )


def _restoring(database: Database) -> Iterator[Finding]:
    """ovs-ctl sets this while it restarts ovs-vswitchd; if it is killed meanwhile it stays."""
    root = database.root()
    if root is not None and root.other_config.get("flow-restore-wait") == "true":
        yield fail(
            "open vswitch",
            "other_config:flow-restore-wait is set: once restarted, ovs-vswitchd forwards nothing"
            " and calls no controller",
            "ovs-vsctl --no-wait remove Open_vSwitch . other_config flow-restore-wait",
        )


def _mirrors(bridge: Row) -> Iterator[Finding]:
    """Copies of what guests say. They go past all flows."""
    for row in bridge.mirrors:
        interfaces = [each for port in row.output_port for each in port.interfaces]
        guests = [each.name for each in interfaces if each.external_ids.keys() & _CLAIMS]
        if row.output_vlan or guests:
            where = f"port {listing(guests)}" if guests else "every port"
            yield fail(
                "mirrors",
                f"mirror '{row.name}' of {bridge.name} copies what guests say to {where}, so that"
                " tenants hear each other",
                f"ovs-vsctl clear bridge {bridge.name} mirrors",
            )
        elif interfaces:
            yield warn(
                "mirrors",
                f"mirror '{row.name}' of {bridge.name} copies what guests say to port"
                f" {listing(each.name for each in interfaces)}",
                f"if nobody listens any more: ovs-vsctl clear bridge {bridge.name} mirrors",
            )


def _tunnels(bridge: Row, expected: Expected) -> Iterator[Finding]:
    subject = "tunnel port"
    there = {row.name: row for port in bridge.ports for row in port.interfaces}
    for name, udp_port in expected.tunnels.items():
        row = there.get(name)
        if row is None:
            yield fail(
                subject,
                f"{bridge.name} has no port {name}",
                f"start the agent (ovs-lwt run OVERLAY --host {expected.host}), which makes it",
            )
        elif row.type != "vxlan":
            yield fail(
                subject,
                f"{name} has type {row.type or 'system'}, not vxlan",
                f"ovs-vsctl del-port {name}, and start the agent (one that runs does it)",
            )
        elif error := next(iter(row.error), None):
            yield fail(subject, f"{name} does not work: {error}", "see what has its UDP port")
        elif next(iter(row.ofport), 0) <= 0:
            yield fail(
                subject,
                f"{name} has no number: ovs-vswitchd has not made it",
                "see whether ovs-vswitchd runs, and its log",
            )
        elif wrong := list(_wrong(dict(row.options), _options(expected, udp_port))):
            yield fail(
                subject,
                f"{name} has {', '.join(wrong)}",
                f"ovs-lwt reload --host {expected.host} (a running agent does it)",
            )
        else:
            yield ok(subject, f"{name}, UDP port {udp_port}")


def _wrong(options: Mapping[str, str], wanted: Mapping[str, str]) -> Iterator[str]:
    for key in CONTRARY:
        if key in options:
            yield f"{key}={options[key]}, not nothing"
    for key, value in wanted.items():
        if options.get(key) != value:
            yield f"{key}={options.get(key, 'nothing')}, not {value}"


def _options(expected: Expected, udp_port: int) -> dict[str, str]:
    return {
        "key": "flow",
        "remote_ip": "flow",
        "local_ip": expected.vtep,
        "dst_port": str(udp_port),
    }


def _controllers(bridge: Row) -> Iterator[Finding]:
    subject = "controllers"
    rows = list(bridge.controller)
    others = sorted(row.target for row in rows if not is_ours(row))
    if others:
        yield warn(
            subject,
            f"{listing(others)} controls {bridge.name} as well, and can change its flows",
            "take it off if nobody wants it (ovs-vsctl --if-exists remove bridge"
            f" {bridge.name} controller ROW)",
        )
    elif rows:
        yield ok(subject, "the agent alone")
    else:
        yield warn(subject, f"{bridge.name} has no controller", "start the agent (ovs-lwt run)")


def _meters(expected: Expected) -> Iterator[Finding]:
    """Meters of others: ovs-ofctl knows them, OVSDB does not."""
    subject = "meters"
    rundir = run_directory(expected.where)
    if rundir is None:
        return
    management = rundir / f"{expected.bridge}.mgmt"
    try:
        done = subprocess.run(
            ["ovs-ofctl", "-O", "OpenFlow14", "dump-meters", f"unix:{management}"],
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        yield warn(
            subject,
            f"{expected.bridge} does not answer within {_SECONDS:.0f} s",
            "see whether ovs-vswitchd runs, and its log",
        )
        return
    except OSError as error:
        yield warn(
            subject, f"ovs-ofctl cannot ask {expected.bridge}: {error}", "install or free it"
        )
        return
    if done.returncode:
        yield warn(
            subject,
            f"{expected.bridge} does not answer: {done.stderr.strip()}",
            "see whether ovs-vswitchd runs, and its log",
        )
        return
    meters = [line.split()[0] for line in done.stdout.splitlines() if line.startswith("meter=")]
    if meters:
        yield warn(
            subject,
            f"{listing(meters)} on {expected.bridge}: none of them is ovs-lwt's",
            "see who uses them (ovs-ofctl -O OpenFlow14 dump-meters)",
        )
    else:
        yield ok(subject, "none of others")
