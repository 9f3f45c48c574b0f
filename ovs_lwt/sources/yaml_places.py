"""Strict YAML that remembers its lines.

The text is read as a stream of events, so that nothing is built before it is known to be
harmless: tags, anchors, aliases and deep nesting are refused on sight. Scalars stay text; what
is a number, the reader of the document decides, so ``mac: 02:00:00:00:00:01`` and ``no:`` are
what they look like (YAML 1.1 makes numbers and booleans of such).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import yaml
from yaml.reader import Reader

from ovs_lwt.values import shown

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""PyYAML's quick loader where it was built with one."""
_DEPTH_LIMIT = 32
_NESTED = f"nested more than {_DEPTH_LIMIT} deep"
# libyaml reads a line ahead of the events, and since 0.2.6 gives up by itself at 1,000 levels.
_TOO_DEEP = re.compile("nesting depth|increasing (flow|block) level")
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_FLAG = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,19})|0x[0-9A-Fa-f]{1,16}")

Complain = Callable[[int | None, str], None]
"""Takes a line (None: the file as a whole) and a message."""


@dataclass(slots=True)
class Node:
    """A value and the line (from 1) on which it, or its key, stands."""

    line: int
    value: str | dict[str, Node] | list[Node]
    plain: bool = False
    """True for text without quotes, which may mean a number, true, false or nothing."""


def parse(text: str, complain: Complain) -> Node | None:
    """Return the one document in `text`, or None if it cannot be made out.

    `complain` is called for every mistake; after one the document may still be returned, so
    that the rest of it can be checked too.
    """
    odd = Reader.NON_PRINTABLE.search(text)
    if odd:
        where = text.count("\n", 0, odd.start()) + 1
        complain(where, f"holds the control character {odd.group()!r}: this is not a text file")
        return None
    builder = _Builder(complain)
    try:
        for event in yaml.parse(text, Loader=LOADER):
            if not builder.take(event):
                return None
    except yaml.MarkedYAMLError as error:
        complain(*_syntax(error, text))
        return None
    return builder.finish()


def _syntax(error: yaml.MarkedYAMLError, text: str) -> tuple[int | None, str]:
    mark = error.problem_mark or error.context_mark
    context = f" ({error.context})" if error.context else ""
    message = f"not YAML: {error.problem}{context}"
    if _TOO_DEEP.search(message):
        message = _NESTED
    if mark is None:
        return None, message
    # Trailing line ends count as a line of their own: show the last one that holds something.
    last = text.rstrip().count("\n") + 1
    if mark.line + 1 > last or "end of stream" in str(error.problem):
        message += "; the file seems to be cut off"
        began = error.context_mark
        if began is not None and began.line + 1 < last:
            message += f", see line {began.line + 1}"
    return min(mark.line + 1, last), message


class _Builder:
    """Puts events together, without recursion; refuses what the format does not need."""

    def __init__(self, complain: Complain) -> None:
        self._complain = complain
        self._root: Node | None = None
        self._open: list[tuple[Node, str | None]] = []
        self._documents = 0
        self._key: str | None = None
        self._key_line = 0
        self._whole = True

    def take(self, event: yaml.Event) -> bool:
        """Take one event; return False when reading on makes no sense."""
        mark = event.start_mark
        line = 1 if mark is None else mark.line + 1
        if isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                self._complain(line, "a second document ('---') begins here: one file, one overlay")
                return False
        elif isinstance(event, yaml.AliasEvent):
            self._complain(line, f"alias *{event.anchor} is not allowed: write the value itself")
            # What it stands for is unknown, so the document cannot be checked any further.
            self._whole = False
            return self._put(Node(line, "", plain=True), line)
        elif isinstance(event, yaml.NodeEvent):
            return self._node(event, line)
        elif isinstance(event, yaml.CollectionEndEvent):
            _, self._key = self._open.pop()
        return True

    def _node(self, event: yaml.NodeEvent, line: int) -> bool:
        if event.anchor is not None:
            self._complain(line, f"anchor &{event.anchor} is not allowed: write the value itself")
        tag = getattr(event, "tag", None)
        if tag is not None:
            self._complain(line, f"tag {shown(tag)} is not allowed: remove it")
        if isinstance(event, yaml.ScalarEvent):
            return self._put(Node(line, event.value, plain=event.style in (None, "")), line)
        if len(self._open) >= _DEPTH_LIMIT:
            self._complain(line, _NESTED)
            return False
        node = Node(line, {} if isinstance(event, yaml.MappingStartEvent) else [])
        if not self._put(node, line):
            return False
        self._open.append((node, self._key))
        self._key = None
        return True

    def _put(self, node: Node, line: int) -> bool:
        if not self._open:
            self._root = node
            return True
        into = self._open[-1][0].value
        if isinstance(into, list):
            into.append(node)
        elif isinstance(into, dict):
            if self._key is None:
                if not isinstance(node.value, str):
                    self._complain(line, "a key must be plain text, not a list or a mapping")
                    return False
                self._key, self._key_line = node.value, line
                return True
            key, self._key = self._key, None
            node.line = self._key_line
            if key in into:
                first = into[key].line
                self._complain(
                    self._key_line,
                    f"key {shown(key)} stands here a second time (first in line {first})",
                )
            else:
                into[key] = node
        return True

    def finish(self) -> Node | None:
        return self._root if self._whole else None


def to_python(node: Node, numbers: frozenset[str], flags: frozenset[str]) -> Any:
    """Return the document as dicts, lists and text.

    Text without quotes becomes an int under a key of `numbers`, a bool under one of `flags`,
    where it reads as one, and None anywhere if it is empty, ``~`` or ``null``.
    """

    def convert(node: Node, key: str) -> Any:
        value = node.value
        if isinstance(value, dict):
            return {name: convert(child, name) for name, child in value.items()}
        if isinstance(value, list):
            return [convert(child, "") for child in value]
        if not node.plain:
            return value
        if value in _NULL:
            return None
        if key in numbers and _INTEGER.fullmatch(value):
            return int(value, 16 if value[:2] == "0x" else 10)
        return _FLAG.get(value, value) if key in flags else value

    return convert(node, "")


def line_of(root: Node, location: Iterable[str | int]) -> int:
    """Return the line of the node at `location`, or of the nearest one above it."""
    node = root
    for step in location:
        value = node.value
        child = None
        if isinstance(value, dict) and isinstance(step, str):
            child = value.get(step)
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            child = value[step]
        if child is None:
            break
        node = child
    return node.line
