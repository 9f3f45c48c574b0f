"""`make bench`: an overlay of 100,000 endpoints onto a real switch, against `ovs-ofctl --bundle
add-flows`.

Ours: the running controller is told to reload; from there it reads overlay.yaml and the CSV,
stamps, sends and waits for the bundle's commit, and answers. Theirs: ovs-ofctl reads the very same
flows (exported) and commits them in a bundle, into another bridge of the same ovs-vswitchd, whose
groups are there already. In turns, medians.

    python -m bench.openflow [--size N] [--rounds N]
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import overlays, results
from ovs_lwt.control import ask
from tests.support.ovs import OvsHost, eventually

_THEIRS = "br-theirs"
_OFCTL = ("ovs-ofctl", "-O", "OpenFlow14")


@contextmanager
def controller(host: OvsHost, overlay: Path) -> Iterator[Path]:
    """The running controller of host h0; yields its control socket."""
    control = host.rundir / "h0.ctl"
    arguments = ("--host", "h0", "--ovsdb", host.remote, "--control", str(control))
    command = (
        "ip",
        "netns",
        "exec",
        str(host.netns),
        sys.executable,
        "-m",
        "ovs_lwt.cli",
        "run",
        str(overlay),
        *arguments,
    )
    with (host.rundir / "controller.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        if not eventually(
            lambda: control.exists() and '"in-sync"' in ask(control, "status"), within=30
        ):
            raise SystemExit((host.rundir / "controller.log").read_text())
        yield control
    finally:
        process.terminate()
        process.wait(10)


def exported(overlay: Path, host: OvsHost, folder: Path) -> tuple[Path, Path, int]:
    """The files of flows and groups that the host should have now, and how many flows that is."""
    files = []
    for part in ("flows", "groups"):
        arguments = ("export", str(overlay), "--host", "h0", part, "--ovsdb", host.remote)
        file = folder / f"{part}.txt"
        with file.open("w") as out:
            subprocess.run(
                (sys.executable, "-m", "ovs_lwt.cli", *arguments), stdout=out, check=True
            )
        files.append(file)
    flows = sum(not line.startswith("#") and line != "\n" for line in files[0].open())
    return files[0], files[1], flows


def measure(endpoints: int, rounds: int) -> results.Row:
    """Take turns, `rounds` times."""
    with (
        tempfile.TemporaryDirectory(prefix="ovs-lwt-bench-") as name,
        OvsHost("ovs-lwt-bench") as host,
    ):
        folder = Path(name)
        overlay = overlays.write(folder, endpoints)
        full = folder / "endpoints.full.csv"
        shutil.copy(folder / "endpoints.csv", full)
        overlays.empty(overlay)
        with controller(host, overlay) as control:
            shutil.copy(full, folder / "endpoints.csv")
            flows, groups, count = exported(overlay, host, folder)
            host.run(
                "ovs-vsctl",
                "add-br",
                _THEIRS,
                "--",
                "set",
                "bridge",
                _THEIRS,
                "datapath_type=netdev",
                "fail_mode=secure",
            )
            host.run(*_OFCTL, "add-groups", _THEIRS, str(groups))
            ours, theirs = [], []
            for _ in range(rounds):
                overlays.empty(overlay)
                ask(control, "reload")
                shutil.copy(full, folder / "endpoints.csv")
                ours.append(results.timed(lambda: ask(control, "reload")))
                host.run(*_OFCTL, "del-flows", _THEIRS)
                theirs.append(
                    results.timed(
                        lambda: host.run(
                            *_OFCTL, "--bundle", "add-flows", _THEIRS, str(flows), timeout=300
                        )
                    )
                )
            differing = host.run(*_OFCTL, "diff-flows", "br-lwt", str(flows), timeout=300)
        if differing:
            raise SystemExit(f"the switch does not hold what was exported:\n{differing[:2000]}")
    print(f"{endpoints:,} endpoints make {count:,} flows on this host; {rounds} rounds, in turns:")
    print("  ours  ", *(f"{seconds:.2f}" for seconds in ours), "s")
    print("  theirs", *(f"{seconds:.2f}" for seconds in theirs), "s")
    return results.Row.compare(
        "overlay to committed bundle",
        endpoints,
        "s",
        statistics.median(ours),
        statistics.median(theirs),
        1.0,
    )


def main() -> int:
    """Measure, print, save."""
    chosen = results.arguments(__doc__, size=100_000)
    return results.report("openflow", [measure(chosen.size, chosen.rounds)])


if __name__ == "__main__":
    sys.exit(main())
