"""What cannot be done is refused: one line that says why and what to do, and nothing is changed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from socket import gethostname

import pytest

from tests.support.controller import BRIDGE, cli, controller, flows, groups, plug, write
from tests.support.local_switch import committed
from tests.support.overlays import two_tenants
from tests.support.ovs import OvsHost, network_namespace

GUEST, EMPTY = (f"refusals-{os.getpid()}-{what}" for what in ("g", "e"))

# `ovs-lwt run` on a host whose controller runs already: what is asked for, and what is said.
RUNS = {
    "unknown host": (["--host", "host9"], "no host 'host9' (did you mean 'host3'?); it has:"),
    "external host": (["--host", "host3"], "host3 is external, says the overlay: somebody else"),
    "no database": (["--host", "host1=unix:/none/db.sock"], "no ovsdb-server at unix:/none/db.s"),
    "driven already": (
        ["--host", "host1"],
        "br-lwt' at unix:{db} is driven by another agent ({it})",
    ),
    "bridge is a port": (["--host", "host1", "--bridge", "p1"], "'p1' is a port of bridge 'br-l"),
    "another bridge": (["--host", "host1", "--bridge", "br-2"], "belongs to another of bridge"),
    "second controller": (["--host", "host1"], "another controller (process {pid} ('python"),
    "port taken": (
        ["--host", "host1", "--listen", "127.0.0.1:6653"],
        "cannot listen on 127.0.0.1:6653: Address already in use",
    ),
    "plain, off loopback": (
        ["--host", "host1", "--listen", "0.0.0.0:6654"],
        "whoever reaches 0.0.0.0:6654 could pretend to be a host's switch: listen on 127.0.0.1, or",
    ),
    "TLS, half": (
        ["--host", "host1", "--listen", "127.0.0.1:6654", "--tls-key", "/none/key.pem"],
        "TLS lacks --tls-cert and --tls-ca",
    ),
    "TLS, no files": (
        [
            *("--host", "host1", "--listen", "127.0.0.1:6654", "--tls-key", "/none/key.pem"),
            *("--tls-cert", "/none/cert.pem", "--tls-ca", "/none/ca.pem"),
        ],
        "TLS cannot be set up from /none/key.pem, /none/cert.pem, /none/ca.pem: [Errno 2] No such",
    ),
    "OVSDB by TLS": (
        ["--host", "host1=ssl:127.0.0.1:6640"],
        "takes TLS with a certificate of ours",
    ),
    "OVSDB elsewhere": (["--host", "host1=tcp:127.0.0.1:6640"], "no ovsdb-server at tcp:127.0.0.1"),
}
AWAY = {"no database", "OVSDB elsewhere"}
ATTACHMENTS = {
    "no namespace": (["attach", "blue/web1", "--netns", "nowhere"], "ip netns add nowhere"),
    "unknown endpoint": (["attach", "blue/web7", "--netns", EMPTY], "did you mean 'web"),
    "attached elsewhere": (["attach", "blue/web1", "--netns", GUEST], "ovs-lwt detach blue/web1"),
    "no tenant": (["detach", "web1"], "write it TENANT/NAME"),
    "another host's": (
        ["attach", "blue/web2", "--netns", GUEST],
        "blue/web2 lives on host2, says the overlay, and this is host1",
    ),
    "wrong host": (
        ["attach", "blue/web1", "--netns", GUEST, "--host", "host2"],
        "blue/web1 lives on host1, says the overlay, and this is host2",
    ),
    "reserved": (["attach", "blue/web1", "--netns", GUEST, "--port", "br-lwt"], "'br-lwt' is one "),
}


@pytest.fixture(scope="module")
def overlay(tmp_path_factory: pytest.TempPathFactory) -> Path:
    overlay = two_tenants()
    overlay["vteps"]["host3"]["external"] = True
    return write(tmp_path_factory.mktemp("refusals") / "overlay.yaml", overlay)


Outcomes = Mapping[str, subprocess.CompletedProcess[str]]


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of them; and of the controller that ran meanwhile, whom they are told of."""

    done: Outcomes
    database: Path
    pid: int
    control: Path


