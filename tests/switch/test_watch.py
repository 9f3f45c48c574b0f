"""`ovs-lwt run --watch`: what is saved is taken over, and a mistake on the way harms nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.controller import Ear, controller, difference, flows, plug, switch, write
from tests.support.overlays import two_tenants
from tests.support.ovs import OvsHost, eventually

HEADER = "tenant,name,mac,ip,host\n"
WEB9 = "blue,web9,02:00:00:00:00:09,10.0.0.19/24,host2\n"


@pytest.fixture
def host() -> Iterator[OvsHost]:
    with OvsHost(f"watch-{os.getpid()}") as host:
        yield host


def test_what_is_saved_is_taken_over(host: OvsHost, tmp_path: Path) -> None:
    overlay = write(tmp_path / "overlay.yaml", two_tenants() | {"endpoints_file": "e.csv"})
    endpoints = write(tmp_path / "e.csv", HEADER)
    with controller(host, overlay, "--watch") as running:
        plug(host, {"p1": "blue/web1", "p2": "red/web1"})
        assert running.in_sync("blue/web1", "red/web1"), running.log
        before = switch(host)

        def more(count: int) -> bool:
            return eventually(lambda: len(flows(host)) == len(before[0]) + count)

        ear = Ear(host)
        write(endpoints, HEADER + WEB9)
        assert more(2), running.log
        assert len(ear.changes()) == 2, "an answer for those who ask, and the way there"
        assert difference(host, overlay) == ""

        ear.listen()
        write(endpoints, HEADER + WEB9.replace("host2", "host9"))
        assert running.running.says("e.csv:2: "), running.log
        assert running.running.says("everything stays as it was"), running.log
        assert (len(flows(host)), ear.changes()) == (len(before[0]) + 2, [])

        write(endpoints, HEADER)
        assert eventually(lambda: switch(host) == before), running.log
        # As an editor that writes in place: it may be read half written, and then again.
        overlay.write_text(overlay.read_text("utf-8").replace("host: host3", "host: host2"))
        assert eventually(lambda: switch(host) != before), running.log
        assert running.in_sync()
        assert difference(host, overlay) == ""
