"""Set-up: what each command brings to a bare machine, and that a second run finds nothing to do.

The machine is a PATH with few commands; its apt-get and its Python write down what they are asked
for. `make test-fresh` does the same with real ones.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

import pytest

from ovs_lwt.backends.openflow import framework
from tests.support.markdown import CHECKOUT, pages

# What the smallest Debian has, of what the scripts call.
ESSENTIAL: Final = (
    *("awk", "basename", "cat", "chmod", "cksum", "dirname", "env", "grep", "head", "ln", "ls"),
    *("mkdir", "mktemp", "rm", "sed", "sh", "sort", "stat", "tail", "tee", "xargs"),
)
OPEN_VSWITCH: Final = {"openvswitch-switch", "iproute2", "nftables"}
DEMO: Final = OPEN_VSWITCH | {"iputils-ping", "tcpdump"}
# Debian package -> the commands of it that are asked for.
COMMANDS: Final = {
    "openvswitch-switch": ("ovs-vswitchd", "ovsdb-server"),
    "iproute2": ("ip",),
    "iputils-ping": ("ping",),
    "kmod": ("modprobe",),
    "nftables": ("nft",),
    "procps": ("sysctl",),
    "python3": ("python3",),
    "systemd": ("systemd-analyze",),
    "user-mode-linux": ("linux.uml",),
    "qemu-system-x86": ("qemu-system-x86_64",),
    "gcc": ("cc",),
    "libvirt-daemon": ("libvirtd",),
    "libvirt-daemon-driver-qemu": ("virt-qemu-run",),
    "libvirt-clients": ("virsh",),
}
APT_GET: Final = """#!/bin/sh
for word; do
    case $word in
        -* | install | update) continue ;;
    esac
    echo "$word" >>"$MACHINE/installed"
    commands=$(sed -n "s/^$word: //p" "$MACHINE/commands")
    for command in ${commands:-$word}; do
        ln -sf "$MACHINE/anything" "$MACHINE/bin/$command"
    done
    [ "$word" != python3 ] || ln -sf "$MACHINE/python" "$MACHINE/bin/python3"
done
"""
PYTHON: Final = """#!/bin/sh
case "$1 $2" in
    "-V ") echo Python 3.11.2 ;;
    "-m venv")
        for folder; do :; done
        rm -rf "$folder"
        mkdir -p "$folder/bin"
        ln -s "$MACHINE/python" "$folder/bin/python"
        echo "venv $folder" >>"$MACHINE/asked"
        ;;
    "-m pip")
        for what; do :; done
        folder=${0%/bin/python}
        echo "pip $folder $what" >>"$MACHINE/asked"
        if [ "$what" != pip ]; then
            echo "$PIP_CONSTRAINT" >>"$MACHINE/constraints"
            echo "$PIP_BUILD_CONSTRAINT" >>"$MACHINE/build-constraints"
        fi
        [ ! -e "$MACHINE/offline" ] || { echo "no registry"; exit 1; }
        ;;
    "-m ovs_lwt.lab.kernel.vm")
        [ ! -e "$MACHINE/offline" ] || { echo "no registry" >&2; exit 1; }
        echo kernel >>"$MACHINE/kernels"
        ;;
    *) exec "$REAL_PYTHON" "$@" ;;
