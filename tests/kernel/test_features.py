"""The kernel under test has what the planes are made of."""

from __future__ import annotations

import pytest

from ovs_lwt.lab.kernel.features import FEATURES, Feature, failure


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.name)
def test_this_kernel_has(feature: Feature) -> None:
    assert failure(feature) is None
