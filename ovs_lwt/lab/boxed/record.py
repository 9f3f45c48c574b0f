"""Labs in machines: which there are, and where their files are.

The folder is that of any lab, `LABS`/NAME. In it: ``machine.json``, the record; ``machine.sock``,
where the holder listens; ``machine.log``, what it and the programs in the machine had to say;
``console.log``, what the kernel of a machine had to say that has ended.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter

from ovs_lwt.lab.kernel import Kind
from ovs_lwt.lab.plan import LABS, check_name
from ovs_lwt.lab.processes import tail
from ovs_lwt.lab.state import MACHINE_RECORD, reserve
from ovs_lwt.mistakes import Refused

_END_SECONDS: Final = 15.0
_CREDENTIALS: Final = struct.Struct("3i")


@dataclass(frozen=True, slots=True)
class BoxedLab:
    """A lab in a machine of `memory` MB, of that `kind`."""

    name: str
    overlay: Path
    memory: int
    kind: Kind

    @property
    def directory(self) -> Path:
        """Where its files are, out here."""
        return LABS / self.name

    @property
    def socket(self) -> Path:
        """Where its holder listens."""
        return self.directory / "machine.sock"

    @property
    def log(self) -> Path:
        """What its holder says."""
        return self.directory / "machine.log"

    @property
    def console(self) -> Path:
        """What its kernel has said, once it has ended."""
        return self.directory / "console.log"


_RECORD = TypeAdapter(BoxedLab)


def record(lab: BoxedLab) -> None:
    """Write `lab` to disk and so take its name; raise `Refused` if a lab has it already."""
    other = find(lab.name)
    if other is not None and not listens(other):
        raise gone(other)
    reserve(lab.directory, MACHINE_RECORD, _RECORD.dump_json(lab, indent=2))


def find(name: str) -> BoxedLab | None:
    """Return the lab called `name` if it is in a machine, else None."""
    check_name(name)
    try:
        return _RECORD.validate_json((LABS / name / MACHINE_RECORD).read_bytes())
    except FileNotFoundError:
        return None


def connect(lab: BoxedLab) -> socket.socket:
    """Return a connection to the lab's holder; raise `MachineEnded` if that is no more."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(str(lab.socket))
    except OSError:
        connection.close()
        raise gone(lab) from None
    return connection


def listens(lab: BoxedLab) -> bool:
    """Say whether the lab's holder is there."""
    try:
        connect(lab).close()
    except Refused:
        return False
    return True


class MachineEnded(Refused):
    """The lab's machine is no more; its log is."""


def gone(lab: BoxedLab) -> MachineEnded:
    """Return the refusal of a lab whose machine has ended."""
    option = "" if lab.name == "lab" else f" --name {lab.name}"
    return MachineEnded(
        f"the machine of lab '{lab.name}' has ended: 'ovs-lwt lab down{option}' removes what is"
        f" left; its log, {lab.log}, closes with",
        *tail(lab.log),
    )


def end(lab: BoxedLab) -> None:
    """End the lab's machine, however it is, and remove its files."""
    stop(lab)
    shutil.rmtree(lab.directory, ignore_errors=True)


def stop(lab: BoxedLab) -> None:
    """End the lab's machine, however it is; its files stay."""
    holder = _holder(lab)
    if holder is not None:
        for how in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(holder, how)
            if select.select([holder], [], [], _END_SECONDS)[0]:
                break
        os.close(holder)


def _holder(lab: BoxedLab) -> int | None:
    """Return a pidfd of the process that listens on the lab's socket, or None."""
    try:
        with connect(lab) as connection:
            return _process_behind(connection)
    except (Refused, ProcessLookupError):
        return None


def await_end(connection: socket.socket) -> None:
    """Wait until the holder at the other end, which has hung up, has said why and ended."""
    with contextlib.suppress(ProcessLookupError):
        holder = _process_behind(connection)
        select.select([holder], [], [], _END_SECONDS)
        os.close(holder)


def _process_behind(connection: socket.socket) -> int:
    who = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return os.pidfd_open(_CREDENTIALS.unpack(who)[0])
