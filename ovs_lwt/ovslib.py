"""The library `ovs`, imported without eventlet.

It imports eventlet wherever that is installed, to see whether somebody has put eventlet's functions
in the standard library's place. Nobody has where nobody has imported eventlet: whoever uses this
module pays neither its memory (12 MB) nor its time, is not told of its age, and may fork. Under
Ryu, and os-ken on green threads, the library still asks.

    from ovs_lwt.ovslib import ovs
"""

from __future__ import annotations

import importlib
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

__all__ = ["ovs"]

_EVENTLET: Final = "eventlet"


@contextmanager
def _unless_imported(name: str) -> Iterator[None]:
    """Have imports of the module `name` fail in here, unless it is imported already."""
    if name in sys.modules:
        yield
        return
    # What stands for "there is no such module": see sys.modules in Python's documentation.
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]


class _Patcher:
    """Stands for `eventlet.patcher`, which is imported when it is asked for something."""

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module("eventlet.patcher"), name)


def _using_eventlet() -> bool:
    """Whether eventlet has taken over `select`; it may have been imported after the library."""
    return _EVENTLET in sys.modules and bool(_Patcher().is_monkey_patched(select))


with _unless_imported(_EVENTLET):
    import ovs
    import ovs.daemon
    import ovs.db.idl
    import ovs.fatal_signal
    import ovs.jsonrpc
    import ovs.poller
    import ovs.stream
    import ovs.unixctl
    import ovs.unixctl.server

ovs.poller.eventlet_patcher = _Patcher()
ovs.poller._using_eventlet_green_select = _using_eventlet
