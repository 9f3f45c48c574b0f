"""Where the topology comes from: one small interface, one module per kind of source."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Protocol

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

    def accept(self) -> None:
        """What was last read runs now: keep it for the next start. Raises OSError."""
        ...

    def forget(self) -> None:
        """What was last read does not run: leave nothing of it behind."""
        ...

    def accepted(self) -> bool:
        """Say whether what was last read is what was last accepted, here, in whichever process."""
        ...

    def last_good(self) -> Topology | None:
        """Return the overlay that was last accepted, None if none was."""
        ...

    def describe(self, *, last_good: bool = False) -> dict[str, Any]:
        """Return what `status` says of it: file, sha256, … of what was last read, or accepted."""
        ...


class Unkept:
    """What a source says that keeps nothing for the next start: a base class."""

    def accept(self) -> None:
        """Keep nothing."""

    def forget(self) -> None:
        """Do nothing."""

    def accepted(self) -> bool:
        """Say that there is nothing to hold it against."""
        return True

    def last_good(self) -> Topology | None:
        """Return nothing."""
        return None

    def describe(self, *, last_good: bool = False) -> dict[str, Any]:
        """Say where it comes from."""
        return {"file": type(self).__name__, "sha256": None}


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

    def accept(self) -> None:
        self.source.accept()

    def forget(self) -> None:
        self.source.forget()

    def accepted(self) -> bool:
        return self.source.accepted()

    def last_good(self) -> Topology | None:
        good = self.source.last_good()
        return None if good is None else good.on_plane(self.plane)

    def describe(self, *, last_good: bool = False) -> dict[str, Any]:
        return self.source.describe(last_good=last_good)
