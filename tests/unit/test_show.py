"""What `ovs-lwt show tables` prints: one tenant, three tables."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from ovs_lwt import show
from ovs_lwt.mistakes import Refused
from ovs_lwt.plane import Options
from ovs_lwt.sources.overlay_file import from_dict
from tests.support.overlays import two_tenants


def shown(state: Path, host: str | None = None) -> str:
    overlay = two_tenants()
    overlay["vteps"]["host2"]["plane"] = "bridge"
    overlay["tenants"]["blue"]["mark"] = 10
    out = io.StringIO()
    options = Options("br-lwt", None, state=state)
    show.tables(from_dict(overlay), host, options, Console(file=out, width=80))
    return out.getvalue()


def row(text: str, tenant: str) -> list[str]:
    (found,) = [line.split() for line in text.splitlines() if f" {tenant} " in line]
    return found


def test_a_tenants_mark_leads_to_its_table_on_every_plane(tmp_path: Path) -> None:
    """blue: mark 10, VNI 1010. The VLAN is the mark's number, for it is free."""
    assert row(shown(tmp_path, "host1"), "blue")[:6] == ["10", "blue", "1010", "0x3f2", "10", "10"]


def test_a_vlan_that_is_on_record_is_the_tenants(tmp_path: Path) -> None:
    (tmp_path / "host1.vlans").write_text('{"vlans": {"1010": 77}}')
    assert row(shown(tmp_path, "host1"), "blue")[4] == "77"
    assert (tmp_path / "host1.vlans").read_text() == '{"vlans": {"1010": 77}}'


def test_without_a_host_there_is_no_vlan_and_nothing_is_written(tmp_path: Path) -> None:
    assert row(shown(tmp_path), "blue")[:6] == ["10", "blue", "1010", "0x3f2", "-", "10"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("host", "command"),
    [("host1", "ovs-ofctl --names dump-flows br-lwt"), ("host2", "bridge fdb show dev vx-lwt")],
)
def test_it_says_what_to_type_on_this_host(tmp_path: Path, host: str, command: str) -> None:
    (line,) = shown(tmp_path, host).split("a tenant's entries:\n")[1].splitlines()
    assert command in line


def test_a_host_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="no host 'host9'"):
        shown(tmp_path, "host9")


def test_nothing_is_cut_off_on_a_terminal_of_80_columns(tmp_path: Path) -> None:
    assert "…" not in shown(tmp_path, "host1")
