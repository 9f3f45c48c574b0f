"""What systemd hears of an agent: that it is ready, how it is, and that its loop turns."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from ovs_lwt.agent import Reload
from ovs_lwt.systemd import EVERY, ServiceManager, status_line
from tests.support.notify import Listener
from tests.support.overlays import two_tenants
from tests.support.world import Story, World


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Listener]:
    listener = Listener(tmp_path / "notify")
    yield listener
    listener.close()


def manager(systemd: Listener, **more: str) -> ServiceManager:
    found = ServiceManager.of({"NOTIFY_SOCKET": systemd.address, **more})
    assert found is not None
    return found


class TestWhoIsTold:
    def test_nobody_where_nobody_asks(self) -> None:
        assert ServiceManager.of({}) is None
        assert ServiceManager.of({"NOTIFY_SOCKET": "vsock:2:1"}) is None

    def test_a_socket_that_is_gone_stops_nothing(self, systemd: Listener) -> None:
        told = manager(systemd)
        Path(systemd.address).unlink()
        told.tell({"host1": ("in-sync", "")}, 0.0, busy=False)
        told.stop()

    def test_an_abstract_socket(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as here:
            here.bind(f"\0ovs-lwt-{os.getpid()}")
            told = ServiceManager.of({"NOTIFY_SOCKET": f"@ovs-lwt-{os.getpid()}"})
            assert told is not None
            told.tell({"host1": ("in-sync", "")}, 0.0, busy=False)
            assert here.recv(1000) == b"READY=1\nSTATUS=host1: in-sync"
            told.stop()


class TestReadiness:
    def test_more_time_while_the_switch_is_away(self, systemd: Listener) -> None:
        told = manager(systemd)
        told.tell({"host1": ("offline", "")}, 0.0, busy=False)
        assert systemd.heard() == ["EXTEND_TIMEOUT_USEC=30000000", "STATUS=host1: offline"]
        assert not told.due(EVERY / 2)
        assert told.due(EVERY)
        told.tell({"host1": ("offline", "")}, EVERY, busy=False)
        assert systemd.heard() == ["EXTEND_TIMEOUT_USEC=30000000"]
        told.stop()

    @pytest.mark.parametrize("state", ["in-sync", "degraded"])
    def test_ready_once(self, systemd: Listener, state: str) -> None:
        told = manager(systemd)
        told.tell({"a": (state, "because"), "b": ("loading", "")}, 0.0, busy=True)
        assert "READY=1" not in systemd.heard()
        told.tell({"a": (state, "because"), "b": ("offline", "")}, 1.0, busy=False)
        assert "READY=1" in systemd.heard()
        told.tell({"a": (state, "because"), "b": ("offline", "")}, 2.0, busy=False)
        assert systemd.heard() == []
        told.stop()
        assert systemd.heard()[0] == "STOPPING=1"

    def test_reloading_is_over_when_it_fails_too(self, systemd: Listener) -> None:
        told = manager(systemd)
        with told.reloading():
            pass
        assert systemd.heard() == [], "it has not even started"
        told.tell({"a": ("in-sync", "")}, 0.0, busy=False)
        systemd.heard()
        with pytest.raises(ValueError, match="broken"), told.reloading():
            raise ValueError("broken")
        first, moment, last = systemd.heard()
        assert (first, last) == ("RELOADING=1", "READY=1")
        assert moment.startswith("MONOTONIC_USEC=")
        told.stop()


class TestTheWatchdog:
    def test_hears_that_the_loop_turns(self, systemd: Listener) -> None:
        told = manager(systemd, WATCHDOG_USEC="3000000", WATCHDOG_PID=str(os.getpid()))
        for now in range(3):
            told.tell({"a": ("in-sync", "")}, now, busy=False)
        assert systemd.heard().count("WATCHDOG=1") == 3
        told.stop()

    def test_is_somebody_elses(self, systemd: Listener) -> None:
        told = manager(systemd, WATCHDOG_USEC="3000000", WATCHDOG_PID="1")
        told.tell({"a": ("in-sync", "")}, 0.0, busy=False)
        assert "WATCHDOG=1" not in systemd.heard()
        told.stop()


def test_one_line_says_how_the_hosts_are() -> None:
    assert status_line({"h": ("degraded", "no\nroute")}) == "h: degraded: no\\nroute"
    many = {"a": ("in-sync", ""), "b": ("in-sync", ""), "c": ("offline", "")}
    assert status_line(many) == "3 hosts: 2 in-sync, 1 offline (c offline)"


def test_an_agent_says_how_it_is(systemd: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is ready while the switch is away; then it is, and so it is while it reads again."""
    monkeypatch.setenv("NOTIFY_SOCKET", systemd.address)
    world = World()

    def story() -> Story:
        world.now += 10
        yield
        waiting = "waiting for the switch, which has not called: does ovs-vswitchd run?"
        assert f"STATUS=host1: offline: {waiting}" in systemd.heard()
        world.connect("host1")
        yield
        world.now += 10
        yield
        heard = systemd.heard()
        assert "READY=1" in heard
        assert "STATUS=host1: in-sync" in heard
        world.source.overlay = two_tenants()
        world.inbox.append(Reload())
        yield
        assert systemd.heard()[0] == "RELOADING=1"

    world.run(story())
    assert systemd.heard()[-2] == "STOPPING=1"
