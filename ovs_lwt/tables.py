"""Tables for people that lose nothing: whole into a file or a pipe, lists where they do not fit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

_ENDLESS: Final = 1 << 20  # columns


def wide_console() -> Console:
    """Return a console for tables: as wide as the terminal; into a file or pipe, as they need.

    It prints text as it is: `:1234:` is a part of an address, and no emoji's name.
    """
    console = Console(emoji=False, markup=False)
    # COLUMNS may say 0, and nothing would be printed.
    fits = console.is_terminal and console.width > 0
    return console if fits else Console(width=_ENDLESS, emoji=False, markup=False)


def show_table(console: Console, table: Table) -> None:
    """Print the table; each row as a list, a line for each column, where the console is narrower.

    Its columns are not to wrap of themselves.
    """
    endless = console.options.update(width=_ENDLESS)
    if Measurement.get(console, endless, table).maximum <= console.width:
        console.print(table)
        return
    if table.title is not None:
        console.print(table.title, highlight=False, soft_wrap=True)
    for line in _listed(table):
        console.print(line, highlight=False, soft_wrap=True)


def _listed(table: Table) -> Iterator[Text]:
    headings = [" ".join(str(column.header).split()) for column in table.columns]
    for row in zip(*(column.cells for column in table.columns), strict=True):
        for place, (heading, cell) in enumerate(zip(headings, row, strict=True)):
            name = Text(f"{'  ' if place else ''}{heading}{': ' if heading else ''}")
            yield name + (cell if isinstance(cell, Text) else Text(str(cell)))
