"""Which host of the overlay this machine is, by its name, where nobody says it."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
import yaml

from ovs_lwt import cli, standalone
from ovs_lwt.here import this_host, this_host_in
from ovs_lwt.mistakes import OverlayInvalid, Refused
from tests.support.overlays import two_tenants


def write(file: Path, overlay: Any) -> Path:
    file.write_text(yaml.safe_dump(overlay))
    return file


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "host1.example.net")


def test_the_name_is_taken_whole_or_up_to_the_first_dot() -> None:
    assert this_host(["host1", "host2"]) == "host1"
    assert this_host(["host1", "host1.example.net"]) == "host1.example.net"


def test_a_machine_of_another_name_is_told_the_hosts() -> None:
    with pytest.raises(Refused, match=r"no host 'host1\.example\.net'.*--host; it has: a, b"):
        this_host(["a", "b"])


def test_by_a_file_that_is_broken_its_mistakes_are_told(tmp_path: Path) -> None:
    file = write(tmp_path / "overlay.yaml", two_tenants())
    assert this_host_in(file) == "host1"
    file.write_text("vteps: [")
    with pytest.raises(OverlayInvalid):
        this_host_in(file)


def test_export_and_run_take_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    overlay = two_tenants()
    for vtep in overlay["vteps"].values():
        vtep["plane"] = "route"
    file = write(tmp_path / "overlay.yaml", overlay)
    named = []

    def serve(_: object, hosts: object, *__: object, **___: object) -> int:
        named.append(hosts)
        return 0

    monkeypatch.setattr(standalone, "serve", serve)
    with pytest.raises(SystemExit):
        cli.app(["run", str(file)])
    assert named == [[("host1", "")]]

    texts = []
    for words in ([], ["--host", "host1"]):
        with pytest.raises(SystemExit) as end:
            cli.app(["export", str(file), *words])
        assert end.value.code == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] != ""
