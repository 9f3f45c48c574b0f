"""One agent of several hosts: what is wrong with one of them is its own trouble."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ovs_lwt.mistakes import Refused
from tests.support.controller import Controller, cli, difference, started, write
from tests.support.overlays import two_tenants
from tests.support.ovs import OvsHost, eventually

MANY = 60_000


@dataclass(frozen=True, slots=True)
class Site:
    """The hosts of an overlay, of which host2 is the one in trouble."""

    host1: OvsHost
    host2: OvsHost
    overlay: Path

    @contextmanager
    def agent(self) -> Iterator[Controller]:
        """One agent for both; whether they are in sync is the test's affair."""
        control = self.host1.rundir / "lwt.ctl"
        command = [sys.executable, "-m", "ovs_lwt.cli", "run", str(self.overlay)]
        command += ["--host", f"host1={self.host1.remote}", "--host", f"host2={self.host2.remote}"]
        command += ["--datapath", "netdev", "--control", str(control)]
        with started(command, control, self.host1.netns) as here:
            yield here
            assert here.running.stop()[0] == 0, here.log
            assert "Traceback" not in here.log, here.log


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    overlay = write(tmp_path / "overlay.yaml", two_tenants())
    with ExitStack() as stack:
        name = f"trouble-{os.getpid()}"
        hosts = [stack.enter_context(OvsHost(f"{name}-h{number}")) for number in (1, 2)]
        yield Site(hosts[0], hosts[1], overlay)


def changed() -> dict[str, Any]:
    overlay = two_tenants()
    overlay["vteps"]["host1"]["address"] = "192.0.2.21"
    return overlay


@pytest.mark.parametrize("how", ["gone", "stopped"])
def test_a_host_whose_database_is_dead_holds_nobody_up(site: Site, how: str) -> None:
    """Neither the start nor a change of a VTEP; and it is taken in once it is back."""
    if how == "gone":
        site.host2.stop_vswitchd()
        site.host2.stop_ovsdb()
    else:
        assert site.host2.ovsdb_pid is not None
        os.kill(site.host2.ovsdb_pid, signal.SIGSTOP)
    try:
        with site.agent() as here:
            assert here.in_sync(host="host1"), here.log
            assert here.state("host2") == "offline"
            assert difference(site.host1, site.overlay) == ""
            write(site.overlay, changed())
            done = cli("reload", "--control", str(here.control))
            assert done.returncode == 1, done.stdout
            assert "host2: " in done.stderr
            assert "the others have it: host1" in done.stderr
            address = site.host1.vsctl("get", "interface", "vx-lwt", "options:local_ip")
            assert address.strip('"') == "192.0.2.21"
            assert difference(site.host1, site.overlay) == ""
            if how == "gone":
                site.host2.start_ovsdb()
                site.host2.start_vswitchd()
            else:
                assert site.host2.ovsdb_pid is not None
                os.kill(site.host2.ovsdb_pid, signal.SIGCONT)
            assert here.in_sync(host="host2", within=60), here.log
            assert difference(site.host2, site.overlay, name="host2") == ""
            assert here.reload().splitlines()[1].startswith("host2: 0 flows written")
    finally:
        if how == "stopped":
            assert site.host2.ovsdb_pid is not None
            os.kill(site.host2.ovsdb_pid, signal.SIGCONT)


def test_no_host_at_all_is_refused(site: Site) -> None:
    for host in (site.host1, site.host2):
        host.stop_vswitchd()
        host.stop_ovsdb()
    hosts = ("--host", f"host1={site.host1.remote}", "--host", f"host2={site.host2.remote}")
    control = str(site.host1.rundir / "lwt.ctl")
    done = cli("run", str(site.overlay), *hosts, "--control", control)
    assert done.returncode == 1
    for name in ("host1", "host2"):
        assert f"{name}: no ovsdb-server at unix:" in done.stderr


def test_a_switch_that_does_not_read_stops_nobody(site: Site) -> None:
    many = two_tenants() | {"endpoints_file": "many.csv"}
    head = "tenant,name,mac,ip,host\n"
    write(site.overlay.with_name("many.csv"), head)
    write(site.overlay, many)
    with site.agent() as here:
        assert here.in_sync(host="host1"), here.log
        assert here.in_sync(host="host2"), here.log
        rows = (
            f"blue,m{n},06:00:00:{n >> 16:02x}:{n >> 8 & 255:02x}:{n & 255:02x},,host3\n"
            for n in range(MANY)
        )
        write(site.overlay.with_name("many.csv"), head + "".join(rows))
        assert site.host2.vswitchd_pid is not None
        os.kill(site.host2.vswitchd_pid, signal.SIGSTOP)
        try:
            here.running.send(signal.SIGHUP)
            assert eventually(lambda: here.state("host2") == "loading", within=30), here.log
            assert eventually(lambda: len(here.status("host1")) > 0)
            assert here.in_sync(host="host1", within=60), here.log
            began = time.monotonic()
            assert here.state("host2") == "loading"
            assert time.monotonic() - began < 5
            with pytest.raises(Refused) as refused:
                here.reload()
            assert time.monotonic() - began < 60
            assert "host2: loading: its switch does not answer" in str(refused.value)
            assert "the others have it: host1" in str(refused.value)
        finally:
            os.kill(site.host2.vswitchd_pid, signal.SIGCONT)
        assert here.in_sync(host="host2", within=60), here.log
        assert difference(site.host2, site.overlay, name="host2") == ""
