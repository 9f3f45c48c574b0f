"""Tests of the planes on a kernel that has the modules; see tests/support/kernel.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import kernel


def pytest_configure(config: pytest.Config) -> None:
    kernel.join(config, Path(__file__).parent)
