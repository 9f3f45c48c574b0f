"""A document that may be wrong, turned into as much of an overlay as is right in it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from ipaddress import IPv4Interface
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, TypeAdapter, ValidationError

from ovs_lwt.columns import NO, UNSAID, YES
from ovs_lwt.mistakes import listing, suggestion
from ovs_lwt.model import AllowedPair, Endpoint, Overlay, Tenant, Vtep
from ovs_lwt.names import is_name
from ovs_lwt.pairs import pairs_of
from ovs_lwt.port_keys import port_keys_of
from ovs_lwt.sources.checks import Draft, Fields, Place
from ovs_lwt.sources.report import Report, Spot
from ovs_lwt.sources.rows import EndpointRows, pair_text
from ovs_lwt.sources.words import Location, located
from ovs_lwt.values import Interface, shown

_ITEMS: Mapping[str, TypeAdapter[Any]] = {
    "ip": TypeAdapter(Interface),
    "allowed_pairs": TypeAdapter(AllowedPair),
}
"""The fields that are lists, of which what is right is kept."""


def validated(raw: Any) -> tuple[Overlay | None, list[tuple[Location, str]]]:
    """Return the overlay, or None and everything wrong with its single values."""
    try:
        return Overlay.model_validate(raw), []
    except ValidationError as error:
        return None, located(error)


def draft_of(raw: Any, overlay: Overlay | None) -> Draft:
    """Return hosts and tenants with the fields that are valid."""
    if overlay is not None:
        return Draft(
            {name: dict(vtep) for name, vtep in overlay.vteps.items()},
            {name: dict(tenant) for name, tenant in overlay.tenants.items()},
        )
    return Draft(
        {name: _salvaged(Vtep, fields) for name, fields in _mapping(raw, "vteps").items()},
        {name: _salvaged(Tenant, fields) for name, fields in _mapping(raw, "tenants").items()},
    )


def endpoints_of(
    raw: Any, overlay: Overlay | None, draft: Draft, place: Place, report: Report
) -> EndpointRows:
    """Return the endpoints of the document; note those on an unknown host."""
    hosts = {name: index for index, name in enumerate(draft.vteps)}
    at: list[tuple[str, str]] = []
    parts: list[tuple[int, Fields]] = []
    for index, tenant in enumerate(draft.tenants):
        if overlay is not None:
            for name, endpoint in overlay.tenants[tenant].endpoints.items():
                at.append((tenant, name))
                parts.append((index, dict(endpoint)))
        else:
            given = _mapping(_mapping(raw, "tenants").get(tenant), "endpoints")
            for name, fields in given.items():
                at.append((tenant, name))
                parts.append((index, _salvaged(Endpoint, fields)))

    def find(row: int, field: str, text: str) -> Spot:
        tenant, name = at[row]
        step = ("tenants", tenant, "endpoints", name)
        if field == "name":
            return place(*step)
        if field in _ITEMS and text:
            listed = _mapping(_mapping(_mapping(raw, "tenants")[tenant], "endpoints"), name)[field]
            items = listed if isinstance(listed, list) else []
            own = parts[row][1].get("mac") or ""
            # From the end: of one that stands twice, the second is the one too many.
            for item in reversed(range(len(items))):
                if _as_text(field, items[item], own) == text:
                    return place(*step, field, item)
        return place(*step, field)

    for row, (_, fields) in enumerate(parts):
        host = fields.get("host")
        if host is not None and host not in hosts:
            near = suggestion(host, hosts)
            report.add(
                find(row, "host", ""), f"unknown host {shown(host)}{near}; known: {listing(hosts)}"
            )
    return _rows(at, parts, hosts, find)


def _rows(
    at: list[tuple[str, str]], parts: list[tuple[int, Fields]], hosts: dict[str, int], find: Any
) -> EndpointRows:
    four: list[tuple[int, int, int]] = []
    six: list[tuple[int, bytes, int]] = []
    for row, (_, fields) in enumerate(parts):
        for address in fields.get("ip", ()):
            prefix = address.network.prefixlen
            if isinstance(address, IPv4Interface):
                four.append((row, int(address), prefix))
            else:
                six.append((row, address.packed, prefix))
    macs = [number_of(fields.get("mac")) for _, fields in parts]
    routers = {None: UNSAID, False: NO, True: YES}
    pairs4, pairs6 = pairs_of(
        (row, number_of(pair.mac) or macs[row], pair.ip)
        for row, (_, fields) in enumerate(parts)
        for pair in fields.get("allowed_pairs", ())
    )
    return EndpointRows(
        tenant=np.array([tenant for tenant, _ in parts], np.int64),
        host=np.array([hosts.get(fields.get("host", ""), -1) for _, fields in parts], np.int64),
        mac=np.array(macs, np.uint64),
        spoofing=np.array([fields.get("spoofing") == "allow" for _, fields in parts], np.bool_),
        router=np.array([routers[fields.get("router")] for _, fields in parts], np.uint8),
        name=pa.array([name for _, name in at], pa.string()),
        named=np.array([is_name(name) for _, name in at], np.bool_),
        row4=np.array([row for row, _, _ in four], np.int64),
        ip4=np.array([address for _, address, _ in four], np.uint32),
        prefix4=np.array([prefix for _, _, prefix in four], np.uint8),
        row6=np.array([row for row, _, _ in six], np.int64),
        ip6=np.frombuffer(b"".join(packed for _, packed, _ in six), np.uint8).reshape(-1, 16),
        prefix6=np.array([prefix for _, _, prefix in six], np.uint8),
        pairs4=pairs4,
        pairs6=pairs6,
        port_keys=port_keys_of(
            (row, fields.get("port"), bool(fields.get("attached_mac")))
            for row, (_, fields) in enumerate(parts)
        ),
        find=find,
    )


def number_of(mac: str | None) -> int:
    """Return a MAC's number, 0 for none."""
    return int(mac.replace(":", ""), 16) if mac else 0


def _as_text(field: str, written: Any, mac: str) -> str:
    """An item of a list as `EndpointRows.find` is asked for it; nothing if it is not valid.

    mac: the endpoint's own
    """
    try:
        item = _ITEMS[field].validate_python(written)
    except ValidationError:
        return ""
    if isinstance(item, AllowedPair):
        return pair_text(number_of(item.mac or mac), item.ip)
    return str(item.ip)


def _mapping(raw: Any, key: str) -> dict[str, Any]:
    value = raw.get(key) if isinstance(raw, dict) else None
    return value if isinstance(value, dict) else {}


@cache
def _adapters(model: type[BaseModel]) -> dict[str, TypeAdapter[Any]]:
    adapters: dict[str, TypeAdapter[Any]] = {}
    for name, field in model.model_fields.items():
        if name != "endpoints":
            kind: Any = field.annotation
            if field.metadata:
                kind = Annotated[kind, *field.metadata]
            adapters[name] = TypeAdapter(kind)
    return adapters


def _salvaged(model: type[BaseModel], raw: Any) -> Fields:
    """Return the fields of `raw` that are valid by themselves, and the defaults of the rest."""
    fields: dict[str, Any] = {}
    if not isinstance(raw, dict):
        return fields
    for name, adapter in _adapters(model).items():
        if name not in raw:
            field = model.model_fields[name]
            if not field.is_required():
                fields[name] = field.get_default(call_default_factory=True)
            continue
        try:
            fields[name] = adapter.validate_python(raw[name])
        except ValidationError:
            if name in _ITEMS and isinstance(raw[name], list):
                good = [item for item in raw[name] if _as_text(name, item, "")]
                fields[name] = adapter.validate_python(good)
    return fields
