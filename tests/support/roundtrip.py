"""The round trip: what a bridge holds is what `ovs-lwt export` prints, flows and groups alike.

`ovs-ofctl` compares: what the switch says against what the user would load by hand.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import NamedTemporaryFile

from typer.testing import CliRunner

from ovs_lwt.cli import app
from ovs_lwt.lab.plan import BRIDGE, HostPlan
from ovs_lwt.lab.processes import run
from ovs_lwt.lab.switches import environment

OPENFLOW = ("-O", "OpenFlow14")

_GROUP = re.compile(r"^\s*group_id=.*", re.MULTILINE)
_HEX = re.compile(r"\b0x[0-9a-f]+\b")
_BUCKET_ID = re.compile(r"bucket_id:\d+,")


def difference(overlay: Path, host: HostPlan, *options: str) -> str:
    """What a host of a lab holds (+) and `export` does not print (-); nothing if they agree."""
    return compared(export(overlay, host.name, host.ovsdb, *options), environment(host))


def compared(text: str, env: Mapping[str, str]) -> str:
    """The same for what was exported and any switch: `env` is where OVS's tools find it."""
    flows = _compare_flows(_GROUP.sub("", text), env)
    wanted = _groups(text)
    installed = _groups(run(["ovs-ofctl", *OPENFLOW, "--no-names", "dump-groups", BRIDGE], env=env))
    lines = [f"-{group}" for group in wanted if group not in installed]
    lines += [f"+{group}" for group in installed if group not in wanted]
    return "\n".join([*flows, *lines])


def export(overlay: Path, host: str, ovsdb: str, *options: str) -> str:
    """What `ovs-lwt export OVERLAY --host … --ovsdb …` prints: groups and flows."""
    words = ["export", str(overlay), "--host", host, "--ovsdb", ovsdb, *options]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output or repr(done.exception)
    return done.stdout


def _compare_flows(wanted: str, env: Mapping[str, str]) -> Sequence[str]:
    with NamedTemporaryFile("w", prefix="flows-") as file:
        file.write(wanted)
        file.flush()
        compared = subprocess.run(
            ["ovs-ofctl", *OPENFLOW, "diff-flows", BRIDGE, file.name],
            env=dict(env),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    lines = (compared.stdout + compared.stderr).splitlines()
    # Exit status 2 says that they differ: the two must never tell different stories.
    assert bool(lines) == bool(compared.returncode), (compared.returncode, lines)
    return lines


def _groups(text: str) -> Sequence[str]:
    """The groups in a text, numbers decimal, buckets sorted: their order means nothing."""
    found = []
    for group in _GROUP.findall(text):
        plain = _HEX.sub(lambda number: str(int(number[0], 16)), _BUCKET_ID.sub("", group))
        head, *buckets = plain.strip().split(",bucket=")
        found.append(",bucket=".join([head, *sorted(buckets)]))
    return sorted(found)
