"""What the log says when an agent starts, and of a change: names where there are few."""

from __future__ import annotations

import copy
import io
import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ovs_lwt import __version__, journal, logbook
from ovs_lwt.sources.overlay_file import from_dict
from tests.support.overlays import Overlay, endpoint, two_tenants

Change = Callable[[Overlay], object]


def told(change: Change) -> str:
    old = two_tenants()
    new = copy.deepcopy(old)
    change(new)
    return logbook.change(from_dict(old), from_dict(new))


def moves(overlay: Overlay) -> None:
    endpoint(overlay, "blue/web2")["host"] = "host1"
    overlay["tenants"]["blue"]["endpoints"]["web9"] = {
        "host": "host3",
        "mac": "02:00:00:00:00:99",
    }


def many(overlay: Overlay) -> None:
    for number in range(6):
        overlay["tenants"]["blue"]["endpoints"][f"more{number}"] = {
            "host": "host3",
            "mac": f"02:00:00:00:01:{number:02}",
        }


def rename(overlay: Overlay) -> None:
    overlay["tenants"]["azure"] = overlay["tenants"].pop("blue")


def another_mac(overlay: Overlay) -> None:
    endpoint(overlay, "red/web1")["mac"] = "02:00:00:00:00:98"


class TestChanges:
    def test_nothing_is_no_news(self) -> None:
        assert told(lambda _: None) == ""

    def test_few_are_named(self) -> None:
        assert told(moves) == "blue/web2 moved from host2 to host1, blue/web9 is new"

    def test_who_is_gone(self) -> None:
        def leave(overlay: Overlay) -> None:
            del overlay["tenants"]["blue"]["endpoints"]["web2"]

        assert told(leave) == "blue/web2 is gone"

    def test_another_mac_is_the_same_endpoint(self) -> None:
        assert told(another_mac) == "red/web1 has changed"

    def test_many_are_counted(self) -> None:
        assert told(many) == "6 endpoints are new or changed, 0 are gone or were different"

    def test_tenants(self) -> None:
        assert told(rename).startswith("tenant blue is called azure now")
        gone = told(lambda overlay: overlay["tenants"].pop("red"))
        assert gone == "tenant red is gone, red/web1 is gone, red/web2 is gone"


def test_the_start() -> None:
    overlay = {"file": "o.yaml", "sha256": "ab"}
    assert logbook.start(overlay, ["host1"], Path("/run/h.ctl"), ["/run/x", "tcp:[::1]:6653"]) == (
        f"ovs-lwt {__version__} starts: host1 of overlay o.yaml (sha256 ab);"
        " control socket /run/h.ctl; switches call at /run/x, tcp:[::1]:6653"
    )


class TestTheJournal:
    @pytest.mark.parametrize(
        ("level", "priority"),
        [
            (logging.DEBUG, 7),
            (logging.INFO, 6),
            (logging.WARNING, 4),
            (logging.ERROR, 3),
            (logging.CRITICAL, 2),
        ],
    )
    def test_every_line_has_the_priority(self, level: int, priority: int) -> None:
        record = logging.LogRecord("ovs_lwt", level, "", 0, "one\ntwo", (), None)
        said = journal.JournalFormatter().format(record)
        assert said == f"<{priority}>ovs_lwt: one\n<{priority}>two"

    def test_is_known_by_its_inode(self, tmp_path: Path) -> None:
        with (tmp_path / "log").open("w") as log:
            found = os.fstat(log.fileno())
            assert journal.is_journal(log, {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"})
            assert not journal.is_journal(log, {"JOURNAL_STREAM": f"{found.st_dev}:1"})
            assert not journal.is_journal(log, {})
        assert not journal.is_journal(io.StringIO(), {"JOURNAL_STREAM": "1:1"})