esac
"""


@dataclass(frozen=True, slots=True)
class Machine:
    """A bare machine in `folder`, with a checkout whose path has a space in it."""

    folder: Path

    @property
    def checkout(self) -> Path:
        return self.folder / "my code/ovs-lwt"

    def setup(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run scripts/setup.sh from another folder, as root would."""
        return subprocess.run(
            [str(self.checkout / "scripts/setup.sh"), *words],
            cwd=self.folder,
            env={
                "PATH": str(self.folder / "bin"),
                "MACHINE": str(self.folder),
                "REAL_PYTHON": sys.executable,
                **variables,
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def told(self, what: str) -> list[str]:
        """What `what` was asked for since this was last asked, in order."""
        file = self.folder / what
        lines = file.read_text("utf-8").splitlines() if file.exists() else []
        file.unlink(missing_ok=True)
        return lines


def script(path: Path, text: str) -> None:
    path.write_text(text, "utf-8")
    path.chmod(0o755)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    made = Machine(tmp_path)
    (tmp_path / "bin").mkdir()
    for name in ESSENTIAL:
        found = shutil.which(name)
        assert found is not None, name
        (tmp_path / "bin" / name).symlink_to(found)
    script(tmp_path / "anything", "#!/bin/sh\n")
    script(tmp_path / "python", PYTHON)
    script(tmp_path / "bin/apt-get", APT_GET)
    script(tmp_path / "bin/id", "#!/bin/sh\necho 0\n")
    listed = (f"{package}: {' '.join(names)}\n" for package, names in COMMANDS.items())
    (tmp_path / "commands").write_text("".join(listed), "utf-8")
    made.checkout.mkdir(parents=True)
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(CHECKOUT / name, made.checkout)
    shutil.copytree(CHECKOUT / "scripts", made.checkout / "scripts")
    return made


def did(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, done.stderr


def read(urls: Iterable[str]) -> list[str]:
    """The lines of the files that these URLs name."""
    lines: list[str] = []
    for url in urls:
        parts = urlsplit(url)
        assert parts.scheme == "file"
        # pip takes the variable for a list of words.
        assert " " not in url
        lines += Path(unquote(parts.path)).read_text("utf-8").splitlines()
    return [line for line in lines if not line.startswith("#")]


class TestWhatACommandTakes:
    def test_the_demo_takes_open_vswitch_and_what_it_tells_to_type(self, machine: Machine) -> None:
        did(machine.setup("demo"))

        assert set(machine.told("installed")) == DEMO | {"python3"}
        # Neither Ryu nor a tool of the developers.
        assert machine.told("asked") == ["venv .venv", "pip .venv ."]

    def test_running_takes_less(self, machine: Machine) -> None:
        did(machine.setup())

        assert set(machine.told("installed")) == OPEN_VSWITCH | {"python3"}
        assert machine.told("asked") == ["venv .venv", "pip .venv ."]

    def test_the_linters_take_no_switch(self, machine: Machine) -> None:
        did(machine.setup("lint"))

        assert set(machine.told("installed")) == {"shellcheck", "python3"}
        assert machine.told("asked") == ["venv .venv", "pip .venv .[lint]"]

    def test_the_labs_own_kernels(self, machine: Machine) -> None:
        did(machine.setup("lab"))

        installed = set(machine.told("installed"))
        assert OPEN_VSWITCH | {"user-mode-linux", "qemu-system-x86", "kmod"} <= installed
        assert not installed & {"vagrant", "shellcheck"}
        assert machine.told("kernels") == []
        assert machine.told("asked") == ["venv .venv", "pip .venv ."]

    def test_the_tests_take_it_all_but_the_linters(self, machine: Machine) -> None:
        did(machine.setup("test"))

        installed = set(machine.told("installed"))
        assert DEMO | {"user-mode-linux", "vagrant", "procps", "systemd"} <= installed
        assert {"libvirt-daemon", "libvirt-daemon-driver-qemu", "libvirt-clients"} <= installed
        assert "shellcheck" not in installed
        assert machine.told("kernels") == ["kernel"]
        assert machine.told("asked") == [
            *("venv .venv", "pip .venv .[test]"),
            *("venv .venv-ryu", "pip .venv-ryu .[ryu]"),
        ]

    def test_what_it_does_not_know(self, machine: Machine) -> None:
        done = machine.setup("tests")

        assert done.returncode == 1
        assert "no purpose 'tests': run, demo, lab, lint, test or dev" in done.stderr
        assert machine.told("asked") == []


class TestASecondRun:
    @pytest.mark.parametrize("purpose", ["run", "demo", "lint", "test", "dev"])
    def test_it_finds_nothing_to_do(self, machine: Machine, purpose: str) -> None:
        did(machine.setup(purpose))
        machine.told("installed"), machine.told("asked")

        again = machine.setup(purpose)

        did(again)
        assert (machine.told("installed"), machine.told("asked"), again.stderr) == ([], [], "")

    def test_the_demo_after_the_tests_finds_nothing_to_do(self, machine: Machine) -> None:
        did(machine.setup("test"))
        machine.told("asked")
        did(machine.setup("demo"))
        assert machine.told("asked") == []

    def test_the_tests_add_to_what_the_demo_made(self, machine: Machine) -> None:
        did(machine.setup("demo"))
        machine.told("asked")

        did(machine.setup("test"))

        assert machine.told("asked") == [
            "pip .venv .[test]",
            *("venv .venv-ryu", "pip .venv-ryu .[ryu]"),
        ]

    @pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt", "scripts/setup.sh"])
    def test_what_it_is_made_of_has_changed(self, machine: Machine, name: str) -> None:
        did(machine.setup("demo"))
        machine.told("asked")
        with (machine.checkout / name).open("a") as file:
            file.write("# changed\n")

        did(machine.setup("demo"))

        assert machine.told("asked") == ["venv .venv", "pip .venv ."]

    def test_what_failed_is_tried_again(self, machine: Machine) -> None:
        (machine.folder / "offline").touch()
        failed = machine.setup("demo")
        assert failed.returncode == 1
        assert "no registry" in failed.stderr
        assert "pip could not build .venv: see above" in failed.stderr
        machine.told("asked")

        (machine.folder / "offline").unlink()
        did(machine.setup("demo"))

        assert machine.told("asked") == ["venv .venv", "pip .venv ."]


class TestVersions:
    def test_pip_installs_and_builds_with_the_versions_tested_together(
        self, machine: Machine
    ) -> None:
        """Older versions of pip know the first variable, and read it in a folder of their own."""
        did(machine.setup("dev"))

        installs, builds = machine.told("constraints"), machine.told("build-constraints")
        assert installs == builds
        own, ryu = installs
        tested = read([(CHECKOUT / "constraints.txt").as_uri()])
        assert read([own]) == tested != []
        for_ryu = read([ryu])
        assert [line for line in for_ryu if "setuptools" in line] == ["setuptools>=66.1,<67"]
        assert {line for line in tested if not line.startswith("setuptools==")} <= set(for_ryu)

    def test_the_newest_of_everything_stands_apart(self, machine: Machine) -> None:
        did(machine.setup("demo"))
        machine.told("asked"), machine.told("constraints")

        did(machine.setup("test", LATEST="yes"))

        assert machine.told("asked") == [
            "venv build/latest/.venv",
            "pip build/latest/.venv pip",
            "pip build/latest/.venv .[test]",
            "venv build/latest/.venv-ryu",
            "pip build/latest/.venv-ryu pip",
            "pip build/latest/.venv-ryu .[ryu]",
        ]
        # Of all versions only the one that Ryu's build takes.
        assert read(machine.told("constraints")) == ["setuptools>=66.1,<67"]
        did(machine.setup("demo"))
        assert machine.told("asked") == []


@pytest.mark.parametrize("page", [*pages(), framework.__file__], ids=lambda page: Path(page).name)
def test_a_line_that_is_shown_names_its_constraints_for_every_pip(page: Path | str) -> None:
    """Where pip builds, it is in another folder; and the variable has another name since 26.2."""
    for line in Path(page).read_text("utf-8").splitlines():
        told = dict(re.findall(r"\b(PIP_\w*CONSTRAINT)=(\S+)", line))
        if told:
            assert told.keys() == {"PIP_CONSTRAINT", "PIP_BUILD_CONSTRAINT"}, line
            assert all(Path(file).is_absolute() for file in told.values()), line


CI_MAKE: Final = """#!/bin/sh
echo "make $*" >>"$MACHINE/asked"
case $1 in
    lint) echo 'Found 5 errors in 4 files'; exit "${LINT:-0}" ;;
    test) echo '=== 7 passed in 3.21s (0:00:03) ==='; echo 'make: gone'; exit "${TEST:-0}" ;;
esac
"""


class TestContinuousIntegration:
    def run(self, machine: Machine, **variables: str) -> subprocess.CompletedProcess[str]:
        shutil.copytree(CHECKOUT / ".ci", machine.checkout / ".ci")
        (machine.folder / "bin/bash").symlink_to(shutil.which("bash") or "")
        environment = {"PATH": str(machine.folder / "bin"), "MACHINE": str(machine.folder)}
        return subprocess.run(
            ["bash", str(machine.checkout / ".ci/run")],
            env=environment | variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    @pytest.mark.parametrize(("lint", "test"), [(0, 0), (2, 0), (0, 2), (2, 2)])
    def test_it_is_green_if_both_are_and_ends_with_what_the_tests_say(
        self, machine: Machine, lint: int, test: int
    ) -> None:
        script(machine.folder / "bin/make", CI_MAKE)

        done = self.run(machine, LINT=str(lint), TEST=str(test))

        assert (done.returncode == 0) == (lint == test == 0)
        assert done.stdout.splitlines()[-1] == "=== 7 passed in 3.21s (0:00:03) ==="
        assert machine.told("asked") == ["make lint", "make test"]
        assert ("make lint failed: see above" in done.stdout) == (lint != 0)

    def test_it_brings_make_itself(self, machine: Machine) -> None:
        self.run(machine)
        assert machine.told("installed") == ["make"]
