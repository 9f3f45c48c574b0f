"""How a command ends: its exit status, and what a person reads of why.

    0    done
    1    not done, and it may pass by itself: OVSDB, ovs-vswitchd or the agent is away or silent
    2    not done until a person mends something: the overlay, the command line, an option, a name
    130  interrupted (Ctrl-C); 141: nobody read on what it printed (see `pipes`)

`status`, `check` and `lab ping` answer a question by theirs, and `lab exec` has its command's.
Every way in (`ovs-lwt`, `ovs-lwt manager`) goes through `ended`: whatever is raised becomes a
sentence here, and nowhere else.
"""

from __future__ import annotations

import codecs
import os
import sys
import traceback
from collections.abc import Callable
from io import TextIOWrapper
from pathlib import Path
from typing import Final, TextIO

from ovs_lwt.mistakes import NotNow, OverlayInvalid, Refused
from ovs_lwt.pipes import BROKEN_PIPE
from ovs_lwt.printable import printable

INTERRUPTED: Final = 130
"""128 and the number of SIGINT, as shells have it."""

_FOLDER: Final = Path(__file__).parent
_SIGNS: Final = {"✓": "+", "✗": "X", "·": ".", "→": "->", "…": "...", "—": "-"}
_ERRORS: Final = "ovs-lwt-signs"
_OTHERS_WRITE: Final = 0o022


def ended(program: str, work: Callable[[], int | None], *, verbose: bool = False) -> int:
    """Do the work and return the exit status: the work's own, 0 for None, or what its error means.

    program: how messages begin; verbose: a traceback with an error that nobody foresaw
    """
    _write_anything()
    _write_alone()
    try:
        status = work()
        sys.stdout.flush()
    except OverlayInvalid as invalid:
        _say(*map(str, invalid.mistakes))
        return Refused.exit_status
    except Refused as refused:
        _say(f"{program}: {refused}")
        return refused.exit_status
    except BrokenPipeError:
        _never_write(sys.stdout)
        return BROKEN_PIPE
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        if verbose:
            _say(traceback.format_exc().rstrip("\n"))
        _say(f"{program}: {_unforeseen(error, verbose=verbose)}")
        return NotNow.exit_status
    return status or 0


def _unforeseen(error: Exception, *, verbose: bool) -> str:
    if isinstance(error, OSError) and error.strerror:
        said = error.strerror + (f": {error.filename}" if error.filename else "")
    else:
        said = f"{type(error).__name__}: {error}"
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if Path(frame.filename).is_relative_to(_FOLDER)]
    where = ""
    if ours:
        place = Path(ours[-1].filename).relative_to(_FOLDER.parent)
        where = f" ({place}, line {ours[-1].lineno})"
    more = "please report it" if verbose else "--verbose shows the traceback; please report it"
    return printable(f"unexpected: {said}{where}; {more}")


def _say(*lines: str) -> None:
    try:
        for line in lines:
            print(line, file=sys.stderr)
    except OSError:  # nobody hears it
        _never_write(sys.stderr)


def _write_anything() -> None:
    """Let no sign and no file's name be one that a terminal's encoding keeps from being said."""
    codecs.register_error(_ERRORS, _replaced)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors=_ERRORS)


def _write_alone() -> None:
    """Let nobody else write what we make, whatever umask we are started with: not where an overlay
    is kept, nor where sockets are. Who may write to a control socket may give orders.
    """
    os.umask(os.umask(_OTHERS_WRITE) | _OTHERS_WRITE)


def _replaced(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    escaped = "".join(
        _SIGNS.get(char) or char.encode("ascii", "backslashreplace").decode() for char in text
    )
    return escaped, error.end


def _never_write(stream: TextIO) -> None:
    """Throw away what is still to be written: Python flushes it at the end, and would complain."""
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())
