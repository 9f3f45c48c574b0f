"""The sysctls of a port: read one by one and written where they differ.

A port without IPv6 (a kernel without it, an MTU below 1280) has no sysctls of it, and needs none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from ovs_lwt.netns import entered
from ovs_lwt.veth.mute.values import CannotMute

_NET: Final = Path("/proc/sys/net")


def differing(netns: str | None, name: str, wanted: Mapping[str, str]) -> dict[str, str]:
    """Those that are not as wanted: FAMILY/NAME -> what they are."""
    with entered(netns):
        return {
            sysctl: found
            for sysctl, file in _files(name, wanted)
            if (found := _read(file)) not in (None, wanted[sysctl])
        }


def write(netns: str | None, name: str, wanted: Mapping[str, str]) -> None:
    """Set them. A device that has just gone is fine. Raises CannotMute."""
    with entered(netns):
        for sysctl, file in _files(name, wanted):
            try:
                if file.exists():
                    file.write_text(wanted[sysctl])
            except OSError as error:
                # A device goes at any time: then its files cannot be written to.
                if not file.parent.exists():
                    return
                raise CannotMute(
                    f"sysctl {file.relative_to('/proc/sys')}={wanted[sysctl]} cannot be set"
                    f" ({error.strerror}): run this as root, where /proc/sys/net can be written to"
                ) from error


def _files(name: str, wanted: Mapping[str, str]) -> Iterator[tuple[str, Path]]:
    for sysctl in wanted:
        family, _, setting = sysctl.partition("/")
        yield sysctl, _NET / family / "conf" / name / setting


def _read(file: Path) -> str | None:
    try:
        return file.read_text().strip()
    except OSError:
        return None
