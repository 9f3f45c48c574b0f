"""The library `ovs` without eventlet, and with it where somebody uses eventlet.

Each story is a process of its own: what has been imported stays imported.
"""

from __future__ import annotations

import subprocess
import sys


def told(story: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", story], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_neither_an_agent_nor_the_lab_imports_eventlet() -> None:
    """Where eventlet has been imported a fork is a bad idea, as it says; and the lab's server in a
    machine forks for each command.
    """
    story = """
import importlib.util, sys
assert importlib.util.find_spec("eventlet"), "it is installed, or this says nothing"
import ovs_lwt.cli, ovs_lwt.standalone, ovs_lwt.lab.boxed.server
from ovs_lwt.backends.openflow import framework
framework.choose("os-ken")
print([name for name in sys.modules if name.partition(".")[0] == "eventlet"])
"""
    assert told(story) == "[]"


def test_whoever_turns_to_eventlet_later_is_noticed() -> None:
    """The library then waits by eventlet's `select`, or all green threads would stand still."""
    story = """
from ovs_lwt.ovslib import ovs
before = ovs.poller._using_eventlet_green_select()
import eventlet
imported = ovs.poller._using_eventlet_green_select()
eventlet.monkey_patch()
print(before, imported, ovs.poller._using_eventlet_green_select())
"""
    assert told(story) == "False False True"
