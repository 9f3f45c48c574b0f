"""The conformance suite: every check, by the key of its feature."""

from __future__ import annotations

from tests.support import (
    conformance_changes,
    conformance_frames,
    conformance_host,
    conformance_sizes,
)
from tests.support.conformance_scene import CHECKS, Scene

__all__ = [
    "CHECKS",
    "Scene",
    "conformance_changes",
    "conformance_frames",
    "conformance_host",
    "conformance_sizes",
]
