"""The conformance suite: what a check is, and what it looks at.

A check tries one feature, whatever plane forwards. It yields what speaks against the feature; if
nothing does, the plane has it. What it asserts must hold on any plane: the frame that would be
heard, if it were not for the one thing that is wrong with it, is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from ovs_lwt.model import Plane
from tests.support.conformance_fabric import BLUE_VNI, Fabric


@dataclass(frozen=True, slots=True)
class Scene:
    """A fabric as it is seen from host `near`: `me` is a guest there, `they` are on host `far`."""

    fabric: Fabric
    near: str
    far: str

    @classmethod
    def seen_from(cls, fabric: Fabric, plane: Plane) -> Scene:
        """The fabric as it is seen from a host of this plane: the first, if both are."""
        one, other = (host.name for host in fabric.plan.own_hosts)
        near, far = (one, other) if fabric.host(one).plane == plane else (other, one)
        return cls(fabric, near, far)

    @property
    def me(self) -> str:
        return self.fabric.on(self.near)[0]

    @property
    def mate(self) -> str:
        """Another guest of my tenant, on my host."""
        return self.fabric.on(self.near)[1]

    @property
    def they(self) -> str:
        return self.fabric.on(self.far)[0]

    def heard(self, frame: bytes, mark: bytes) -> dict[str, int]:
        """Let me send a frame with this token, and return who has heard it, and how often."""
        self.fabric.wires.say(self.me, frame)
        return self.fabric.wires.heard(mark)

    def crossing(self, mark: bytes) -> bytes:
        """What a packet of theirs for me, with this token, looks like inside the tunnel."""
        self.fabric.wires.say(self.they, self.fabric.packet(self.they, self.me, mark))
        assert self.fabric.wires.heard(mark) == {self.me: 1}
        (packet,) = self.fabric.wires.on_underlay(mark, self.far)
        assert packet.vni == BLUE_VNI
        return packet.inner


Check = Callable[[Scene], Iterable[str]]
CHECKS: dict[str, Check] = {}


def check(feature: str) -> Callable[[Check], Check]:
    """Make a function the check of a feature."""

    def keep(function: Check) -> Check:
        CHECKS[feature] = function
        return function

    return keep


def wrong(fabric: Fabric, when: str) -> Iterator[str]:
    """What is not as the overlay says, now."""
    for cell in fabric.reach().wrong:
        yield f"{when}, {cell.source} and {cell.target}: {'; '.join(cell.why)}"
