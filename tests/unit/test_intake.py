"""Which overlay runs: a broken, braked or half-written file never takes a host's network away."""

from __future__ import annotations

import copy
import os
import time
from pathlib import Path

import pytest
import yaml

from ovs_lwt.changes import same
from ovs_lwt.findings import Level
from ovs_lwt.intake import Intake
from ovs_lwt.mistakes import OverlayInvalid, Refused
from ovs_lwt.sources import settled
from ovs_lwt.sources.overlay_file import OverlayFile, from_dict
from tests.support.controller import write
from tests.support.overlays import Overlay, two_tenants


def many(count: int) -> Overlay:
    overlay = two_tenants()
    overlay["tenants"]["blue"]["endpoints"] = {
        f"e{n}": {"host": "host1", "mac": f"02:00:00:01:{n >> 8:02x}:{n & 255:02x}"}
        for n in range(count)
    }
    return overlay


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "overlay.yaml", many(500))


def started(path: Path) -> Intake:
    """An agent's intake, at its start: a new process each time."""
    return Intake(OverlayFile(path, path.parent / "accepted"))


def test_a_first_start_has_nothing_to_fall_back_on(path: Path) -> None:
    path.write_text("vteps: {}")
    with pytest.raises(OverlayInvalid):
        started(path).first()


@pytest.mark.parametrize("broken", ["", "vteps: [", "vteps: {}\ntenants: {}\n", "\0", "x: \xff"])
def test_a_start_onto_a_broken_file_runs_the_last_good_one(path: Path, broken: str) -> None:
    good = started(path).first()
    path.write_text(broken)
    intake = started(path)
    assert same(intake.first(), good)
    assert intake.refused
    (finding,) = intake.findings()
    assert finding.level is Level.FAIL
    assert finding.text.startswith("runs the one that was last good: ")
    about = intake.status()
    assert about["last_good"]
    assert about["endpoints"] == 502
    # And again, for as long as it takes.
    assert same(started(path).first(), good)


def test_a_start_onto_a_file_that_is_gone(path: Path) -> None:
    good = started(path).first()
    path.unlink()
    assert same(started(path).first(), good)


def test_a_start_onto_a_file_that_lost_most_of_its_endpoints(path: Path) -> None:
    started(path).first()
    write(path, many(300))
    intake = started(path)
    intake.first()
    assert intake.status()["endpoints"] == 502
    assert "it takes away 200 of 502 endpoints" in intake.findings()[0].text
    # Who means it says so, and then it is what the next start is held against.
    running = intake.next(good := from_dict(many(500)), 0.0, force=True)
    intake.accept(running, good, 0.0)
    assert intake.findings() == ()
    assert started(path).first().endpoint_edges[-1] == 302


def test_the_endpoints_file_is_kept_as_well(tmp_path: Path) -> None:
    overlay = two_tenants()
    overlay["tenants"]["blue"]["endpoints"] = {}
    overlay["endpoints_file"] = "all.csv"
    path = write(tmp_path / "overlay.yaml", overlay)
    csv = tmp_path / "all.csv"
    csv.write_text("tenant,name,mac,ip,host\nblue,a,02:00:00:00:00:0a,10.0.0.9/24,host1\n")
    good = started(path).first()
    assert good.find("blue/a") is not None
    csv.write_text("tenant,name,mac,ip,host\nblue,a,02:00:00")
    assert same(started(path).first(), good)
    csv.unlink()
    assert same(started(path).first(), good)


def test_a_damaged_copy_is_no_overlay(path: Path) -> None:
    started(path).first()
    (path.parent / "accepted" / "overlay.yaml").write_text("vteps:")
    path.write_text("")
    with pytest.raises(OverlayInvalid):
        started(path).first()


def test_the_copy_is_for_nobody_else(path: Path) -> None:
    started(path).first()
    for file in (path.parent / "accepted").iterdir():
        assert file.stat().st_mode & 0o077 == 0 or file.name == "SHA256SUMS"


