"""Marks by nftables: one base chain per device and direction in the netdev table ``ovs-lwt``.

A chain outlives its device on Linux 6.16 or newer, and takes hold of the next one of that name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Any, Final

from ovs_lwt.veth.marking.values import BOTH_WAYS, CannotMark, Direction, Marked
from ovs_lwt.veth.nftables import NftLacks, batch, nft

_TABLE: Final = {"family": "netdev", "table": "ovs-lwt"}
_PREFIX: Final[dict[Direction, str]] = {"ingress": "in-", "egress": "out-"}
# Before the chains of others, which may want to see the mark.
_PRIORITY: Final = -300
# What nft's language does not take in a name is written as /HEX/: no device's name has a slash.
_UNFIT: Final = re.compile(r"[^A-Za-z0-9_.-]")
_ESCAPED: Final = re.compile(r"/([0-9a-f]+)/")


def set_mark(netns: str | None, device: Marked) -> None:
    """Have the kernel mark what passes the device; what is as it should be is left alone.

    netns: the namespace of the device, a name or a path; None: ours
    Raises CannotMark if nft is missing, or this kernel lacks what it needs.
    """
    there = marks(netns)
    found = {direction: mark for (name, direction), mark in there.items() if name == device.name}
    if found != device.marks:
        set_marks(netns, [device], there)


def set_marks(
    netns: str | None, devices: Iterable[Marked], there: Container[tuple[str, Direction]]
) -> None:
    """Have the kernel mark what passes all these devices, or none of them if this raises.

    there: the chains that we have, see `marks`; those of these devices are made anew
    """
    commands: list[dict[str, Any]] = [
        {"add": {"table": {"family": _TABLE["family"], "name": _TABLE["table"]}}}
    ]
    for device in devices:
        for direction in BOTH_WAYS:
            wanted = direction in device.directions
            if wanted or (device.name, direction) in there:
                chain = _chain(device.name, direction)
                # Added first, so that there is one to delete: what stood there goes, whatever it
                # was, and whether or not it still does.
                commands += [
                    _command("add", "chain", **chain),
                    _command("delete", "chain", **chain),
                ]
            if wanted:
                setting = _setting(device.mark)
                commands += [
                    _command("add", "chain", **chain),
                    _command("add", "rule", chain=chain["name"], expr=setting),
                ]
    _run(netns, commands)


def clear_marks(netns: str | None, names: Iterable[str]) -> None:
    """Undo `set_mark` for devices; nothing to undo is fine."""
    gone = set(names)
    while there := {device for device in marks(netns) if device[0] in gone}:
        try:
            _run(netns, [_command("delete", "chain", name=_chain_name(*each)) for each in there])
        except CannotMark:
            # An agent or a `detach` may have deleted one of them meanwhile: the rest is left.
            if there <= marks(netns).keys():
                raise
        else:
            return


def marks(netns: str | None) -> dict[tuple[str, Direction], int]:
    """All marks that nft sets: (device's name, direction) -> mark.

    -1 is that of a chain which is not as we make it. Empty where we have no table, or no nft.
    """
    try:
        text = nft(netns, "--json", "list", "table", *_TABLE.values())
    except NftLacks:
        return {}
    listed = json.loads(text)["nftables"]
    rules: dict[str, list[Any]] = {}
    for part in listed:
        if rule := part.get("rule"):
            rules.setdefault(rule["chain"], []).append(rule["expr"])
    found: dict[tuple[str, Direction], int] = {}
    for part in listed:
        for device in _devices_of(part.get("chain", {})):
            found[device] = _mark_of(rules.get(part["chain"]["name"], []))
    return found


def _devices_of(chain: Mapping[str, Any]) -> Iterator[tuple[str, Direction]]:
    """The device and direction that a listed chain is for, if it is one of ours."""
    for direction, prefix in _PREFIX.items():
        name = chain.get("name", "")
        if chain.get("hook") == direction and name.startswith(prefix):
            yield _ESCAPED.sub(lambda code: chr(int(code[1], 16)), name[len(prefix) :]), direction


def _mark_of(rules: list[Any]) -> int:
    match rules:
        case [[{"mangle": {"value": int(mark)}}]] if rules == [_setting(mark)]:
            return mark
    return -1


# What nft is told


def _chain(name: str, direction: Direction) -> dict[str, Any]:
    return {
        "name": _chain_name(name, direction),
        "type": "filter",
        "hook": direction,
        "dev": name,
        "prio": _PRIORITY,
        "policy": "accept",
    }


def _chain_name(name: str, direction: Direction) -> str:
    return _PREFIX[direction] + _UNFIT.sub(lambda found: f"/{ord(found[0]):x}/", name)


def _setting(mark: int) -> list[dict[str, Any]]:
    return [{"mangle": {"key": {"meta": {"key": "mark"}}, "value": mark}}]


def _command(verb: str, what: str, **words: Any) -> dict[str, Any]:
    return {verb: {what: {**_TABLE, **words}}}


def _run(netns: str | None, commands: list[dict[str, Any]]) -> None:
    try:
        batch(netns, commands)
    except NftLacks as lacking:
        raise CannotMark(str(lacking)) from lacking
