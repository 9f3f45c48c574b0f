"""A host to test with: a real ovsdb-server and ovs-vswitchd in a network namespace of their own.

    with OvsHost("swt-h1", tmp_path / "h1") as host:
        host.vsctl("add-br", "br0")
        LocalSwitch(host.remote)

Daemons run in the foreground as our own children and are stopped by their process id, at the end
of the `with`, or when the interpreter exits if nobody did. Run directories should be short
paths: a unix socket's name has at most 107 characters.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import rmtree
from typing import Self

_ROOT, _SSL = "db:Open_vSwitch,Open_vSwitch", "db:Open_vSwitch,SSL"
_TLS = {"private-key": "private_key", "certificate": "certificate", "ca-cert": "ca_cert"}
_SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"


def netns_exists(name: str) -> bool:
    return Path("/run/netns", name).exists()


@contextlib.contextmanager
def network_namespace(name: str) -> Iterator[str]:
    """A namespace with `lo` up, deleted at the end."""
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        in_netns(name, "ip", "link", "set", "lo", "up")
        yield name
    finally:
        subprocess.run(["ip", "netns", "del", name], check=False)


def in_netns(
    netns: str | None, *command: str, timeout: float = 30, env: dict[str, str] | None = None
) -> str:
    """Run `command` in `netns` (None: where we are); return what it prints. It must succeed."""
    done = subprocess.run(
        [*_prefix(netns), *command],
        env=env,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(command)} -> {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def _prefix(netns: str | None) -> tuple[str, ...]:
    return ("ip", "netns", "exec", netns) if netns else ()


def eventually(what: Callable[[], bool], within: float = 10.0, every: float = 0.05) -> bool:
    """Call `what` until it is true, or until `within` seconds have passed."""
    deadline = time.monotonic() + within
    while not what():
        if time.monotonic() > deadline:
            return False
        time.sleep(every)
    return True


class OvsHost:
    """One host's Open vSwitch: its own database, daemon, run directory and namespace.

    `netns` is created if it does not exist, and then deleted at the end; None leaves the daemons
    in our own namespace. `rundir` is made if need be; None takes a fresh temporary one, removed
    at the end. Several hosts may run at once.
    """

    def __init__(self, netns: str | None = None, rundir: Path | None = None) -> None:
        self.netns = netns
        self._own_rundir = rundir is None
        self.rundir = rundir or Path(tempfile.mkdtemp(prefix="ovs-", dir="/tmp"))
        self.rundir.mkdir(parents=True, exist_ok=True)
        self._own_netns = False
        self._ovsdb: subprocess.Popen[bytes] | None = None
        self._vswitchd: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> Path:
        return self.rundir / "db.sock"

    @property
    def remote(self) -> str:
        """What `--ovsdb` takes."""
        return f"unix:{self.socket}"

    @property
    def env(self) -> dict[str, str]:
        """The environment with which OVS's tools talk to this host."""
        rundir = str(self.rundir)
        return os.environ | dict.fromkeys(
            ("OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR"), rundir
        )

    @property
    def ovsdb_pid(self) -> int | None:
        return self._ovsdb.pid if self._ovsdb else None

    @property
    def vswitchd_pid(self) -> int | None:
        return self._vswitchd.pid if self._vswitchd else None

    # Life

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start both daemons and wait until they answer; nothing stays behind if that fails."""
        atexit.register(self.stop)
        try:
            if self.netns and not netns_exists(self.netns):
                subprocess.run(["ip", "netns", "add", self.netns], check=True)
                self._own_netns = True
                self.run("ip", "link", "set", "lo", "up")
            self.start_ovsdb()
            self.run("ovs-vsctl", "--no-wait", "init")
            self.start_vswitchd()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop what `start` started, in whatever state it is; calling twice does no harm."""
        atexit.unregister(self.stop)
        if self._vswitchd is not None and self._vswitchd.poll() is None:
            # The userspace datapath's tap devices outlive ovs-vswitchd unless it is told to clean
            # up; a namespace of our own takes them with it, but ours is not the only case.
            with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
                self.run("ovs-appctl", "-t", str(self._control), "--timeout=5", "exit", "--cleanup")
                self._vswitchd.wait(5)
        self.stop_vswitchd()
        self.stop_ovsdb()
        if self._own_netns and self.netns:
            subprocess.run(["ip", "netns", "del", self.netns], check=False)
            self._own_netns = False
        if self._own_rundir:
            rmtree(self.rundir, ignore_errors=True)

    def start_ovsdb(self) -> None:
        database = self.rundir / "conf.db"
        if not database.exists():
            self.run("ovsdb-tool", "create", str(database), _SCHEMA)
        # One that was killed leaves its socket behind: waiting for it would prove nothing.
        self.socket.unlink(missing_ok=True)
        # As ovs-ctl starts it: `ovs-vsctl set-manager` and `set-ssl` then say the rest.
        words = [f"--remote=punix:{self.socket}", f"--remote={_ROOT},manager_options"]
        words += [f"--{option}={_SSL},{column}" for option, column in _TLS.items()]
        self._ovsdb = self._spawn("ovsdb-server", *words, str(database))
        self._await(self._ovsdb, self.socket.exists)

    def stop_ovsdb(self) -> None:
        _end(self._ovsdb)
        self._ovsdb = None

    def restart_ovsdb(self) -> None:
        self.stop_ovsdb()
        self.start_ovsdb()

    def start_vswitchd(self) -> None:
        self._vswitchd = self._spawn("ovs-vswitchd", self.remote)
        self._await(self._vswitchd, self._control.exists)

    def stop_vswitchd(self) -> None:
        _end(self._vswitchd)
        self._vswitchd = None

    def log(self, daemon: str = "ovs-vswitchd") -> str:
        """What `daemon` has logged so far."""
        return (self.rundir / f"{daemon}.log").read_text(errors="replace")

    # Talking to it

    def run(self, *command: str, timeout: float = 30) -> str:
        """Run `command` on this host; return what it prints. It must succeed."""
        return in_netns(self.netns, *command, timeout=timeout, env=self.env)

    def vsctl(self, *arguments: str) -> str:
        return self.run("ovs-vsctl", "--timeout=10", f"--db={self.remote}", *arguments).strip()

    def ofctl(self, *arguments: str) -> str:
        return self.run("ovs-ofctl", *arguments)

    def appctl(self, *arguments: str) -> str:
        """Ask ovs-vswitchd."""
        return self.run("ovs-appctl", "-t", str(self._control), *arguments)

    def dump(self) -> str:
        """The whole database as text, rows in a fixed order: equal text, equal database."""
        return self.run("ovsdb-client", "dump", self.remote, "Open_vSwitch")

    @property
    def _control(self) -> Path:
        return self.rundir / f"ovs-vswitchd.{self.vswitchd_pid}.ctl"

    def _spawn(self, daemon: str, *arguments: str) -> subprocess.Popen[bytes]:
        # `ip netns exec` becomes the daemon, so the process id is the daemon's own.
        return subprocess.Popen(
            [
                *_prefix(self.netns),
                daemon,
                "--no-chdir",
                f"--pidfile={self.rundir / daemon}.pid",
                f"--log-file={self.rundir / daemon}.log",
                "--verbose=console:off",
                *arguments,
            ],
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # A Ctrl-C is for the tests: they stop the daemons in order.
            start_new_session=True,
        )

    def _await(self, daemon: subprocess.Popen[bytes], ready: Callable[[], bool]) -> None:
        if (
            not eventually(lambda: ready() or daemon.poll() is not None)
            or daemon.poll() is not None
        ):
            raise AssertionError(f"{daemon.args!r} did not start; see {self.rundir}")


def _end(daemon: subprocess.Popen[bytes] | None) -> None:
    """Stop one daemon by its process id: asked first, then killed."""
    if daemon is not None and daemon.poll() is None:
        daemon.terminate()
        try:
            daemon.wait(5)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()
