"""Isolation has no conditions: see tests/support/isolation.py. How many frames: --frames."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.isolation import overlay, storm
from tests.support.overlay_lab import OverlayLab, laboratory


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OverlayLab]:
    with laboratory(overlay(), tmp_path_factory.mktemp("isolation")) as lab:
        yield lab


def test_whatever_is_sent_stays_in_its_tenant(lab: OverlayLab, pytestconfig: pytest.Config) -> None:
    storm(lab, int(pytestconfig.getoption("--frames")))
    lab.restore(overlay())
