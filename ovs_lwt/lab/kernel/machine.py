"""One machine: a kernel as a process, running one command."""

from __future__ import annotations

import math
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Final, Self

from ovs_lwt.lab.kernel import leash, tools
from ovs_lwt.lab.kernel.maker import Maker, Order
from ovs_lwt.lab.kernel.wire import Plug
from ovs_lwt.mistakes import Refused

DIED: Final = 125
_DEFAULT_MEMORY: Final = 512
_LEASH_SECONDS: Final = 10.0
# What only the kernel's makers can read: functions with offsets, registers.
_TRACE: Final = re.compile(
    r"\+0x[0-9a-f]+/0x|\b[0-9a-f]{16}\b|Call Trace|</?TASK>|RIP:|Code:|Kernel Offset"
    r"|Power (Off|down)$"
)


@dataclass(frozen=True, slots=True)
class Result:
    """How a command in a machine ended.

    `status` is its exit status; 124 if the machine was stopped for being too slow, `DIED` (125)
    if it ended without having said one. `output` is the command's standard output and error,
    `console` what the kernel and the first process said.
    """

    status: int
    output: str
    console: str

    @property
    def timed_out(self) -> bool:
        """Whether the machine was stopped after its time."""
        return self.status == leash.TIMED_OUT

    def last_words(self, lines: int = 12) -> str:
        """Return the end of what the kernel said, without stack traces and registers."""
        said = (line for line in self.console.splitlines() if line.strip())
        return "\n".join([line for line in said if not _TRACE.search(line)][-lines:])


