"""`ovs-lwt manager` starts apps on os-ken and on Ryu alike, and a real Open vSwitch finds them."""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.frameworks import CHECKOUT, Interpreter, environment, interpreter, running
from tests.support.ovs import OvsHost, eventually

TINY = str(CHECKOUT / "tests/support/tiny_app.py")
DATAPATH_ID = "00000000000000a1"
LISTEN = ("--ofp-listen-host", "127.0.0.1", "--ofp-tcp-listen-port", "6653")

OTHER = """
from ovs_lwt.backends.openflow import framework
FW = framework.current()

class Other(FW.App):
    @FW.handles("EventOFPSwitchFeatures", "config")
    def features(self, event):
        # In one piece: the apps' green threads write to one terminal.
        print(f"other sees {event.msg.datapath_id}\\n", end="", flush=True)
        raise LookupError("other is broken")
"""


@pytest.fixture(scope="module")
def host() -> Iterator[OvsHost]:
    """A switch that looks for its controller on this host, every second."""
    with OvsHost("launcher-h1") as host:
        host.vsctl("add-br", "br0")
        host.vsctl("set", "bridge", "br0", "datapath_type=netdev", "fail_mode=secure")
        host.vsctl("set", "bridge", "br0", f"other_config:datapath-id={DATAPATH_ID}")
        host.vsctl("set-controller", "br0", "tcp:127.0.0.1:6653")
        host.vsctl("set", "controller", "br0", "max_backoff=1000", "inactivity_probe=60000")
        yield host


