"""The house rules: how long a module may be, what is left unfinished, what is shipped."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
LONGEST_MODULE = 500
# Written apart, so that this file does not find itself.
UNFINISHED = re.compile(
    "|".join(["TO" + "DO", "FIX" + "ME", r"pytest\.mark\.sk" + "ip", "xf" + "ail"])
)


def modules(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from sorted((CHECKOUT / folder).rglob("*.py"))


def test_no_module_is_longer_than_one_thing() -> None:
    lengths = {
        str(path.relative_to(CHECKOUT)): len(path.read_text("utf-8").splitlines())
        for path in modules("ovs_lwt", "tests")
    }
    assert {name: length for name, length in lengths.items() if length > LONGEST_MODULE} == {}


def test_nothing_is_left_unfinished() -> None:
    assert [
        str(path)
        for path in modules("ovs_lwt", "tests", "bench")
        if UNFINISHED.search(path.read_text("utf-8"))
    ] == []


def test_the_pipeline_ships_in_the_wheel(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=CHECKOUT,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        names = set(packed.namelist())
        scripts = packed.read("ovs_lwt-0.1.0.dist-info/entry_points.txt").decode("ascii")
    shipped = {f"ovs_lwt/flows/{file.name}" for file in (CHECKOUT / "flows").iterdir()}
    assert shipped
    shipped |= {"ovs_lwt/lab/kernel/init.sh", "ovs_lwt/lab/kernel/xstate.c"}
    assert shipped <= names
    assert "ovs-lwt = ovs_lwt.cli:main" in scripts
    assert not [name for name in names if name.startswith("tests/")]
