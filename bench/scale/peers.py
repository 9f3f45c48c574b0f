"""The same flows, brought to a switch by others: `ovs-ofctl --bundle`, and the bare bytes.

What they load is written to files beforehand, and costs them nothing:

    python -m bench.scale.peers OVERLAY FOLDER
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench import results
from bench.scale import columns, stage
from bench.scale.overlays import Fabric
from ovs_lwt.backends.openflow import encode, export, program
from ovs_lwt.backends.openflow.pipeline import BUNDLE
from ovs_lwt.backends.openflow.transaction import Transaction
from ovs_lwt.sources.overlay_file import load
from ovs_lwt.view import View

_BRIDGE: Final = "br-theirs"


@dataclass(frozen=True, slots=True)
class Files:
    """flows, groups: in ovs-ofctl syntax; stamped: the messages of a bundle, opening to commit."""

    flows: Path
    groups: Path
    stamped: Path

    @classmethod
    def within(cls, folder: Path) -> Files:
        """Where they are."""
        return cls(folder / "flows.txt", folder / "groups.txt", folder / "stamped")


def prepare(fabric: Fabric, folder: Path) -> Files:
    """Write them, in a process of its own."""
    fabric.fill()
    subprocess.run([sys.executable, "-m", "bench.scale.peers", fabric.overlay, folder], check=True)
    fabric.empty()
    return Files.within(folder)


def ofctl(files: Files) -> float:
    """Seconds that ovs-ofctl takes; the groups are there already."""
    with stage.empty_bridge(_BRIDGE) as host:
        host.run(*stage.OFCTL, "add-groups", _BRIDGE, str(files.groups))
        command = (*stage.OFCTL, "--bundle", "add-flows", _BRIDGE, str(files.flows))
        return results.timed(lambda: host.run(*command, timeout=stage.PATIENCE))


def limit(files: Files) -> float:
    """Seconds that the switch itself takes: all bytes are there when the clock starts."""
    with stage.empty_bridge(_BRIDGE) as host:
        socket = host.rundir / f"{_BRIDGE}.mgmt"
        program = (sys.executable, "-m", "bench.scale.bare", str(socket), str(files.stamped))
        return float(host.run(*program, timeout=stage.PATIENCE))


def objects(fabric: Fabric) -> float:
    """Seconds that a plain app takes: an OFPFlowMod for each endpoint, and a barrier at the end."""
    fabric.fill()
    with stage.empty_bridge(_BRIDGE) as host:
        host.vsctl("set-controller", _BRIDGE, "tcp:127.0.0.1:6653")
        program = (sys.executable, "-m", "bench.scale.plain_app", str(fabric.overlay))
        sent, seconds = host.run(*program, timeout=stage.PATIENCE).split()[-2:]
        held = host.run(*stage.OFCTL, "dump-aggregate", _BRIDGE, timeout=stage.PATIENCE)
        if f"flow_count={sent}" not in held:
            raise SystemExit(f"{sent} flows were sent, and the switch says: {held}")
        return float(seconds)


def _messages(view: View) -> Iterator[bytes | memoryview]:
    transaction = Transaction([], {}, program.full(view))
    yield encode.bundle_control("OPEN", BUNDLE, 0)
    # Transaction ids only tell errors apart, and an error ends it.
    while messages := transaction.take(lambda _: 1):
        yield messages
    yield encode.barrier_request(0)
    yield encode.bundle_control("COMMIT", BUNDLE, 0)


def _write(overlay: Path, files: Files) -> None:
    topology = load(overlay)
    view = columns.view(topology, topology.vtep_index(stage.HOST))
    with files.stamped.open("wb") as out:
        out.writelines(_messages(view))
    with files.flows.open("w") as text:
        export.write_flows(view, {}, text)
    with files.groups.open("w") as text:
        export.write_groups(view, {}, text)


if __name__ == "__main__":
    _write(Path(sys.argv[1]), Files.within(Path(sys.argv[2])))
