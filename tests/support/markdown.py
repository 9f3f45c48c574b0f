"""What tests need of the project's Markdown files: their fenced blocks and their commands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]

_FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_PROMPT = re.compile(r"(?P<where>\w*)[$#] (?P<command>.*)")


@dataclass(frozen=True, slots=True)
class Command:
    """A command that a page shows: `host1$ ovs-vsctl show`, and the lines shown below it."""

    where: str
    line: str
    shown: tuple[str, ...]


def pages() -> list[Path]:
    """Every Markdown file of the project."""
    return sorted([*CHECKOUT.glob("*.md"), *(CHECKOUT / "docs").rglob("*.md")])


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of a page in `language`."""
    return [found["text"] for found in _FENCE.finditer(page) if found["language"] == language]


def commands(page: str) -> Iterator[Command]:
    """The commands of a page's ``console`` blocks, in order; a backslash continues a line."""
    for block in blocks(page, "console"):
        where, line, shown = "", None, list[str]()
        for text in block.replace("\\\n", "").splitlines():
            prompt = _PROMPT.match(text)
            if prompt is None:
                shown.append(text)
                continue
            if line is not None:
                yield Command(where, line, tuple(shown))
            where, line, shown = prompt["where"], re.sub(r"\s+# .*$", "", prompt["command"]), []
        if line is not None:
            yield Command(where, line, tuple(shown))
