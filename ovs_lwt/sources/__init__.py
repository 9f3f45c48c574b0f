"""Where the topology comes from: one small interface, one module per kind of source."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Protocol

from ovs_lwt.model import Plane
from ovs_lwt.topology import Topology


class Source(Protocol):
    """Something that knows the overlay: a file today, a distributed store tomorrow."""

    def read(self) -> Topology:
        """Return the overlay as it is now; raise `OverlayInvalid` with all that is wrong."""
        ...

    def version(self) -> Hashable:
        """Return a value that differs once `read` would return something else; cheap to ask."""
        ...


def on_plane(source: Source, plane: Plane | None) -> Source:
    """Return `source` with all its hosts on `plane`; None: as the source says."""
    return source if plane is None else _OnPlane(source, plane)


@dataclass(frozen=True, slots=True)
class _OnPlane:
    """A source whose hosts are all on one plane, whatever it says itself."""

    source: Source
    plane: Plane

    def read(self) -> Topology:
        return self.source.read().on_plane(self.plane)

    def version(self) -> Hashable:
        return self.source.version()
