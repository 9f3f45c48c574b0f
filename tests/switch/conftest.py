"""The stage: one lab for all stories that only look."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.overlay_lab import OverlayLab, laboratory
from tests.support.overlays import Overlay
from tests.support.wires import Wires

# Blue, red and green have the same addresses; each treats what it does not know another way.
# Blue is on every host and on a machine that is not ours; violet is on one host alone.
STAGE: Overlay = {
    "vteps": {
        "host1": {"address": "192.0.2.11"},
        "host2": {"address": "192.0.2.12"},
        "host3": {"address": "192.0.2.13"},
        "theirs": {"address": "192.0.2.14", "external": True},
        "idle": {"address": "192.0.2.15", "external": True},
    },
    "tenants": {
        "blue": {
            "vni": 1010,
            "mark": 10,
            "endpoints": {
                "web1": {
                    "host": "host1",
                    "mac": "02:00:00:00:00:01",
                    "ip": ["10.0.0.11/24", "fd00::11/64"],
                },
                "web2": {
                    "host": "host2",
                    "mac": "02:00:00:00:00:02",
                    "ip": ["10.0.0.12/24", "fd00::12/64"],
                },
                "web3": {"host": "host3", "mac": "02:00:00:00:00:03", "ip": ["10.0.0.13/24"]},
                "web4": {
                    "host": "host1",
                    "mac": "02:00:00:00:00:04",
                    "ip": ["10.0.0.14/24", "fd00::14/64"],
                },
                "router": {
                    "host": "host1",
                    "mac": "02:00:00:00:00:05",
                    "ip": ["10.0.0.15/24", "fd00::15/64"],
                    "spoofing": "allow",
                },
                "bare": {"host": "host2", "mac": "02:00:00:00:00:06", "ip": []},
                "away": {"host": "theirs", "mac": "02:00:00:00:00:09", "ip": ["10.0.0.19/24"]},
            },
        },
        "red": {
            "vni": 2020,
            "unknown_unicast": "drop",
            "endpoints": {
                "web1": {
                    "host": "host1",
                    "mac": "02:00:00:00:00:01",
                    "ip": ["10.0.0.11/24", "fd00::11/64"],
                },
                "web2": {
                    "host": "host2",
                    "mac": "02:00:00:00:00:02",
                    "ip": ["10.0.0.12/24", "fd00::12/64"],
                },
                # Blue's address of web3, on another MAC and another host.
                "other3": {"host": "host2", "mac": "02:00:00:00:00:33", "ip": ["10.0.0.13/24"]},
            },
        },
        "green": {
            "vni": 3030,
            "neighbours": "flood",
            "endpoints": {
                "web1": {
                    "host": "host1",
                    "mac": "02:00:00:00:00:01",
                    "ip": ["10.0.0.11/24", "fd00::11/64"],
                },
                "web2": {
                    "host": "host2",
                    "mac": "02:00:00:00:00:02",
                    "ip": ["10.0.0.12/24", "fd00::12/64"],
                },
                "web4": {
                    "host": "host1",
                    "mac": "02:00:00:00:00:04",
                    "ip": ["10.0.0.14/24", "fd00::14/64"],
                },
            },
        },
        "violet": {
            "vni": 4040,
            "endpoints": {
                "web1": {"host": "host3", "mac": "02:00:00:00:00:01", "ip": ["10.0.0.11/24"]},
                "web2": {"host": "host3", "mac": "02:00:00:00:00:02", "ip": ["10.0.0.12/24"]},
            },
        },
    },
}


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OverlayLab]:
    """The lab that is up as long as the tests run; nobody changes it."""
    with laboratory(STAGE, tmp_path_factory.mktemp("stage")) as lab:
        yield lab


@pytest.fixture(scope="session")
def ears(stage: OverlayLab) -> Iterator[Wires]:
    """All ears on the stage: opened once, for the kernel takes its time to close them."""
    with stage.listening() as wires:
        yield wires


@pytest.fixture
def wires(ears: Wires) -> Wires:
    """All ears on the stage, for a story that begins now."""
    ears.forget()
    return ears
