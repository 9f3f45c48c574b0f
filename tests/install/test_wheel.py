"""The wheel holds what a host needs, and installs where there is no registry."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from ovs_lwt.model import Overlay
from tests.support.markdown import CHECKOUT, commands

PAGE = CHECKOUT / "docs/offline.md"
_SHARE = "ovs_lwt-0.1.0.data/data/share/ovs-lwt"


def built(what: str, checkout: Path, into: Path) -> Path:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", what, "-d", str(into)],
        cwd=checkout,
        check=True,
        capture_output=True,
    )
    (found,) = into.glob("*.whl" if what == "wheel" else "*.tar.gz")
    return found


def contents(wheel: Path) -> Mapping[str, bytes]:
    with zipfile.ZipFile(wheel) as packed:
        return {name: packed.read(name) for name in packed.namelist()}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, bytes]:
    return contents(built("wheel", CHECKOUT, tmp_path_factory.mktemp("wheel")))


class TestWhatIsInTheWheel:
    @pytest.mark.parametrize(
        ("folder", "below"),
        [
            ("flows", "ovs_lwt/flows"),
            ("packaging/systemd", f"{_SHARE}/systemd"),
            ("examples", f"{_SHARE}/examples"),
        ],
    )
    def test_pipeline_units_and_examples(
        self, wheel: Mapping[str, bytes], folder: str, below: str
    ) -> None:
        files = list((CHECKOUT / folder).iterdir())
        assert files
        for file in files:
            assert wheel[f"{below}/{file.name}"] == file.read_bytes()

    @pytest.mark.parametrize("name", ["init.sh", "uml/xstate.c", "vm/initramfs.sh"])
    def test_what_the_labs_machines_run(self, wheel: Mapping[str, bytes], name: str) -> None:
        shipped = f"ovs_lwt/lab/kernel/{name}"
        assert wheel[shipped] == (CHECKOUT / shipped).read_bytes()

    def test_the_schema_of_the_overlay(self, wheel: Mapping[str, bytes]) -> None:
        shipped = json.loads(wheel[f"{_SHARE}/overlay.schema.json"])
        assert shipped == Overlay.model_json_schema(), "the schema has drifted: run `make docs`"

    def test_the_command(self, wheel: Mapping[str, bytes]) -> None:
        scripts = wheel["ovs_lwt-0.1.0.dist-info/entry_points.txt"].decode("ascii")
        assert "ovs-lwt = ovs_lwt.cli:main" in scripts

    def test_nothing_else(self, wheel: Mapping[str, bytes]) -> None:
        tops = {name.partition("/")[0] for name in wheel}
        assert tops == {"ovs_lwt", "ovs_lwt-0.1.0.data", "ovs_lwt-0.1.0.dist-info"}

    def test_the_source_distribution_makes_the_same(
        self, wheel: Mapping[str, bytes], tmp_path: Path
    ) -> None:
        # Not shutil: Debian 12's Python has no filters for what is unpacked, later ones want one.
        subprocess.run(["tar", "xf", built("sdist", CHECKOUT, tmp_path)], cwd=tmp_path, check=True)
        (unpacked,) = (path for path in tmp_path.iterdir() if path.is_dir())
        assert contents(built("wheel", unpacked, tmp_path)).keys() == wheel.keys()


@pytest.fixture(scope="module")
def wheelhouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Gathered from the registry that set-up has installed from."""
    folder = tmp_path_factory.mktemp("site") / "wheelhouse"
    done = subprocess.run(
        [CHECKOUT / "scripts/wheelhouse.sh"],
        env=os.environ | {"PYTHONS": sys.executable, "WHEELHOUSE": str(folder)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert f"{folder}: {len(list(folder.iterdir()))} wheels" in done.stdout
    return folder


class TestAHostWithoutARegistry:
    """What the page says, line by line; the host has no network at all."""

    def test_the_page_is_followed(self, wheelhouse: Path) -> None:
        site = wheelhouse.parent
        elsewhere = {
            "/opt/ovs-lwt": f"{site}/opt",
            "/usr/local/bin": f"{site}/bin",
            "/etc/systemd/system": f"{site}/units",
            "/etc/default": f"{site}/default",
            "/etc/ovs-lwt": f"{site}/etc",
            "python3 -m venv": f"{sys.executable} -m venv",
        }
        for name in ("bin", "units", "default", "etc"):
            (site / name).mkdir()
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("PIP_")
        } | {"PATH": f"{site}/bin:{os.environ['PATH']}"}
        shown = [command for command in commands(PAGE.read_text("utf-8")) if command.where]
        assert shown
        for command in shown:
            line = command.line
            for there, here in elsewhere.items():
                line = line.replace(there, here)
            done = subprocess.run(
                ["unshare", "--net", "sh", "-ec", line],
                cwd=site,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
            printed = done.stdout.replace(f"{site}/etc", "/etc/ovs-lwt").splitlines()
            assert printed[-len(command.shown) :] == list(command.shown) or not command.shown

        assert (site / "bin/ovs-lwt").resolve().is_file()
        assert json.loads((site / "overlay.schema.json").read_text("utf-8")) == (
            Overlay.model_json_schema()
        )
        assert (site / "units/ovs-lwt@.service").read_bytes() == (
            CHECKOUT / "packaging/systemd/ovs-lwt@.service"
        ).read_bytes()
