"""The published JSON Schema takes what the model takes, and explains every field."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
from hypothesis import given

from ovs_lwt.model import Overlay
from tests.strategies import overlays

SCHEMA = Overlay.model_json_schema()
GOOD: dict[str, Any] = {
    "vteps": {"host1": {"address": "192.0.2.1"}},
    "tenants": {
        "blue": {
            "vni": 10,
            "endpoints": {
                "web1": {"host": "host1", "mac": "02:00:00:00:00:01", "ip": "10.0.0.1/8"}
            },
        }
    },
}


def accepts(overlay: dict[str, Any]) -> bool:
    return jsonschema.Draft202012Validator(SCHEMA).is_valid(overlay)


@given(overlays())
def test_it_takes_every_valid_overlay(overlay: dict[str, Any]) -> None:
    assert accepts(overlay)
    Overlay.model_validate(overlay)


@pytest.mark.parametrize(
    "change",
    [
        {"tenant": {}},
        {"vteps": {}},
        {"vteps": {"host1": {}}},
        {"tenants": {"blue": {"vni": 0}}},
        {"tenants": {"blue": {"vni": 1, "mark": 1 << 32}}},
        {"tenants": {"blue": {"vni": 1, "unknown_unicast": "perhaps"}}},
        {"underlay": {"mtu": 1279}},
        {"endpoints_file": ""},
    ],
)
def test_it_refuses_what_an_editor_can_see_to_be_wrong(change: dict[str, Any]) -> None:
    assert accepts(GOOD)
    assert not accepts({**GOOD, **change})


def test_every_field_is_explained() -> None:
    parts = [SCHEMA, *SCHEMA["$defs"].values()]
    assert len(parts) == 6
    for part in parts:
        assert part["description"]
        for name, field in part["properties"].items():
            assert field.get("description"), name


def test_default_mark_is_the_vni() -> None:
    tenant = Overlay.model_validate(GOOD).tenants["blue"]
    assert tenant.effective_mark == 10
    assert tenant.model_copy(update={"mark": 7}).effective_mark == 7
