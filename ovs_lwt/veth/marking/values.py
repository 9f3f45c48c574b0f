"""What is marked, and where: values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Direction = Literal["ingress", "egress"]
"""As the host sees it: what a guest sends arrives (ingress), what it is handed leaves (egress)."""

ONE_WAY: Final[tuple[Direction, ...]] = ("ingress",)
BOTH_WAYS: Final[tuple[Direction, ...]] = ("ingress", "egress")

Marking = Literal["auto", "tc", "nft", "flow"]
"""Who sets the tenant's mark: the kernel, by one of two means, or a flow."""
KernelMarking = Literal["tc", "nft"]


@dataclass(frozen=True, slots=True)
class Marked:
    """A device whose packets carry a tenant's mark.

    name, index: the device; mark: 1..2^32-1; directions: in which the kernel sets it
    """

    name: str
    index: int
    mark: int
    directions: tuple[Direction, ...] = ONE_WAY

    @property
    def marks(self) -> dict[Direction, int]:
        """What is to be found on the device."""
        return dict.fromkeys(self.directions, self.mark)


class CannotMark(Exception):
    """This machine lacks what a way of marking needs: what, and how it is had."""
