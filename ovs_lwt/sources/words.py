"""What pydantic found wrong, in the words of the overlay."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ovs_lwt.mistakes import listing, suggestion
from ovs_lwt.model import AllowedPair, Endpoint, Overlay, Tenant, Underlay, Vtep
from ovs_lwt.names import is_name
from ovs_lwt.values import kind_of, shown

Location = tuple[int | str, ...]

_LISTS: Mapping[int | str, str] = {
    "ip": "[10.0.0.11/24, fd00::11/64]",
    "allowed_pairs": '[{mac: "00:00:5e:00:01:01", ip: 10.0.0.100}]',
}


def located(error: ValidationError) -> list[tuple[Location, str]]:
    """Return location and message of every error of an `Overlay`."""
    return [_explain(details) for details in error.errors(include_url=False)]


def message_of(error: ValidationError) -> str:
    """Return the message of the first error: for a value that was validated by itself."""
    return _explain(error.errors(include_url=False)[0])[1]


def path_text(location: Location) -> str:
    """Return ``tenants.blue.endpoints.web2.mac``; places in a list are left out."""
    steps = (step for step in location if isinstance(step, str))
    return ".".join(step if is_name(step) else shown(step) for step in steps)


def _explain(details: ErrorDetails) -> tuple[Location, str]:
    location = tuple(step for step in details["loc"] if step != "[key]")
    value: Any = details["input"]
    match details["type"]:
        case "overlay":
            return location, str(details["ctx"]["message"])
        case "missing":
            return location, "is required, but missing"
        case "extra_forbidden":
            known = list(_model_at(location[:-1]).model_fields)
            near = suggestion(str(location[-1]), known)
            return location, f"unknown key{near}; known here: {listing(known)}"
        case "model_type" | "dict_type":
            return location, f"takes a mapping (KEY: VALUE lines), not {kind_of(value)}"
        case "tuple_type":
            like = _LISTS.get(location[-1], "")
            return location, f"takes a list, like {like}, not {kind_of(value)}"
        case "string_type":
            return location, f"takes text, not {kind_of(value)}"
        case "string_too_short":
            return location, "is empty: name a file or remove the key"
        case "too_short":
            return location, "is empty: an overlay needs at least one host"
        case _:
            return location, details["msg"].removeprefix("Value error, ")


def _model_at(location: Location) -> type[BaseModel]:
    match location:
        case ("underlay",):
            return Underlay
        case ("vteps", _):
            return Vtep
        case ("tenants", _):
            return Tenant
        case ("tenants", _, "endpoints", _):
            return Endpoint
        case ("tenants", _, "endpoints", _, "allowed_pairs", _):
            return AllowedPair
        case _:
            return Overlay
