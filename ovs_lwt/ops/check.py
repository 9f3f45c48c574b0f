"""Can packets pass? Everything a host of the overlay stands on, looked at once: `ovs-lwt check`.

The agent runs this module as a process of its own, so that nothing that does not answer (a
database, a kernel with a hundred thousand routes) keeps it from its work:

    python -m ovs_lwt.ops.check < what is expected, a line of JSON for each host

It prints the findings of each, a line of JSON for each host.
"""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Mapping, Sequence
from typing import Final, TextIO

from ovs_lwt.findings import Finding, Level, fail, ok, warn, worst
from ovs_lwt.mistakes import Refused
from ovs_lwt.printable import printable
from ovs_lwt.underlay import facts, paths
from ovs_lwt.underlay.expected import Expected

SCHEMA: Final = 1
"""Version of what `--json` prints: docs/status.md says what it means."""

_OVSDB_SECONDS: Final = 5.0
_BRIDGE_KERNEL: Final = (5, 18)  # the VNI filter of VXLAN devices, `locked` ports
_BY_DATAPATH: Final = frozenset({"tunnel port", "udp port"})
"""Questions whose answer depends on whose datapath it is, which only the database tells."""
_CHECKSUM_KERNEL: Final = (5, 7)  # UDP checksums of encapsulated packets after NAT


def check(expected: Expected) -> list[Finding]:
    """Look at one host, here; every question has at least one line. Raises nothing."""
    found = [_kernel(expected)]
    netns, userspace, unknown = expected.where or None, None, frozenset[str]()
    if expected.plane == "ovs":
        # Imported here: the other planes need no Open vSwitch.
        from ovs_lwt.ops import switch

        try:
            with switch.opened(expected.where, _OVSDB_SECONDS) as database:
                seen = switch.read(database, expected)
        except Refused as refused:
            found.append(_refused("ovsdb", refused))
            unknown = _BY_DATAPATH
        else:
            found += [ok("ovsdb", f"{expected.where} answers"), *seen.findings]
            userspace = seen.userspace
        try:
            netns = switch.namespace(expected.where)
        except Refused as refused:
            return [*found, _refused("underlay", refused)]
    try:
        there = facts.read(netns, expected.peers.values(), expected.tunnels.values())
    except Refused as refused:
        return [*found, _refused("underlay", refused)]
    judged = paths.findings(expected, there, userspace)
    return [*found, *(each for each in judged if each.subject not in unknown)]


def _refused(subject: str, refused: Refused) -> Finding:
    text, _, mend = str(refused).rpartition(": ")
    return fail(subject, text, mend) if text else fail(subject, mend, "")


def _kernel(expected: Expected) -> Finding:
    release = platform.release()
    version = tuple(int(part) for part in release.split("-")[0].split(".")[:2])
    if expected.plane == "bridge" and version < _BRIDGE_KERNEL:
        return fail("kernel", f"{release} lacks VXLAN's VNI filter", "plane bridge needs 5.18")
    if version < _CHECKSUM_KERNEL:
        return warn(
            "kernel",
            f"{release} sends wrong checksums where it encapsulates what it has translated (NAT)",
            "take 5.7 or newer, or turn checksum offload off on the tunnel's device",
        )
    return ok("kernel", release)


def show(found: Mapping[str, Sequence[Finding]], out: TextIO, *, as_json: bool) -> None:
    """Print what was found on each host: a line for each finding, with its mend."""
    if as_json:
        hosts = {host: [each.as_json() for each in findings] for host, findings in found.items()}
        json.dump({"schema": SCHEMA, "hosts": hosts}, out, indent=2)
        out.write("\n")
        return
    wide = max((len(each.subject) for every in found.values() for each in every), default=0)
    for host, findings in found.items():
        if len(found) > 1:
            out.write(f"{host}:\n")
        for each in findings:
            mend = f" → {each.mend}" if each.mend else ""
            line = f"{each.level:<4}  {each.subject:<{wide}}  {each.text}{mend}"
            out.write(f"{printable(line)}\n")


def status_of(found: Mapping[str, Sequence[Finding]]) -> int:
    """The exit status: 1 if something fails, else 0."""
    failed = [host for host, findings in found.items() if worst(findings) is Level.FAIL]
    return 1 if failed else 0


def main(lines: Sequence[str]) -> None:
    """Check the hosts that these lines expect."""
    for line in lines:
        found = check(Expected.loaded(line))
        print(json.dumps([finding.as_json() for finding in found]), flush=True)


if __name__ == "__main__":
    main(sys.stdin.read().splitlines())
