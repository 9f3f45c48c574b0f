"""`ovs-lwt validate`: mistakes with their places, and warnings of what is most likely not meant."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from ovs_lwt.ops.cautions import cautions
from ovs_lwt.sources.overlay_file import from_dict
from tests.support.frameworks import environment
from tests.support.overlays import Overlay, two_tenants


def validate(*words: str, feed: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ovs_lwt.cli", "validate", *words],
        input=feed,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def overlay_of(addresses: dict[str, list[str]], **more: Any) -> Overlay:
    endpoints = {
        name: {"host": f"host{1 + n % 2}", "mac": f"02:00:00:00:00:{n:02x}", "ip": ip} | more
        for n, (name, ip) in enumerate(addresses.items(), 1)
    }
    hosts = {f"host{n}": {"address": f"192.0.2.{n}"} for n in (1, 2)}
    return {"vteps": hosts, "tenants": {"blue": {"vni": 10, "endpoints": endpoints}}}


def told(overlay: Overlay) -> list[str]:
    return [str(each) for each in cautions(from_dict(overlay))]


def test_prefixes_that_cannot_meet() -> None:
    (found,) = told(overlay_of({"a": ["10.0.0.1/24"], "b": ["10.0.1.1/24"], "c": ["10.0.0.2/24"]}))
    assert found.startswith("tenants.blue: endpoints in 10.0.0.0/24 and 10.0.1.0/24 cannot meet")
    (found,) = told(overlay_of({"a": ["fd00:1::1/64"], "b": ["fd00:2::1/64"], "c": ["10.0.0.1/8"]}))
    assert "fd00:1::/64 and fd00:2::/64" in found
    lone = {f"e{n}": [f"10.0.{n}.1/32"] for n in range(1, 9)}
    (found,) = told(overlay_of(lone))
    assert "10.0.1.1/32 and 10.0.2.1/32 and 6 more networks" in found


@pytest.mark.parametrize(
    "overlay",
    [
        overlay_of({"a": ["10.0.0.1/24"], "b": ["10.0.0.2/16"]}),
        overlay_of({"a": ["10.0.0.1/24", "fd00::1/64"], "b": ["10.0.0.2/24"]}),
        overlay_of({"a": ["10.0.0.1/24"], "b": ["10.0.1.1/24"]}, spoofing="allow"),
        overlay_of({"a": ["10.0.0.1/24"], "b": ["10.0.1.1/24"]}, router=True),
        overlay_of({"a": [], "b": []}),
        two_tenants(),
    ],
)
def test_what_can_meet_is_fine(overlay: Overlay) -> None:
    assert told(overlay) == []


def test_an_endpoint_that_cannot_be_attached() -> None:
    overlay = overlay_of({"a": ["fd00::1/64"], "b": ["10.0.0.1/24"]})
    overlay["underlay"] = {"mtu": 1300}
    (found,) = told(overlay)
    assert found.startswith(
        "tenants.blue.endpoints.a: its MTU would be 1250 and its addresses need"
    )
    assert found.endswith("raise underlay.mtu to 1330")


def test_keys_of_ports_where_nothing_says_them() -> None:
    overlay = overlay_of({"a": ["10.0.0.1/24"], "b": ["10.0.0.2/24"]}, attached_mac=True)
    assert told(overlay) == []
    overlay["vteps"]["host2"]["plane"] = "bridge"
    (found,) = told(overlay)
    assert found.startswith("tenants.blue.endpoints.a: `port` and `attached_mac` mean nothing on")


def wide(hosts: int) -> Overlay:
    names = [f"h{n}" for n in range(hosts)]
    return {
        "vteps": {name: {"address": f"10.1.{n >> 8}.{n & 255}"} for n, name in enumerate(names, 1)},
        "tenants": {
            "blue": {
                "vni": 10,
                "endpoints": {
                    name: {"host": name, "mac": f"02:00:00:00:{n >> 8:02x}:{n & 255:02x}"}
                    for n, name in enumerate(names, 1)
                },
            }
        },
    }


def test_a_flood_that_is_too_wide() -> None:
    overlay = wide(700)
    (found,) = told(overlay)
    assert found.startswith("tenants.blue: 699 copies of a broadcast")
    overlay["vteps"]["h1"]["replicator"] = True
    assert told(overlay) == []
    assert told(wide(600)) == []


def test_many_of_a_kind_are_counted() -> None:
    lone = {f"e{n}": [f"fd00:{n:x}::1/64"] for n in range(1, 40)}
    overlay = overlay_of(lone)
    overlay["underlay"] = {"mtu": 1290}
    found = told(overlay)
    assert len(found) == 1 + 20 + 1
    assert "more of this kind" in found[-1]


@pytest.fixture
def apart(tmp_path: Path) -> Path:
    path = tmp_path / "overlay.yaml"
    path.write_text(yaml.safe_dump(overlay_of({"a": ["10.0.0.1/24"], "b": ["10.0.1.1/24"]})))
    return path


def test_warnings_are_no_mistakes_unless_asked_for(apart: Path) -> None:
    done = validate(str(apart))
    assert (done.returncode, done.stdout) == (
        0,
        f"{apart}: valid: 1 tenant, 2 endpoints, 2 hosts\n",
    )
    assert done.stderr.startswith(f"{apart}: warning: tenants.blue: endpoints in 10.0.0.0/24")
    done = validate(str(apart), "--strict")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"{apart}: tenants.blue: endpoints in 10.0.0.0/24")


def test_json(apart: Path) -> None:
    said = json.loads(validate(str(apart), "--json").stdout)
    assert (said["schema"], said["valid"], said["endpoints"]) == (1, True, 2)
    assert said["warnings"][0]["path"] == "tenants.blue"
    apart.write_text("vteps: {}\ntenants: {blue: {vni: 0}}\n")
    done = validate(str(apart), "--json")
    assert done.returncode == 2
    said = json.loads(done.stdout)
    assert not said["valid"]
    assert {mistake["place"] for mistake in said["mistakes"]} == {f"{apart}:1", f"{apart}:2"}


def test_standard_input_and_process_substitution(apart: Path) -> None:
    done = validate("-", feed=apart.read_text())
    assert (done.returncode, done.stdout) == (0, "-: valid: 1 tenant, 2 endpoints, 2 hosts\n")
    assert validate("-", feed="vteps: [").returncode == 2
    shell = f"{sys.executable} -m ovs_lwt.cli validate <(cat {apart})"
    done = subprocess.run(
        ["bash", "-c", shell], env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert ": valid: 1 tenant, 2 endpoints, 2 hosts" in done.stdout
