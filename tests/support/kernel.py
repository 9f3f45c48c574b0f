"""Tests that need a kernel with the modules: where they run, and how their results come back.

`--kernel auto` (the default) runs tests/kernel where it can: here if this kernel has every
feature, else in one machine for all of them, of the kind that `lab up` would take. `vm`, `uml` and
`host` insist. Tests marked `needs(FEATURE, …)`, with names of `OTHERS`, want more than the planes
do: where user-mode Linux would run the others, they have a virtual machine.

In a machine another pytest runs the very tests that were chosen here; it hands over each report as
soon as there is one, and here it becomes the report of the test's own item: outcome, message,
output and duration. A test that the machine never came to has failed.

Tests marked `outside` are about machines, not in one: they run here, unless `host` is asked for.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from shutil import rmtree
from typing import Any, Final

import pytest

from ovs_lwt.lab.kernel import (
    FEATURES,
    OTHERS,
    KernelMachine,
    Maker,
    Result,
    choose,
    find,
    slowness,
    title,
)
from ovs_lwt.mistakes import Refused

# As long as it may take on a kernel that is not slower than this one.
_SECONDS: Final = 300.0
_MEMORY: Final = 1024
_WHERE_VARIABLE: Final = "OVS_LWT_KERNEL"
_REPORTS_VARIABLE: Final = "OVS_LWT_KERNEL_REPORTS"
_POLL: Final = 0.1


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("kernel").addoption(
        "--kernel",
        choices=("auto", "vm", "uml", "host"),
        default=os.environ.get(_WHERE_VARIABLE, "auto"),
        help="where tests/kernel runs: a virtual machine, user-mode Linux, or this kernel."
        " Default: %(default)s",
    )


def join(config: pytest.Config, folder: Path) -> None:
    """Take care of the tests in `folder`; to be called from its conftest's `pytest_configure`."""
    config.addinivalue_line("markers", "outside: about machines, not in one")
    config.addinivalue_line("markers", "needs(feature, ...): what user-mode Linux may lack")
    reports = os.environ.get(_REPORTS_VARIABLE)
    if reports:
        config.pluginmanager.register(Reporter(config, Path(reports)), "kernel-reporter")
    else:
        config.pluginmanager.register(KernelRun(config, folder), "kernel-run")


class Reporter:
    """In the machine: write down each report."""

    def __init__(self, config: pytest.Config, path: Path) -> None:
        self._config = config
        self._path = path

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        data = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        # Opened anew each time: the machine's kernel hands a file over when it is closed.
        with self._path.open("a") as file:
            file.write(json.dumps(data) + "\n")


class KernelRun:
    """Out here: send the kernel's tests into a machine, and report what comes back."""

    def __init__(self, config: pytest.Config, folder: Path) -> None:
        self._config = config
        self._folder = folder
        self._where = str(
            config.getoption("--kernel", default=os.environ.get(_WHERE_VARIABLE, "auto"))
        )
        # nodeid -> where it runs, for those that do not run here.
        self._sent: dict[str, Place] = {}
        self._machines: dict[Place, MachineRun] = {}
        self._failed = False

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        kernel = [item for item in items if item.path.is_relative_to(self._folder)]
        if not kernel:
            return
        outside = [item for item in kernel if item.get_closest_marker("outside")]
        inside = [item for item in kernel if item not in outside]
        if self._where == "host":
            # No machine may be installed.
            self._config.hook.pytest_deselected(items=outside)
            items[:] = [item for item in items if item not in outside]
            return
        for item in inside:
            marker = item.get_closest_marker("needs")
            place = place_for(self._where, frozenset(marker.args if marker else ()))
            if place is not None:
                self._sent[item.nodeid] = place
        # The machine starts at once and runs beside the others: asked for late, its results are
        # there. But not last: pytest tears down shared fixtures by looking at the next item, and
        # those sent away have none here.
        rest = [item for item in items if item not in kernel]
        unit = (number for number, item in enumerate(rest) if "unit" in item.path.parts)
        first = next(unit, 0)
        items[:] = [*rest[:first], *inside, *outside, *rest[first:]]

    @pytest.hookimpl(trylast=True)
    def pytest_report_collectionfinish(self, items: list[pytest.Item]) -> str | None:
        # Chosen last: -k and -m have had their say.
        chosen = {item.nodeid for item in items}
        self._sent = {nodeid: place for nodeid, place in self._sent.items() if nodeid in chosen}
        if not self._sent:
            return None
        counts = []
        for place in dict.fromkeys(self._sent.values()):
            nodeids = tuple(nodeid for nodeid, where in self._sent.items() if where == place)
            if not self._config.option.collectonly:
                self._machines[place] = MachineRun(self._config, place, nodeids)
            name = "nowhere" if isinstance(place, str) else f"in {title(place.how)}"
            counts.append(f"{len(nodeids)} of these run {name}")
        return f"kernel tests: {', '.join(counts)}"

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> bool | None:
        place = self._sent.get(item.nodeid)
        if place is None:
            return None
        hook = item.ihook
        hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for report in self._machines[place].reports(item):
            self._failed = self._failed or report.failed
            hook.pytest_runtest_logreport(report=report)
        hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        for machine in self._machines.values():
            # Stopped early (-x, Ctrl-C), there is nobody to wait for.
            if not (session.shouldstop or session.shouldfail) and not self._failed:
                result = machine.wait()
                if result is not None and result.status != 0:
                    session.exitstatus = pytest.ExitCode.INTERNAL_ERROR
                    print(f"\n{machine.describe(result)}", file=sys.stderr)
            machine.close()

    def pytest_unconfigure(self) -> None:
        for machine in self._machines.values():
            machine.close()


