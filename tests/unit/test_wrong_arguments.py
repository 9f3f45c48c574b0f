"""Commands with every wrong kind of argument, and in odd places: a status that says who is to mend
it, a sentence that says how, and nothing made or removed.

The cases are made from the command line's own tree: a new command or option is tried as soon as it
is there.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import forked
from tests.support.commandline import TREE
from tests.support.tried_commands import try_all, try_surroundings


def told(folder: Path, work: Callable[..., int], *arguments: Any) -> tuple[int, str]:
    """What this prints, in a process without threads; its status."""
    said = folder / "told"
    place = folder / "place"
    place.mkdir(mode=0o755)
    with said.open("wb") as stream, Path(os.devnull).open("rb") as nothing:
        files = (nothing.fileno(), stream.fileno(), stream.fileno())
        status = forked.status(forked.start(work, *arguments, place, stdio=files))
    return status, said.read_text("utf-8", "backslashreplace")


@pytest.mark.parametrize("way", TREE)
def test_a_wrong_value_is_a_sentence_and_leaves_no_trace(way: str, tmp_path: Path) -> None:
    assert told(tmp_path, try_all, way) == (0, "")


def test_an_odd_place_to_run_in_is_no_traceback(tmp_path: Path) -> None:
    assert told(tmp_path, try_surroundings) == (0, "")
