"""Isolation on the kernel's datapath and planes: see tests/support/isolation.py."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from ovs_lwt.lab import lifecycle
from tests.support.inhabited import Inhabited
from tests.support.isolation import overlay, storm

_ALL = 20_000


@contextlib.contextmanager
def lab_on(planes: tuple[str, ...], folder: Path) -> Iterator[Inhabited]:
    wanted, path, name = overlay(*planes), folder / "overlay.yaml", f"iso{os.getpid()}"
    path.write_text(yaml.safe_dump(wanted, sort_keys=False))
    try:
        lab = Inhabited(lifecycle.up(path, name=name), wanted)
        if "route" not in planes:
            lab.warm_up()
        yield lab
    finally:
        with lifecycle.shielded():
            lifecycle.down(name)


@pytest.mark.parametrize(
    "planes",
    [("ovs", "ovs", "bridge"), ("bridge", "bridge", "bridge"), ("route", "route", "route")],
    ids="-".join,
)
def test_whatever_is_sent_stays_in_its_tenant(planes: tuple[str, ...], tmp_path: Path) -> None:
    with lab_on(planes, tmp_path) as lab:
        routed = "route" in planes
        storm(lab, _ALL // 3, ethernet=not routed, least=0.0 if routed else 0.1)
