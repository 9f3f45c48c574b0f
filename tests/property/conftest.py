"""Small overlays, cut into slices as if they were large."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ovs_lwt import slices


@pytest.fixture(autouse=True, scope="module")
def small_slices() -> Iterator[None]:
    """What is stated about any overlay holds however many slices it has."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slices, "SIZE", 2)
        yield
