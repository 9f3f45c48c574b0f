"""Say what stands in a row of bytes, for people: a flow or group that a switch listed or refused.

Only for the few that somebody reads; the framework decodes.
"""

from __future__ import annotations

from typing import Any

from ovs_lwt.backends.openflow import framework
from ovs_lwt.backends.openflow.pipeline import pipeline
from ovs_lwt.delta import Block


def flow_line(block: Block, row: int) -> str:
    """One row of a block of flows: cookie, table (ours by name), priority, match."""
    octets = block.rows[row]
    table, priority, match = (octets[part].tobytes() for part in block.key)
    cookie = int.from_bytes(octets[block.value[0]].tobytes(), "big")
    fields = framework.current().ofproto_v1_4_parser.OFPMatch.parser(match, 0).items()
    number = int.from_bytes(table, "big")
    name = dict(pipeline().tables).get(number, str(number))
    words = [
        f"priority={int.from_bytes(priority, 'big')}",
        *(f"{name}={_text(value)}" for name, value in fields),
    ]
    return f"cookie={cookie:#x} table={name} {','.join(words)}"


def group_line(group: int, body: bytes) -> str:
    """A group, by number and size."""
    return f"group_id={group} ({len(body)} bytes)"


def _text(value: Any) -> str:
    return "/".join(map(_text, value)) if isinstance(value, tuple) else str(value)
