"""The command line with every wrong kind of value, run in forks.

What flows in: the tree of commands as typer has it. What flows out: for each command line how it
ended, and what it said. Each runs in a fork of a process without threads that has imported
everything.
"""

from __future__ import annotations

import codecs
import importlib
import io
import os
import pkgutil
import resource
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, get_args, get_type_hints

import typer
import yaml

import ovs_lwt
from ovs_lwt import cli
from tests.support.overlays import two_tenants

SECONDS: Final = 20

# Imported here, once, and not by each of a thousand forks. (`app` registers options when imported.)
_APART: Final = ("__main__", "app", "server", "holder", "init")
codecs.lookup("utf-8-sig")
for _module in pkgutil.walk_packages(ovs_lwt.__path__, "ovs_lwt."):
    if _module.name.rpartition(".")[2] not in _APART:
        importlib.import_module(_module.name)


def commands(group: Any, way: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Every command with its way through the groups (``lab up``)."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*way, name))
        else:
            yield " ".join((*way, name)), command


# Made once: making it takes longer than most commands.
PROGRAM: Final = typer.main.get_command(cli.app)
TREE: Final = dict(commands(PROGRAM))


# Values

GARBAGE: Final = bytes(range(256)) * 4
TEXTS: Final[Mapping[str, str]] = {
    "a device": "/dev/zero",
    "nothing": "",
    "a space": " ",
    "negative": "-1",
    "huge": "9" * 40,
    "lines": "a\nb\x1b[2Jc",
    "a zero": "a\\0b",
    "a name not UTF-8": "\udcff",
    "backwards": "a\u202eb",
    "markup": "[bold]x[/bold]",
    "templates": "%s{0}$HOME",
    "a path": "a/b",
    "the folder above": "../x",
    "long": "x" * 5000,
}
_SHORT: Final = ("nothing", "negative", "huge", "lines", "a name not UTF-8", "markup")
NUMBERS: Final[Mapping[str, str]] = {"not a number": "nan", "infinite": "inf", "a fraction": "1.5"}


def make_values(folder: Path) -> dict[str, str]:
    """Make files of all kinds in `folder`; what stands for each kind on a command line."""
    (folder / "folder").mkdir()
    (folder / "folder" / "inside").touch()
    (folder / "binary").write_bytes(GARBAGE)
    (folder / "latin").write_bytes("vteps: größe\n".encode("latin-1"))
    (folder / "empty").touch()
    (folder / "text").write_text("Dear diary,\n")
    (folder / "unreadable").write_text("secret\n")
    (folder / "unreadable").chmod(0)
    os.mkfifo(folder / "fifo")
    (folder / "dangling").symlink_to("nowhere")
    (folder / "loop").symlink_to("loop")
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(folder / "deaf"))
    (folder / "external.yaml").write_text(yaml.safe_dump(_overlay()))
    files = {
        kind: str(folder / name)
        for kind, name in {
            "a folder": "folder",
            "nothing there": "missing",
            "no folder there": "missing/below",
            "below a file": "text/below",
            "binary": "binary",
            "not UTF-8": "latin",
            "an empty file": "empty",
            "a file": "text",
            "an unreadable file": "unreadable",
            "a pipe": "fifo",
            "a dangling link": "dangling",
            "a link to itself": "loop",
            "a deaf socket": "deaf",
            "longer than a socket's": "x" * 100,
        }.items()
    }
    return {**files, **TEXTS, **NUMBERS}


def _overlay() -> dict[str, Any]:
    overlay = two_tenants()
    for vtep in overlay["vteps"].values():
        vtep["external"] = True
    return overlay


# What some words are made of, and whether a file comes behind that.
PREFIXES: Final[Mapping[str, Mapping[str, bool]]] = {
    "ovsdb": {"unix:": True, "tcp:": False, "ssl:": False},
    "listen": {"127.0.0.1:": False, "[::1]:": False},
    "controller": {"tcp:": False},
    "host": {"host1=unix:": True},
    "endpoint": {"blue/": False},
}


def fitting(folder: Path, plane: str | None) -> dict[str, str]:
    """What arguments and options are given that are not what is tried, by their names, so that a
    command goes no further than a refusal: the overlay has no host that could be driven here.
    """
    return {
        "overlay": str(folder / "external.yaml"),
        "endpoint": "blue/web1",
        "netns": "nowhere",
        "host": "host1",
        "ovsdb": f"unix:{folder}/none.sock",
        "control": str(folder / "none.ctl"),
        "state": str(folder / "none.state"),
        "where": "blue/web1",
        "command": "true",
        "timeout": "0",
        **({"plane": plane} if plane else {}),
    }


