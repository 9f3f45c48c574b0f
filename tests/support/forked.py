"""A function as a process: forked from one without threads, since our own has them.

A fork takes over whatever lock another thread holds at that moment, for good. What would be a fork
of pytest is one of a server that `multiprocessing` keeps for that, and that has imported already
what the function takes.
"""

from __future__ import annotations

import fcntl
import os
import termios
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

_CONTEXT = get_context("forkserver")
_FILES = 1024


def start(
    function: Callable[..., int], *arguments: Any, stdio: Sequence[int], terminal: bool = False
) -> BaseProcess:
    """Start `function`, of a module, in a process whose first three files are `stdio`.

    terminal: they are one, and it becomes the process's own. Its exit status is what the function
    returns.
    """
    # Which modules the server imports is asked for once, when it starts.
    _CONTEXT.set_forkserver_preload([function.__module__])
    # A connection is what travels to another process as a file.
    files = [Connection(os.dup(fd)) for fd in stdio]
    process = _CONTEXT.Process(target=_be, args=(files, terminal, function, arguments))
    process.start()
    for file in files:
        file.close()
    return process


def status(process: BaseProcess) -> int:
    """Wait for its end; the exit status, negative for a signal."""
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def _be(
    files: Sequence[Connection],
    terminal: bool,
    function: Callable[..., int],
    arguments: Sequence[Any],
) -> None:
    ended = 1
    try:
        if terminal:
            os.setsid()
        for number, file in enumerate(files):
            os.dup2(file.fileno(), number)
        if terminal:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        os.closerange(3, _FILES)
        ended = function(*arguments)
    finally:
        os._exit(ended)
