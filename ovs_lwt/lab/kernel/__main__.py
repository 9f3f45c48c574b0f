"""``python -m ovs_lwt.lab.kernel [OPTIONS] -- COMMAND``: a command in a machine of its own."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ovs_lwt.lab.kernel.choice import find
from ovs_lwt.lab.kernel.machine import DIED, Result, run_in_kernel
from ovs_lwt.mistakes import Refused


class KindOption(StrEnum):
    """What runs the machine."""

    UML = "uml"
    VM = "vm"


def main(
    command: Annotated[list[str], typer.Argument(help="The command and its arguments.")],
    kernel: Annotated[
        KindOption, typer.Option(help="User-mode Linux, or a virtual machine with Debian's kernel.")
    ] = KindOption.UML,
    memory: Annotated[int, typer.Option(help="The machine's memory in MB.")] = 512,
    timeout: Annotated[float, typer.Option(help="Stop the machine after so many seconds.")] = 300,
    out: Annotated[
        Path | None, typer.Option(help="The one folder in which what is written stays.")
    ] = None,
) -> None:
    """Run COMMAND under a kernel of its own, as root of a throw-away machine.

    It sees this machine's files; what it changes is thrown away, but for the folder --out. The
    exit status is the command's; 124 after --timeout; 125 if the machine died.
    """
    try:
        result = run_in_kernel(
            find(kernel.value), command, memory=memory, timeout=timeout, out=out, echo=_print
        )
    except Refused as refused:
        print(refused, file=sys.stderr)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    _explain(result, timeout)
    raise typer.Exit(result.status)


def _print(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def _explain(result: Result, timeout: float) -> None:
    if result.timed_out:
        print(f"the machine was stopped after {timeout:g} s", file=sys.stderr)
    elif result.status == DIED:
        print(f"the machine ended before its command did:\n{result.last_words()}", file=sys.stderr)


if __name__ == "__main__":
    typer.run(main)
