"""Telling people how far a lab has come, on a terminal or in a log."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from ovs_lwt.lab.lifecycle import Report


@contextmanager
def following(console: Console) -> Iterator[Report]:
    """Yield a `Report`: one moving line a host on a terminal, else a line when a host is ready."""
    began, lock = time.monotonic(), Lock()

    def ready(host: str, stage: str) -> str:
        return f"{host}: {stage} ({time.monotonic() - began:.1f} s)"

    if not console.is_terminal:

        def say(host: str, stage: str) -> None:
            if stage.startswith("in sync"):
                with lock:
                    console.print(ready(host, stage), highlight=False)

        yield say
        return
    tasks: dict[str, TaskID] = {}
    bar = Progress(
        SpinnerColumn(finished_text="✓"),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        console=console,
    )

    def move(host: str, stage: str) -> None:
        with lock:
            if host not in tasks:
                tasks[host] = bar.add_task(host, total=1)
            done = stage.startswith("in sync")
            bar.update(tasks[host], description=f"{host}: {stage}", completed=int(done))

    with bar:
        yield move