def test_an_overlay_that_cannot_be_kept_is_said_until_it_can(path: Path) -> None:
    """The disk is full, or read-only: the next boot may be onto a broken file."""
    in_the_way = path.parent / "accepted"
    in_the_way.write_text("")
    intake = started(path)
    running = intake.first()
    (finding,) = intake.findings()
    assert finding.level is Level.WARN
    assert finding.text.startswith("cannot be kept for a start onto a broken file: ")
    in_the_way.unlink()
    intake.accept(intake.next(running, 0.0), running, 0.0)
    assert intake.findings() == ()


def test_a_start_after_numbers_have_changed_hands_leaves_those_tenants_out(path: Path) -> None:
    """Others may have done both steps meanwhile: this host does not speak for either."""
    overlay = two_tenants()
    write(path, overlay)
    started(path).first()
    swapped = copy.deepcopy(overlay)
    blue, red = swapped["tenants"]["blue"], swapped["tenants"]["red"]
    blue["vni"], red["vni"] = red["vni"], blue["vni"]
    write(path, swapped)
    intake = started(path)
    assert intake.first().endpoint_edges[-1] == 0
    assert "Do it in two steps" in intake.findings()[0].text


def test_a_change_is_held_against_what_runs(path: Path) -> None:
    intake = started(path)
    running = intake.first()
    write(path, many(100))
    with pytest.raises(Refused, match="reload --force"):
        intake.next(running, 0.0)
    assert intake.findings()[0].level is Level.WARN, "it runs what it ran"
    write(path, many(480))
    after = intake.next(running, 0.0)
    intake.accept(after, running, 0.0)
    assert intake.findings() == ()


def test_digests_are_those_of_sha256sum(path: Path) -> None:
    intake = started(path)
    intake.first()
    with os.popen(f"sha256sum {path}") as pipe:
        assert intake.status()["sha256"] == pipe.read().split()[0]


# Half-written files


def test_a_renamed_file_is_taken_at_once(path: Path) -> None:
    source = OverlayFile(path, path.parent / "accepted")
    source.read()
    before = source.version()
    write(path, many(501))
    assert source.version() != before


def test_a_file_that_is_being_written_is_left_alone(path: Path) -> None:
    source = OverlayFile(path, path.parent / "accepted")
    source.read()
    before = source.version()
    text = yaml.safe_dump(many(400))
    with path.open("w") as file:
        file.write(text[: len(text) // 2])
        file.flush()
        assert source.version() == before
        with pytest.raises(Refused, match="is being written"):
            source.read()
        file.write(text[len(text) // 2 :])
    assert source.version() != before
    assert source.read().endpoint_edges[-1] == 402


def test_a_file_that_somebody_keeps_open_is_taken_when_it_rests(path: Path) -> None:
    with path.open("a") as file:
        file.write("\n")
        file.flush()
        known = settled.stamp(path)
        file.write("\n")
        file.flush()
        assert not settled.whole(path, known)
        assert settled.whole(path, known, now=time.time() + settled.REST + 0.1)


def test_a_file_of_the_future_is_not_left_alone_until_then(path: Path) -> None:
    """The clock was set back by a day, and somebody has the file open for writing."""
    with path.open("a"):
        tomorrow = time.time() + 86_400
        os.utime(path, (tomorrow, tomorrow))
        assert settled.whole(path, settled.stamp(path))


def test_a_pipe_is_no_file_for_an_agent(tmp_path: Path) -> None:
    path = tmp_path / "overlay.yaml"
    os.mkfifo(path)
    with pytest.raises(OverlayInvalid, match="is a pipe, not a file"):
        started(path).first()


def test_a_pipe_that_takes_the_files_place_blocks_nobody(path: Path) -> None:
    source = OverlayFile(path, path.parent / "accepted")
    source.read()
    path.unlink()
    os.mkfifo(path)
    source.version()
    with pytest.raises(OverlayInvalid):
        source.read()
