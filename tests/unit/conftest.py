"""What the unit tests share."""

from __future__ import annotations

import logging

import pytest

from tests.support.world import World


@pytest.fixture
def world(caplog: pytest.LogCaptureFixture) -> World:
    caplog.set_level(logging.DEBUG, "ovs_lwt")
    return World()
