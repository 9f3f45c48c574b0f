"""What a KernelHost sees of a machine, as the test writes it: devices, what is sent, notices."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from ovs_lwt.backends.netlink.present import Present
from ovs_lwt.backends.netlink.setup import Setup
from ovs_lwt.backends.netlink.templates import Devices
from ovs_lwt.backends.netlink.transaction import Transaction
from ovs_lwt.backends.netlink.transport import Failure, Kernel, Outcome
from ovs_lwt.backends.netlink.wire import Listed
from ovs_lwt.mistakes import Refused
from ovs_lwt.veth import Mute
from tests.support.small_plane import SmallPlane


@dataclass
class Machine:
    """Stands where the kernel would: devices, entries as lines, notices.

    leave: a device that goes while entries are written
    """

    devices: dict[str, Present] = field(default_factory=dict)
    index: int = 0
    applied: list[Setup] = field(default_factory=list)
    pruned: list[Setup] = field(default_factory=list)
    evicted: list[Setup] = field(default_factory=list)
    written: list[str] = field(default_factory=list)
    marks: dict[str, int] = field(default_factory=dict)
    mute: dict[str, Mute] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    news: bool = False
    lost: bool = False
    refuse_links: str | None = None
    refuse_rows: int = 0
    leave: str | None = None
    closed: int = 0
    time: float = 100.0

    def plug(self, name: str, alias: str = "", *, up: bool = True) -> None:
        self.index += 1
        self.devices[name] = Present(name, self.index, up, 1400, "", alias, 0, "veth", {}, {})
        self.news = True

    # Links

    def there(self) -> dict[str, Present]:
        return dict(self.devices)

    def apply(self, setup: Setup, _: Mapping[str, Present]) -> Mapping[str, Present]:
        if self.refuse_links:
            raise Refused(self.refuse_links)
        for name in [link.name for link in setup.links]:
            if name not in self.devices:
                self.plug(name, "ovs-lwt")
                self.log.append(f"ip link add {name}")
        for member in setup.members:
            found = self.devices.get(member.device)
            bridge = self.devices[member.bridge].index
            if found is not None and found.master != bridge:
                self.devices[member.device] = replace(found, master=bridge, up=True)
        self.applied.append(setup)
        return self.there()

    def evict(self, setup: Setup, _: Mapping[str, Present]) -> None:
        self.evicted.append(setup)

    def prune(self, setup: Setup, _: Mapping[str, Present]) -> None:
        self.pruned.append(setup)

    def forget(self) -> None:
        pass

    # Kernel

    def run(self, transaction: Transaction) -> Outcome:
        lines = [step.describe(row) for step in transaction.steps for row in range(len(step.rows))]
        if self.leave:
            del self.devices[self.leave]
            self.leave, self.news = None, True
            return Outcome(len(lines), 1, (Failure(lines[-1], errno.ENODEV, ""),))
        if self.refuse_rows:
            return Outcome(len(lines), 1, (Failure(lines[0], self.refuse_rows, ""),))
        self.written += lines
        return Outcome(len(lines))

    # Notices and marks

    def poll(self) -> bool:
        news, self.news = self.news, False
        return news

    def close(self) -> None:
        self.closed += 1


@dataclass
class Keeper:
    machine: Machine

    def want(self, marks: Mapping[str, int]) -> None:
        self.machine.marks = dict(marks)

    def run(self) -> list[str]:
        return []

    def marking(self) -> dict[str, str]:
        return dict.fromkeys(self.machine.marks, "tc")

    def errors(self) -> dict[str, str]:
        return {}

    def close(self) -> None:
        self.machine.closed += 1


@dataclass
class Mutes:
    machine: Machine

    def want(self, ports: Mapping[str, Mute]) -> None:
        self.machine.mute = dict(ports)

    def run(self, *, news: bool = False) -> list[str]:
        return []

    def errors(self) -> dict[str, str]:
        return {}

    def close(self) -> None:
        self.machine.closed += 1


@dataclass
class Plane(SmallPlane):
    """Holds what was desired before, entry for entry, unless `lost` says otherwise."""

    lost: Iterable[Listed] | None = ()

    def read(self, kernel: Kernel, devices: Devices) -> list[Listed]:
        self.reads += 1
        return list(self.lost or ())
