"""A command whose reader leaves: it ends like other programs, or does its work without a word."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

SIGPIPE = 128 + signal.SIGPIPE
PROGRAM = """
import sys
from pathlib import Path
from ovs_lwt.pipes import closable, outlives_readers
with closable():
    {begin}
    for number in range(100_000):
        {say}
    Path({done!r}).touch()
    {end}
"""


def run(
    folder: Path, *, begin: str = "pass", say: str = "print(number)", end: str = "pass"
) -> tuple[int, bool, str]:
    """The exit status of a program that nobody listens to, whether it did all, and its errors."""
    done = folder / "done"
    listening, speaking = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(begin=begin, say=say, end=end, done=str(done))],
        stdout=speaking,
        stderr=subprocess.PIPE,
        text=True,
    ) as program:
        os.close(speaking)
        os.read(listening, 1)
        os.close(listening)
        assert program.stderr is not None
        errors = program.stderr.read()
    return program.returncode, done.exists(), errors


RICH = "from rich.console import Console; c = Console()"
TYPER = "import typer"


@pytest.mark.parametrize(
    ("begin", "say"),
    [
        ("pass", "print(number)"),
        ("pass", "sys.stdout.write('x' * 99)"),
        (RICH, "c.print(number)"),
        (TYPER, "typer.echo(number)"),
    ],
    ids=["print", "write", "rich", "typer"],
)
def test_one_that_only_prints_ends_without_a_word(begin: str, say: str, tmp_path: Path) -> None:
    assert run(tmp_path, begin=begin, say=say) == (SIGPIPE, False, "")


@pytest.mark.parametrize(
    ("begin", "say"),
    [("pass", "print(number)"), (RICH, "c.print(number)"), (TYPER, "typer.echo(number)")],
    ids=["print", "rich", "typer"],
)
def test_one_that_outlives_readers_does_it_all(begin: str, say: str, tmp_path: Path) -> None:
    begin = f"outlives_readers(); {begin}"
    assert run(tmp_path, begin=begin, say=say) == (SIGPIPE, True, "")


def test_a_failure_of_its_own_is_told(tmp_path: Path) -> None:
    told = run(tmp_path, begin="outlives_readers()", end="sys.exit(3)")
    assert told == (3, True, "")


def test_errors_that_nobody_reads_undo_nothing(tmp_path: Path) -> None:
    begin = "import os; r, w = os.pipe(); os.close(r); os.dup2(w, 2); outlives_readers()"
    say = "print(number, file=sys.stderr)"
    assert run(tmp_path, begin=begin, say=f"print(number); {say}")[:2] == (SIGPIPE, True)


@pytest.mark.parametrize(
    ("end", "status"), [("pass", 0), ("sys.exit(2)", 2), ("sys.exit('why')", 1)]
)
def test_with_a_reader_all_is_as_ever(end: str, status: int, tmp_path: Path) -> None:
    program = PROGRAM.format(
        begin="pass", say="print(number)", end=end, done=str(tmp_path / "done")
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert ran.returncode == status
    assert ran.stdout.splitlines() == [str(number) for number in range(100_000)]
    assert ran.stderr == ("why\n" if status == 1 else "")


def test_without_a_standard_output_it_runs(tmp_path: Path) -> None:
    program = PROGRAM.format(begin="pass", say="print(1)", end="pass", done=str(tmp_path / "done"))
    ran = subprocess.run(
        ["sh", "-c", 'exec "$0" -c "$1" >&-', sys.executable, program],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stderr, (tmp_path / "done").exists()) == (0, "", True)