def all_at_once(commands: Mapping[str, list[str]], netns: str | None) -> Outcomes:
    """Run these commands; most of their time is spent starting Python."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        done = pool.map(lambda words: cli(*words, netns=netns), commands.values())
        return dict(zip(commands, done, strict=True))


def told(done: subprocess.CompletedProcess[str], what: str, status: int = 2) -> None:
    """The command failed with this one line for the user; the framework's log is none.

    status: 2 where somebody must mend something, 1 where it may pass by itself
    """
    assert (done.returncode, done.stdout) == (status, ""), done.stderr
    (line,) = (line for line in done.stderr.splitlines() if " INFO " not in line)
    assert what in line


def state(host: OvsHost) -> tuple[object, ...]:
    """All that could have been changed."""
    # Whether a controller is connected is written down every few seconds only.
    shown = [line for line in host.vsctl("show").splitlines() if "is_connected" not in line]
    return committed(host), shown, host.run("ip", "-o", "link"), flows(host).keys(), groups(host)


@pytest.fixture(scope="module")
def runs(overlay: Path) -> Iterator[Ran]:
    listen = ("--listen", "127.0.0.1:6653")
    with (
        OvsHost(f"refusals-{os.getpid()}") as host,
        controller(host, overlay, *listen) as running,
    ):
        plug(host, {"p1": "blue/web1"})
        assert running.in_sync("blue/web1"), running.log
        before = state(host)
        commands = {}
        for name, (options, _) in RUNS.items():
            socket = "lwt" if name == "second controller" else name
            base = ["run", str(overlay), "--ovsdb", host.remote]
            commands[name] = [*base, "--control", str(host.rundir / f"{socket}.ctl"), *options]
        broken = two_tenants()
        broken["tenants"]["blue"]["vni"] = broken["tenants"]["red"]["vni"] = 0
        file = write(overlay.with_name("broken.yaml"), broken)
        commands["broken"] = ["run", str(file), "--host", "host1"]
        pid = running.running.process.pid
        yield Ran(all_at_once(commands, host.netns), host.socket, pid, running.control)
        assert state(host) == before, "whatever was refused has changed nothing"
        assert running.in_sync("blue/web1"), "and the one that runs runs on"


@pytest.mark.parametrize("name", RUNS)
def test_run_refuses(runs: Ran, name: str) -> None:
    it = f"process {runs.pid} on {gethostname()}, control socket {runs.control}"
    said = RUNS[name][1].format(db=runs.database, pid=runs.pid, it=it)
    told(runs.done[name], said, 1 if name in AWAY else 2)


def test_run_tells_all_mistakes_of_an_overlay(runs: Ran) -> None:
    done = runs.done["broken"]
    assert (done.returncode, done.stdout) == (2, "")
    blue, red = (line for line in done.stderr.splitlines() if " INFO " not in line)
    assert "broken.yaml:" in blue
    assert ": tenants.blue.vni: " in blue
    assert ": tenants.red.vni: " in red


@pytest.fixture(scope="module")
def host(overlay: Path) -> Iterator[OvsHost]:
    """A host that was prepared once, and two namespaces for guests."""
    with ExitStack() as stack:
        host = stack.enter_context(OvsHost(f"refusals-{os.getpid()}-a"))
        for guest in (GUEST, EMPTY):
            stack.enter_context(network_namespace(guest))
        with controller(host, overlay):
            pass
        yield host


def test_attach_and_detach(host: OvsHost, overlay: Path) -> None:
    """Without a controller: it is the switch's and the kernel's work. Mistakes change nothing."""
    where = ("--ovsdb", host.remote)
    attach = ("attach", str(overlay), "blue/web1", *where, "--netns")
    done = cli(*attach, EMPTY, netns=host.netns)
    where_it_is = f"eth0 in {EMPTY}, port blue-web1 on plane ovs"
    assert done.stdout == f"blue/web1: {where_it_is}, marked by flow, MTU 1450\n"
    claim = host.vsctl("get", "interface", "blue-web1", "external_ids:ovs-lwt-endpoint")
    assert claim.strip('"') == "blue/web1"
    before = state(host)
    commands = {}
    for name, ((command, *rest), _) in ATTACHMENTS.items():
        file = [str(overlay)] if command == "attach" else []
        commands[name] = [command, *file, *rest, *where]
    for name, outcome in all_at_once(commands, host.netns).items():
        told(outcome, ATTACHMENTS[name][1])
    assert state(host) == before
    # Its port would stay in a database that is away, so it is not detached.
    away = ("--ovsdb", f"unix:{host.rundir}/nobody.sock")
    told(cli("detach", "blue/web1", *away, netns=host.netns), "blue/web1 is not detached, since", 1)
    assert state(host) == before
    for said in ("detached", "was not attached"):
        done = cli("detach", "blue/web1", *where, netns=host.netns)
        assert (done.returncode, done.stdout) == (0, f"blue/web1: {said}\n")
    assert host.vsctl("list-ports", BRIDGE) == "vx-lwt"
