"""Tables lose nothing, whatever they are printed to."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.table import Table

from ovs_lwt.lab.show import _table
from ovs_lwt.tables import show_table, wide_console

LONG = " ".join(f"fd00:1234:5678::{number:x}/64" for number in range(20))


def table() -> Table:
    made = _table("endpoint", "addresses")
    made.add_row("blue/a-name-that-is-long-enough-to-be-cut", LONG)
    made.add_row("blue/b", "10.0.0.1/24")
    return made


def shown(console: Console) -> list[str]:
    out = console.file = io.StringIO()
    show_table(console, table())
    return out.getvalue().splitlines()


def test_a_file_gets_every_row_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    heading, first, _ = shown(wide_console())
    assert heading.split() == ["endpoint", "addresses"]
    assert first.split() == ["blue/a-name-that-is-long-enough-to-be-cut", *LONG.split()]


def test_a_narrow_terminal_gets_a_list() -> None:
    lines = shown(Console(width=40, force_terminal=True, color_system=None))
    assert lines == [
        "endpoint: blue/a-name-that-is-long-enough-to-be-cut",
        f"  addresses: {LONG}",
        "endpoint: blue/b",
        "  addresses: 10.0.0.1/24",
    ]


def test_a_wide_terminal_gets_the_table() -> None:
    lines = shown(Console(width=1000, force_terminal=True, color_system=None))
    assert len(lines) == 3
