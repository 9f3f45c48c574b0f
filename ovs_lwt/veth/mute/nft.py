"""The wall where the host's IP stack begins: the table ``inet ovs-lwt``.

    set ports     { "blue-web1", "tap0" }        names of guests' ports: they may come later
    set routed    { "red-web1" . 20 }            of plane route: port and tenant's mark

    chain arriving    (prerouting)  iifname vx-lwt notrack; iifname br-lwt notrack;
                                    iifname . mark @routed notrack accept; iifname @ports drop
    chain delivered   (input)       iifname @ports drop

So nothing that a guest sends is taken in by the host, and only what bears its tenant's mark is
forwarded. A bridge and the kernel's Open vSwitch take frames before all this. It is read and
written as a whole (libnftables-json(5)); other elements than those asked for stay.

Where the host tracks connections, what it forwards for tenants is left out, guests' packets and
those out of the tunnel alike (by br-lwt where bridge-netfilter shows them to it): the kernel puts
fragments together and tells connections apart by addresses, and tenants may have the same ones.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from ovs_lwt.veth.nftables import NftBusy, NftLacks, alone, batch, nft

Marks = Mapping[str, int | None]
"""Port name -> the mark of what it may send on, None: nothing."""

_TABLE: Final = {"family": "inet", "table": "ovs-lwt"}
_NAMED: Final = {"family": "inet", "name": "ovs-lwt"}
# NF_IP_PRI_RAW_BEFORE_DEFRAG: what is dropped, or not tracked, shall not take memory as fragments,
# nor entries of connection tracking.
_FIRST: Final = -450
_HANDLE: Final = "handle"
_PATIENCE: Final = 20.0


def _chain(name: str, hook: str) -> dict[str, Any]:
    return {"name": name, "type": "filter", "hook": hook, "prio": _FIRST, "policy": "accept"}


def _rule(chain: str, what: Any, which: str, *statements: str) -> dict[str, Any]:
    match = {"match": {"op": "==", "left": what, "right": which}}
    return {"chain": chain, "expr": [match, *({statement: None} for statement in statements)]}


_PORT: Final = {"meta": {"key": "iifname"}}
_MARKED: Final = {"concat": [_PORT, {"meta": {"key": "mark"}}]}
_PARTS: Final[Mapping[str, list[dict[str, Any]]]] = {
    "set": [
        {"name": "ports", "type": "ifname"},
        {"name": "routed", "type": ["ifname", "mark"]},
    ],
    "chain": [_chain("arriving", "prerouting"), _chain("delivered", "input")],
    "rule": [
        _rule("arriving", _PORT, "vx-lwt", "notrack"),
        _rule("arriving", _PORT, "br-lwt", "notrack"),
        _rule("arriving", _MARKED, "@routed", "notrack", "accept"),
        _rule("arriving", _PORT, "@ports", "drop"),
        _rule("delivered", _PORT, "@ports", "drop"),
    ],
}


@dataclass(frozen=True, slots=True)
class Table:
    """What stands in our table. right: it is whole, with nothing besides; ports: see `Marks`"""

    ports: Marks
    right: bool = True

    def holds(self, ports: Marks) -> bool:
        """Whether these are kept as they should be."""
        none = object()
        return self.right and all(self.ports.get(name, none) == ports[name] for name in ports)


def read(netns: str | None) -> Table | None:
    """What there is; None where we have no table, or no nft. Raises NftBusy."""
    try:
        text = nft(netns, "--json", "list", "table", *_TABLE.values())
    except NftBusy:
        # Who took that for no table would make it anew, without the others' ports.
        raise
    except NftLacks:
        return None
    # What is not text or not JSON has flags, which nft 1.0.6 cannot print, and we give it none.
    with suppress(ValueError):
        return _table(json.loads(text)["nftables"])
    return Table(_table(list(_sets(netns))).ports, right=False)


def keep(
    netns: str | None,
    ports: Marks,
    gone: Collection[str] = (),
    there: Callable[[str], bool] = lambda name: True,
    seconds: float = _PATIENCE,
) -> None:
    """Keep these ports from the stack, and let go of those that are gone.

    there: asked of a name that is new, once nobody else changes the table: a `detach` may just have
    let go of it; seconds: how long to wait for others who change it
    The table goes with the last. Raises NftLacks or NftBusy, with nothing changed.
    """
    for why in filter(None, map(unfit, ports)):
        raise NftLacks(why)
    with alone(netns, seconds):
        table = read(netns)
        before = {} if table is None else table.ports
        new = {name: mark for name, mark in ports.items() if name in before or there(name)}
        wanted = {name: mark for name, mark in before.items() if name not in gone} | new
        if not wanted:
            if table is not None:
                batch(netns, [{"delete": {"table": _NAMED}}])
        elif table is None or not table.right:
            batch(netns, list(_anew(wanted)))
        elif commands := list(_changes(before, wanted)):
            batch(netns, commands)


def unfit(name: str) -> str:
    """Why nft cannot keep a port of this name; empty if it can."""
    # That would be the name of a set.
    bad = name.startswith("@")
    return f"nft has no word for a device called '{name}': give it another name" if bad else ""


def _sets(netns: str | None) -> Iterator[dict[str, Any]]:
    """Our sets alone, as they are listed."""
    for part in _PARTS["set"]:
        with suppress(NftLacks, ValueError):
            text = nft(netns, "--json", "list", "set", *_TABLE.values(), part["name"])
            yield from json.loads(text)["nftables"]


def _table(listed: list[dict[str, Any]]) -> Table:
    found: dict[str, list[dict[str, Any]]] = {}
    elements: dict[str, list[Any]] = {}
    for part in listed:
        ((kind, body),) = part.items()
        body = {key: value for key, value in body.items() if key not in (_HANDLE, *_TABLE)}
        if kind == "set":
            elements[body["name"]] = body.pop("elem", [])
        found.setdefault(kind, []).append(body)
    found.pop("metainfo", None)
    whole = {"table": [{"name": "ovs-lwt"}], **_PARTS}
    ports: dict[str, int | None] = {}
    right = found == whole
    for name in elements.get("ports", ()):
        # What has a time-out, or the like, is not as we make it.
        right = right and isinstance(name, str)
        if isinstance(name, str):
            ports[name] = None
    for pair in elements.get("routed", ()):
        match pair:
            case {"concat": [str(name), int(mark)]} if ports.get(name, mark) is None:
                ports[name] = mark
            case _:
                right = False
    return Table(ports, right)


# What nft is told


def _anew(ports: Marks) -> Iterator[dict[str, Any]]:
    # Added first, so that there is one to delete.
    yield {"add": {"table": _NAMED}}
    yield {"delete": {"table": _NAMED}}
    yield {"add": {"table": _NAMED}}
    for kind, parts in _PARTS.items():
        for part in parts:
            yield {"add": {kind: {**_TABLE, **part}}}
    yield from _changes({}, ports)


def _changes(before: Marks, after: Marks) -> Iterator[dict[str, Any]]:
    old, new = _marked(before), _marked(after)
    yield from _elements("delete", "routed", _pairs(old - new))
    yield from _elements("delete", "ports", _words(before.keys() - after.keys()))
    yield from _elements("add", "ports", _words(after.keys() - before.keys()))
    yield from _elements("add", "routed", _pairs(new - old))


def _marked(ports: Marks) -> set[tuple[str, int]]:
    return {(name, mark) for name, mark in ports.items() if mark is not None}


def _elements(verb: str, of: str, members: list[Any]) -> Iterator[dict[str, Any]]:
    if members:
        yield {verb: {"element": {**_TABLE, "name": of, "elem": members}}}


def _pairs(pairs: Collection[tuple[str, int]]) -> list[Any]:
    return [{"concat": [_word(name), mark]} for name, mark in sorted(pairs)]


def _words(names: Collection[str]) -> list[Any]:
    return [_word(name) for name in sorted(names)]


def _word(name: str) -> str:
    # A star at the end would stand for anything.
    return f"{name[:-1]}\\*" if name.endswith("*") else name