def run(on: Interpreter, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        on.manager(*arguments),
        env=environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_switch_finds_the_app_and_a_signal_stops_it(
    on: Interpreter, host: OvsHost, tmp_path: Path, number: signal.Signals
) -> None:
    with running(on.manager(TINY, *LISTEN), tmp_path / "log", host.netns) as manager:
        assert manager.says(f"tiny sees {DATAPATH_ID} main"), manager.output
        assert f"tiny starts on {on.framework}" in manager.output
        manager.send(signal.SIGHUP)
        assert manager.says("tiny reloads"), manager.output
        status, _ = manager.stop(number)
        assert (status, "tiny closes" in manager.output) == (0, True), manager.output
        assert "Traceback" not in manager.output


def test_a_handler_that_fails_is_heard_of_and_called_again(
    on: Interpreter, host: OvsHost, tmp_path: Path
) -> None:
    arguments = (TINY, "--tiny-breaks", *LISTEN)
    with running(on.manager(*arguments), tmp_path / "log", host.netns) as manager:
        assert manager.says(f"tiny sees {DATAPATH_ID} main"), manager.output
        assert manager.says("ValueError: broken on purpose"), manager.output
        host.vsctl("del-controller", "br0")
        assert manager.says(f"tiny sees {DATAPATH_ID} dead"), manager.output
        host.vsctl("set-controller", "br0", "tcp:127.0.0.1:6653")
        host.vsctl("set", "controller", "br0", "max_backoff=1000")
        assert manager.says(f"tiny sees {DATAPATH_ID} main", times=2), manager.output
        assert manager.stop()[0] == 0


def test_a_signal_that_comes_early_is_not_lost(
    on: Interpreter, host: OvsHost, tmp_path: Path
) -> None:
    """Stopped while its modules are still being imported, it ends as cleanly as later; a reload
    asked for by then has nothing to do, and no app to kill."""
    slow = tmp_path / "slow.py"
    slow.write_text("import time\nprint('importing', flush=True)\ntime.sleep(1)\n" + OTHER, "utf-8")
    with running(on.manager(str(slow), *LISTEN), tmp_path / "log", host.netns) as manager:
        assert manager.says("importing"), manager.output
        manager.send(signal.SIGHUP)
        assert manager.stop()[0] == 0, manager.output


def test_apps_run_beside_each_other(on: Interpreter, host: OvsHost, tmp_path: Path) -> None:
    """Ours, another of the kind, and a learning switch that the framework brings or could bring."""
    other = tmp_path / "beside.py"
    other.write_text(OTHER, "utf-8")
    switch = "ryu.app.simple_switch_14" if on.framework == "ryu" else "os_ken.app.ofctl.service"
    arguments = (TINY, str(other), switch, *LISTEN)
    with running(on.manager(*arguments), tmp_path / "log", host.netns) as manager:
        assert manager.says(f"tiny sees {DATAPATH_ID} main"), manager.output
        assert manager.says(f"other sees {int(DATAPATH_ID, 16)}"), manager.output
        assert manager.says("Other.features failed on EventOFPSwitchFeatures; going on")
        assert f"instantiating app {switch}" in manager.output
        assert manager.stop()[0] == 0


def test_a_learning_switch_of_ryu_forwards(host: OvsHost, tmp_path: Path) -> None:
    """Ryu's own app, unchanged, does its work under our launcher: it installs its table-miss."""
    ryu = interpreter("ryu")
    host.ofctl("-OOpenFlow14", "del-flows", "br0")
    with running(
        ryu.manager("ryu.app.simple_switch_14", *LISTEN), tmp_path / "log", host.netns
    ) as manager:
        assert eventually(
            lambda: "CONTROLLER:65535" in host.ofctl("-OOpenFlow14", "dump-flows", "br0")
        ), manager.output
        assert manager.stop()[0] == 0
    host.ofctl("-OOpenFlow14", "del-flows", "br0")


def test_a_configuration_file_gives_apps_and_their_options(
    on: Interpreter, host: OvsHost, tmp_path: Path
) -> None:
    settings = tmp_path / "manager.conf"
    settings.write_text(
        f"[DEFAULT]\napp_lists = {TINY}\ntiny_name = configured\n"
        "ofp_listen_host = 127.0.0.1\nofp_tcp_listen_port = 6653\n",
        "utf-8",
    )
    pid = tmp_path / "pid"
    arguments = ("--config-file", str(settings), "--pid-file", str(pid))
    with running(on.manager(*arguments), tmp_path / "log", host.netns) as manager:
        assert manager.says(f"configured sees {DATAPATH_ID} main"), manager.output
        assert int(pid.read_text("ascii")) == manager.process.pid
        assert manager.stop()[0] == 0
    assert not pid.exists()


def test_help_lists_the_options_of_the_apps(on: Interpreter) -> None:
    shown = run(on, TINY, "--help")
    assert shown.returncode == 0, shown.stderr
    for option in ("--tiny-name", "--ofp-tcp-listen-port", "--observe-links", "--framework"):
        assert option in shown.stdout
    version = run(on, "--version")
    assert f"ovs-lwt manager 0.1.0, {on.framework} " in version.stdout


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["no.such.app"], 2, "no.such.app cannot be loaded: No module named 'no'"),
        (["./missing.py", "--tiny-name", "x"], 2, "there is no app file missing.py"),
        (["ovs_lwt.names"], 2, "ovs_lwt.names defines no app for"),
        ([TINY, "--tiny-nam", "x", "--nonsense"], 2, "unrecognized arguments: --nonsense"),
        ([TINY, "--config-file", "/missing.conf"], 2, "/missing.conf"),
    ],
)
def test_a_mistake_on_the_command_line_is_named(
    on: Interpreter, arguments: list[str], status: int, message: str
) -> None:
    refused = run(on, *arguments)
    assert refused.returncode == status, refused.stderr
    assert message in refused.stderr
    assert "Traceback" not in refused.stderr


def test_an_occupied_port_is_refused(on: Interpreter) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        refused = run(on, TINY, "--ofp-listen-host", "127.0.0.1", "--ofp-tcp-listen-port", port)
    assert refused.returncode == 2
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_ryus_own_manager_runs_the_same_app(host: OvsHost, tmp_path: Path) -> None:
    """ryu-manager reads its command line before it imports apps: --user-flags names ours first.
    The name that eventlet dropped has to be put back before Ryu is imported at all."""
    genuine = (
        "import eventlet.wsgi; eventlet.wsgi.ALREADY_HANDLED = (); "
        "from ryu.cmd.manager import main; main()"
    )
    command = [interpreter("ryu").python, "-c", genuine, "--user-flags", TINY, TINY]
    with running(
        [*command, "--tiny-name", "genuine", *LISTEN], tmp_path / "log", host.netns
    ) as manager:
        assert manager.says(f"genuine sees {DATAPATH_ID} main"), manager.output