@dataclass(frozen=True, slots=True)
class Case:
    """A command line: the command, its words, the parameter that is wrong, and how."""

    way: str
    words: tuple[str, ...]
    parameter: str
    kind: str
    value: str

    @property
    def id(self) -> tuple[str, str]:
        """Which one of its command's."""
        return self.parameter, self.kind

    def __str__(self) -> str:
        return f"{self.way}: {self.parameter}: {self.kind}"


def line(command: Any, given: Mapping[str, str]) -> list[str]:
    """The words of a command with these values, by the parameters' names."""
    options, arguments = [], []
    for parameter in command.params:
        if parameter.name in given:
            option, value = parameter.opts[0], given[parameter.name]
            if option.startswith("-"):
                options.append(f"{option}={value}")
            else:
                arguments.append(value)
    return [*options, "--", *arguments]


def plain(way: str, folder: Path, plane: str | None = None) -> Case:
    """The command with nothing wrong but that what it is about is not there."""
    return Case(way, tuple(line(TREE[way], fitting(folder, plane))), "", "nothing", "")


def cases(
    way: str, values: Mapping[str, str], folder: Path, plane: str | None = None
) -> Iterator[Case]:
    """Every parameter of the command with every value that it cannot be meant to have, on this
    plane where the command asks for one.
    """
    command = TREE[way]
    hints = get_type_hints(command.callback)
    plain = fitting(folder, plane)
    for parameter in command.params:
        of = _type(hints.get(parameter.name))
        if of in (None, bool):  # --help; a flag takes nothing
            continue
        for kind, value in _wrong(parameter.name, of, values):
            words = line(command, {**plain, parameter.name: value})
            yield Case(way, tuple(words), parameter.opts[0], kind, value)


def _type(hint: Any) -> Any:
    """What a parameter holds: the type itself of ``T | None`` and ``list[T]``."""
    inner = next((part for part in get_args(hint) if part is not type(None)), None)
    return hint if inner is None else _type(inner)


def _wrong(name: str, of: Any, values: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The values, and what kind each is, that this parameter cannot be meant to have."""
    files = {kind: value for kind, value in values.items() if kind not in (*TEXTS, *NUMBERS)}
    if of in (int, float):
        yield from ((kind, text) for kind, text in NUMBERS.items() if of is int or text == "nan")
    if of not in (str, Path):
        yield from ((kind, TEXTS[kind]) for kind in _SHORT)
        return
    yield from TEXTS.items()
    if of is Path:
        yield from files.items()
    for prefix, file in PREFIXES.get(name, {}).items():
        for kind, value in (files if file else TEXTS).items():
            yield f"{prefix}{kind}", prefix + value


# Running


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command line ended: its status, its standard output and what it said of errors."""

    status: int
    out: str
    err: str


def run(
    every: Sequence[Case], folder: Path, before: Callable[[], None] = lambda: None
) -> list[Ended]:
    """Run these one after the other in one process, where `before` is called first."""
    pid = os.fork()
    if not pid:
        _be(every, folder, before)
    ended = 0
    while not ended:
        ended, _ = os.waitpid(pid, os.WNOHANG)
        # Whoever reads the pipe hears its end.
        with suppress(OSError):
            os.close(os.open(folder / "fifo", os.O_WRONLY | os.O_NONBLOCK))
        time.sleep(0.001)
    found = []
    for number in range(len(every)):
        said = folder / f".{number}.out", folder / f".{number}.err", folder / f".{number}.status"
        out, err, status = (
            file.read_text("utf-8", "backslashreplace") if file.exists() else "" for file in said
        )
        for file in said:
            file.unlink(missing_ok=True)
        found.append(Ended(int(status or 99), out, err))
    return found


def _be(every: Sequence[Case], folder: Path, before: Callable[[], None]) -> None:
    try:
        signal.alarm(SECONDS + len(every))
        resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
        os.chdir(folder)
        setattr(cli, "app", PROGRAM)  # noqa: B010 - mypy knows what it was
        for number, case in enumerate(every):
            for fd, name in ((1, "out"), (2, "err")):
                flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
                stream = os.open(folder / f".{number}.{name}", flags, 0o666)
                os.dup2(stream, fd)
                os.close(stream)
            report = os.open(folder / f".{number}.status", os.O_WRONLY | os.O_CREAT, 0o666)
            standard_streams("utf-8")
            before()
            os.write(report, str(_status(case)).encode())
            os.close(report)
    finally:
        os._exit(0)


def _status(case: Case) -> int:
    sys.argv = ["ovs-lwt", *case.way.split(), *case.words]
    try:
        cli.main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1 if end.code else 0
    except BaseException:
        os.write(2, traceback.format_exc().encode())
    return 99


def standard_streams(encoding: str) -> None:
    """Let what is printed go to files 1 and 2, in this encoding."""
    for name, fd in (("stdout", 1), ("stderr", 2)):
        setattr(
            sys,
            name,
            io.TextIOWrapper(io.FileIO(fd, "w", closefd=False), encoding, line_buffering=True),
        )
