"""All that one host's kernel should hold, or a part of it: rows, stamped."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ovs_lwt.backends.netlink import wire
from ovs_lwt.backends.netlink.catalogue import TEMPLATES
from ovs_lwt.backends.netlink.templates import Devices, Template
from ovs_lwt.columns import Indices
from ovs_lwt.stencil import Columns


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """The rows of one template ("fdb.remote_endpoint"): n values for each of its slots, or one for
    all.
    """

    template: str
    count: int
    columns: Columns


@dataclass(frozen=True, slots=True, eq=False)
class Stamped:
    """Messages that add rows of one template, all of one length.

    which: the rows they were stamped from; entries: the messages, seen as the entries they make
    """

    template: Template
    rows: Rows
    which: Indices
    entries: wire.Listed
    devices: Devices

    def line(self, row: int) -> str:
        """One of the messages in the words of `ip` or `bridge`."""
        place = int(self.which[row])
        columns = {
            name: column[[place if len(column) > 1 else 0]]
            for name, column in self.rows.columns.items()
        }
        return str(self.template.lines(1, columns, self.devices)[0])


@dataclass(frozen=True, slots=True)
class Program:
    """Entries of a host, or of some of its tenants."""

    stamped: tuple[Stamped, ...]
    devices: Devices

    @property
    def entries(self) -> list[wire.Listed]:
        """The entries as the kernel will list them."""
        return [stamped.entries for stamped in self.stamped]

    def __len__(self) -> int:
        return sum(map(len, self.entries))


def stamp(relations: Iterable[Rows], devices: Devices) -> Program:
    """Stamp rows. Raises Refused for a device that does not exist."""
    return Program(
        tuple(
            Stamped(template, rows, which, wire.sent(template.kind, messages), devices)
            for rows in relations
            for template in [TEMPLATES[rows.template]]
            for which, messages in template.stamp(rows.count, rows.columns, devices)
        ),
        devices,
    )
