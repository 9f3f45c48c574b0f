"""Where the topology comes from: one small interface, one module per kind of source."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Protocol

from ovs_lwt.topology import Topology


class Source(Protocol):
    """Something that knows the overlay: a file today, a distributed store tomorrow."""

    def read(self) -> Topology:
        """Return the overlay as it is now; raise `OverlayInvalid` with all that is wrong."""
        ...

    def version(self) -> Hashable:
        """Return a value that differs once `read` would return something else; cheap to ask."""
        ...
