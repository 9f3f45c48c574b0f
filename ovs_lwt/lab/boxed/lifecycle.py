"""Bringing a lab up in a machine of its own."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ovs_lwt.lab.boxed import client
from ovs_lwt.lab.boxed.record import (
    BoxedLab,
    MachineEnded,
    end,
    gone,
    listens,
    record,
    stop,
)
from ovs_lwt.lab.kernel import Maker
from ovs_lwt.lab.lifecycle import shielded
from ovs_lwt.lab.requirements import check_root
from ovs_lwt.mistakes import Refused
from ovs_lwt.pipes import BROKEN_PIPE
from ovs_lwt.programs import program
from ovs_lwt.sources import overlay_file

DEFAULT_MEMORY: Final = 1024
_LISTENS_SECONDS: Final = 30.0
# What a machine mounts something of its own on.
_UNSEEN: Final = ("/dev", "/proc", "/run", "/sys")


def up(overlay: Path, maker: Maker, *, name: str, memory: int, options: Sequence[str]) -> int:
    """Bring `overlay` up as the lab `name` in a machine of `memory` MB; return the exit status.

    `options` are those of ``lab up``, and what it prints is printed, as long as somebody reads it.
    If it fails, or is interrupted, nothing is left; of a machine that dies, its log. Raises
    `OverlayInvalid`, `Refused` and `MachineEnded`.
    """
    check_root()
    overlay_file.load(overlay)
    path = overlay.absolute()
    for folder in _UNSEEN:
        if path.resolve().is_relative_to(folder):
            raise Refused(
                f"a machine does not see the files below {folder}: put {overlay} elsewhere"
            )
    lab = BoxedLab(name, path, memory, maker.kind)
    record(lab)
    stays = False
    try:
        _start_holder(lab)
        words = ["lab", "up", str(path), "--name", name, "--kernel", "here", *options]
        status = client.run(lab, words, to_its_end=True)
        stays = status in {0, BROKEN_PIPE}
    except MachineEnded:
        stays = True
        with shielded():
            stop(lab)
        raise
    finally:
        if not stays:
            with shielded():
                end(lab)
    return status


def _start_holder(lab: BoxedLab) -> None:
    """Start the process that the machine belongs to; return once it listens."""
    with lab.log.open("ab") as log:
        holder = subprocess.Popen(
            [*program("ovs_lwt.lab.boxed.holder"), lab.name],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # A Ctrl-C at the terminal after `up` must not reach it.
            start_new_session=True,
        )
    until = time.monotonic() + _LISTENS_SECONDS
    try:
        while not listens(lab):
            if holder.poll() is not None or time.monotonic() > until:
                raise gone(lab)
            time.sleep(0.02)
    except BaseException:
        holder.terminate()
        holder.wait()
        raise
