"""`make profile`: where a cold start's time goes, as a flame graph: docs/cold-start.svg.

py-spy looks at the running controller from outside, 200 times a second, from the word that the
overlay has endpoints until the switch holds them. Time in numpy and in system calls is that of the
Python line that called them; threads that wait show as that (accept, get, wait).

    python -m bench.scale.profile [--size N]
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench import results
from bench.scale import overlays, stage
from tests.support.ovs import OvsHost, eventually

FILE: Final = Path(__file__).parents[2] / "docs" / "cold-start.svg"
_PY_SPY: Final = Path(sys.executable).parent / "py-spy"


@contextmanager
def watched(pid: int, log: Path) -> Iterator[None]:
    """Draw what this process does meanwhile."""
    options = ("--pid", str(pid), "--output", FILE, "--rate", "200", "--threads")
    with (
        log.open("w") as out,
        subprocess.Popen([_PY_SPY, "record", *options], stdout=out, stderr=out) as process,
    ):
        # It tells once it has begun.
        if not eventually(lambda: "Sampling" in log.read_text(), within=30):
            raise SystemExit(log.read_text())
        yield
        process.send_signal(signal.SIGINT)


def _entitle(title: str) -> None:
    """Py-spy makes its own command line the title."""
    FILE.write_text(re.sub(r'(<text id="title"[^>]*>)[^<]*', rf"\g<1>{title}", FILE.read_text()))


def main() -> int:
    """Record one cold start."""
    chosen = results.arguments(__doc__, size=1_000_000)
    with tempfile.TemporaryDirectory(prefix="ovs-lwt-scale-") as name, OvsHost(stage.NETNS) as host:
        fabric = overlays.write(Path(name) / "overlay", chosen.size)
        with stage.started(host, fabric.overlay) as controller:
            controller.agreed()
            fabric.fill()
            with watched(controller.pid, Path(name) / "py-spy.log"):
                seconds = controller.reload()
    _entitle(f"Cold start of {chosen.size:,} endpoints: ovs-lwt run, all threads")
    print(f"{chosen.size:,} endpoints in {seconds:.2f} s, watched: {FILE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
