"""Commands with every wrong kind of argument: a status that is known, and no traceback.

The cases are made from the command line's own tree: a new option is tried as soon as it is there.
"""

from __future__ import annotations

import functools
import operator
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from ovs_lwt import cli
from ovs_lwt.ending import ended
from tests.support import forked
from tests.support.overlays import two_tenants

STATUSES = {0, 1, 2, 3, 4}
SECONDS = 20
# Commands that look, ask, or take away; what they are given here is never there.
LOOKING = ("validate", "schema", "export", "detach", "reload")


def commands(group: Any, way: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*way, name))
        else:
            yield (*way, name), command


TREE = {" ".join(way): command for way, command in commands(typer.main.get_command(cli.app))}
TRIED = {way: TREE[way] for way in LOOKING}


def wrong(folder: Path) -> dict[str, str]:
    """The wrong kinds of values."""
    binary = folder / "binary"
    binary.write_bytes(bytes(range(256)) * 4)
    return {
        "nothing": "",
        "folder": str(folder),
        "missing": str(folder / "missing"),
        "binary": str(binary),
        "negative": "-1",
        "huge": "9" * 30,
        "lines": "a\nb\x1b[2Jc",
        "not UTF-8": "\udcff",
        "long": "x" * 5000,
    }


def base(command: Any, folder: Path) -> list[list[str]]:
    """What each argument and option that must be given is given, so that it goes no further than a
    refusal: the overlay has no host that could be driven here.
    """
    good = {
        "overlay": str(folder / "external.yaml"),
        "endpoint": "blue/web1",
        "netns": "nowhere",
        "host": "host1",
        "ovsdb": f"unix:{folder}/none.sock",
        "control": str(folder / "none.ctl"),
        "name": "no-such-lab",
        "timeout": "0",
    }
    words = []
    for parameter in command.params:
        if parameter.name in good:
            option = parameter.opts[0]
            given = [option] if option.startswith("-") else []
            words.append([*given, good[parameter.name]])
    return words


def cases(command: Any, folder: Path) -> Iterator[list[str]]:
    plain = base(command, folder)
    for parameter in command.params:
        option = parameter.opts[0]
        named = option.startswith("-")
        if getattr(parameter, "is_flag", False) or parameter.name == "help":
            continue
        for value in wrong(folder).values():
            kept = [words for words in plain if words[0] != option or not named]
            if named:
                yield [*functools.reduce(operator.iadd, kept, []), f"{option}={value}"]
            else:
                places = [p.name for p in command.params if not p.opts[0].startswith("-")]
                bare = [words for words in plain if not words[0].startswith("--")]
                rest = [words for words in plain if words[0].startswith("--")]
                given = dict(zip(places, bare, strict=False))
                given[parameter.name] = [value]
                yield [
                    *functools.reduce(operator.iadd, rest, []),
                    "--",
                    *functools.reduce(operator.iadd, given.values(), []),
                ]


def call(words: list[str], out: Path) -> int:
    """Run the command in a fork of this process, which has no threads; return its status."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    status = 99
    try:
        signal.alarm(SECONDS)
        with out.open("wb") as stream:
            os.dup2(stream.fileno(), 1)
            os.dup2(stream.fileno(), 2)
        sys.argv = ["ovs-lwt", *words]
        status = ended("ovs-lwt", cli._command)
        sys.stdout.flush()
    finally:
        os._exit(status)


def call_all(way: str, folder: Path) -> int:
    """Try all cases of a command, and print those that end badly."""
    out = folder / "out"
    bad = 0
    for words in cases(TRIED[way], folder):
        status = call([*way.split(), *words], out)
        said = out.read_text("utf-8", "backslashreplace")
        torn = any(sign in said for sign in ("Traceback", "unexpected:"))
        if status not in STATUSES or torn or (status and not said.strip()):
            bad = 1
            print(status, [word[:200] for word in words], said[-600:], flush=True)
    return bad


@pytest.mark.parametrize("way", TRIED)
def test_no_wrong_argument_is_a_traceback(way: str, tmp_path: Path) -> None:
    overlay = two_tenants()
    for vtep in overlay["vteps"].values():
        vtep["external"] = True
    (tmp_path / "external.yaml").write_text(yaml.safe_dump(overlay))
    told = tmp_path / "told"
    with told.open("wb") as stream, Path(os.devnull).open("rb") as nothing:
        files = (nothing.fileno(), stream.fileno(), stream.fileno())
        status = forked.status(forked.start(call_all, way, tmp_path, stdio=files))
    assert (status, told.read_text("utf-8", "backslashreplace")) == (0, "")
