"""A switch on another machine: OpenFlow and OVSDB by TLS, and who may call himself what."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.controller import BRIDGE, cli, difference, plug, started, write
from tests.support.frameworks import Interpreter
from tests.support.overlays import two_tenants
from tests.support.ovs import OvsHost, network_namespace

AGENT, SWITCH = "198.51.100.1", "198.51.100.2"


@dataclass(frozen=True, slots=True)
class Files:
    """A certificate authority's files, and those of the names that it has signed for."""

    folder: Path

    @property
    def ca(self) -> str:
        """Its own certificate."""
        return str(self.folder / "ca-cert.pem")

    def of(self, name: str) -> tuple[str, str]:
        """(private key, certificate) of a name."""
        key, certificate = (str(self.folder / f"{name}-{what}.pem") for what in ("key", "cert"))
        if not Path(certificate).exists():
            signed = () if name == "ca" else ("-CA", self.ca, "-CAkey", self.of("ca")[0])
            subprocess.run(
                [
                    *("openssl", "req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"),
                    *("-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", f"/CN={name}"),
                    *("-keyout", key, "-out", certificate, *signed),
                ],
                check=True,
                capture_output=True,
            )
        return key, certificate


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    made = Files(tmp_path_factory.mktemp("pki"))
    made.of("ca")
    return made


@pytest.fixture(scope="module")
def host() -> Iterator[OvsHost]:
    with OvsHost(f"tls-{os.getpid()}-s") as host:
        yield host


@pytest.fixture(scope="module")
def elsewhere(host: OvsHost) -> Iterator[str]:
    """A namespace for the agent, with a cable to the switch's."""
    with network_namespace(f"tls-{os.getpid()}-a") as agent:
        assert host.netns is not None
        host.run("ip", "link", "add", "m0", "type", "veth", "peer", "m0", "netns", agent)
        for netns, address in ((agent, AGENT), (host.netns, SWITCH)):
            for words in (
                ("address", "add", f"{address}/24", "dev", "m0"),
                ("link", "set", "m0", "up"),
            ):
                subprocess.run(["ip", "-n", netns, *words], check=True)
        yield agent


def test_a_switch_by_its_hosts_certificate_and_by_no_other(
    on: Interpreter, files: Files, host: OvsHost, elsewhere: str, tmp_path: Path
) -> None:
    overlay = write(tmp_path / "overlay.yaml", two_tenants())
    key, certificate = files.of("agent")
    control = host.rundir / "lwt.ctl"
    command = [on.python, "-m", "ovs_lwt.cli", "run", str(overlay), "--framework", on.framework]
    command += ["--host", f"host1=ssl:{SWITCH}:6640", "--listen", f"{AGENT}:6653"]
    command += ["--tls-key", key, "--tls-cert", certificate, "--tls-ca", files.ca]
    command += ["--control", str(control), "--datapath", "netdev"]
    host.vsctl("set-ssl", *files.of("host1"), files.ca)
    host.vsctl("set-manager", f"pssl:6640:{SWITCH}")
    with started(command, control, elsewhere) as running:
        assert running.in_sync(within=60), running.log
        assert host.vsctl("get-controller", BRIDGE) == f"ssl:{AGENT}:6653"
        plug(host, {"p1": "blue/web1"})
        assert running.in_sync("blue/web1"), running.log
        assert difference(host, overlay) == ""
        # Another host of the same authority, and somebody of none.
        host.stop_vswitchd()
        host.vsctl("--no-wait", "set-ssl", *files.of("host2"), files.ca)
        host.start_vswitchd()
        said = "by its certificate 'host2') is not this host's switch: hung up on"
        assert running.running.says(said, within=30), running.log
        assert running.state() == "offline"
        others = Files(tmp_path)
        others.of("ca")
        host.stop_vswitchd()
        host.vsctl("--no-wait", "set-ssl", *others.of("host1"), files.ca)
        host.start_vswitchd()
        # (So it is said of a certificate that has expired, in OpenSSL's words.)
        said = f"hung up on a caller: {SWITCH} by TLS: unable to get local issuer certificate"
        assert running.running.says(said, within=30), running.log
        host.stop_vswitchd()
        host.vsctl("--no-wait", "set-ssl", *files.of("host1"), files.ca)
        host.start_vswitchd()
        assert running.in_sync("blue/web1", within=30), running.log
        host.vsctl("del-port", BRIDGE, "p1")
        assert running.running.stop()[0] == 0
        assert "Traceback" not in running.log, running.log


def test_ovsdb_by_tls_without_files_is_refused(host: OvsHost, tmp_path: Path) -> None:
    overlay = write(tmp_path / "overlay.yaml", two_tenants())
    for command in (
        ("attach", str(overlay), "blue/web1", "--netns", str(host.netns)),
        ("detach", "blue/web1"),
    ):
        done = cli(*command, "--ovsdb", f"ssl:{SWITCH}:6640")
        assert done.returncode != 0
        assert "Traceback" not in done.stderr
        assert "takes TLS with a certificate of ours" in done.stderr, done.stderr
