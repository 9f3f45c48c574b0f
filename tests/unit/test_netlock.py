"""One agent for a network namespace; the next one is told whose it is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ovs_lwt.mistakes import Refused
from ovs_lwt.netlock import NamespaceLock
from tests.support.ovs import network_namespace

HOLDER = (
    "import sys, time\nfrom pathlib import Path\nfrom ovs_lwt.netlock import NamespaceLock\n"
    "lock = NamespaceLock(Path(sys.argv[1]), None, 'the first, control socket /a.ctl')\n"
    "print('held', flush=True)\ntime.sleep(60)\n"
)


def test_a_second_agent_is_told_of_the_first(tmp_path: Path) -> None:
    first = NamespaceLock(tmp_path, None, "the first, control socket /a.ctl")
    said = r"driven by another agent \(the first, control socket /a.ctl\): stop that one first"
    with pytest.raises(Refused, match=said):
        NamespaceLock(tmp_path, None, "the second")
    with network_namespace(f"lock-{os.getpid()}") as other:
        NamespaceLock(tmp_path, other, "somewhere else").close()
    first.close()
    assert list(tmp_path.iterdir()) == []
    NamespaceLock(tmp_path, None, "the second").close()


def test_one_that_was_killed_holds_nothing(tmp_path: Path) -> None:
    program = (sys.executable, "-c", HOLDER, str(tmp_path))
    with subprocess.Popen(program, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(Refused, match="the first"):
            NamespaceLock(tmp_path, None, "the second")
        holder.kill()
    NamespaceLock(tmp_path, None, "the second").close()
