"""Read `flows/`: the pipeline as its authors wrote it, one file per table.

A file's name gives the table its number and name (`6-forward.flows`), so that a listing of the
folder reads like the pipeline. In a file, a comment at the top says which question the table
answers; each entry has a comment that says why it exists, a head `name(slot, …):`, and a body in
ovs-ofctl syntax with `{slot}` where rows differ.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from ovs_lwt.backends.openflow.slots import KINDS

_FILE = re.compile(r"(?:(?P<number>\d+)-)?(?P<name>[a-z]+)\.flows")
_GROUPS = "groups"
_LAST_TABLE = 254  # OFPTT_MAX: OpenFlow 1.4, 7.3.4.1
_HEAD = re.compile(r"(?P<name>[a-z][a-z0-9_]*)\((?P<slots>[a-z0-9_, ]*)\):")
_SLOT = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Entry:
    """One flow (or group) of `flows/`, with slots.

    place: "6-forward.flows:12"; why: its comment; text: its body on one line, ovs-ofctl syntax
    ordinal: its place in its file, from 1; it is part of the cookie
    """

    table: str
    name: str
    slots: tuple[str, ...]
    text: str
    why: str
    place: str
    ordinal: int

    @property
    def id(self) -> str:
        """`forward.remote_endpoint`: what rows and messages call it."""
        return f"{self.table}.{self.name}"


@dataclass(frozen=True, slots=True)
class FlowFile:
    """One file of `flows/`. number is None for `groups`, which is no table."""

    number: int | None
    name: str
    question: str
    about: str
    entries: tuple[Entry, ...]


class FlowFileError(Exception):
    """A mistake in `flows/`, with its place."""


def flows_folder() -> Traversable:
    """Where `flows/` is: inside the installed package, or beside it in a checkout."""
    shipped = resources.files("ovs_lwt") / "flows"
    return shipped if shipped.is_dir() else Path(__file__).resolve().parents[3] / "flows"


@cache
def read_flows() -> tuple[FlowFile, ...]:
    """Every file of `flows/`, tables by number, groups last. Raises FlowFileError."""
    return read_folder(flows_folder())


def read_folder(folder: Traversable) -> tuple[FlowFile, ...]:
    """The files of one folder; see :func:`read_flows`."""
    files: list[FlowFile] = []
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        if not file.name.endswith(".flows"):
            continue
        number, name = _number_and_name(file.name)
        for other in files:
            if name == other.name or number == other.number:
                raise FlowFileError(f"{file.name}: {other.name} has this name or number already")
        files.append(_parse(file.name, name, number, file.read_text("utf-8")))
    if not files:
        raise FlowFileError(
            f"no *.flows file in {folder}: the package is incomplete, install it again"
        )
    return tuple(sorted(files, key=lambda file: 256 if file.number is None else file.number))


def _number_and_name(file: str) -> tuple[int | None, str]:
    match = _FILE.fullmatch(file)
    if match is None or (match["number"] is None) != (match["name"] == _GROUPS):
        raise FlowFileError(f"{file}: expected NUMBER-NAME.flows (lower case) or {_GROUPS}.flows")
    if match["number"] is None:
        return None, _GROUPS
    if int(match["number"]) > _LAST_TABLE:
        raise FlowFileError(f"{file}: OpenFlow numbers its tables from 0 to {_LAST_TABLE}")
    return int(match["number"]), match["name"]


def _parse(file: str, table: str, number: int | None, text: str) -> FlowFile:
    paragraphs = list(_paragraphs(text))
    if not paragraphs or not paragraphs[0].comment.startswith(f"{table}: "):
        raise FlowFileError(
            f"{file}:1: the first comment must be `# {table}: ` and the question that it answers"
        )
    if paragraphs[0].body:
        raise FlowFileError(
            f"{file}:{paragraphs[0].line}: an empty line ends the comment about the table"
        )
    question, _, about = paragraphs[0].comment.removeprefix(f"{table}: ").partition("\n")
    entries: dict[str, Entry] = {}
    for paragraph in paragraphs[1:]:
        if not paragraph.body:
            continue
        entry = _entry(f"{file}:{paragraph.line}", table, paragraph, len(entries) + 1)
        if entry.name in entries:
            raise FlowFileError(f"{entry.place}: {entry.name} stands twice in this file")
        entries[entry.name] = entry
    return FlowFile(number, table, question.strip(), about.strip(), tuple(entries.values()))


@dataclass(frozen=True, slots=True)
class _Paragraph:
    line: int
    comment: str
    body: tuple[str, ...]


def _paragraphs(text: str) -> Iterator[_Paragraph]:
    """Comment and body of each block between blank lines; `line` is where its body begins."""
    comment: list[str] = []
    body: list[str] = []
    start = 1
    for line, content in enumerate([*text.splitlines(), ""], 1):
        if content.startswith("#"):
            comment.append(content[1:].removeprefix(" "))
        elif content.strip():
            start = start if body else line
            body.append(content.strip())
        elif comment or body:
            yield _Paragraph(start, "\n".join(comment), tuple(body))
            comment, body = [], []


def _entry(place: str, table: str, paragraph: _Paragraph, ordinal: int) -> Entry:
    head = _HEAD.fullmatch(paragraph.body[0])
    if head is None:
        raise FlowFileError(f"{place}: expected `name(slot, …):`, found `{paragraph.body[0]}`")
    if not paragraph.comment:
        raise FlowFileError(f"{place}: {head['name']} needs a comment above it that says why it is")
    slots = tuple(filter(None, head["slots"].replace(" ", "").split(",")))
    text = " ".join(paragraph.body[1:])
    used = set(_SLOT.findall(text))
    for slot in sorted(used ^ set(slots)):
        raise FlowFileError(
            f"{place}: {{{slot}}} must stand both in the head and in the body of {head['name']}"
        )
    for slot in slots:
        if slot not in KINDS:
            raise FlowFileError(
                f"{place}: {{{slot}}} is no slot that we know; there are {', '.join(KINDS)}"
            )
    return Entry(table, head["name"], slots, text, paragraph.comment, place, ordinal)
