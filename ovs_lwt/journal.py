"""How a line of the log looks: with the time, or for systemd's journal with its priority instead.

The journal takes a priority from a line that begins with ``<N>`` (sd-daemon(3)), so that
`journalctl -p warning` shows what it should; it has the time itself.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Final, TextIO

FORMAT: Final = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"

# syslog(3): err, warning, info, debug.
_PRIORITIES: Final = (
    (logging.CRITICAL, 2),
    (logging.ERROR, 3),
    (logging.WARNING, 4),
    (logging.INFO, 6),
)
_DEBUG: Final = 7


class JournalFormatter(logging.Formatter):
    """Puts a record's priority before each of its lines: a traceback has many."""

    def __init__(self) -> None:
        super().__init__("%(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        priority = next((n for level, n in _PRIORITIES if record.levelno >= level), _DEBUG)
        lines = super().format(record).split("\n")
        return "\n".join(f"<{priority}>{line}" for line in lines)


def is_journal(stream: TextIO, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether what is written to `stream` goes to the journal: systemd says in JOURNAL_STREAM which
    device and inode do (systemd.exec(5)), since a service may have sent its output elsewhere.
    """
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def formatter_for(handler: logging.Handler) -> logging.Formatter:
    """The formatter that suits where a handler writes to."""
    if isinstance(handler, logging.StreamHandler) and is_journal(handler.stream):
        return JournalFormatter()
    return logging.Formatter(FORMAT)
