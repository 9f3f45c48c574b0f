"""What all tests share."""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import settings

from tests.support.frameworks import Interpreter, interpreter

# Its option, --kernel, is known only if the plugin is named here.
pytest_plugins = ["tests.support.kernel"]

# A shell that starts a job in the background has it ignore Ctrl-C, and so would all that we start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Without it eventlet, where python-ovs finds it, loads a resolver at every start of a command.
os.environ.setdefault("EVENTLET_NO_GREENDNS", "yes")

# The tests start hundreds of commands, which need not be compiled anew each time.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Real switches run beside the tests: a slow example says nothing about the code.
settings.register_profile("here", deadline=None)
# In CI a failure must be the commit's, not the draw's.
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--frames",
        type=int,
        default=200_000,
        help="how many frames the isolation test sends. Default: %(default)s",
    )


@pytest.fixture(params=["os-ken", "ryu"], scope="module")
def on(request: pytest.FixtureRequest) -> Interpreter:
    """Both frameworks, one after the other."""
    return interpreter(request.param)
