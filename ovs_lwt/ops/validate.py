"""`ovs-lwt validate`: an overlay read once, from a file, a pipe or standard input, and judged."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, TextIO

from ovs_lwt.mistakes import Mistake, OverlayInvalid
from ovs_lwt.ops.cautions import Caution, cautions
from ovs_lwt.sources.overlay_file import YAML_LIMIT, load, parse_bytes
from ovs_lwt.topology import Topology

SCHEMA: Final = 1
"""Version of what `--json` prints: docs/status.md says what it means."""

_STDIN: Final = "-"


def validate(
    overlay: Path, *, strict: bool
) -> tuple[Topology | None, list[Mistake], list[Caution]]:
    """Read an overlay ("-": from standard input) and return it, with all that is wrong with it and
    all that is most likely not meant. strict: that is wrong as well.
    """
    try:
        topology = _read(overlay)
    except OverlayInvalid as invalid:
        return None, list(invalid.mistakes), []
    found = cautions(topology)
    if strict and found:
        return None, [Mistake(str(overlay), each.path, each.message) for each in found], []
    return topology, [], found


def show(
    overlay: Path,
    topology: Topology | None,
    mistakes: Sequence[Mistake],
    found: Sequence[Caution],
    *,
    as_json: bool,
) -> None:
    """Print the judgement: mistakes and warnings to standard error, the counts to standard output;
    or all of it as JSON.
    """
    counts = {} if topology is None else _counts(topology)
    if as_json:
        judgement = {
            "schema": SCHEMA,
            "valid": topology is not None,
            **{f"{what}s": count for what, count in counts.items()},
            "mistakes": [
                {"place": each.place, "path": each.path, "message": each.message}
                for each in mistakes
            ],
            "warnings": [{"path": each.path, "message": each.message} for each in found],
        }
        print(json.dumps(judgement, indent=2))
        return
    _print(mistakes, sys.stderr)
    _print([f"{overlay}: warning: {each}" for each in found], sys.stderr)
    if topology is not None:
        told = (f"{count:,} {what}{'s' * (count != 1)}" for what, count in counts.items())
        print(f"{overlay}: valid: {', '.join(told)}")


def _print(lines: Sequence[object], out: TextIO) -> None:
    for line in lines:
        print(line, file=out)


def _counts(topology: Topology) -> dict[str, int]:
    return {
        "tenant": len(topology.tenants),
        "endpoint": int(topology.endpoint_edges[-1]),
        "host": len(topology.vteps),
    }


def _read(overlay: Path) -> Topology:
    if str(overlay) != _STDIN:
        return load(overlay)
    return parse_bytes(sys.stdin.buffer.read(YAML_LIMIT + 1), _STDIN, Path())
