"""Tests of the planes on a kernel that has the modules; see tests/support/kernel.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import kernel
from tests.support.conformance_fabric import FABRICS, Fabric, fabric_up, overlay_of


def pytest_configure(config: pytest.Config) -> None:
    kernel.join(config, Path(__file__).parent)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Each fabric is brought up once: whatever is tried on it comes together."""
    places = {name: place for place, name in enumerate(FABRICS)}
    here = Path(__file__).parent

    def place(item: pytest.Item) -> int:
        callspec = getattr(item, "callspec", None)
        if callspec is None or not item.path.is_relative_to(here):
            return -1
        return places.get(callspec.params.get("fabric"), -1)

    items.sort(key=place)


@pytest.fixture(scope="session")
def fabric(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fabric]:
    """The fabric of that name, as long as the tests that come ask for no other."""
    overlay = overlay_of(*FABRICS[request.param])
    with fabric_up(overlay, tmp_path_factory.mktemp("fabric")) as fabric:
        yield fabric
