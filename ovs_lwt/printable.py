"""Text from outside, so that it can be logged and printed: a line stays a line.

What others write (claims, aliases, names, errors of OVSDB, lines of a file, flows of a switch) may
hold a newline and what looks like our next line, or an escape sequence for somebody's terminal. So
nothing of ours is logged or refused but through `printable`: records of our loggers are made by
`guard_log`, and `Refused` and `Mistake` give their text no other way.
"""

from __future__ import annotations

import logging
import traceback
from typing import Any, Final

_OURS: Final = "ovs_lwt"


def printable(text: str) -> str:
    """Return `text` with everything escaped that is no visible character or space, as Python would
    write it: ``\\n``, ``\\x1b``, ``\\u202e``. What needs no escape is returned as it is.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def guard_log() -> None:
    """From now on every record of our loggers is one line, and what follows of a traceback begins
    with a mark. Records of others (an app beside ours) stay as they are.
    """
    make = logging.getLogRecordFactory()
    if getattr(make, "guards", None) == _OURS:
        return

    def guarded(name: str, *arguments: Any, **keywords: Any) -> logging.LogRecord:
        record = make(name, *arguments, **keywords)
        if name.partition(".")[0] == _OURS:
            record.msg, record.args = printable(record.getMessage()), ()
            if record.exc_info and record.exc_info[0] is not None:
                record.exc_text = _traceback(record.exc_info)
        return record

    guarded.guards = _OURS  # type: ignore[attr-defined]
    logging.setLogRecordFactory(guarded)


def _traceback(information: Any) -> str:
    lines = "".join(traceback.format_exception(*information)).splitlines()
    return "\n".join(f"  | {printable(line)}" for line in lines)
