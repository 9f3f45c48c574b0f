"""Modules of ours as programs of their own."""

from __future__ import annotations

import sys


def program(module: str, python: str = sys.executable) -> list[str]:
    """Return how to run this module of ours with an interpreter.

    `-P`: Python would import what lies in the current folder before anything else. That folder may
    be /tmp, or another place where others write, and we are root.
    """
    return [python, "-P", "-m", module]
