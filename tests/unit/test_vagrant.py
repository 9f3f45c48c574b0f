"""The virtual testbed and the systemd units, as far as they can be checked without a hypervisor."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from ovs_lwt import systemd
from tests.support.markdown import CHECKOUT

VAGRANT = CHECKOUT / "vagrant"
UNITS = (
    CHECKOUT / "packaging/systemd/ovs-lwt@.service",
    VAGRANT / "ovs-lwt-guests@.service",
)


def run(*command: str | Path, **variables: str) -> tuple[int, str]:
    """Exit status, and all that is printed."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=CHECKOUT,
        env=os.environ | variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def settings(name: str) -> list[str]:
    """What the agent's unit says of this setting."""
    lines = UNITS[0].read_text().splitlines()
    return [line.partition("=")[2] for line in lines if line.startswith(f"{name}=")]


@pytest.mark.parametrize("name", ["Vagrantfile", "testbox/Vagrantfile"])
def test_ruby_reads_the_vagrantfiles(name: str) -> None:
    assert run("ruby", "-c", VAGRANT / name) == (0, "Syntax OK\n")


class TestVagrantfile:
    @pytest.fixture
    def validate(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """What vagrant keeps goes elsewhere, and it asks nobody for a newer version of itself."""
        for name in ("OVSLWT_HOSTS", "OVSLWT_BOX", "OVSLWT_LIBVIRT_DRIVER"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("VAGRANT_HOME", str(tmp_path / "home"))
        monkeypatch.setenv("VAGRANT_DOTFILE_PATH", str(tmp_path / "dot"))
        monkeypatch.setenv("VAGRANT_CHECKPOINT_DISABLE", "1")
        monkeypatch.setenv("VAGRANT_CWD", str(VAGRANT))
        return tmp_path

    @pytest.mark.parametrize(
        "setting", [{}, {"OVSLWT_HOSTS": "2"}, {"OVSLWT_HOSTS": "50"}], ids=str
    )
    @pytest.mark.usefixtures("validate")
    def test_is_valid(self, setting: dict[str, str]) -> None:
        status, told = run("vagrant", "validate", "--ignore-provider", **setting)
        assert status == 0, told
        assert "Vagrantfile validated successfully." in told

    @pytest.mark.parametrize("count", ["1", "51", "three", "0x3", ""])
    @pytest.mark.usefixtures("validate")
    def test_refuses_a_number_of_hosts_that_it_has_no_addresses_for(self, count: str) -> None:
        status, told = run("vagrant", "validate", "--ignore-provider", OVSLWT_HOSTS=count)
        assert status == 1
        assert f"OVSLWT_HOSTS='{count}': write a number of hosts from 2 to 50, like 3" in told

    @pytest.mark.usefixtures("validate")
    def test_refuses_a_driver_that_libvirt_has_not(self) -> None:
        status, told = run("vagrant", "validate", "-p", OVSLWT_LIBVIRT_DRIVER="xen")
        assert status == 1
        assert "OVSLWT_LIBVIRT_DRIVER='xen': write kvm or qemu" in told


class TestUnits:
    @pytest.fixture
    def installed(self, tmp_path: Path) -> Path:
        """The root of a machine where they are installed, and the programs that they name."""
        folder = tmp_path / "etc/systemd/system"
        folder.mkdir(parents=True)
        for unit in UNITS:
            shutil.copy(unit, folder)
        for target in ("sysinit", "basic", "shutdown"):
            (folder / f"{target}.target").write_text("[Unit]\n")
        for program in ("usr/local/bin/ovs-lwt", "usr/local/sbin/ovs-lwt-guests"):
            path = tmp_path / program
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("#!/bin/sh\n")
            path.chmod(0o755)
        return tmp_path

    @pytest.mark.parametrize("name", [unit.name for unit in UNITS])
    def test_systemd_finds_nothing_wrong(self, installed: Path, name: str) -> None:
        unit = installed / "etc/systemd/system" / name
        assert run("systemd-analyze", f"--root={installed}", "verify", unit) == (0, "")

    def test_systemd_would_find_what_is_wrong(self, installed: Path) -> None:
        unit = installed / "etc/systemd/system" / UNITS[0].name
        unit.write_text(unit.read_text().replace("LockPersonality", "LockPersonalty"))
        told = run("systemd-analyze", f"--root={installed}", "verify", unit)[1]
        assert "Unknown key 'LockPersonalty'" in told

    def test_the_service_has_one_capability_and_little_else(self) -> None:
        """Systemd's own measure: 10 is a service without any limits, below 3 is its best class."""
        status, told = run(
            "systemd-analyze", "security", "--offline=true", "--threshold=30", UNITS[0]
        )
        assert status == 0, told
        assert settings("CapabilityBoundingSet") == ["CAP_NET_ADMIN"]

    def test_the_service_tells_systemd_how_it_is(self) -> None:
        """The watchdog hears of the loop many times before it loses its patience."""
        assert settings("Type") == ["notify"]
        (seconds,) = settings("WatchdogSec")
        assert int(seconds) >= 10 * systemd.EVERY

    def test_the_service_has_files_and_memory_enough_and_no_more(self) -> None:
        """A switch and its callers each take a file, of which a service has 1,024 by itself."""
        assert int(settings("LimitNOFILE")[0]) > 1024
        assert settings("MemoryMax") == ["4G"]
        assert int(settings("OOMScoreAdjust")[0]) < 0
        assert settings("RestartPreventExitStatus") == ["2"]
