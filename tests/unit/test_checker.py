"""The agent's check in the background: it never waits for it, and makes nothing up."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest

from ovs_lwt import checker
from ovs_lwt.checker import Checker, Found
from ovs_lwt.findings import Level, ok
from ovs_lwt.underlay.expected import Expected
from tests.support.ovs import eventually


def expected(host: str) -> Expected:
    many = {f"h{number}": f"10.0.{number // 256}.{number % 256}" for number in range(5000)}
    return Expected(host, "ovs", "unix:/x", "br-lwt", {"vx-lwt": 4789}, "192.0.2.1", 1500, many, {})


def program(text: str) -> tuple[str, ...]:
    return (sys.executable, "-c", text)


FINDING = json.dumps([ok("vtep address", "is there").as_json()])
GOOD = f"import sys\nfor line in sys.stdin: print({FINDING!r})"


@pytest.fixture
def hosts() -> list[Expected]:
    return [expected("host1"), expected("host2")]


def run(text: str, hosts: list[Expected], patience: float | None = None) -> Found:
    found: list[Found] = []
    checking = Checker(program(text))
    try:
        before = time.monotonic()
        checking.start(hosts, 100.0)
        assert time.monotonic() - before < 5, "whatever there is to hand over"

        def ended() -> bool:
            now = 100.0 if patience is None else 100.0 + patience
            if (some := checking.poll(now)) is not None:
                found.append(some)
            return bool(found)

        assert eventually(ended, within=20)
        assert not checking.running
    finally:
        checking.close()
    return found[0]


def test_every_host_has_its_findings(hosts: list[Expected]) -> None:
    found = run(GOOD, hosts)
    assert found == dict.fromkeys(("host1", "host2"), (ok("vtep address", "is there"),))


@pytest.mark.parametrize(
    ("text", "how"),
    [
        ("raise SystemExit(1)", "has failed (status 1)"),
        ("print('what?')", "has said nothing"),
        ("print('[{}]')", "has said nothing"),
        ("import os; os.abort()", "has failed (status -6)"),
        ("print('[' * 100000)", "has said nothing"),
    ],
)
def test_what_is_not_known_is_said_so(hosts: list[Expected], text: str, how: str) -> None:
    found = run(text, hosts)
    for findings in found.values():
        (finding,) = findings
        assert (finding.subject, finding.level) == ("check", Level.WARN)
        assert finding.text == f"the check of this host {how}"


def test_what_lies_in_the_folder_that_we_were_started_in_is_no_program_of_ours(
    hosts: list[Expected], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be /tmp, and we are root."""
    planted = "import pathlib\npathlib.Path('ran').touch()\n"
    package = tmp_path / "ovs_lwt" / "ops"
    package.mkdir(parents=True)
    for path in (package.parent / "__init__.py", package / "__init__.py", package / "check.py"):
        path.write_text(planted)
    (tmp_path / "numpy.py").write_text(planted)
    monkeypatch.chdir(tmp_path)
    checking = Checker()
    try:
        checking.start(hosts[:1], 0.0)
        found: list[Found] = []

        def ended() -> bool:
            found.extend(filter(None, [checking.poll(0.0)]))
            return bool(found)

        assert eventually(ended, within=40)
    finally:
        checking.close()
    assert not (tmp_path / "ran").exists()
    assert "ovsdb" in {finding.subject for finding in found[0]["host1"]}


def test_a_check_that_hangs_is_ended(hosts: list[Expected]) -> None:
    found = run("import time; time.sleep(600)", hosts, patience=checker._PATIENCE + 1)
    assert found["host1"][0].subject == "check"


def test_it_begins_again_after_a_minute_or_when_something_happened(hosts: list[Expected]) -> None:
    checking = Checker(program(GOOD))
    try:
        assert checking.due <= 100.0, "at start, at once"
        checking.start(hosts, 100.0)
        assert checking.due == 100.0 + checker.EVERY
        checking.hurry(101.0)
        assert checking.due == 100.0 + checker.GAP, "not all the time"
        checking.hurry(150.0)
        assert checking.due == 100.0 + checker.GAP
    finally:
        checking.close()
