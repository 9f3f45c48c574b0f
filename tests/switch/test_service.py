"""The agent as systemd's service: what systemd hears of it, and what the journal gets."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ovs_lwt import __version__
from tests.support.controller import controller, started, write
from tests.support.frameworks import CHECKOUT, interpreter
from tests.support.notify import Listener
from tests.support.overlays import endpoint, two_tenants
from tests.support.ovs import OvsHost, eventually


@pytest.fixture(scope="module")
def host() -> Iterator[OvsHost]:
    with OvsHost(f"service-{os.getpid()}") as host:
        yield host


@pytest.fixture
def overlay(tmp_path: Path) -> Path:
    return write(tmp_path / "overlay.yaml", two_tenants())


@pytest.fixture
def systemd(tmp_path: Path, host: OvsHost, monkeypatch: pytest.MonkeyPatch) -> Iterator[Listener]:
    """Its socket, its watchdog, and its journal, which is a file here."""
    listener = Listener(tmp_path / "notify")
    log = host.rundir / "lwt.log"
    log.touch()
    monkeypatch.setenv("NOTIFY_SOCKET", listener.address)
    monkeypatch.setenv("WATCHDOG_USEC", "3000000")
    monkeypatch.setenv("JOURNAL_STREAM", f"{log.stat().st_dev}:{log.stat().st_ino}")
    yield listener
    listener.close()


@pytest.mark.parametrize("framework", ["os-ken", "ryu"])
def test_a_service_from_its_start_to_its_end(
    host: OvsHost, overlay: Path, systemd: Listener, framework: str
) -> None:
    python = interpreter(framework).python
    digest = hashlib.sha256(overlay.read_bytes()).hexdigest()
    with controller(host, overlay, "--watch", python=python) as running:
        assert eventually(lambda: systemd.hears("READY=1"), 10), systemd.all
        assert eventually(lambda: systemd.hears("WATCHDOG=1"), 10), systemd.all
        assert any(line.startswith("STATUS=host1: ") for line in systemd.all)

        changed = two_tenants()
        endpoint(changed, "blue/web2")["host"] = "host3"
        write(overlay, changed)
        assert eventually(lambda: systemd.hears("RELOADING=1"), 10), systemd.all
        moved = "the overlay has changed: blue/web2 moved from host2 to host3"
        assert running.running.says(moved), running.log

        # A loop that stands is not heard of, and is again when it turns.
        running.running.send(signal.SIGSTOP)
        time.sleep(0.2)
        systemd.heard()
        time.sleep(2.5)
        assert systemd.heard() == []
        running.running.send(signal.SIGCONT)
        assert eventually(lambda: systemd.hears("WATCHDOG=1"), 10), systemd.all
    systemd.heard()
    assert "STOPPING=1" in systemd.all

    lines = running.log.splitlines()
    start = f"ovs-lwt {__version__} starts: host1 of overlay {overlay} (sha256 {digest})"
    (told,) = (line for line in lines if start in line)
    assert f"control socket {running.control}" in told
    assert f"switches call at {host.rundir}/ovs-lwt.br-lwt." in told
    assert "ovs-lwt has stopped; what is installed stays" in lines[-1]
    assert [line for line in lines if not re.match("<[2-7]>", line)] == []


NOBODY = 65534


@pytest.fixture
def of_another_user(host: OvsHost) -> Iterator[None]:
    """Open vSwitch's run directory and database are another user's, as on Fedora."""
    mine = [host.rundir, host.rundir / "db.sock"]
    modes = [path.stat().st_mode for path in mine]
    for path, mode in zip(mine, (0o755, 0o750), strict=True):
        os.chown(path, NOBODY, NOBODY)
        path.chmod(mode)
    yield
    for path, mode in zip(mine, modes, strict=True):
        os.chown(path, 0, 0)
        path.chmod(mode & 0o7777)


def with_powers(tmp_path: Path, powers: str) -> str:
    """A Python whose root has these capabilities alone, as CapabilityBoundingSet= makes it."""
    held = ",".join(f"+{power.removeprefix('CAP_').lower()}" for power in powers.split())
    script = tmp_path / "python"
    drop = f"setpriv --bounding-set=-all,{held} --inh-caps=-all"
    script.write_text(f'#!/bin/sh\nexec {drop} {sys.executable} "$@"\n')
    script.chmod(0o755)
    return str(script)


@pytest.mark.usefixtures("of_another_user")
class TestWhereOpenVSwitchIsAnotherUsers:
    def test_the_units_powers_do_not_suffice(
        self, host: OvsHost, overlay: Path, tmp_path: Path
    ) -> None:
        python = with_powers(tmp_path, "CAP_NET_ADMIN")
        control = tmp_path / "lwt.ctl"
        command = [python, "-m", "ovs_lwt.cli", "run", str(overlay), "--host", "host1"]
        command += ["--ovsdb", host.remote, "--control", str(control)]
        with started(command, control, host.netns) as here:
            assert here.running.process.wait(30) != 0
            assert "Permission denied" in here.log
            assert "Traceback" not in here.log

    def test_those_that_it_names_do(self, host: OvsHost, overlay: Path, tmp_path: Path) -> None:
        unit = CHECKOUT / "packaging/systemd/ovs-lwt@.service"
        added, own = re.findall(r"CapabilityBoundingSet=([A-Z_ ]+[A-Z])", unit.read_text())
        with controller(host, overlay, python=with_powers(tmp_path, f"{own} {added}")) as running:
            assert running.in_sync()
