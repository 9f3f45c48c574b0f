"""Where the lab keeps what it has made or fetched once: in the system's cache, or the user's."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from ovs_lwt.mistakes import Refused

_NAME: Final = "ovs-lwt"


def cache() -> Path:
    """Return the folder, which exists; raise `Refused` if it cannot be made.

    Root's is in /var/cache (FHS, 5.5), anybody else's where XDG_CACHE_HOME says, or in ~/.cache.
    """
    home = os.environ.get("XDG_CACHE_HOME")
    if home:
        parent = Path(home)
    elif os.geteuid() == 0:
        parent = Path("/var/cache")
    else:
        parent = Path.home() / ".cache"
    folder = parent / _NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Refused(
            f"the lab's cache {folder} cannot be made ({error.strerror}): set XDG_CACHE_HOME to a"
            " folder that can be written"
        ) from None
    return folder.absolute()
