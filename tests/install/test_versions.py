"""constraints.txt: versions that go together, for everything that is installed or built."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator

import pytest
from packaging.markers import Marker, default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.markdown import CHECKOUT

PYTHONS = ("3.11.2", "3.12.3", "3.13.5")
#: What is there to judge code: its next version may think otherwise of code that has not changed.
LINTERS = {"mypy", "ruff", "import-linter", "types-pyyaml", "types-jsonschema"}


def constraints() -> list[Requirement]:
    lines = (CHECKOUT / "constraints.txt").read_text("utf-8").splitlines()
    return [Requirement(line) for line in lines if not line.startswith("#")]


def asked_for() -> Iterator[Requirement]:
    """All that pyproject.toml names: to run, to test, to lint, to build."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text("utf-8"))
    extras = project["project"]["optional-dependencies"].values()
    groups = project["dependency-groups"].values()
    for listed in (
        project["project"]["dependencies"],
        project["build-system"]["requires"],
        *extras,
        *groups,
    ):
        yield from (found for found in map(Requirement, listed) if found.name != "ovs-lwt")


def holds(marker: Marker | None, python: str) -> bool:
    environment = {
        **default_environment(),
        "python_version": python.rpartition(".")[0],
        "python_full_version": python,
    }
    return marker is None or marker.evaluate(environment)  # type: ignore[arg-type]


@pytest.mark.parametrize("python", PYTHONS)
def test_each_python_has_one_version_of_everything(python: str) -> None:
    here = [found for found in constraints() if holds(found.marker, python)]
    versions = {canonicalize_name(found.name): str(found.specifier) for found in here}

    assert len(versions) == len(here)
    assert all(re.fullmatch(r"==[^*,]+", version) for version in versions.values())
    for wanted in asked_for():
        version = versions[canonicalize_name(wanted.name)].removeprefix("==")
        assert wanted.specifier.contains(version), f"{wanted}, but {version} on {python}"
    assert versions.keys() >= LINTERS


def test_every_python_that_is_supported_is_looked_at() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text("utf-8"))["project"]
    listed = {
        found["minor"]
        for line in project["classifiers"]
        if (found := re.fullmatch(r"Programming Language :: Python :: 3\.(?P<minor>\d+)", line))
    }
    assert listed == {python.split(".")[1] for python in PYTHONS}
