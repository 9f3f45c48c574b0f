"""Every plane, and hosts of different planes with one another, held to the feature table.

What is tried stands in tests/support/conformance_*.py, what should come of it in
ovs_lwt/feature_table.py. Both directions count: a plane that lacks what the table says it has
fails, and so does one that has what the table says it lacks.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from _pytest.mark import ParameterSet

from ovs_lwt.feature_table import FEATURES, Feature
from ovs_lwt.mistakes import OverlayInvalid
from ovs_lwt.model import Plane
from ovs_lwt.sources.overlay_file import from_dict
from tests.support.conformance_checks import CHECKS, Scene
from tests.support.conformance_fabric import FABRICS, Fabric, overlay_of


def cases() -> Iterator[ParameterSet]:
    """Each feature, on each fabric on which it can be tried, seen from either plane.

    What a host does by itself it has shown among hosts of its own plane.
    """
    for name, (planes, family) in FABRICS.items():
        for near, far in dict.fromkeys((planes, planes[::-1])):
            for feature in FEATURES:
                joint = feature.joint or near == far
                if joint and (feature.key == "underlay6") == (family == 6):
                    title = f"{name}-{near}-{feature.key}"
                    yield pytest.param(name, near, far, feature, id=title)


@pytest.mark.parametrize(
    ("fabric", "near", "far", "feature"), list(cases()), indirect=["fabric"], scope="session"
)
def test_a_plane_has_what_the_table_says(
    fabric: Fabric, near: Plane, far: Plane, feature: Feature
) -> None:
    against = list(CHECKS[feature.key](Scene.seen_from(fabric, near)))
    lacking = feature.why_not(near, far)
    if lacking is None:
        assert not against, "\n".join((f"{feature.says}: the table says yes", *against))
    else:
        assert against, f"{feature.says}: the table says no, {lacking}"


@pytest.mark.parametrize("other", ["ovs", "bridge"])
def test_a_tenant_of_routes_and_another_plane_is_refused(other: Plane) -> None:
    """There is no common ground: so the overlay is invalid, and nothing is touched."""
    for planes in (("route", other), (other, "route")):
        with pytest.raises(OverlayInvalid, match="routes carry IP, the others Ethernet"):
            from_dict(overlay_of(planes))


def test_every_row_of_the_table_is_tried() -> None:
    assert sorted(feature.key for feature in FEATURES) == sorted(CHECKS)
