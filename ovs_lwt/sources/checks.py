"""What only the whole overlay shows: things used twice, and hosts that cannot meet.

Values that are wrong by themselves have been reported already, and are left out here, so that
one slip of the pen gives one message.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

import numpy as np

from ovs_lwt.columns import U64, Flags
from ovs_lwt.names import default_datapath_id
from ovs_lwt.sources.report import Report, Spot
from ovs_lwt.sources.rows import I64, EndpointRows
from ovs_lwt.sources.text_columns import repeated, twins
from ovs_lwt.values import prefix_and_mask

Fields = Mapping[str, Any]
Place = Callable[..., Spot]
"""Takes the steps of a location (``"tenants", "blue", "vni"``)."""


@dataclass(frozen=True, slots=True)
class Draft:
    """Hosts and tenants by name, each with those of its fields that are valid."""

    vteps: Mapping[str, Fields]
    tenants: Mapping[str, Fields]


def check_vteps(draft: Draft, place: Place, report: Report) -> None:
    """Note hosts that share an address, a datapath id or MACs."""
    addresses: dict[Any, str] = {}
    datapaths: dict[int, str] = {}
    for name, fields in draft.vteps.items():
        address = fields.get("address")
        if address is not None and (other := addresses.setdefault(address, name)) != name:
            report.add(
                place("vteps", name, "address"),
                f"address {address} is already that of host {other}"
                f" ({place('vteps', other, 'address')})",
            )
        if "datapath_id" not in fields:
            continue
        given = fields["datapath_id"]
        datapath = default_datapath_id(name) if given is None else int(given, 16)
        if (other := datapaths.setdefault(datapath, name)) != name:
            report.add(
                place("vteps", name, "datapath_id"),
                f"datapath id {datapath:016x} is already that of host {other}"
                f" ({place('vteps', other, 'datapath_id')})",
            )
    _check_mac_prefixes(draft, place, report)


def _check_mac_prefixes(draft: Draft, place: Place, report: Report) -> None:
    """Note hosts whose MAC prefixes overlap: one holds the other, for there is no other way."""
    given = {
        name: fields["mac_prefix"]
        for name, fields in draft.vteps.items()
        if fields.get("mac_prefix")
    }
    # Wide ones first, so that the last that is not inside of another is the one to compare with.
    around, low, wide = "", 1, 0
    for name in sorted(given, key=lambda name: prefix_and_mask(given[name])):
        prefix, mask = prefix_and_mask(given[name])
        if prefix & wide != low:
            around, low, wide = name, prefix, mask
            continue
        one, other = sorted((name, around), key=list(given).index, reverse=True)
        report.add(
            place("vteps", one, "mac_prefix"),
            f"MAC prefix {given[one]} overlaps that of host {other}, {given[other]}"
            f" ({place('vteps', other, 'mac_prefix')}): give each host a prefix of its own",
        )


def check_tenants(draft: Draft, place: Place, report: Report) -> None:
    """Note tenants that share a VNI or a mark."""
    vnis: dict[int, str] = {}
    marks: dict[int, str] = {}
    for name, fields in draft.tenants.items():
        vni, mark = fields.get("vni"), fields.get("mark")
        if vni is not None and (other := vnis.setdefault(vni, name)) != name:
            report.add(
                place("tenants", name, "vni"),
                f"VNI {vni} is already that of tenant {other} ({place('tenants', other, 'vni')})",
            )
            # Its default mark clashes for the same reason: one message is enough.
            vni = None
        if mark is None and "mark" in fields:
            mark = vni
        if mark is not None and (other := marks.setdefault(mark, name)) != name:
            given = fields["mark"] is not None
            default = "" if given else " (the VNI, since no mark is given)"
            step = "mark" if draft.tenants[other]["mark"] is not None else "vni"
            report.add(
                place("tenants", name, "mark" if given else "vni"),
                f"mark {mark}{default} is already that of tenant {other}"
                f" ({place('tenants', other, step)})",
            )


def check_rows(rows: EndpointRows, draft: Draft, place: Place, report: Report) -> None:
    """Note names, MACs and addresses that stand twice in a tenant, and tenants torn in two."""
    tenants = list(draft.tenants)
    known = rows.tenant >= 0
    _check_names(rows, known, report)
    with_mac = _where(known & (rows.mac != 0))
    doubles = _repeated_pairs(_pick(rows.tenant, with_mac), _pick(rows.mac, with_mac))

    def say_mac(row: int, first: int) -> tuple[Spot, str]:
        digits = f"{int(rows.mac[row]):012x}"
        mac = ":".join(digits[place : place + 2] for place in range(0, 12, 2))
        return rows.find(row, "mac", ""), (
            f"MAC {mac} is already that of {_other(rows, tenants, row, first, 'mac', '')}"
        )

    if len(doubles):
        found = doubles if with_mac is None else with_mac[doubles]
        key = np.stack([rows.tenant[found].astype(np.uint64), rows.mac[found]], axis=1)
        _note(report, found, key, say_mac, "MAC used twice")
    _check_addresses(rows, tenants, report)
    _check_families(rows, draft, place, report)


def _where(mask: Flags) -> I64 | None:
    """Return the rows of `mask`, or None for all of them."""
    return None if mask.all() else np.flatnonzero(mask)


def _pick(column: Any, rows: I64 | None) -> Any:
    return column if rows is None else column[rows]


def _repeated_pairs(high: I64, low: U64) -> I64:
    """Return the rows whose (tenant number, MAC) stands in more than one row."""
    if len(high) == 0 or int(high.max()) < 1 << 16:
        return repeated((high.astype(np.uint64) << np.uint64(48)) | low)
    order = np.lexsort((low, high))
    same = (np.diff(high[order]) == 0) & (low[order][1:] == low[order][:-1])
    either = np.append(same, False) | np.append(False, same)
    return np.sort(order[either])


def _note(
    report: Report,
    found: I64,
    key: U64,
    say: Callable[[int, int], tuple[Spot, str]],
    kind: str,
) -> None:
    """Report every place in `found` but the first of each `key` ``[len(found), K]``."""
    _, first, group = np.unique(key, axis=0, return_index=True, return_inverse=True)
    origin = first[group.reshape(-1)]
    later = np.flatnonzero(origin != np.arange(len(found)))
    report.rows(later, lambda at: say(int(found[at]), int(found[origin[at]])), kind)


def _other(
    rows: EndpointRows, tenants: list[str], row: int, first: int, field: str, text: str
) -> str:
    tenant = tenants[int(rows.tenant[first])]
    return f"{tenant}/{rows.name[first].as_py()} ({rows.find(first, field, text)})"


def _check_names(rows: EndpointRows, known: Flags, report: Report) -> None:
    usable = _where(known & rows.named)
    column = rows.name if usable is None else rows.name.take(usable)
    group = _pick(rows.tenant, usable)
    places = twins(group, column)
    if len(places) == 0:
        return
    found = places if usable is None else usable[places]
    codes = rows.name.take(found).dictionary_encode().indices.to_numpy()
    key = np.stack([rows.tenant[found], codes], axis=1).astype(np.uint64)

    def say(row: int, first: int) -> tuple[Spot, str]:
        name, spot = rows.name[row].as_py(), rows.find(first, "name", "")
        return rows.find(row, "name", ""), f"endpoint '{name}' stands twice (first at {spot})"

    _note(report, found, key, say, "name used twice")


def _check_addresses(rows: EndpointRows, tenants: list[str], report: Report) -> None:
    def note(address_row: I64, words: U64, texts: Callable[[int], str], same: I64) -> None:
        """`words` ``[A, K]`` are the addresses; `same` are those that stand twice."""

        def say(at: int, first: int) -> tuple[Spot, str]:
            row, other, text = int(address_row[at]), int(address_row[first]), texts(at)
            if row == other:
                return rows.find(row, "ip", text), f"address {text} stands twice"
            owner = _other(rows, tenants, row, other, "ip", text)
            return rows.find(row, "ip", text), f"address {text} is already that of {owner}"

        if len(same):
            owner = rows.tenant[address_row[same]].astype(np.uint64)
            _note(report, same, np.column_stack([owner, words[same]]), say, "address used twice")

    tenant4 = rows.tenant[rows.row4]
    four = rows.ip4.astype(np.uint64)
    same = repeated((tenant4.astype(np.uint64) << np.uint64(32)) | four)
    same = same[tenant4[same] >= 0]
    note(rows.row4, four[:, None], lambda at: str(ip_address(int(rows.ip4[at]))), same)

    six = np.ascontiguousarray(rows.ip6).view(np.uint64).reshape(-1, 2)
    tenant6 = rows.tenant[rows.row6]
    weights = np.random.default_rng(6).integers(1, 2**64, 3, dtype=np.uint64) | np.uint64(1)
    # Equal hashes are only candidates: `_note` compares the whole address.
    mixed = six[:, 0] * weights[0] + six[:, 1] * weights[1]
    same = repeated(mixed + tenant6.astype(np.uint64) * weights[2])
    same = same[tenant6[same] >= 0]
    note(rows.row6, six, lambda at: str(ip_address(rows.ip6[at].tobytes())), same)


def _check_families(rows: EndpointRows, draft: Draft, place: Place, report: Report) -> None:
    names, tenants = list(draft.vteps), list(draft.tenants)
    addresses = [draft.vteps[name].get("address") for name in names]
    # The last element answers for host -1: no family.
    family = np.array([getattr(address, "version", 0) for address in addresses] + [0], np.uint8)
    of_row = family[rows.host]
    uses = np.zeros((2, len(tenants) + 1), np.bool_)
    uses[0, rows.tenant[of_row == 4]] = True
    uses[1, rows.tenant[of_row == 6]] = True
    for index in np.flatnonzero(uses[0, :-1] & uses[1, :-1]):
        mine = rows.tenant == index
        examples = [int(np.flatnonzero(mine & (of_row == version))[0]) for version in (4, 6)]
        four, six = (
            f"{rows.name[row].as_py()} on {names[int(rows.host[row])]}" for row in examples
        )
        report.add(
            place("tenants", tenants[int(index)]),
            f"has endpoints on IPv4 VTEPs ({four}) and on IPv6 VTEPs ({six}), which cannot reach"
            " each other: give the hosts of a tenant addresses of one family",
            "tenant on IPv4 and IPv6 VTEPs",
        )