class KernelMachine:
    """A machine of the kind `maker` that boots, runs `command`, and is gone.

    The command sees this machine's files (what it writes there is thrown away), in the current
    directory or `cwd`, as root, with the environment `env` (None: ours). Only the folder `out`
    is shared for writing, under the same path. `timeout` (s) counts from the start (None: there
    is none), `memory` is in MB. Interface ``vec0`` is the first of `plugs`, and so on; there is no
    other network. ``/dev/line1`` is the first of `lines`, stream sockets that are closed here once
    the machine has them. Modules load when they are needed. `echo` is called, in another thread,
    with output as it comes.

    Use it in a `with`: at its end, or however this process ends, the machine is killed and its
    files are removed. Raises `Refused` if this machine cannot have one.
    """

    def __init__(
        self,
        maker: Maker,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        out: Path | None = None,
        timeout: float | None = 300.0,
        memory: int = _DEFAULT_MEMORY,
        plugs: Sequence[Plug] = (),
        lines: Sequence[socket.socket] = (),
        name: str = "machine",
        echo: Callable[[bytes], object] | None = None,
    ) -> None:
        if memory < maker.least_memory:
            raise Refused(f"a machine of {memory} MB does not boot: give it {maker.least_memory}")
        if out is not None and not out.is_dir():
            raise Refused(f"the output folder {out} does not exist: make it first")
        environment = dict(os.environ if env is None else env)
        environment["PATH"] = tools.with_sbin(environment.get("PATH", ""))
        self._script = "".join(
            (
                f"cd {shlex.quote(str((cwd or Path.cwd()).absolute()))} || exit 126\n",
                "exec env -i ",
                shlex.join([*(f"{key}={value}" for key, value in environment.items()), *command]),
                "\n",
            )
        )
        self._maker = maker
        self._name = name
        self._out = out.absolute() if out else None
        self._timeout = math.inf if timeout is None else timeout
        self._memory = memory
        self._plugs = tuple(plugs)
        self._lines = tuple(lines)
        self._echo = echo
        self._output = bytearray()
        self._work: Path | None = None
        self._leash: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._result: Result | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Switch the machine on; it boots in the background."""
        work = Path(tempfile.mkdtemp(prefix="ovs-lwt-machine-", dir=_work_parent()))
        try:
            self._start(work)
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise

    def _start(self, work: Path) -> None:
        self._work = work
        (work / "root").mkdir()
        (work / "command").write_text(self._script)
        init = work / "init"
        init.write_bytes(resources.files(__package__).joinpath("init.sh").read_bytes())
        init.chmod(0o755)
        lines = [line.fileno() for line in self._lines]
        launch = self._maker.launch(Order(work, self._out, self._memory, self._plugs, lines))
        settings = {
            "name": self._name,
            "out": str(self._out or ""),
            "lines": str(len(lines)),
            **launch.settings,
        }
        (work / "settings").write_text(
            "".join(f"{key}={shlex.quote(value)}\n" for key, value in settings.items())
        )
        fds = [*(plug.socket.fileno() for plug in self._plugs), *lines]
        self._leash = subprocess.Popen(
            [
                *(sys.executable, "-I", leash.__file__),
                *(str(work), str(self._timeout), ",".join(map(str, fds))),
                *launch.command,
            ],
            env={"PATH": os.environ.get("PATH", ""), "HOME": str(work), **launch.environment},
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pass_fds=fds,
            # A Ctrl-C is for us: we end the machine.
            start_new_session=True,
        )
        for end in (*(plug.socket for plug in self._plugs), *self._lines):
            end.close()
        self._reader = threading.Thread(target=self._read, name="machine", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        pipe = self._leash.stdout if self._leash else None
        while pipe is not None and (data := os.read(pipe.fileno(), 65536)):
            self._output += data
            if self._echo is not None:
                self._echo(data)

    @property
    def running(self) -> bool:
        """Whether the machine is on."""
        return self._reader is not None and self._reader.is_alive()

    def wait(self) -> Result:
        """Wait for the machine's end, at most its time-out, and return how it ended."""
        if self._result is not None:
            return self._result
        if self._leash is None or self._reader is None or self._work is None:
            raise RuntimeError("the machine was never started, or closed before its end")
        self._reader.join()
        try:
            status = int((self._work / "status").read_text())
        except (OSError, ValueError):
            status = DIED
        console = _console(self._work)
        ended = self._let_go(self._leash)
        if status == DIED and ended == leash.TIMED_OUT:
            status = leash.TIMED_OUT
        self._result = Result(status, self._output.decode("utf-8", errors="replace"), console)
        return self._result

    def end(self) -> Result:
        """Kill the machine if it still runs, and return how it ended."""
        if self._result is None and self._work is not None and self.running:
            console = _console(self._work)
            self.close()
            self._result = Result(DIED, self._output.decode("utf-8", errors="replace"), console)
        return self.wait()

    def close(self) -> None:
        """Kill the machine if it still runs, and remove its files; twice does no harm."""
        if self._leash is not None:
            self._let_go(self._leash)

    def _let_go(self, held: subprocess.Popen[bytes]) -> int:
        """Tell the leash to clean up; return its exit status."""
        if held.stdin is not None:
            held.stdin.close()
        try:
            status = held.wait(_LEASH_SECONDS)
        except subprocess.TimeoutExpired:
            held.terminate()
            status = held.wait()
        if self._reader is not None:
            self._reader.join()
        if held.stdout is not None:
            held.stdout.close()
        self._leash = None
        return status


def run_in_kernel(
    maker: Maker,
    command: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    out: Path | None = None,
    timeout: float = 300.0,
    memory: int = _DEFAULT_MEMORY,
    echo: Callable[[bytes], object] | None = None,
) -> Result:
    """Boot a machine, run `command` in it and return how it ended; see `KernelMachine`."""
    with KernelMachine(
        maker, command, env=env, out=out, timeout=timeout, memory=memory, echo=echo
    ) as machine:
        return machine.wait()


def _console(work: Path) -> str:
    try:
        return (work / leash.CONSOLE).read_text("utf-8", errors="replace")
    except FileNotFoundError:
        # It is made when the machine starts, and that one was not given the time.
        return ""


def _work_parent() -> str:
    """Return where a machine's folder goes: the kernel's command line has no quoting."""
    for folder in (tempfile.gettempdir(), "/tmp", "/var/tmp"):
        # The kernel mounts its own /dev before it starts the first process.
        unseen = Path(folder).resolve().is_relative_to("/dev")
        if not unseen and not set(" \t\n\"',") & set(folder) and os.access(folder, os.W_OK):
            return folder
    raise Refused("neither TMPDIR nor /tmp can hold a machine's files: set TMPDIR to a folder")
