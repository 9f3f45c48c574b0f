"""Real machines of both kinds: what they see and spoil, their wires, and their end."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ovs_lwt.lab.kernel import Hub, KernelMachine, Kind, Maker, find, run_in_kernel, slowness
from tests.support.frameworks import environment
from tests.support.ovs import eventually

pytestmark = pytest.mark.outside
KINDS: tuple[Kind, ...] = ("uml", "vm")


@pytest.fixture(params=KINDS)
def maker(request: pytest.FixtureRequest) -> Maker:
    """Each kind of machine."""
    return find(request.param)


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder for machines alone, its name short enough for the sockets in it."""
    folder = Path(tempfile.mkdtemp(prefix="knl-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def processes_of(folder: Path) -> list[int]:
    """The processes with this folder on their command line, but for those that have ended."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if str(folder).encode() in (process / "cmdline").read_bytes():
                found.append(int(process.name))
        except OSError:
            continue
    return found


def test_a_machine_sees_this_ones_files_and_leaves_only_its_output(
    maker: Maker, tmp_path: Path
) -> None:
    (tmp_path / "given").write_text("from here")
    out = tmp_path / "out"
    out.mkdir()
    spoilt = Path(f"/etc/knl-{os.getpid()}")
    script = f"""
        cat given; echo; uname -r
        echo spoilt >given; echo spoilt >{spoilt}; rm -rf /usr/share/doc
        echo kept >{out}/result
        ip link add vrf10 type vrf table 10 && ip -color=never -6 address show lo
        exit 7
    """
    result = run_in_kernel(
        maker,
        ["sh", "-c", f"cd {tmp_path} && {script}"],
        out=out,
        timeout=30 * slowness(maker.how),
        memory=256,
    )

    assert result.status == 7, result
    given, release, *rest = result.output.splitlines()
    assert given == "from here"
    assert release != os.uname().release
    assert "::1/128" in " ".join(rest), "modules load when they are needed"
    assert (tmp_path / "given").read_text() == "from here"
    assert not spoilt.exists()
    assert Path("/usr/share/doc").exists()
    assert (out / "result").read_text() == "kept\n"


def test_machines_on_one_hub_reach_each_other(maker: Maker) -> None:
    def on_hub(number: int, then: str) -> list[str]:
        setup = f"ip address add 192.0.2.{number}/24 dev vec0 && ip link set vec0 up"
        return ["sh", "-c", f"{setup} && {then}"]

    # As large as an underlay's packets: 20 bytes of IP, 8 of ICMP.
    asking = "until ping -c1 -W1 192.0.2.2; do sleep 0.2; done; ping -c3 -i0.2 -M do -s 1472"
    with (
        Hub() as hub,
        KernelMachine(
            maker,
            on_hub(2, "sleep 1000"),
            plugs=[hub.plug("02:00:00:00:00:02")],
            memory=maker.least_memory,
        ),
        KernelMachine(
            maker,
            on_hub(1, f"{asking} 192.0.2.2"),
            plugs=[hub.plug("02:00:00:00:00:01")],
            memory=maker.least_memory,
            timeout=30 * slowness(maker.how),
        ) as first,
    ):
        result = first.wait()
    assert result.status == 0, result
    assert "3 packets transmitted, 3 received" in result.output


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_left_of_a_machine_whose_starter_is_killed(kind: Kind, short: Path) -> None:
    program = [sys.executable, "-m", "ovs_lwt.lab.kernel", "--kernel", kind]
    starter = subprocess.Popen(
        [*program, "--", "sh", "-c", "echo up; sleep 1000"],
        env=environment() | {"TMPDIR": str(short)},
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert starter.stdout is not None
    assert starter.stdout.readline() == b"up\n"
    assert len(processes_of(short)) > 1

    starter.send_signal(signal.SIGKILL)
    starter.wait()
    starter.stdout.close()

    assert eventually(lambda: not processes_of(short) and not list(short.iterdir()))
