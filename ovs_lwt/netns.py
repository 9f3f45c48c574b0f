"""Network namespaces: where one is, and how a thread steps into it."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pyroute2 import netns

from ovs_lwt.mistakes import Refused

NAMED: Final = Path("/run/netns")
"""Where iproute2 keeps those that have a name."""


def namespace_path(name: str) -> str:
    """Return the path of namespace `name` (a name or a path); raise `Refused` if it is missing."""
    path = Path(name).absolute() if "/" in name else NAMED / name
    if not path.exists():
        mend = f"create it (ip netns add {name})" if "/" not in name else "see that it exists"
        raise Refused(f"there is no network namespace {name}: {mend}")
    return str(path)


@contextmanager
def entered(name: str | None) -> Iterator[None]:
    """Put this thread, and no other, into a namespace (a name or a path; None: the one it is in).

    Sockets opened here stay in it, and /proc/sys/net is the namespace's. Nothing that waits belongs
    here: a green thread would take the others along. Raises `Refused` if there is no such
    namespace, and OSError if we may not.
    """
    if name is None:
        yield
        return
    path = namespace_path(name)
    with at_home():
        try:
            # Not by a child process, as pyroute2 would do it of itself: that takes 10 ms.
            netns.setns(path, flags=0)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            raise Refused(f"{path} is not a network namespace ({error})") from error
        yield


@contextmanager
def at_home() -> Iterator[None]:
    """Bring this thread back to the namespace it is in now."""
    with Path("/proc/thread-self/ns/net").open() as home:
        try:
            yield
        finally:
            netns.setns(home.fileno())
