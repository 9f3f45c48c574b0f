"""Tests that need a kernel with the modules: where they run, and how their results come back.

`--kernel auto` (the default) runs tests/kernel where it can: here if this kernel has every
feature, else in one machine for all of them, of the kind that `lab up` would take. `vm`, `uml` and
`host` insist. Tests marked `needs(FEATURE, …)`, with names of `OTHERS`, want more than the planes
do: where user-mode Linux would run the others, they have a virtual machine.

In a machine another pytest runs the very tests that were chosen here; it hands over each report as
soon as there is one, and here it becomes the report of the test's own item: outcome, message,
output and duration. A test that the machine never came to has failed.

Tests marked `outside` are about machines, not in one: they run here, unless `host` is asked for.

Where tests run side by side (pytest-xdist), each process chooses alike and any of them reports; the
one in charge has the machines, once for all. It learns from the first process which tests are for
which machine, and every process reads the reports in the folder of that machine.
"""

from __future__ import annotations

import functools
import json
import os
import pickle
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from shutil import rmtree
from typing import Any, Final

import pytest

from ovs_lwt.lab.kernel import (
    DIED,
    FEATURES,
    OTHERS,
    KernelMachine,
    Maker,
    choose,
    find,
    slowness,
    title,
)
from ovs_lwt.mistakes import Refused

# As long as it may take on a kernel that is not slower than this one, beside two other processes.
_SECONDS: Final = 600.0
_MEMORY: Final = 1024
_WHERE_VARIABLE: Final = "OVS_LWT_KERNEL"
_REPORTS_VARIABLE: Final = "OVS_LWT_KERNEL_REPORTS"
_POLL: Final = 0.1
_MACHINES: Final = "kernel-machines"
# In the folder of all machines; in the folder of one.
_CHOSEN, _REPORTS, _ENDED = "chosen", "reports", "ended"
# How the process in charge tells those that run tests which folder it is.
_FOLDER: Final = "ovs_lwt_kernel_folder"
_FIRST: Final = "gw0"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("kernel").addoption(
        "--kernel",
        choices=("auto", "vm", "uml", "host"),
        default=os.environ.get(_WHERE_VARIABLE, "auto"),
        help="where tests/kernel runs: a virtual machine, user-mode Linux, or this kernel."
        " Default: %(default)s",
    )


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput") and _REPORTS_VARIABLE not in os.environ:
        config.pluginmanager.register(Machines(config), _MACHINES)


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


class Machines:
    """In the process in charge: the machines, from the choice of tests to the end of the run."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._machines: list[MachineRun] = []
        self._failures = 0
        self.folder = Path(tempfile.mkdtemp(prefix="ovs-lwt-kernel-"))

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        node.workerinput[_FOLDER] = str(self.folder)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any) -> None:
        chosen = self.folder / _CHOSEN
        # Written only if tests of the kernel are among those collected.
        if node.gateway.id == _FIRST and chosen.exists():
            self.start(pickle.loads(chosen.read_bytes()))

    def start(self, chosen: Mapping[Maker, Sequence[str]]) -> None:
        """Start a machine of each kind, for the tests of these nodeids."""
        for maker, nodeids in chosen.items():
            folder = self.folder / maker.how
            self._machines.append(MachineRun(self._config, maker, folder, nodeids))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._failures += report.failed
        if self._failures == self._config.option.maxfail:
            # xdist lets each process finish its test: one may wait for a machine.
            for machine in self._machines:
                machine.close()

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        # Stopped early (-x, Ctrl-C), there is nobody to wait for.
        early = session.shouldstop or session.shouldfail or session.testsfailed
        for machine in self._machines:
            if not early and (end := machine.wait()).status != 0:
                session.exitstatus = pytest.ExitCode.INTERNAL_ERROR
                print(f"\n{end.words}", file=sys.stderr)
            machine.close()

    def pytest_unconfigure(self) -> None:
        for machine in self._machines:
            machine.close()
        rmtree(self.folder, ignore_errors=True)


class KernelRun:
    """Where tests run: keep the kernel's from running here, and report what comes back."""

    def __init__(self, config: pytest.Config, folder: Path) -> None:
        self._config = config
        self._folder = folder
        self._where = str(
            config.getoption("--kernel", default=os.environ.get(_WHERE_VARIABLE, "auto"))
        )
        # nodeid -> where it runs, for those that do not run here.
        self._sent: dict[str, Place] = {}
        self._reports: dict[Maker, Reports] = {}

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
        # The machine starts at once and runs beside all others: asked for last, its results are
        # there, and nobody has waited for them.
        items[:] = [*(item for item in items if item not in kernel), *outside, *inside]

    # Before xdist tells the process in charge, and the terminal us, that all is collected.
    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        # -k and -m have had their say.
        chosen = {item.nodeid for item in session.items}
        self._sent = {nodeid: place for nodeid, place in self._sent.items() if nodeid in chosen}
        if self._config.option.collectonly:
            return
        wanted: dict[Maker, list[str]] = {}
        for nodeid, place in self._sent.items():
            if not isinstance(place, str):
                wanted.setdefault(place, []).append(nodeid)
        machines: Machines | None = self._config.pluginmanager.get_plugin(_MACHINES)
        if machines is not None:
            folder = machines.folder
            machines.start(wanted)
        else:
            told = self._config.workerinput  # type: ignore[attr-defined]
            folder = Path(told[_FOLDER])
            if told["workerid"] == _FIRST:
                (folder / _CHOSEN).write_bytes(pickle.dumps(wanted))
        self._reports = {maker: Reports(self._config, folder / maker.how) for maker in wanted}

    @pytest.hookimpl(trylast=True)
    def pytest_report_collectionfinish(self) -> str | None:
        counts = []
        for place in dict.fromkeys(self._sent.values()):
            number = list(self._sent.values()).count(place)
            name = "nowhere" if isinstance(place, str) else f"in {title(place.how)}"
            counts.append(f"{number} of these run {name}")
        return f"kernel tests: {', '.join(counts)}" if counts else None

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> bool | None:
        place = self._sent.get(item.nodeid)
        if place is None:
            return None
        hook = item.ihook
        hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for report in (
            [lost(item, place)] if isinstance(place, str) else self._reports[place].of(item)
        ):
            hook.pytest_runtest_logreport(report=report)
        hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True


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