Place = Maker | str
"""A kind of machine, or why there can be none."""


@functools.cache
def place_for(where: str, needs: frozenset[str]) -> Place | None:
    """Where tests run that need `needs` besides what the planes do; None is here."""
    others = [feature for feature in OTHERS if feature.name in needs]
    assert len(others) == len(needs), f"no such features: {needs}"
    try:
        if where == "vm" or (where == "uml" and others):
            return find("vm")
        if where == "uml":
            return find("uml")
        return choose([*FEATURES, *others]).maker
    except Refused as refused:
        return str(refused)


class MachineRun:
    """One pytest in one machine, running the tests `nodeids`."""

    def __init__(self, config: pytest.Config, place: Place, nodeids: tuple[str, ...]) -> None:
        self._config = config
        self._out = Path(tempfile.mkdtemp(prefix="ovs-lwt-kernel-"))
        self._reports = self._out / "reports"
        self._read = 0
        self._known: dict[str, list[pytest.TestReport]] = {}
        self._refused = ""
        command = [sys.executable, "-m", "pytest", "-q", f"--rootdir={config.rootpath}"]
        # What fails looks as it would here. The cache of what failed last is ours alone.
        colour = "yes" if config.get_terminal_writer().hasmarkup else "no"
        command += ["-p", "no:cacheprovider", f"--tb={config.option.tbstyle}", f"--color={colour}"]
        command += ["--junitxml", str(self._out / "junit.xml"), *nodeids]
        environment = os.environ | {
            _WHERE_VARIABLE: "host",
            _REPORTS_VARIABLE: str(self._reports),
        }
        # Compiling takes long there, and there is nothing to keep clean.
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        self._machine: KernelMachine | None = None
        if isinstance(place, str):
            self._refused = place
            return
        machine = KernelMachine(
            place,
            command,
            env=environment,
            cwd=config.rootpath,
            out=self._out,
            timeout=_SECONDS * slowness(place.how),
            memory=_MEMORY,
        )
        try:
            machine.start()
            self._machine = machine
        except Refused as refused:
            self._refused = str(refused)

    def reports(self, item: pytest.Item) -> Iterator[pytest.TestReport]:
        """Yield the reports of `item` (setup, call, teardown) once they are here."""
        while True:
            ended = self._machine is None or not self._machine.running
            self._collect()
            mine = self._known.get(item.nodeid, [])
            if ended or any(report.when == "teardown" for report in mine):
                break
            time.sleep(_POLL)
        yield from mine
        if not any(report.when == "teardown" for report in mine):
            yield self._lost(item)

    def wait(self) -> Result | None:
        """Wait for the machine's end; None if there never was one."""
        return None if self._machine is None else self._machine.wait()

    def close(self) -> None:
        if self._machine is not None:
            self._machine.close()
        rmtree(self._out, ignore_errors=True)

    def describe(self, result: Result) -> str:
        how = "was stopped: it took too long" if result.timed_out else f"ended: {result.status}"
        return f"the kernel tests' machine {how}\n{result.console}\n{result.output}"

    def _collect(self) -> None:
        """Read the reports that have been written since."""
        if not self._reports.exists():
            return
        with self._reports.open() as file:
            file.seek(self._read)
            text = file.read()
        whole = text[: text.rfind("\n") + 1]
        self._read += len(whole.encode())
        for line in whole.splitlines():
            report: Any = self._config.hook.pytest_report_from_serializable(
                config=self._config, data=json.loads(line)
            )
            self._known.setdefault(report.nodeid, []).append(report)

    def _lost(self, item: pytest.Item) -> pytest.TestReport:
        result = self.wait()
        why = self._refused if result is None else self.describe(result)
        return pytest.TestReport(
            nodeid=item.nodeid,
            location=item.location,
            keywords={},
            outcome="failed",
            longrepr=f"no result came from the kernel lab: {why}",
            when="call",
        )
