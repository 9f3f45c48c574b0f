"""The conformance suite: what the host's own stack hears of a guest."""

from __future__ import annotations

from collections.abc import Iterator

from tests.support.conformance_scene import Scene, check
from tests.support.host_ears import attack
from tests.support.mute_stories import attacker, victim


@check("mute-host")
def _mute_host(scene: Scene) -> Iterator[str]:
    with victim(scene.fabric, scene.me) as ears:
        attack(ears, attacker(scene.fabric, scene.me))
        yield from ears.heard()
