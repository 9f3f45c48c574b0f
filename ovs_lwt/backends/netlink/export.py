"""Print what a host's kernel should hold: the same rows that are stamped, as batches of iproute2.

`bridge -batch`, `ip -batch`, `tc -batch` and their like each read their own; loaded into an empty
host they make what stamping makes.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from typing import Final, TextIO

from ovs_lwt.backends import words
from ovs_lwt.backends.netlink.catalogue import TEMPLATES
from ovs_lwt.backends.netlink.program import Rows
from ovs_lwt.backends.netlink.templates import Devices

TOOLS: Final = ("bridge", "ip", "ip -6", "ip -f mpls", "tc")
"""In the order in which their batches are to be loaded."""


def write(tool: str, relations: Iterable[Rows], devices: Devices, out: TextIO) -> None:
    """Print every row that `tool` can load, template by template, the reason before it."""
    for rows in relations:
        template = TEMPLATES[rows.template]
        if template.tool != tool or not rows.count:
            continue
        out.writelines(f"# {line}\n" for line in textwrap.wrap(template.why, 110))
        words.write(template.lines(rows.count, rows.columns, devices), out)
