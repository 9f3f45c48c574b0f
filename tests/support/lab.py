"""A lab to test with: brought up for one test under a name of its own, always taken down."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from ovs_lwt.lab import controllers, lifecycle, probe, status
from ovs_lwt.lab.matrix import Matrix
from ovs_lwt.lab.plan import Controllers, Framework, GuestPlan, HostPlan, LabPlan, guest_of, host_of
from ovs_lwt.lab.processes import inside
from ovs_lwt.lab.status import LabStatus
from ovs_lwt.lab.switches import environment
from ovs_lwt.netns import NAMED

CHECKOUT = Path(__file__).parents[2]
_count = itertools.count(1)


def lab_name() -> str:
    """A name that no other lab of this machine has."""
    return f"t{os.getpid()}-{next(_count)}"


def left_of(name: str) -> list[str]:
    """What is left on the machine of the lab called `name`: nothing, if it was taken down."""
    namespaces = [str(path) for path in NAMED.glob(f"{name}-*")]
    return namespaces + [str(path) for path in Path("/run/ovs-lwt/labs").glob(name)]


class Lab:
    """A lab that is up."""

    def __init__(self, plan: LabPlan) -> None:
        self.plan = plan

    @property
    def name(self) -> str:
        return self.plan.name

    def host(self, name: str) -> HostPlan:
        found = host_of(self.plan, name)
        assert found is not None, name
        return found

    def guest(self, endpoint: str) -> GuestPlan:
        """The guest called TENANT/NAME."""
        found = guest_of(self.plan, endpoint)
        assert found is not None, endpoint
        return found

    def execute(
        self, where: str, *command: str, timeout: float = 30
    ) -> subprocess.CompletedProcess[str]:
        """Run `command` in a guest or on a host, whatever comes of it."""
        guest = guest_of(self.plan, where)
        env = dict(os.environ)
        if guest is None:
            env |= environment(self.host(where))
        namespace = guest.namespace if guest is not None else self.host(where).namespace
        return subprocess.run(
            inside(namespace, command),
            env=env,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def run(self, where: str, *command: str, timeout: float = 30) -> str:
        """Run `command` in a guest or on a host; return what it prints. It must succeed."""
        done = self.execute(where, *command, timeout=timeout)
        assert done.returncode == 0, f"{where}: {' '.join(command)}: {done.stdout}{done.stderr}"
        return done.stdout

    def ofctl(self, host: str, *arguments: str) -> str:
        return self.run(host, "ovs-ofctl", "-O", "OpenFlow14", *arguments)

    def ping(self) -> Matrix:
        """The whole reachability matrix."""
        return probe.measure(self.plan, sample=0)

    def status(self) -> LabStatus:
        return status.lab_status(self.plan)

    def controller_status(self, host: str) -> dict[str, Any]:
        """What the host's controller says of it."""
        answer = json.loads(controllers.ask(self.host(host)))
        return dict(answer["hosts"][host])

    def rewrite(self, overlay_text: str) -> None:
        """Change the overlay, and let every controller take the change over."""
        self.plan.overlay.write_text(overlay_text)
        for control in {host.control: host for host in self.plan.own_hosts}.values():
            controllers.ask(control, "reload", timeout=20)


@contextmanager
def lab_up(
    overlay_text: str,
    folder: Path,
    *,
    controllers: Controllers = "each",
    framework: Framework | None = None,
    python: str = sys.executable,
) -> Iterator[Lab]:
    """Bring `overlay_text` up as a lab, for fixtures of any scope; its file goes to `folder`."""
    name = lab_name()
    overlay = folder / f"{name}.yaml"
    overlay.write_text(overlay_text)
    try:
        yield Lab(
            lifecycle.up(
                overlay,
                name=name,
                controllers=controllers,
                framework=framework,
                python=python,
            )
        )
    finally:
        lifecycle.down(name)
        assert left_of(name) == []


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Callable[..., Lab]]:
    """A factory: ``lab(overlay_text, controllers="one", …)`` brings one up for this test."""
    with ExitStack() as stack:

        def bring_up(overlay_text: str, **options: Any) -> Lab:
            return stack.enter_context(lab_up(overlay_text, tmp_path, **options))

        yield bring_up


def ovs_lwt(*arguments: str, timeout: float = 90) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user would."""
    return subprocess.run(
        [sys.executable, "-m", "ovs_lwt.cli", *arguments],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