def lost(item: pytest.Item, why: str) -> pytest.TestReport:
    """What to report of a test that no machine came to the end of."""
    return pytest.TestReport(
        nodeid=item.nodeid,
        location=item.location,
        keywords={},
        outcome="failed",
        longrepr=f"no result came from the kernel lab: {why}",
        when="call",
    )


@dataclass(frozen=True, slots=True)
class End:
    """How a machine ended: the status of its pytest, and what there is to say of it.

    Nothing, if it is we who ended it, early.
    """

    status: int
    words: str


class MachineRun:
    """One pytest in one machine, running the tests `nodeids`; what comes of it is in `folder`."""

    def __init__(
        self, config: pytest.Config, maker: Maker, folder: Path, nodeids: Sequence[str]
    ) -> None:
        folder.mkdir()
        self._folder = folder
        self._enough = threading.Event()
        command = [sys.executable, "-m", "pytest", "-q", f"--rootdir={config.rootpath}"]
        # What fails looks as it would here. The cache of what failed last is ours alone.
        colour = "yes" if config.get_terminal_writer().hasmarkup else "no"
        command += ["-p", "no:cacheprovider", f"--tb={config.option.tbstyle}", f"--color={colour}"]
        command += ["--junitxml", str(folder / "junit.xml"), *nodeids]
        environment = os.environ | {
            _WHERE_VARIABLE: "host",
            _REPORTS_VARIABLE: str(folder / _REPORTS),
        }
        machine = KernelMachine(
            maker,
            command,
            env=environment,
            cwd=config.rootpath,
            out=folder,
            timeout=_SECONDS * slowness(maker.how),
            memory=_MEMORY,
        )
        self._follower = threading.Thread(target=self._follow, args=[machine], daemon=True)
        self._follower.start()

    def wait(self) -> End:
        """Wait for the machine's end."""
        self._follower.join()
        return End(**json.loads((self._folder / _ENDED).read_text()))

    def close(self) -> None:
        """End the machine if it still runs; twice does no harm."""
        self._enough.set()
        self._follower.join()

    def _follow(self, machine: KernelMachine) -> None:
        try:
            machine.start()
            while machine.running and not self._enough.wait(_POLL):
                pass
            result = machine.end()
            how = "was stopped: it took too long" if result.timed_out else f"ended: {result.status}"
            words = f"the kernel tests' machine {how}\n{result.console}\n{result.output}"
            end = End(result.status, "" if self._enough.is_set() else words)
        except Refused as refused:
            end = End(DIED, str(refused))
        # Whoever reads it reads all of it.
        new = self._folder / f"{_ENDED}.new"
        new.write_text(json.dumps(asdict(end)))
        new.rename(self._folder / _ENDED)


class Reports:
    """What has come from the machine with this folder."""

    def __init__(self, config: pytest.Config, folder: Path) -> None:
        self._config = config
        self._folder = folder
        self._read = 0
        self._known: dict[str, list[pytest.TestReport]] = {}

    def of(self, item: pytest.Item) -> Iterator[pytest.TestReport]:
        """Yield the reports of `item` (setup, call, teardown) once they are here."""
        ended = self._folder / _ENDED
        while True:
            over = ended.exists()
            self._collect()
            mine = self._known.get(item.nodeid, [])
            if over or any(report.when == "teardown" for report in mine):
                break
            time.sleep(_POLL)
        yield from mine
        if not any(report.when == "teardown" for report in mine):
            words = json.loads(ended.read_text())["words"]
            if words:
                yield lost(item, words)

    def _collect(self) -> None:
        """Read the reports that have been written since."""
        reports = self._folder / _REPORTS
        if not reports.exists():
            return
        with reports.open() as file:
            file.seek(self._read)
            text = file.read()
        whole = text[: text.rfind("\n") + 1]
        self._read += len(whole.encode())
        for line in whole.splitlines():
            report: Any = self._config.hook.pytest_report_from_serializable(
                config=self._config, data=json.loads(line)
            )
            self._known.setdefault(report.nodeid, []).append(report)
