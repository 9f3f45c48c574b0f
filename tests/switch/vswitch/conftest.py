"""A host with a switch of its own, and our end of its OVSDB."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from ovs_lwt.vswitch.held import HeldSwitch
from ovs_lwt.vswitch.switch import LocalSwitch
from tests.support.local_switch import BRIDGE
from tests.support.ovs import OvsHost


@pytest.fixture
def host() -> Iterator[OvsHost]:
    with OvsHost(f"vsw-{os.getpid()}") as host:
        yield host


@pytest.fixture
def held(host: OvsHost) -> Iterator[HeldSwitch]:
    """As an agent has it."""
    with HeldSwitch(host.remote, BRIDGE) as switch:
        yield switch


@pytest.fixture
def switch(host: OvsHost) -> Iterator[LocalSwitch]:
    with LocalSwitch(host.remote, timeout=5) as switch:
        yield switch
